/**
 * One open session.
 *
 *   load():  view + newest 100 events ──► transcript ──► watched by the stream from the last seq
 *   push():  stream ──► SeqGate (order, once, gaps) ──► transcript ──once per frame──► items
 *   older(): the page before the first event ──► everything folded anew
 *   send():  draft ──► bubble "sending" ──► 202: draft gone │ error: text back in the composer
 */

import { api, isUncertain, problemOf } from "./api.ts";
import { MAX_PROMPT_CHARS, type EditPrompt, type Event, type LiveDelta, type NetworkScope, type Problem, type SessionId } from "./api-types.ts";
import { Draft } from "./draft.ts";
import type { Item, PromptItem } from "./items.ts";
import { sessions } from "./list.svelte.ts";
import { SeqGate } from "./stream.ts";
import { toasts } from "./toast.svelte.ts";
import { Transcript } from "./transcript.ts";

const FIRST_PAGE = 100;
const OLDER_PAGE = 200;
/** While the reader follows the tail, more events than this are cut to the newer half. */
const MOUNTED_MAX = 600;

interface Optimistic {
  item: PromptItem;
  /** Known once the server has answered. */
  prompt: string | null;
}

export class SessionModel {
  readonly id: SessionId;
  phase = $state<"loading" | "ready" | "failed" | "gone">("loading");
  problem = $state.raw<Problem | null>(null);
  items = $state.raw<Item[]>([]);
  hasOlder = $state(false);
  loadingOlder = $state(false);
  /** Grows with each event that may change the diff. */
  diffVersion = $state(0);
  /** The last event or delta. */
  heardAt = $state(Date.now());
  text = $state("");
  sendProblem = $state.raw<Problem | null>(null);
  stopping = $state(false);
  /** Prompts that were sent from here: the view goes to the end with each. */
  sent = $state(0);
  /** Set by the view: whether the reader is at the tail. */
  following = true;

  readonly #draft: Draft;
  #events: Event[] = [];
  #transcript = new Transcript();
  #gate: SeqGate;
  #optimistic: Optimistic[] = [];
  #scheduled = false;
  #broken: () => void;

  constructor(id: SessionId, broken: () => void) {
    this.id = id;
    this.#broken = broken;
    this.#gate = this.#newGate(0);
    this.#draft = new Draft(id);
    this.text = this.#draft.text;
  }

  get lastSeq(): number {
    return this.#gate.last;
  }

  async load(): Promise<void> {
    if (this.phase === "failed") this.phase = "loading";
    try {
      const [view, page] = await Promise.all([api.session(this.id), api.events(this.id, { tail: FIRST_PAGE })]);
      sessions.merge(view);
      this.#events = page.events;
      this.#gate = this.#newGate(page.events.at(-1)?.seq ?? page.last_seq);
      this.#refold();
      this.#claimAll();
      this.heardAt = Date.parse(view.updated_at);
      this.diffVersion += 1;
      this.problem = null;
      this.phase = "ready";
      this.#flush();
    } catch (error) {
      this.problem = problemOf(error);
      this.phase = this.problem.status === 404 ? "gone" : "failed";
    }
  }

  push(event: Event): void {
    this.#gate.push(event);
  }

  live(delta: LiveDelta): void {
    this.#transcript.live(delta);
    this.heardAt = Date.now();
    this.#schedule();
  }

  forgetLive(): void {
    this.#transcript.forgetLive();
    this.#schedule();
  }

  async older(): Promise<void> {
    const first = this.#events[0]?.seq ?? 1;
    if (this.loadingOlder || first <= 1) return;
    this.loadingOlder = true;
    try {
      const page = await api.events(this.id, { before: first, limit: OLDER_PAGE });
      // The tail may have been cut meanwhile: only what joins is taken.
      if (page.events.at(-1)?.seq === (this.#events[0]?.seq ?? 1) - 1) {
        this.#events = [...page.events, ...this.#events];
        this.#refold();
        this.#flush();
      }
    } catch (error) {
      toasts.problem(problemOf(error));
    } finally {
      this.loadingOlder = false;
    }
  }

  edit(text: string): void {
    this.text = text;
    this.#draft.edit(text);
  }

  async send(): Promise<void> {
    const text = this.text;
    if (text.trim() === "") return;
    if ([...text].length > MAX_PROMPT_CHARS) {
      this.sendProblem = tooLong();
      return;
    }
    this.#draft.edit(text);
    const sending = this.#draft.send();
    const item: PromptItem = {
      type: "prompt",
      key: sending.key,
      at: new Date().toISOString(),
      text,
      state: "sending",
      delivery: "next",
    };
    this.text = "";
    this.sendProblem = null;
    this.#optimistic.push({ item, prompt: null });
    this.sent += 1;
    this.#flush();
    try {
      const accepted = await api.prompt(this.id, text, sending.key);
      this.#draft.accepted(sending);
      this.#accepted(sending.key, accepted.prompt);
    } catch (error) {
      const problem = problemOf(error);
      const shown = !this.#optimistic.some((other) => other.item.key === sending.key);
      if (shown && isUncertain(problem)) {
        // The answer was lost, but the log has brought the prompt: it was accepted.
        this.#draft.accepted(sending);
        return;
      }
      this.#draft.failed(sending, isUncertain(problem));
      this.#optimistic = this.#optimistic.filter((other) => other.item.key !== sending.key);
      this.text = this.#draft.text;
      this.sendProblem = problem;
    }
    this.#flush();
  }

  async stop(): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    try {
      await api.stop(this.id);
    } catch (error) {
      this.stopping = false;
      toasts.problem(problemOf(error));
    }
  }

