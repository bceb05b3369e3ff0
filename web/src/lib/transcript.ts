/**
 * The transcript as a fold of the log, the twin of the server's view reducer.
 *
 *   durable events ──apply()──► items            each shown once, in the order of `seq`
 *   live deltas ────live()───► tail, live output superseded by the durable event that follows
 *
 * Items are never mutated: a changed one is replaced, so that the page can compare by identity.
 * Folding a whole page anew gives the same items with the same keys.
 */

import type { DiffStat, Event, EventBodies, KnownEvent, LiveDelta, PlanEntry, Seq, Step, TurnEnded } from "./api-types.ts";
import type { BlockItem, DeniedItem, DeniedPlace, Item, LineItem, PromptItem, StepsItem, StepState, ToolState } from "./items.ts";
import {
  contextAdded,
  contextCompacted,
  filesCopied,
  gitPush,
  isExplore,
  networkAllowed,
  networkDenied,
  pullRequestCreate,
  pullRequestState,
  rewound,
  shellClosed,
  shellOpened,
  stopPhrase,
} from "./phrases.ts";

/** A live output longer than this keeps its end. */
const LIVE_CAP = 64 * 1024;

interface LiveBlock {
  message: string;
  block: number;
  type: "message" | "thought";
  text: string;
}

/** Where a tool stands in `items`: its item, and its place in a group. */
interface Place {
  item: number;
  tool: number;
}

export class Transcript {
  #items: Item[] = [];
  #blocks: LiveBlock[] = [];
  readonly #tools = new Map<string, Place>();
  readonly #open = new Set<string>();
  /** Calls without an item of their own. */
  readonly #silent = new Map<string, ToolState>();
  readonly #prompts = new Map<string, number>();
  readonly #questions = new Map<string, number>();
  /** Durable blocks of a message so far, by `message:type`. */
  readonly #ordinals = new Map<string, number>();
  /** Where in the log each item began. */
  readonly #seqs: Seq[] = [];
  /** Rewinds of the conversation: the event, and the one that came before it instead. */
  readonly #rewinds: { seq: Seq; to: Seq }[] = [];
  /** The ends of turns by their last checkpoints, which they belong to. */
  readonly #reach = new Map<Seq, Seq>();
  #checkpoint: { seq: Seq; at: string; turn: string | undefined; diff: DiffStat } | null = null;
  #seq: Seq = 0;
  /** The transcripts of threads, by the calls that sent them. */
  readonly #threads = new Map<string, Transcript>();
  #steps = -1;
  #plan: PlanEntry[] | null = null;

  static of(events: readonly Event[]): Transcript {
    const transcript = new Transcript();
    for (const event of events) transcript.apply(event);
    return transcript;
  }

  /** Everything to show, oldest first; what the model is writing comes last. */
  items(): Item[] {
    return this.#blocks.length === 0 ? this.#items.slice() : [...this.#items, ...this.#tail()];
  }

