/** What the one line of a tool call says. Pure. */

import type { ToolState } from "./items.ts";
import { plural } from "./phrases.ts";

function field(tool: ToolState, name: string): string | null {
  const input = tool.input;
  if (typeof input !== "object" || input === null) return null;
  const value = (input as Record<string, unknown>)[name];
  return typeof value === "string" && value !== "" ? value : null;
}

/** The title on one line; the whole one is the tooltip. */
export function titleOf(tool: ToolState): string {
  return tool.title.replace(/\s*\n\s*/g, " ⏎ ");
}

/** "read 6 files, searched “session_expiry”": a group of read-only calls. */
export function explorePhrase(tools: readonly ToolState[]): string {
  const files = new Map<string, string>();
  const searched: string[] = [];
  let other = 0;
  for (const tool of tools) {
    if (tool.name === "Read") files.set(field(tool, "file_path") ?? tool.title, tool.title);
    else if (tool.name === "Grep" || tool.name === "Glob") searched.push(field(tool, "pattern") ?? tool.title);
    else other += 1;
  }
  const parts: string[] = [];
  if (files.size === 1) parts.push(`read ${[...files.values()][0]}`);
  else if (files.size > 1) parts.push(`read ${plural(files.size, "file")}`);
  if (searched.length > 2) parts.push(plural(searched.length, "search", "searches"));
  else if (searched.length > 0) parts.push(`searched ${searched.map((text) => `“${text}”`).join(", ")}`);
  if (other > 0) parts.push(plural(other, "listing"));
  return parts.join(", ");
}

/**
 * What to show of a tool's output: with its colours where the platform kept them, without the exit
 * code that the line above says already, with the remarks of the platform at the end.
 */
export function outputOf(tool: ToolState): string {
  const exit = tool.detail["exit_code"];
  const first = typeof exit === "number" ? `Exit code ${exit}\n` : "";
  const plain = first !== "" && tool.output.startsWith(first) ? tool.output.slice(first.length) : tool.output;
  const coloured = tool.detail["output_ansi"];
  if (tool.name !== "Bash" || typeof coloured !== "string") return plain;
  const body = coloured.trimEnd();
  const remarks: string[] = [];
  for (const line of plain.trimEnd().split("\n").reverse()) {
    if (!/^\[.+\]$/.test(line) || body.includes(line)) break;
    remarks.unshift(line);
  }
  return [body, ...remarks].join("\n");
}
