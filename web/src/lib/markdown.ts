/**
 * Markdown of the agent to safe HTML.
 *
 *   text ── lexer ──► top-level blocks ── parser with our renderer ──► HTML, one string per block
 *
 * Raw HTML is shown as text, links go to http, https and mailto only, images are links: nothing is
 * ever loaded because the agent wrote it. Blocks are separate so that streaming text re-renders
 * only the last one.
 */

import { Marked, type RendererObject, type Tokens } from "marked";

export function escapeHtml(text: string): string {
  return text.replace(
    /[&<>"']/g,
    (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[char] ?? char,
  );
}

/** The address that a link may have, or null. */
export function safeHref(href: string): string | null {
  // Browsers ignore control characters and spaces inside a scheme; so does this check.
  const bare = href.replace(/[\u0000-\u0020\u007f-\u009f]/g, "");
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(bare)?.[1]?.toLowerCase();
  if (scheme !== "http" && scheme !== "https" && scheme !== "mailto") return null;
  return URL.canParse(bare) ? bare : null;
}

function link(href: string, title: string | null | undefined, inner: string): string {
  const safe = safeHref(href);
  if (safe === null) return inner;
  const hint = title ? ` title="${escapeHtml(title)}"` : "";
  return `<a href="${escapeHtml(safe)}"${hint} target="_blank" rel="noopener noreferrer nofollow">${inner}</a>`;
}

const renderer: RendererObject = {
  html: ({ text }: Tokens.HTML | Tokens.Tag) => escapeHtml(text),
  // The page has its own headings; those of a message are one level below and only look different.
  heading({ tokens, depth }: Tokens.Heading) {
    return `<h2 class="h${Math.min(depth, 4)}">${this.parser.parseInline(tokens)}</h2>`;
  },
  code({ text, lang }: Tokens.Code) {
    const name = /^[\w+#.-]{1,24}/.exec(lang ?? "")?.[0];
    const label = name ? ` aria-label="${escapeHtml(name)} code"` : ' aria-label="code"';
    return `<pre tabindex="0" role="group"${label}><code>${escapeHtml(text)}</code></pre>`;
  },
  link({ href, title, tokens }: Tokens.Link) {
    return link(href, title, this.parser.parseInline(tokens));
  },
  image({ href, title, text }: Tokens.Image) {
    return link(href, title, `image: ${escapeHtml(text || href)}`);
  },
  table(token: Tokens.Table) {
    const row = (cells: Tokens.TableCell[], tag: "th" | "td") =>
      `<tr>${cells.map((cell) => `<${tag}>${this.parser.parseInline(cell.tokens)}</${tag}>`).join("")}</tr>`;
    const body = token.rows.map((cells) => row(cells, "td")).join("");
    const table = `<table><thead>${row(token.header, "th")}</thead><tbody>${body}</tbody></table>`;
    return `<div class="table" tabindex="0" role="group" aria-label="table">${table}</div>`;
  },
  checkbox: ({ checked }: Tokens.Checkbox) => (checked ? "☑ " : "☐ "),
};

const marked = new Marked({ gfm: true, breaks: false, renderer });

export interface Block {
  /** The source, also the key of the cache. */
  raw: string;
  html: string;
}

const cache = new Map<string, string>();
const CACHE_SIZE = 400;

function render(token: Tokens.Generic, raw: string): string {
  const known = cache.get(raw);
  if (known !== undefined) return known;
  const html = marked.parser([token as never]);
  if (cache.size >= CACHE_SIZE) cache.delete(cache.keys().next().value ?? "");
  cache.set(raw, html);
  return html;
}

/** Top-level blocks of `text`. An unfinished fence at the end is a code block that still grows. */
export function markdownBlocks(text: string): Block[] {
  const tokens = marked.lexer(text);
  const blocks: Block[] = [];
  // A block that refers to a link definition elsewhere in the text must not come from the cache.
  const pure = Object.keys(tokens.links).length === 0;
  for (const token of tokens) {
    if (token.type === "space" || token.type === "def") continue;
    const html = pure ? render(token, token.raw) : marked.parser([token]);
    blocks.push({ raw: token.raw, html });
  }
  return blocks;
}
