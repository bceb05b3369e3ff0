/** The keys of the page, in one list: the handler in `App.svelte` and the `?` dialog read it. */

export type Command =
  | "new"
  | "filter"
  | "next"
  | "previous"
  | "diff"
  | "stop"
  | "help"
  | "close";

export const mod = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? "") ? "⌘" : "Ctrl";

export const keyList: { keys: string[]; does: string }[] = [
  { keys: ["c"], does: "New session" },
  { keys: ["/"], does: "Filter sessions" },
  { keys: ["j", "k"], does: "Next and previous session" },
  { keys: ["d"], does: "Show or hide the changes" },
  { keys: ["Enter"], does: "Send the prompt" },
  { keys: [mod, "Enter"], does: "Send the prompt" },
  { keys: ["Shift", "Enter"], does: "New line in the prompt" },
  { keys: ["Shift", "Esc"], does: "Stop the agent" },
  { keys: ["Esc"], does: "Close what is open" },
  { keys: ["?"], does: "This list" },
];

const letters: Record<string, Command> = {
  c: "new",
  "/": "filter",
  j: "next",
  k: "previous",
  d: "diff",
  "?": "help",
};

interface Press {
  key: string;
  shiftKey: boolean;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
}

/** What a key press means. `typing`: the focus is in a field, where letters are text. */
export function commandOf(press: Press, typing: boolean): Command | null {
  if (press.ctrlKey || press.metaKey || press.altKey) return null;
  if (press.key === "Escape") return press.shiftKey ? "stop" : "close";
  if (typing) return null;
  return letters[press.key] ?? null;
}
