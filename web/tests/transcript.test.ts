import { describe, expect, test } from "vitest";

import type { Event, EventBodies } from "../src/lib/api-types.ts";
import type { Item } from "../src/lib/items.ts";
import { Transcript } from "../src/lib/transcript.ts";
import fixture from "./fixtures/events.json";

const events = fixture as Event[];

function only<T extends Item["type"]>(items: Item[], type: T): Extract<Item, { type: T }>[] {
  return items.filter((item): item is Extract<Item, { type: T }> => item.type === type);
}

function event<K extends keyof EventBodies>(seq: number, kind: K, body: EventBodies[K]): Event {
  return { session: "ses_x", seq, at: "2026-11-20T12:00:00Z", epoch: 1, kind, body };
}

describe("the fixture", () => {
  test("holds every kind of the log and one unknown", () => {
    const kinds: Record<keyof EventBodies, true> = {
      "session.created": true,
      "session.status": true,
      "session.archived": true,
      "session.rewound": true,
      "step.started": true,
      "step.output": true,
      "step.finished": true,
      "prompt.queued": true,
      "prompt.edited": true,
      "prompt.cancelled": true,
      "prompt.delivered": true,
      "turn.started": true,
      "turn.resumed": true,
      "workspace.saved": true,
      "turn.interrupted": true,
      "turn.ended": true,
      "agent.message": true,
      "agent.thought": true,
      "tool.call": true,
      "tool.result": true,
      plan: true,
      "context.added": true,
      "context.compacted": true,
      "thread.started": true,
      "thread.event": true,
      "thread.ended": true,
      "command.ran": true,
      "question.asked": true,
      "question.answered": true,
      checkpoint: true,
      diffstat: true,
      usage: true,
      "shell.opened": true,
      "shell.closed": true,
      "files.copied": true,
      "git.push": true,
      "pr.create": true,
      "pr.state": true,
      "network.denied": true,
      "network.allowed": true,
      error: true,
    };
    const seen = new Set(events.map((entry) => entry.kind));
    expect([...seen].sort()).toEqual([...Object.keys(kinds), "pr.opened"].sort());
    expect(events.map((entry) => entry.seq)).toEqual(events.map((_, index) => index + 1));
  });

  test("folds to what the reader sees", () => {
    const shape = Transcript.of(events)
      .items()
      .map((item) => {
        if (item.type === "line") return `${item.tone}: ${item.text} ×${item.count}`;
        if (item.type === "tool") return `${item.tool.name} ${item.tool.state}`;
        if (item.type === "explore") return `explore ${item.tools.map((tool) => tool.state).join(" ")}`;
        if (item.type === "plan") return `plan ${item.changes.length} of ${item.total}${item.first ? " first" : ""}`;
        if (item.type === "denied") return `denied ${item.scope}: ${item.text}`;
        if (item.type === "thread") return `thread ${item.tool.state}`;
        if (item.type === "prompt") return `prompt ${item.state}`;
        return item.type;
      });
    expect(shape).toEqual([
      "start",
      "prompt started",
      "steps",
      "warn: The model endpoint is overloaded (529). Trying again in 2 s. ×2",
      "thought",
      "message",
      "explore done failed",
      "plan 2 of 2 first",
      "Edit done",
      "question",
      "Bash done",
      "plan 2 of 2",
      "Bash lost",
      "neutral: Stopped by you. ×1",
      "checkpoint",
      "neutral: Idle for 10 minutes. ×1",
      "neutral: Event “pr.opened”, unknown to this version of the page ×1",
      "bad: The workspace could not be recorded. ×1",
      "neutral: Shell opened: bash -l ×1",
      "neutral: Copied target/report.html out of the sandbox, 12 kB ×1",
      "neutral: Shell closed after 2 min: exit 130 ×1",
      "denied session: Network: evil.test:443 refused, no rule of the environment allows it",
      "prompt cancelled",
      "prompt started",
      "neutral: The server was started again; the turn goes on ×1",
      "neutral: SessionStart hook says: the tests run with make check ×1",
      "neutral: Pushed patchyard/fix-1 ×1",
      "neutral: Files and conversation went back to a checkpoint ×1",
      "neutral: The conversation was summed up to make room (181k tokens before); the log keeps all of it ×1",
      "neutral: 3 old results left out to make room (91k tokens before); the log keeps all of it ×1",
      "message",
      "neutral: Ran the command /fix ×1",
      "neutral: Opened pull request #7 of team/thing into main: https://github.com/team/thing/pull/7 ×1",
      "warn: Pull request #7: 1 passed, 1 failed (lint) ×1",
      "thread done",
    ]);
  });

  test("what was gone back from is void, and stands again after the way back", () => {
    const back = events.findIndex((entry) => entry.kind === "session.rewound");
    const transcript = Transcript.of(events.slice(0, back + 1));
    const voids = (): number[] => transcript.items().flatMap((item, index) => (item.void ? [index] : []));
    const at = transcript.items().findIndex((item) => item.type === "checkpoint");
    const all = transcript.items().length;
    // The turn's end belongs to its checkpoint.
    expect(voids()).toEqual(Array.from({ length: all - at - 2 }, (_, index) => at + 1 + index));
    transcript.apply(event(53, "session.rewound", { to: 51, files: true, conversation: true }));
    expect(voids()).toEqual([all - 1]);
  });

  test("gives each item a key of its own", () => {
    const keys = Transcript.of(events).items().map((item) => item.key);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("event by event gives the same as all at once", () => {
    const one = new Transcript();
    for (const entry of events) {
      one.apply(entry);
      one.items();
    }
    expect(one.items()).toEqual(Transcript.of(events).items());
  });

  test("can begin anywhere: a page from the middle of the log", () => {
    for (let from = 1; from < events.length; from += 1) {
      const items = Transcript.of(events.slice(from)).items();
      const keys = items.map((item) => item.key);
      expect(new Set(keys).size).toBe(keys.length);
    }
  });

  test("never changes an item that was handed out", () => {
    const transcript = new Transcript();
    const handed: { item: Item; was: string }[] = [];
    for (const entry of events) {
      transcript.apply(entry);
      for (const item of transcript.items()) handed.push({ item, was: JSON.stringify(item) });
    }
    for (const { item, was } of handed) expect(JSON.stringify(item)).toBe(was);
  });
});

describe("threads", () => {
  const call = (id: string, name: string) => ({ message: "m", call: id, name, title: "", input: {} });
  const inside = (kind: string, body: unknown) => ({ thread: "t", event: { kind, body } });
  const begun = [
    event(1, "tool.call", call("t", "Agent")),
    event(2, "thread.started", { thread: "t", agent: "Explore", description: "find it", prompt: "Find it." }),
    event(3, "thread.event", inside("agent.message", { message: "m", text: "I look." })),
    event(4, "thread.event", inside("tool.call", call("t-1", "Bash"))),
  ];

  test("stand together under the call that sent them", () => {
    const transcript = Transcript.of(begun);
    transcript.live({ type: "tool_output", call: "t-1", text: "so far" });
    const [running] = only(transcript.items(), "thread");
    expect([running?.agent, running?.description, running?.tool.state, running?.toolUses]).toEqual(["Explore", "find it", "running", 1]);
    const [text, bash] = running?.items ?? [];
    expect(text?.type === "message" && text.text).toBe("I look.");
    expect(bash?.type === "tool" && bash.tool.output).toBe("so far");
    transcript.apply(event(5, "tool.result", { call: "t", content: "Here.", is_error: false, duration_ms: 5, detail: {} }));
    expect(only(transcript.items(), "thread")[0]?.tool.output).toBe("Here.");
    expect(transcript.items()).toHaveLength(1);
  });

  test("lose what has no result when the turn ends", () => {
    const transcript = Transcript.of(begun);
    transcript.apply(event(5, "turn.ended", { status: "interrupted", stop_reason: "user_stop", duration_ms: 1 }));
    const [thread] = only(transcript.items(), "thread");
    expect([thread?.tool.state, thread?.items.map((item) => item.type === "tool" && item.tool.state)]).toEqual(["lost", [false, "lost"]]);
  });

  test("of calls that are not on the page change nothing", () => {
    expect(Transcript.of(begun.slice(1)).items()).toEqual([]);
  });
});

describe("details", () => {
  const items = Transcript.of(events).items();

  test("steps carry output, durations and what was reused", () => {
    const [steps] = only(items, "steps");
    expect(steps?.steps.map((step) => [step.step, step.durationMs, step.output, step.detail])).toEqual([
      ["sandbox", 370, "", null],
      ["workspace", 590, "Cloning into 'web'...\n", "reused the setup of web at bbbb111122, built 2 h ago, saved 41 s"],
    ]);
  });

  test("a preparation that is tried again is an item of its own, below the failed one", () => {
    const transcript = Transcript.of([
      event(1, "step.started", { step: "sandbox" }),
      event(2, "step.finished", { step: "sandbox", duration_ms: 5 }),
      event(3, "step.started", { step: "setup" }),
      event(4, "step.finished", { step: "setup", duration_ms: 9, error: "the setup script ended with 1" }),
      event(5, "session.status", { sandbox: "failed", turn: "queued", status: "failed", reason: "the setup script ended with 1" }),
      event(6, "session.status", { sandbox: "creating", turn: "queued", status: "preparing" }),
      event(7, "step.started", { step: "sandbox" }),
    ]);
    const steps = only(transcript.items(), "steps");
    expect(steps.map((item) => item.steps.map((step) => [step.step, step.error]))).toEqual([
      [["sandbox", null], ["setup", "the setup script ended with 1"]],
      [["sandbox", null]],
    ]);
    expect(transcript.items()).toHaveLength(2);
  });

  test("a tool result keeps its detail and its full output", () => {
    const bash = only(items, "tool").find((item) => item.tool.call === "t5");
    expect(bash?.tool.detail).toEqual({ exit_code: 0 });
    expect(bash?.tool.full).toEqual({ blob: "00ff", size: 70000, truncated: false });
  });

  test("the question knows its answer, and that the base holds uncommitted changes", () => {
    expect(only(items, "question")[0]?.answer).toEqual({ option: "yes", by_deadline: false });
    expect(only(items, "start")[0]?.dirty).toBe(true);
  });

  test("a question that was never answered closes with its turn", () => {
    const transcript = Transcript.of([
      event(1, "question.asked", { question: "q", text: "?", options: [] }),
      event(2, "turn.ended", { status: "limit", stop_reason: "max_requests", duration_ms: 1 }),
    ]);
    expect(only(transcript.items(), "question")[0]?.closed).toBe(true);
    expect(only(transcript.items(), "line")[0]?.text).toBe(
      "Limit reached: too many model requests in one turn. Send a prompt to go on.",
    );
  });

  test("a failed step says it once", () => {
    const transcript = Transcript.of([
      event(1, "step.started", { step: "sandbox" }),
      event(2, "step.finished", { step: "sandbox", duration_ms: 5, error: "no runtime" }),
      event(3, "session.status", { sandbox: "failed", turn: "queued", status: "failed", reason: "no runtime" }),
    ]);
    expect(transcript.items().map((item) => item.type)).toEqual(["steps"]);
  });

  test("a second preparation is an item of its own", () => {
    const transcript = Transcript.of([
      event(1, "step.started", { step: "sandbox" }),
      event(2, "step.finished", { step: "sandbox", duration_ms: 5 }),
      event(3, "agent.message", { message: "m", text: "hi" }),
      event(4, "step.started", { step: "sandbox" }),
    ]);
    expect(transcript.items().map((item) => item.type)).toEqual(["steps", "message", "steps"]);
  });

  test("a failed TodoWrite is shown, a good one is not", () => {
    const call = { message: "m", name: "TodoWrite", title: "todos", input: {} };
    const transcript = Transcript.of([
      event(1, "tool.call", { ...call, call: "a" }),
      event(2, "tool.result", { call: "a", content: "ok", is_error: false, duration_ms: 1 }),
      event(3, "tool.call", { ...call, call: "b" }),
      event(4, "tool.result", { call: "b", content: "bad input", is_error: true, duration_ms: 1 }),
    ]);
    expect(only(transcript.items(), "tool").map((item) => item.tool.output)).toEqual(["bad input"]);
  });

  test("a completed turn says nothing", () => {
    const ended = event(1, "turn.ended", { status: "completed", stop_reason: "end_turn", duration_ms: 1 });
    expect(Transcript.of([ended]).items()).toEqual([]);
  });
});

describe("live deltas", () => {
  test("text grows in place and keeps its key when the durable block comes", () => {
    const transcript = new Transcript();
    transcript.live({ type: "thought", message: "m", block: 0, text: "hm" });
    transcript.live({ type: "text", message: "m", block: 1, text: "Hel" });
    transcript.live({ type: "text", message: "m", block: 1, text: "lo" });
    const before = transcript.items();
    expect(before.map((item) => ("text" in item ? item.text : ""))).toEqual(["hm", "Hello"]);
    transcript.apply(event(1, "agent.thought", { message: "m", text: "hm" }));
    expect(transcript.items().map((item) => item.key)).toEqual(before.map((item) => item.key));
    transcript.apply(event(2, "agent.message", { message: "m", text: "Hello" }));
    expect(transcript.items().map((item) => item.key)).toEqual(before.map((item) => item.key));
    expect(only(transcript.items(), "message").map((item) => item.live)).toEqual([false]);
  });

  test("two text blocks of one message keep their order and keys", () => {
    const transcript = new Transcript();
    transcript.live({ type: "text", message: "m", block: 2, text: "second" });
    transcript.live({ type: "text", message: "m", block: 0, text: "first" });
    const keys = transcript.items().map((item) => item.key);
    transcript.apply(event(1, "agent.message", { message: "m", text: "first" }));
    expect(transcript.items().map((item) => item.key)).toEqual(keys);
    expect(transcript.items().map((item) => ("text" in item ? item.text : ""))).toEqual(["first", "second"]);
  });

  test("a void message goes", () => {
    const transcript = new Transcript();
    transcript.live({ type: "text", message: "m", block: 0, text: "half" });
    transcript.live({ type: "discard", message: "m" });
    expect(transcript.items()).toEqual([]);
  });

  test("output of a running tool grows, then gives way to the result", () => {
    const transcript = Transcript.of([
      event(1, "tool.call", { message: "m", call: "c", name: "Bash", title: "x", input: {} }),
    ]);
    transcript.live({ type: "tool_output", call: "c", text: "a\n" });
    transcript.live({ type: "tool_output", call: "c", text: "b\n" });
    expect(only(transcript.items(), "tool")[0]?.tool.output).toBe("a\nb\n");
    const again = Transcript.of([
      event(1, "tool.call", { message: "m", call: "c", name: "Bash", title: "x", input: {} }),
    ]);
    again.adoptLive(transcript);
    expect(again.items()).toEqual(transcript.items());
    transcript.apply(event(2, "tool.result", { call: "c", content: "all", is_error: false, duration_ms: 1 }));
    transcript.live({ type: "tool_output", call: "c", text: "late" });
    expect(only(transcript.items(), "tool")[0]?.tool.output).toBe("all");
  });

  test("output of a running step: each durable piece takes the place of what was live", () => {
    const transcript = Transcript.of([event(1, "step.started", { step: "setup" })]);
    const shown = () => only(transcript.items(), "steps")[0]?.steps.map(({ output, live }) => [output, live]);
    transcript.live({ type: "step_output", step: "setup", text: "a\nb" });
    expect(shown()).toEqual([["", "a\nb"]]);
    transcript.apply(event(2, "step.output", { step: "setup", text: "a\nb\n" }));
    expect(shown()).toEqual([["a\nb\n", ""]]);
    transcript.live({ type: "step_output", step: "setup", text: "c\n" });
    const again = Transcript.of([
      event(1, "step.started", { step: "setup" }),
      event(2, "step.output", { step: "setup", text: "a\nb\n" }),
    ]);
    again.adoptLive(transcript);
    expect(again.items()).toEqual(transcript.items());
    again.forgetLive();
    expect(only(again.items(), "steps")[0]?.steps[0]).toMatchObject({ output: "a\nb\n", live: "" });
    transcript.apply(event(3, "step.output", { step: "setup", text: "c\n" }));
    transcript.apply(event(4, "step.finished", { step: "setup", duration_ms: 7 }));
    transcript.live({ type: "step_output", step: "setup", text: "late" });
    expect(shown()).toEqual([["a\nb\nc\n", ""]]);
  });

  test("the end of the turn clears what was left", () => {
    const transcript = new Transcript();
    transcript.live({ type: "text", message: "m", block: 0, text: "half" });
    transcript.apply(event(1, "turn.ended", { status: "completed", stop_reason: "end_turn", duration_ms: 1 }));
    expect(transcript.items()).toEqual([]);
  });
});

test("a decision is told by the refusals that it is about, and by a line where none is shown", () => {
  const denied = (seq: number, port: number, askable: boolean) =>
    event(seq, "network.denied", { host: "evil.test", port, via: "connect", reason: "not_allowed", askable });
  const decided = (seq: number, port: number, scope: "once" | "deny") =>
    event(seq, "network.allowed", { host: "evil.test", port, scope });
  const seen = (log: Event[]) =>
    Transcript.of(log).items().map((item) => (item.type === "denied" ? `${item.port} ${item.scope}` : item.type));
  expect(seen([denied(1, 443, true), denied(2, 80, true), denied(3, 443, false)])).toEqual(["443 null", "80 null", "line"]);
  const once = [denied(1, 443, true), denied(2, 80, true), decided(3, 443, "once")];
  expect(seen(once)).toEqual(["443 once", "80 null"]);
  // The next refusal asks anew, and keeps what was decided before.
  expect(seen([...once, denied(4, 443, true)])).toEqual(["443 once", "80 null", "443 null"]);
  expect(seen([...once, denied(4, 443, true), decided(5, 443, "deny")])).toEqual(["443 once", "80 null", "443 deny"]);
  const alone = Transcript.of([decided(1, 22, "deny")]).items()[0];
  expect(alone).toMatchObject({ type: "line", tone: "neutral", text: "Network: evil.test:22. Kept blocked." });
});

test("refused hosts of one domain are one question until all of them are decided about", () => {
  const denied = (seq: number, host: string, domain: string) =>
    event(seq, "network.denied", { host, port: 443, via: "connect", reason: "not_allowed", askable: true, domain });
  const decided = (seq: number, host: string) => event(seq, "network.allowed", { host, port: 443, scope: "session" });
  const seen = (log: Event[]) =>
    Transcript.of(log).items().map((item) =>
      item.type === "denied" ? [item, ...item.more].map(({ host, scope }) => `${host} ${scope}`).join(", ") : item.type,
    );
  const asked = [denied(1, "a.x.org", "x.org"), denied(2, "y.org", "y.org"), denied(3, "b.x.org", "x.org"), denied(4, "b.x.org", "x.org")];
  expect(seen(asked)).toEqual(["a.x.org null, b.x.org null", "y.org null"]);
  expect(seen([...asked, decided(5, "a.x.org"), denied(6, "c.x.org", "x.org")])).toEqual([
    "a.x.org session, b.x.org null, c.x.org null",
    "y.org null",
  ]);
  const over = [...asked, decided(5, "a.x.org"), decided(6, "b.x.org")];
  expect(seen([...over, denied(7, "c.x.org", "x.org")])).toEqual(["a.x.org session, b.x.org session", "y.org null", "c.x.org null"]);
});

test("a waiting prompt shows its newest words and when it is handed over", () => {
  const transcript = new Transcript();
  transcript.apply(event(1, "prompt.queued", { prompt: "prm_a", text: "one" }));
  expect(only(transcript.items(), "prompt")[0]).toMatchObject({ text: "one", state: "queued", delivery: "next" });
  transcript.apply(event(2, "prompt.edited", { prompt: "prm_a", text: "two", delivery: "later" }));
  expect(only(transcript.items(), "prompt")[0]).toMatchObject({ text: "two", state: "queued", delivery: "later" });
});

test("after a restart of the server a running tool prints again from the beginning", () => {
  const transcript = new Transcript();
  const call = { message: "m", call: "c", name: "Bash", title: "make", input: {} };
  transcript.apply(event(1, "tool.call", call));
  transcript.live({ type: "tool_output", call: "c", text: "one\n" });
  transcript.apply(event(2, "turn.resumed", {}));
  transcript.live({ type: "tool_output", call: "c", text: "one\ntwo\n" });
  expect(only(transcript.items(), "tool")[0]?.tool.output).toBe("one\ntwo\n");
});