  /** The connection was cut: half-received text would continue in the wrong place. */
  forgetLive(): void {
    this.#blocks = [];
    for (const { step, live } of this.#running()) if (live !== "") this.#changeStep(step, (old) => ({ ...old, live: "" }));
  }

  /** Takes over what another fold of the same session had received live. */
  adoptLive(other: Transcript): void {
    this.#blocks = other.#blocks;
    for (const [call, place] of other.#tools) {
      const tool = other.#toolAt(place);
      if (tool?.state === "running" && tool.output !== "") this.#changeTool(call, { output: tool.output });
    }
    for (const { step, live } of other.#running()) {
      this.#changeStep(step, (old) => (old.durationMs === null ? { ...old, live } : old));
    }
  }

  apply(event: Event): void {
    const known = event as KnownEvent;
    this.#seq = event.seq;
    switch (known.kind) {
      case "session.created": {
        const { repository, base, head, branch } = known.body;
        this.#add({ type: "start", key: "start", at: known.at, repository, base, branch, dirty: base !== head });
        break;
      }
      case "session.status":
        if (known.body.reason) {
          const failed = known.body.status === "failed";
          // The failed step above says it already.
          const last = this.#items.at(-1);
          if (failed && last?.type === "steps" && last.steps.some((step) => step.error !== null)) break;
          this.#line(known.seq, failed ? "bad" : "neutral", sentence(known.body.reason));
        }
        break;
      case "step.started":
        this.#startStep(known.seq, known.body.step, known.at);
        break;
      case "step.output":
        this.#changeStep(known.body.step, (step) => ({ ...step, output: step.output + known.body.text, live: "" }));
        break;
      case "step.finished":
        this.#changeStep(known.body.step, (step) => ({
          ...step,
          live: "",
          durationMs: known.body.duration_ms,
          error: known.body.error ?? null,
          detail: known.body.detail ?? null,
        }));
        break;
      case "prompt.queued":
        this.#prompts.set(known.body.prompt, this.#items.length);
        this.#add({ type: "prompt", key: known.body.prompt, at: known.at, text: known.body.text, state: "queued", delivery: known.body.delivery ?? "next" });
        break;
      case "prompt.edited":
        this.#changePrompt(known.body.prompt, { text: known.body.text, delivery: known.body.delivery });
        break;
      case "prompt.cancelled":
        this.#changePrompt(known.body.prompt, { state: "cancelled" });
        break;
      case "prompt.delivered":
      case "turn.started":
        this.#changePrompt(known.body.prompt, { state: "started" });
        break;
      case "turn.resumed":
        this.#resume(known.seq);
        break;
      case "turn.interrupted":
        this.#line(known.seq, "neutral", known.body.reason === "user_stop" ? "Stop requested" : "Interrupted", "stop");
        break;
      case "turn.ended":
        this.#endTurn(known.seq, known.body);
        this.#addCheckpoint(known.seq, known.turn);
        break;
      case "agent.message":
        this.#block("message", known.body.message, known.body.text);
        break;
      case "agent.thought":
        this.#block("thought", known.body.message, known.body.text);
        break;
      case "tool.call": {
        const { call, name, title, input } = known.body;
        this.#startTool({
          call,
          name,
          title,
          input,
          at: known.at,
          state: "running",
          output: "",
          durationMs: null,
          detail: {},
          full: null,
        });
        break;
      }
      case "tool.result":
        this.#open.delete(known.body.call);
        this.#changeTool(known.body.call, {
          state: known.body.is_error ? "failed" : "done",
          output: known.body.content,
          durationMs: known.body.duration_ms,
          detail: isRecord(known.body.detail) ? known.body.detail : {},
          full: known.body.full_output ?? null,
        });
        break;
      case "plan":
        this.#changePlan(known.seq, known.body.entries);
        break;
      case "context.added":
        this.#line(known.seq, "neutral", contextAdded(known.body));
        break;
      case "thread.started":
        this.#startThread(known.body);
        break;
      case "thread.event": {
        const { thread, event: inner } = known.body;
        const { turn, causation, ...head } = known;
        this.#inThread(thread, (transcript) => transcript.apply({ ...head, kind: inner.kind, body: inner.body ?? {} }));
        break;
      }
      case "context.compacted":
        this.#line(known.seq, "neutral", contextCompacted(known.body));
        break;
      case "command.ran":
        this.#commandRan(known.seq, known.body);
        break;
      case "question.asked":
        this.#questions.set(known.body.question, this.#items.length);
        this.#add({
          type: "question",
          key: known.body.question,
          question: known.body,
          answer: null,
          closed: false,
        });
        break;
      case "question.answered": {
        const index = this.#questions.get(known.body.question);
        const item = index === undefined ? undefined : this.#items[index];
        if (index !== undefined && item?.type === "question") {
          this.#items[index] = { ...item, answer: known.body.answer };
        }
        break;
      }
      case "shell.opened":
        this.#line(known.seq, "neutral", shellOpened(known.body.command));
        break;
      case "shell.closed":
        this.#line(known.seq, "neutral", shellClosed(known.body));
        break;
      case "files.copied":
        this.#line(known.seq, "neutral", filesCopied(known.body));
        break;
      case "git.push": {
        const text = gitPush(known.body);
        if (text) this.#line(known.seq, known.body.outcome === "done" ? "neutral" : "warn", text);
        break;
      }
      case "pr.create": {
        const text = pullRequestCreate(known.body);
        if (text) this.#line(known.seq, known.body.outcome === "done" ? "neutral" : "warn", text);
        break;
      }
      case "pr.state": {
        const text = pullRequestState(known.body);
        if (text) this.#line(known.seq, known.body.checks.failed > 0 ? "warn" : "neutral", text);
        break;
      }
      case "network.denied": {
        const { host, port, askable } = known.body;
        const text = networkDenied(known.body);
        if (!askable) this.#line(known.seq, "warn", text);
        else this.#ask(known.seq, known.body.domain ?? null, { host, port, text, scope: null });
        break;
      }
      case "network.allowed":
        this.#decide(known.seq, known.body);
        break;
      case "error":
        this.#error(known.seq, known.body.code, known.body.message, known.body.retry_in_ms);
        break;
      case "checkpoint":
        this.#checkpoint = { seq: known.seq, at: known.at, turn: known.turn, diff: { additions: 0, deletions: 0, files_changed: 0 } };
        break;
      case "diffstat":
        if (this.#checkpoint) this.#checkpoint.diff = known.body;
        break;
      case "session.rewound":
        this.#line(known.seq, "neutral", rewound(known.body));
        if (known.body.conversation) this.#rewind(known.seq, known.body.to);
        break;
      case "session.archived":
      case "thread.ended":
      case "usage":
      case "workspace.saved":
        break;
      default:
        this.#line(event.seq, "neutral", `Event “${event.kind}”, unknown to this version of the page`);
    }
  }

  live(delta: LiveDelta): void {
    switch (delta.type) {
      case "text":
      case "thought": {
        // A new message means that the one before is complete, or will be as a durable event.
        if (this.#blocks.some((block) => block.message !== delta.message)) this.#blocks = [];
        const at = this.#blocks.findIndex((block) => block.block === delta.block);
        const old = this.#blocks[at];
        if (old) this.#blocks[at] = { ...old, text: old.text + delta.text };
        else {
          const type = delta.type === "text" ? "message" : "thought";
          this.#blocks.push({ message: delta.message, block: delta.block, type, text: delta.text });
          this.#blocks.sort((a, b) => a.block - b.block);
        }
        break;
      }
      case "discard":
        this.#blocks = this.#blocks.filter((block) => block.message !== delta.message);
        break;
      case "tool_output": {
        const place = this.#tools.get(delta.call);
        const tool = place && this.#toolAt(place);
        if (!tool) {
          for (const [thread, transcript] of this.#threads) {
            if (transcript.#tools.has(delta.call)) this.#inThread(thread, (inner) => inner.live(delta));
          }
        }
        if (tool?.state !== "running") break;
        this.#changeTool(delta.call, { output: (tool.output + delta.text).slice(-LIVE_CAP) });
        break;
      }
      case "step_output":
        this.#changeStep(delta.step, (step) =>
          step.durationMs === null ? { ...step, live: (step.live + delta.text).slice(-LIVE_CAP) } : step,
        );
        break;
    }
  }

  #add(item: Item, seq = this.#seq): void {
    this.#items.push(item);
    this.#seqs.push(seq);
  }

  /** The last record of a turn stands at its end. */
  #addCheckpoint(end: Seq, turn: string | undefined): void {
    const last = this.#checkpoint;
    this.#checkpoint = null;
    if (last === null || last.turn !== turn) return;
    this.#reach.set(last.seq, end);
    this.#add({ type: "checkpoint", key: `c${last.seq}`, at: last.at, checkpoint: last.seq, diff: last.diff }, last.seq);
  }

  /** What stands is found from the end: each rewind says what came before it. */
  #rewind(seq: Seq, to: Seq): void {
    this.#rewinds.push({ seq, to: this.#reach.get(to) ?? to });
    const standing: { from: Seq; end: Seq }[] = [];
    let end = seq;
    for (const rewind of this.#rewinds.toReversed()) {
      if (rewind.seq > end) continue;
      standing.push({ from: rewind.seq, end });
      end = rewind.to;
    }
    standing.push({ from: 1, end });
    this.#items = this.#items.map((item, index) => {
      const at = this.#seqs[index] ?? 0;
      const isVoid = !standing.some((range) => range.from <= at && at <= range.end);
      return (item.void ?? false) === isVoid ? item : { ...item, void: isVoid };
    });
  }

  #line(seq: number, tone: LineItem["tone"], text: string, code: string | null = null): void {
    this.#add({ type: "line", key: `e${seq}`, tone, text, count: 1, code });
  }

  /** An answer of the platform stands like one of the agent; what the model was sent is a line. */
  #commandRan(seq: number, { name, output }: EventBodies["command.ran"]): void {
    if (output === undefined) this.#line(seq, "neutral", `Ran the command /${name}`);
    else this.#add({ type: "message", key: `e${seq}`, text: output, live: false });
  }

  /** What running tools printed comes again, from the beginning. */
  #resume(seq: number): void {
    this.#blocks = [];
    for (const call of this.#open) this.#changeTool(call, { output: "" });
    this.#line(seq, "neutral", "The server was started again; the turn goes on");
  }

  #startStep(seq: number, step: Step, at: string): void {
    const fresh: StepState = { step, startedAt: at, output: "", live: "", durationMs: null, error: null, detail: null };
    const item = this.#items[this.#steps];
    // A step that comes again, or anything said since, begins a new preparation.
    const again = item?.type === "steps" && item.steps.some((old) => old.step === step);
    const since = this.#items.slice(this.#steps + 1).some((other) => other.type !== "prompt");
    if (item?.type !== "steps" || again || since) {
      this.#steps = this.#items.length;
      this.#add({ type: "steps", key: `e${seq}`, steps: [fresh] });
    } else {
      this.#items[this.#steps] = { ...item, steps: [...item.steps, fresh] };
    }
  }

  #running(): StepState[] {
    const item = this.#items[this.#steps];
    return item?.type === "steps" ? item.steps.filter((step) => step.durationMs === null) : [];
  }

  #changeStep(name: Step, change: (step: StepState) => StepState): void {
    const item = this.#items[this.#steps];
    if (item?.type !== "steps") return;
    const steps = item.steps.map((step) => (step.step === name ? change(step) : step));
    this.#items[this.#steps] = { ...item, steps } satisfies StepsItem;
  }

  #changePrompt(prompt: string, change: Partial<PromptItem>): void {
    const index = this.#prompts.get(prompt);
    const item = index === undefined ? undefined : this.#items[index];
    if (index === undefined || item?.type !== "prompt") return;
    this.#items[index] = { ...item, ...change };
  }

  #endTurn(seq: number, ended: TurnEnded): void {
    this.#blocks = [];
    for (const call of this.#open) this.#inThread(call, (transcript) => transcript.#lose());
    this.#lose();
    for (const index of this.#questions.values()) {
      const item = this.#items[index];
      if (item?.type === "question" && !item.answer) this.#items[index] = { ...item, closed: true };
    }
    if (ended.status === "completed") return;
    const head = { interrupted: "Stopped", failed: "Failed", limit: "Limit reached" }[ended.status];
    const why = ended.message ?? stopPhrase(ended.stop_reason);
    const line: LineItem = {
      type: "line",
      key: `e${seq}`,
      tone: ended.status === "interrupted" ? "neutral" : "bad",
      text: sentence(why.startsWith("by ") ? `${head} ${why}` : `${head}: ${why}`),
      count: 1,
      code: null,
    };
    const last = this.#items.at(-1);
    // The request to stop and its outcome are one fact to the reader.
    if (last?.type === "line" && last.code === "stop") this.#items[this.#items.length - 1] = line;
    else this.#add(line);
  }

  #lose(): void {
    for (const call of this.#open) this.#changeTool(call, { state: "lost" });
    this.#open.clear();
  }

  /** Hosts of a domain about which nobody has decided are one question. */
  #ask(seq: number, domain: string | null, place: DeniedPlace): void {
    const at = domain === null ? -1 : this.#items.findLastIndex((item) => item.type === "denied" && item.domain === domain && isOpen(item));
    const item = this.#items[at];
    if (item?.type !== "denied") {
      this.#add({ type: "denied", key: `e${seq}`, ...place, domain, more: [] });
      return;
    }
    const isThere = [item, ...item.more].some(({ host, port, scope }) => host === place.host && port === place.port && scope === null);
    if (!isThere) this.#items = this.#items.with(at, { ...item, more: [...item.more, place] });
  }

  /** All refusals that it is about say so; where none is shown, a line of its own does. */
  #decide(seq: number, decided: EventBodies["network.allowed"]): void {
    const { host, port, scope } = decided;
    let found = false;
    this.#items = this.#items.map((item) => {
      if (item.type !== "denied") return item;
      const decide = <T extends DeniedPlace>(place: T): T => {
        if (place.scope !== null || place.host !== host || place.port !== port) return place;
        found = true;
        return { ...place, scope };
      };
      return { ...decide(item), more: item.more.map(decide) };
    });
    if (!found) this.#line(seq, "neutral", networkAllowed(decided));
  }

  #block(type: BlockItem["type"], message: string, text: string): void {
    const name = `${message}:${type}`;
    const ordinal = this.#ordinals.get(name) ?? 0;
    this.#ordinals.set(name, ordinal + 1);
    const at = this.#blocks.findIndex((block) => block.message === message && block.type === type);
    if (at >= 0) this.#blocks.splice(at, 1);
    if (text.trim() === "") return;
    this.#add({ type, key: `${name}:${ordinal}`, text, live: false });
  }

  /** Live blocks, with the keys that their durable events will have. */
  #tail(): BlockItem[] {
    const seen = new Map<string, number>();
    const tail: BlockItem[] = [];
    for (const { message, type, text } of this.#blocks) {
      const name = `${message}:${type}`;
      const ordinal = (this.#ordinals.get(name) ?? 0) + (seen.get(name) ?? 0);
      seen.set(name, (seen.get(name) ?? 0) + 1);
      if (text.trim() !== "") tail.push({ type, key: `${name}:${ordinal}`, text, live: true });
    }
    return tail;
  }

  #startTool(tool: ToolState): void {
    this.#open.add(tool.call);
    // The list that this tool writes is shown by its `plan` event; only a failure is worth a card.
    if (tool.name === "TodoWrite") {
      this.#silent.set(tool.call, tool);
      return;
    }
    const last = this.#items.at(-1);
    if (isExplore(tool.name) && last?.type === "explore") {
      this.#tools.set(tool.call, { item: this.#items.length - 1, tool: last.tools.length });
      this.#items[this.#items.length - 1] = { ...last, tools: [...last.tools, tool] };
      return;
    }
    this.#tools.set(tool.call, { item: this.#items.length, tool: 0 });
    if (isExplore(tool.name)) this.#add({ type: "explore", key: tool.call, tools: [tool] });
    else this.#add({ type: "tool", key: tool.call, tool });
  }

  /** The card of its call becomes the thread; on a page that begins after the call there is none. */
  #startThread({ thread, agent, description }: EventBodies["thread.started"]): void {
    const place = this.#tools.get(thread);
    const item = place && this.#items[place.item];
    if (item?.type !== "tool") return;
    this.#threads.set(thread, new Transcript());
    this.#items[place!.item] = { type: "thread", key: item.key, tool: item.tool, agent, description, items: [], toolUses: 0 };
  }

  #inThread(thread: string, change: (transcript: Transcript) => void): void {
    const transcript = this.#threads.get(thread);
    const place = this.#tools.get(thread);
    const item = place && this.#items[place.item];
    if (!transcript || item?.type !== "thread") return;
    change(transcript);
    this.#items[place!.item] = { ...item, items: transcript.items(), toolUses: transcript.#tools.size };
  }

  #toolAt(place: Place): ToolState | undefined {
    const item = this.#items[place.item];
    if (item?.type === "tool" || item?.type === "thread") return item.tool;
    return item?.type === "explore" ? item.tools[place.tool] : undefined;
  }

  /** A call that is not on the loaded page changes nothing. */
  #changeTool(call: string, change: Partial<ToolState>): void {
    const silent = this.#silent.get(call);
    if (silent && change.state === "failed") {
      this.#silent.delete(call);
      this.#add({ type: "tool", key: call, tool: { ...silent, ...change } });
      return;
    }
    const place = this.#tools.get(call);
    const item = place && this.#items[place.item];
    if (item?.type === "tool" || item?.type === "thread") {
      this.#items[place!.item] = { ...item, tool: { ...item.tool, ...change } };
    } else if (item?.type === "explore") {
      const tools = item.tools.map((tool, index) => (index === place!.tool ? { ...tool, ...change } : tool));
      this.#items[place!.item] = { ...item, tools };
    }
  }

  #changePlan(seq: number, entries: PlanEntry[]): void {
    const before = new Map((this.#plan ?? []).map((entry) => [entry.content, entry.status]));
    const kept = entries.some((entry) => before.has(entry.content));
    const changes = entries.filter((entry) => before.get(entry.content) !== entry.status);
    this.#plan = entries;
    if (changes.length === 0) return;
    const done = entries.filter((entry) => entry.status === "completed").length;
    this.#add({ type: "plan", key: `e${seq}`, changes, done, total: entries.length, first: !kept });
  }

  #error(seq: number, code: string, message: string, retryInMs: number | undefined): void {
    if (retryInMs === undefined) {
      this.#line(seq, code === "hook_message" ? "neutral" : "bad", sentence(message), code);
      return;
    }
    const last = this.#items.at(-1);
    const seconds = Math.max(1, Math.round(retryInMs / 1000));
    const text = `${sentence(message)} Trying again in ${seconds} s.`;
    if (last?.type === "line" && last.tone === "warn" && last.code === code) {
      this.#items[this.#items.length - 1] = { ...last, text, count: last.count + 1 };
    } else this.#line(seq, "warn", text, code);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A message of the platform as a sentence: it arrives in lower case without a full stop. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  const head = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(head) ? head : `${head}.`;
}

/** Whether a host of it waits for a decision. */
function isOpen(item: DeniedItem): boolean {
  return [item, ...item.more].some(({ scope }) => scope === null);
}
