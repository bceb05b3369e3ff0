import { describe, expect, test, vi } from "vitest";

import type { SessionView } from "../src/lib/api-types.ts";
import { Draft } from "../src/lib/draft.ts";
import { commandOf } from "../src/lib/keys.ts";
import { changedPart, pairRows, patchRows } from "../src/lib/patch.ts";
import { activityPhrase, age, duration, groupOf, statusOf } from "../src/lib/phrases.ts";
import { explorePhrase, outputOf } from "../src/lib/tools.ts";
import type { ToolState } from "../src/lib/items.ts";
import { ulid } from "../src/lib/ulid.ts";

const now = Date.parse("2026-11-20T12:00:00Z");

function view(change: Partial<SessionView>): SessionView {
  return {
    id: "ses_x",
    title: "t",
    agent: "patchyard",
    image: "slim",
    repository: { name: "web" },
    head: "a",
    base: "a",
    branch: "b",
    status: "idle",
    sandbox: "ready",
    turn: "idle",
    activity: "",
    reason: null,
    archived: false,
    created_at: "2026-11-20T11:00:00Z",
    updated_at: "2026-11-20T11:59:50Z",
    last_seq: 1,
    turns: 0,
    queued_prompts: 0,
    current_turn: null,
    last_turn: null,
    diff: { additions: 0, deletions: 0, files_changed: 0 },
    checkpoint: null,
    usage: {
      input_tokens: 0,
      output_tokens: 0,
      cache_read_input_tokens: 0,
      cache_creation_input_tokens: 0,
      requests: 0,
      cost_micro_usd: 0,
    },
    plan: [],
    question: null,
    ...change,
  };
}

describe("status", () => {
  const turn = (status: "completed" | "interrupted" | "failed" | "limit", stop_reason: "end_turn" | "user_stop" | "model_auth" | "max_requests") => ({
    last_turn: { turn: "t", status, stop_reason, message: null },
  });

  test.each([
    [view({ status: "running", activity: "Bash cargo test" }), "run", "running cargo test"],
    [view({ status: "running", activity: "Running the suite" }), "run", "running the suite"],
    [view({ status: "running", updated_at: "2026-11-20T11:54:00Z", activity: "thinking" }), "run", "thinking, no output for 6 min"],
    [view({ status: "queued" }), "run", "queued"],
    [view({ status: "waiting" }), "need", "waiting for your answer"],
    [view({ status: "failed", reason: "no runtime" }), "bad", "failed: no runtime"],
    [view(turn("completed", "end_turn")), "ok", "done"],
    [view({ status: "suspended", ...turn("completed", "end_turn") }), "ok", "done"],
    [view(turn("interrupted", "user_stop")), "off", "stopped by you"],
    [view(turn("failed", "model_auth")), "bad", "failed: model key refused"],
    [view(turn("limit", "max_requests")), "bad", "limit reached: too many requests"],
    [view({ status: "idle" }), "off", "idle"],
  ])("%#", (session, tone, text) => {
    expect(statusOf(session, now)).toEqual({ tone, text });
  });

  test("groups", () => {
    expect(groupOf(view({ status: "waiting" }), now)).toBe("Needs you");
    expect(groupOf(view({ status: "preparing" }), now)).toBe("Running");
    expect(groupOf(view({}), now)).toBe("Today");
    expect(groupOf(view({ updated_at: "2026-11-17T11:00:00Z" }), now)).toBe("Earlier");
  });
});

test.each([[30, "0.1 s"], [240, "0.2 s"], [11_000, "11 s"], [60_000, "1 min"], [125_000, "2 min 5 s"], [3_700_000, "1 h 1 min"]])(
  "duration(%i)",
  (ms, text) => expect(duration(ms)).toBe(text),
);

test("ages and activities", () => {
  expect(age("2026-11-20T11:58:00Z", now)).toBe("2m");
  expect(age("2026-11-18T11:58:00Z", now)).toBe("2d");
  expect(activityPhrase("Edit src/lib.rs")).toBe("editing src/lib.rs");
  expect(activityPhrase("starting the sandbox")).toBe("starting the sandbox");
});

test("what was explored", () => {
  const tool = (name: string, input: object): ToolState => ({
    call: "c",
    name,
    title: "t",
    input,
    at: "",
    state: "done",
    output: "",
    durationMs: 1,
    detail: {},
    full: null,
  });
  expect(explorePhrase([tool("Read", { file_path: "/workspace/web/t" })])).toBe("read t");
  expect(
    explorePhrase([tool("Read", { file_path: "a" }), tool("Read", { file_path: "b" }), tool("Read", { file_path: "a" }), tool("Grep", { pattern: "x" })]),
  ).toBe("read 2 files, searched “x”");
});