  /** Changes a prompt that waits; whether it did. */
  async editPrompt(prompt: string, change: EditPrompt): Promise<boolean> {
    return this.#tell(api.editPrompt(this.id, prompt, change));
  }

  async cancelPrompt(prompt: string): Promise<boolean> {
    return this.#tell(api.cancelPrompt(this.id, prompt));
  }

  async #tell(call: Promise<void>): Promise<boolean> {
    try {
      await call;
      return true;
    } catch (error) {
      toasts.problem(problemOf(error));
      return false;
    }
  }

  async answer(question: string, option: string): Promise<void> {
    try {
      await api.answer(this.id, question, option);
    } catch (error) {
      toasts.problem(problemOf(error));
      throw error;
    }
  }

  /** Decides about a host that the network refused; what holds now, in a sentence. */
  async decide(host: string, port: number, decision: NetworkScope): Promise<string> {
    try {
      return (await api.decideNetwork(this.id, { host, port, decision })).message;
    } catch (error) {
      toasts.problem(problemOf(error));
      throw error;
    }
  }

  leave(): void {
    this.#draft.flush();
  }

  #newGate(last: number): SeqGate {
    return new SeqGate({
      last,
      fetchAfter: (after) => api.events(this.id, { after, limit: 500 }),
      apply: (events) => this.#apply(events),
      onBroken: () => this.#broken(),
    });
  }

  #apply(events: Event[]): void {
    for (const event of events) {
      this.#events.push(event);
      this.#transcript.apply(event);
      this.#react(event);
    }
    this.heardAt = Date.now();
    this.#schedule();
  }

  #react(event: Event): void {
    const body = event.body as { prompt?: string; text?: string; message?: string };
    switch (event.kind) {
      case "prompt.queued":
        this.#claim(body.prompt ?? "", body.text ?? "");
        break;
      case "diffstat":
      case "checkpoint":
        this.diffVersion += 1;
        break;
      case "turn.ended":
        this.stopping = false;
        toasts.say("The turn ended");
        break;
      case "agent.message":
        toasts.say(`Agent: ${(body.text ?? "").slice(0, 200)}`);
        break;
      case "question.asked":
        toasts.say(`The agent asks: ${body.text ?? ""}`);
        break;
      case "error":
        toasts.say(body.message ?? "An error was recorded");
        break;
    }
  }

  /** The durable prompt takes the place of the bubble that this tab showed meanwhile. */
  #claim(prompt: string, text: string): void {
    const at = this.#optimistic.findIndex(
      (other) => other.prompt === prompt || (other.prompt === null && other.item.text === text),
    );
    if (at >= 0) this.#optimistic.splice(at, 1);
    else if (this.#draft.confirm(text)) {
      this.text = "";
      this.sendProblem = null;
    }
  }

  /** After the snapshot was loaded anew: bubbles whose prompts it holds go. */
  #claimAll(): void {
    for (const event of this.#events) {
      if (event.kind !== "prompt.queued") continue;
      const prompt = (event.body as { prompt: string }).prompt;
      this.#optimistic = this.#optimistic.filter((other) => other.prompt !== prompt);
    }
  }

  #accepted(key: string, prompt: string): void {
    const shown = this.#events.some(
      (event) => event.kind === "prompt.queued" && (event.body as { prompt: string }).prompt === prompt,
    );
    this.#optimistic = this.#optimistic.flatMap((other) => {
      if (other.item.key !== key) return [other];
      return shown ? [] : [{ item: { ...other.item, state: "queued" as const }, prompt }];
    });
  }

  #refold(): void {
    const old = this.#transcript;
    this.#transcript = Transcript.of(this.#events);
    this.#transcript.adoptLive(old);
  }

  /** Once per frame, however many events come. A hidden page has no frames. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    if (document.hidden) setTimeout(() => this.#flush(), 250);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.following && this.#events.length > MOUNTED_MAX) {
      this.#events = this.#events.slice(-MOUNTED_MAX / 2);
      this.#refold();
    }
    this.hasOlder = (this.#events[0]?.seq ?? 1) > 1;
    this.items = [...this.#transcript.items(), ...this.#optimistic.map((other) => other.item)];
  }
}

export function tooLong(): Problem {
  return {
    type: "about:blank",
    status: 0,
    code: "prompt_too_long",
    title: `The prompt is longer than ${MAX_PROMPT_CHARS.toLocaleString("en")} characters`,
    detail: "It was not sent.",
    next: "Shorten it, or put the long part into a file of the repository.",
  };
}
