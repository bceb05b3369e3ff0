/** Unified patches and word marks, for edit cards and the review pane. Pure. */

import type { DiffRow, DiffRowKind } from "./api-types.ts";

const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)$/;

/** The rows of a unified patch of one file; its file headers are left out. */
export function patchRows(patch: string): DiffRow[] {
  const rows: DiffRow[] = [];
  let before = 0;
  let after = 0;
  let inside = false;
  for (const line of patch.replace(/\n$/, "").split("\n")) {
    const hunk = HUNK.exec(line);
    if (hunk) {
      before = Number(hunk[1]);
      after = Number(hunk[2]);
      inside = true;
      rows.push({ kind: "hunk", text: line });
    } else if (!inside) continue;
    else if (line.startsWith("+")) rows.push({ kind: "added", new: after++, text: line.slice(1) });
    else if (line.startsWith("-")) rows.push({ kind: "deleted", old: before++, text: line.slice(1) });
    else if (line.startsWith("\\")) rows.push({ kind: "note", text: line.slice(2) });
    else rows.push({ kind: "context", old: before++, new: after++, text: line.slice(1) });
  }
  return rows;
}

export function countRows(rows: readonly DiffRow[]): { additions: number; deletions: number } {
  let additions = 0;
  let deletions = 0;
  for (const row of rows) {
    if (row.kind === "added") additions += 1;
    else if (row.kind === "deleted") deletions += 1;
  }
  return { additions, deletions };
}

/**
 * For each row the index of the row that it replaces or that replaces it, -1 without one: a run of
 * deleted rows followed by as many added ones is taken to be changed line by line.
 */
export function pairRows(rows: readonly { kind: DiffRowKind }[]): Int32Array {
  const pairs = new Int32Array(rows.length).fill(-1);
  let i = 0;
  while (i < rows.length) {
    if (rows[i]?.kind !== "deleted") {
      i += 1;
      continue;
    }
    const start = i;
    while (rows[i]?.kind === "deleted") i += 1;
    const middle = i;
    while (rows[i]?.kind === "added") i += 1;
    const count = middle - start;
    if (i - middle !== count) continue;
    for (let k = 0; k < count; k += 1) {
      pairs[start + k] = middle + k;
      pairs[middle + k] = start + k;
    }
  }
  return pairs;
}

/** Words, spaces and runs of signs. */
const TOKEN = /\w+|\s+|[^\w\s]+/g;

/** Start and end of what differs in `text` from `other`, in whole tokens; null where all or nothing does. */
export function changedPart(text: string, other: string): [number, number] | null {
  const mine = text.match(TOKEN) ?? [];
  const theirs = other.match(TOKEN) ?? [];
  const shortest = Math.min(mine.length, theirs.length);
  let head = 0;
  while (head < shortest && mine[head] === theirs[head]) head += 1;
  let tail = 0;
  while (tail < shortest - head && mine[mine.length - 1 - tail] === theirs[theirs.length - 1 - tail]) tail += 1;
  const start = mine.slice(0, head).join("").length;
  const end = text.length - mine.slice(mine.length - tail).join("").length;
  const kept = text.slice(0, start).trim() + text.slice(end).trim();
  return end === start || kept === "" ? null : [start, end];
}