describe("output", () => {
  const bash = (output: string, detail: Record<string, unknown>): ToolState => ({
    call: "c",
    name: "Bash",
    title: "t",
    input: {},
    at: "",
    state: "failed",
    output,
    durationMs: 1,
    detail,
    full: null,
  });

  test("does not repeat the exit code", () => {
    expect(outputOf(bash("Exit code 2\nno rule", { exit_code: 2 }))).toBe("no rule");
    expect(outputOf(bash("Exit code 2\nno rule", { exit_code: null }))).toBe("Exit code 2\nno rule");
  });

  test("keeps colours and the platform's remarks", () => {
    const content = "Exit code 143\nred\n[done]\n[the command timed out after 2 s and was stopped]";
    const coloured = "\x1b[31mred\x1b[0m\n[done]\n";
    expect(outputOf(bash(content, { exit_code: 143, output_ansi: coloured }))).toBe(
      "\x1b[31mred\x1b[0m\n[done]\n[the command timed out after 2 s and was stopped]",
    );
  });
});

describe("patches", () => {
  test("rows with their numbers, without the file's headers", () => {
    const rows = patchRows("--- a/x\n+++ b/x\n@@ -10,3 +10,3 @@ fn x\n a\n-b\n+c\n\\ No newline at end of file\n");
    expect(rows).toEqual([
      { kind: "hunk", text: "@@ -10,3 +10,3 @@ fn x" },
      { kind: "context", old: 10, new: 10, text: "a" },
      { kind: "deleted", old: 11, text: "b" },
      { kind: "added", new: 11, text: "c" },
      { kind: "note", text: "No newline at end of file" },
    ]);
  });

  test("equal runs are paired, unequal ones are not", () => {
    const kinds = (text: string) => [...text].map((char) => ({ kind: char === "-" ? "deleted" : char === "+" ? "added" : "context" }) as const);
    expect([...pairRows(kinds(" --++ -"))]).toEqual([-1, 3, 4, 1, 2, -1, -1]);
    expect([...pairRows(kinds("--+"))]).toEqual([-1, -1, -1]);
  });

  test.each([
    ["self.at < SystemTime::now()", "self.at <= self.clock.now()", "< SystemTime::"],
    ["let a = 1;", "let ab = 1;", "a"],
    ["same", "same", null],
    ["all", "other", null],
  ])("changedPart(%j, %j)", (text, other, part) => {
    const range = changedPart(text, other);
    expect(range && text.slice(...range)).toBe(part);
  });
});

describe("drafts", () => {
  const store = new Map<string, string>();
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => store.get(key) ?? null,
    setItem: (key: string, value: string) => store.set(key, value),
    removeItem: (key: string) => store.delete(key),
  });

  test("survive until the server has the prompt", () => {
    store.clear();
    const draft = new Draft("ses_a");
    draft.edit("hello");
    draft.flush();
    expect(new Draft("ses_a").text).toBe("hello");
    const sending = draft.send();
    expect(draft.text).toBe("");
    // The tab dies here: the text is back, and sent again with the same key.
    const after = new Draft("ses_a");
    expect(after.text).toBe("hello");
    expect(after.send().key).toBe(sending.key);
    draft.accepted(sending);
    expect(store.size).toBe(0);
  });

  test("come back in front of what was typed meanwhile", () => {
    store.clear();
    const draft = new Draft("ses_b");
    draft.edit("first");
    const sending = draft.send();
    draft.edit("second");
    draft.failed(sending, true);
    expect(draft.text).toBe("first\n\nsecond");
    expect(new Draft("ses_b").text).toBe("first\n\nsecond");
  });

  test("are settled when the log brings the text, but only an untouched one", () => {
    store.clear();
    const draft = new Draft("ses_e");
    draft.edit("x");
    draft.failed(draft.send(), true);
    expect(draft.confirm("y")).toBe(false);
    expect(draft.confirm("x")).toBe(true);
    expect(draft.text).toBe("");
    expect(store.size).toBe(0);
    draft.edit("x");
    draft.failed(draft.send(), true);
    draft.edit("x, edited");
    expect(draft.confirm("x")).toBe(false);
    expect(draft.text).toBe("x, edited");
  });

  test("keep the key only where the outcome is unknown and the text is the same", () => {
    store.clear();
    const draft = new Draft("ses_c");
    draft.edit("x");
    const lost = draft.send();
    draft.failed(lost, true);
    const again = draft.send();
    expect(again.key).toBe(lost.key);
    draft.failed(again, false);
    expect(draft.send().key).not.toBe(lost.key);
    const edited = new Draft("ses_d");
    edited.edit("x");
    const first = edited.send();
    edited.failed(first, true);
    edited.edit("x, and more");
    expect(edited.send().key).not.toBe(first.key);
  });
});

test("keys mean nothing while typing, but Escape", () => {
  const press = (key: string, more = {}) => ({ key, shiftKey: false, ctrlKey: false, metaKey: false, altKey: false, ...more });
  expect(commandOf(press("c"), false)).toBe("new");
  expect(commandOf(press("c"), true)).toBeNull();
  expect(commandOf(press("c", { ctrlKey: true }), false)).toBeNull();
  expect(commandOf(press("Escape", { shiftKey: true }), true)).toBe("stop");
  expect(commandOf(press("Escape"), true)).toBe("close");
});

test("ulids sort by time", () => {
  const early = ulid(1000);
  expect(early).toMatch(/^[0-9A-HJKMNP-TV-Z]{26}$/);
  expect(early < ulid(2000)).toBe(true);
  expect(ulid(1000)).not.toBe(early);
});
