import { describe, expect, test } from "vitest";

import { markdownBlocks, safeHref } from "../src/lib/markdown.ts";

const html = (text: string) =>
  markdownBlocks(text)
    .map((block) => block.html)
    .join("");

/** Tags that the renderer writes; anything else must have been escaped. */
const ALLOWED = /^(p|strong|em|del|code|pre|a|ul|ol|li|h2|blockquote|table|thead|tbody|tr|th|td|div|br|hr)$/;

describe("nothing that the agent writes becomes active", () => {
  test.each([
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <b onmouseover=alert(1)>x</b>",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<!-- --!><img src=x onerror=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;avascript&colon;alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox)",
    "[x](//evil.example)",
    "[x](/api/v1/auth/logout)",
    "[x](file:///etc/passwd)",
    "[x](blob:https://a/b)",
    "<javascript:alert(1)>",
    "![x](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    '[x](https://a.example "\\"onmouseover=alert(1) x=\\"")',
    '[x](https://a.example/"onmouseover="alert(1))',
    "![\"onerror=alert(1) x=\"](https://a.example)",
    "```\"><script>alert(1)</script>\nx\n```",
    "``` html onload=alert(1)\n<script>\n```",
    "`<script>alert(1)</script>`",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "[ref]\n\n[ref]: javascript:alert(1)",
    "# <script>alert(1)</script>",
    "<details><summary>x</summary></details>",
    "<style>*{display:none}</style>",
    "<form action=https://evil.example><input name=x></form>",
    "<p style=\"position:fixed;inset:0\">x</p>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "[a](<javascript:alert(1)>)",
    "*a[<img src=x onerror=alert(1)>](https://a.example)*",
  ])("%j", (text) => {
    const out = html(text);
    for (const [, tag, rest] of out.matchAll(/<\/?([a-zA-Z!][^\s>/]*)([^>]*)>/g)) {
      expect(tag).toMatch(ALLOWED);
      // Attributes outside of quotes: only those that the renderer writes.
      const names = (rest ?? "").replace(/"[^"]*"/g, '""').match(/[^\s="/]+(?==|\s|$)/g) ?? [];
      for (const name of names) expect(name).toMatch(/^(href|title|target|rel|class|tabindex|role|aria-label|align|start)$/);
    }
    for (const [, href] of out.matchAll(/href="([^"]*)"/g)) expect(href).toMatch(/^(https?:\/\/|mailto:)/);
    expect(out).not.toMatch(/<(img|script|iframe|style|form|svg)/i);
  });
});

test.each([
  ["https://a.example/x?y=1&z=2", "https://a.example/x?y=1&z=2"],
  ["mailto:a@b.example", "mailto:a@b.example"],
  ["HTTP://a.example", "HTTP://a.example"],
  ["relative/path", null],
  ["#top", null],
  ["javascript:alert(1)", null],
  [" java\nscript:alert(1)", null],
  ["https:", null],
])("safeHref(%j)", (href, safe) => {
  expect(safeHref(href)).toBe(safe);
});

test("links open apart and tell nothing", () => {
  expect(html("[x](https://a.example)")).toContain(
    '<a href="https://a.example" target="_blank" rel="noopener noreferrer nofollow">x</a>',
  );
});

test("an image is a link with its words", () => {
  expect(html("![a chart](https://a.example/c.png)")).toContain(">image: a chart</a>");
});

test("headings of a message stay below those of the page", () => {
  expect(html("# A\n\n### B")).toBe('<h2 class="h1">A</h2><h2 class="h3">B</h2>');
});

test("an unfinished fence is code already", () => {
  expect(html("```rust\nfn main() {")).toContain("<code>fn main() {</code>");
});

test("blocks before the last one stay the same while the text grows", () => {
  const text = "First *one*.\n\n- a\n- b\n\nThe last grows";
  const before = markdownBlocks(text);
  const after = markdownBlocks(`${text} and grows.`);
  expect(after.slice(0, -1)).toEqual(before.slice(0, -1));
  expect(after.at(-1)?.html).not.toBe(before.at(-1)?.html);
});

test("references resolve across blocks", () => {
  expect(html("See [the guide].\n\n[the guide]: https://a.example/g")).toContain('href="https://a.example/g"');
});
