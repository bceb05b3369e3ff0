/**
 * Terminal output to lines of coloured spans.
 *
 *   bytes ── carriage returns collapsed, other escapes dropped ──► lines ── SGR ──► spans with a class
 *
 * Colours are names, not values: 16, 256 and true colours all map to eight theme colours, each of
 * which is readable on its ground in both themes.
 */

export interface Span {
  text: string;
  /** Space-separated classes such as `a-red a-bold`; empty for plain text. */
  style: string;
}

export type Line = Span[];

interface Pen {
  fg: string;
  bg: string;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  strike: boolean;
  inverse: boolean;
}

const NAMES = ["grey", "red", "green", "yellow", "blue", "magenta", "cyan", ""] as const;
const blank = (): Pen => ({
  fg: "",
  bg: "",
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  strike: false,
  inverse: false,
});

// CSI, OSC (ended by BEL or ST), other string sequences, two-byte escapes, stray control characters.
const ESCAPES =
  // eslint-disable-next-line no-control-regex
  /\x1b\[([0-9;:<=>?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[PX^_][^\x1b]*(?:\x1b\\|$)|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]/g;

/** All lines of `text`. A newline at the very end makes no empty last line. */
export function ansiLines(text: string): Line[] {
  const pen = blank();
  const body = text.replaceAll("\r\n", "\n").replace(/\n$/, "");
  return body.split("\n").map((line) => spans(collapse(line), pen));
}

/** What stays visible of a line that was redrawn by carriage returns. */
function collapse(line: string): string {
  if (!line.includes("\r")) return line;
  const parts = line.split("\r").filter((part) => part !== "");
  return parts.at(-1) ?? "";
}

function spans(line: string, pen: Pen): Line {
  const out: Line = [];
  const put = (text: string) => {
    if (text === "") return;
    const style = styleOf(pen);
    const last = out.at(-1);
    if (last?.style === style) last.text += text;
    else out.push({ text, style });
  };
  let from = 0;
  for (const match of line.matchAll(ESCAPES)) {
    put(line.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === "m") sgr(pen, match[1] ?? "");
  }
  put(line.slice(from));
  return out;
}

function styleOf(pen: Pen): string {
  const style: string[] = [];
  if (pen.inverse) style.push("a-inverse");
  // On a tinted ground the text keeps its own colour: that pair is known to be readable.
  else if (pen.bg) style.push(`a-on-${pen.bg}`);
  else if (pen.fg) style.push(`a-${pen.fg}`);
  else if (pen.dim) style.push("a-grey");
  if (pen.bold) style.push("a-bold");
  if (pen.italic) style.push("a-italic");
  if (pen.underline) style.push("a-underline");
  if (pen.strike) style.push("a-strike");
  return style.join(" ");
}

function sgr(pen: Pen, text: string): void {
  const codes = text.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i] ?? 0;
    if (code === 38 || code === 48) {
      const [name, used] = extended(codes, i + 1);
      pen[code === 38 ? "fg" : "bg"] = name;
      i += used;
    } else simple(pen, code);
  }
}

function simple(pen: Pen, code: number): void {
  if (code === 0) Object.assign(pen, blank());
  else if (code === 1) pen.bold = true;
  else if (code === 2) pen.dim = true;
  else if (code === 3) pen.italic = true;
  else if (code === 4) pen.underline = true;
  else if (code === 7) pen.inverse = true;
  else if (code === 9) pen.strike = true;
  else if (code === 22) pen.bold = pen.dim = false;
  else if (code === 23) pen.italic = false;
  else if (code === 24) pen.underline = false;
  else if (code === 27) pen.inverse = false;
  else if (code === 29) pen.strike = false;
  else if (code >= 30 && code <= 37) pen.fg = NAMES[code - 30] ?? "";
  else if (code === 39) pen.fg = "";
  else if (code >= 40 && code <= 47) pen.bg = NAMES[code - 40] ?? "";
  else if (code === 49) pen.bg = "";
  else if (code >= 90 && code <= 97) pen.fg = NAMES[code - 90] ?? "";
  else if (code >= 100 && code <= 107) pen.bg = NAMES[code - 100] ?? "";
}

/** The name of a 256 or true colour, and how many codes it took. */
function extended(codes: number[], at: number): [string, number] {
  if (codes[at] === 5) return [indexed(codes[at + 1] ?? 0), 2];
  if (codes[at] === 2) return [nearest(codes[at + 1] ?? 0, codes[at + 2] ?? 0, codes[at + 3] ?? 0), 4];
  return ["", 1];
}

function indexed(index: number): string {
  if (index < 16) return NAMES[index % 8] ?? "";
  if (index >= 232) return index < 250 ? "grey" : "";
  const cube = index - 16;
  const level = (n: number) => (n === 0 ? 0 : 55 + 40 * n);
  return nearest(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6));
}

/** By hue; colours without one are grey, and near white is plain text. */
function nearest(r: number, g: number, b: number): string {
  const max = Math.max(r, g, b);
  const min = Math.min(r, g, b);
  const range = max - min;
  if (range < 40) return max > 200 ? "" : "grey";
  const sector = max === r ? ((g - b) / range + 6) % 6 : max === g ? (b - r) / range + 2 : (r - g) / range + 4;
  const hue = sector * 60;
  if (hue < 20 || hue >= 335) return "red";
  if (hue < 70) return "yellow";
  if (hue < 160) return "green";
  if (hue < 200) return "cyan";
  if (hue < 260) return "blue";
  return "magenta";
}
