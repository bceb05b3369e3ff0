/**
 * The live stream: server-sent events read with fetch, so that every byte is a sign of life.
 *
 *   closed ──open()──► connecting ──first bytes──► live ──end, error, 45 s silence──► waiting
 *                          ▲                                                            │
 *                          └────── backoff over, `online`, page visible again ──────────┘
 *
 * Three parts that know nothing of each other: `SseParser` (bytes to frames), `SeqGate` (events in
 * order, each once, gaps fetched), `LiveStream` (the connection).
 */

import { readProblem } from "./api.ts";
import type { Event, EventPage, Problem, Seq } from "./api-types.ts";

export interface Frame {
  event: string;
  id: string;
  data: string;
}

/** Text in pieces of any size to frames, as the standard of server-sent events says. */
export class SseParser {
  #rest = "";
  #event = "";
  #data: string[] = [];
  #id = "";

  push(chunk: string): Frame[] {
    const frames: Frame[] = [];
    // A carriage return at the very end may be half of a CRLF: it waits for the next piece.
    const text = this.#rest + chunk;
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? "") + text.slice(end);
    for (const line of lines) {
      const frame = this.#line(line);
      if (frame) frames.push(frame);
    }
    return frames;
  }

  #line(line: string): Frame | null {
    if (line === "") {
      const frame = { event: this.#event || "message", id: this.#id, data: this.#data.join("\n") };
      const filled = this.#data.length > 0;
      this.#event = "";
      this.#data = [];
      return filled ? frame : null;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id") this.#id = value;
    return null;
  }
}

export interface SeqGateOptions {
  /** The last event that the page already shows. */
  last: Seq;
  /** The page of events after `seq`, oldest first. */
  fetchAfter: (seq: Seq) => Promise<EventPage>;
  /** Gets every event once, in order. */
  apply: (events: Event[]) => void;
  /** A gap could not be filled: the caller reconnects from `last`. */
  onBroken: (error: unknown) => void;
}

/** Lets every event through once and in order; fetches what a gap left out. */
export class SeqGate {
  readonly #options: SeqGateOptions;
  #last: Seq;
  #held: Event[] = [];
  #filling = false;

  constructor(options: SeqGateOptions) {
    this.#options = options;
    this.#last = options.last;
  }

  get last(): Seq {
    return this.#last;
  }

  push(event: Event): void {
    if (this.#filling) this.#held.push(event);
    else if (event.seq === this.#last + 1) this.#pass([event]);
    else if (event.seq > this.#last) {
      this.#held.push(event);
      void this.#fill();
    }
  }

  #pass(events: Event[]): void {
    const fresh: Event[] = [];
    for (const event of events) {
      if (event.seq !== this.#last + 1) continue;
      this.#last = event.seq;
      fresh.push(event);
    }
    if (fresh.length > 0) this.#options.apply(fresh);
  }

  async #fill(): Promise<void> {
    this.#filling = true;
    try {
      while (this.#held.length > 0) {
        this.#held = this.#held.filter((event) => event.seq > this.#last).sort((a, b) => a.seq - b.seq);
        const first = this.#held[0];
        if (!first) break;
        if (first.seq > this.#last + 1) {
          const page = await this.#options.fetchAfter(this.#last);
          const before = this.#last;
          this.#pass(page.events);
          if (this.#last === before) throw new Error(`the server has no event after ${before}`);
          continue;
        }
        const ready = this.#held;
        this.#held = [];
        this.#pass(ready);
        // What `#pass` skipped lies beyond a further gap.
        this.#held = ready.filter((event) => event.seq > this.#last).concat(this.#held);
      }
    } catch (error) {
      this.#held = [];
      this.#options.onBroken(error);
    } finally {
      this.#filling = false;
    }
  }
}

export type StreamState = "closed" | "connecting" | "live" | "waiting";

export interface LiveStreamOptions {
  /** Where to connect; asked anew each time, so that it carries the newest `after`. */
  url: () => string;
  onFrame: (frame: Frame) => void;
  onState: (state: StreamState) => void;
  /** The server refused with 401. */
  onSignedOut: () => void;
  /** The server refused otherwise; it is tried again. */
  onRefused?: (problem: Problem) => void;
  fetch?: typeof fetch;
  random?: () => number;
}

/** Without a byte for so long, the connection is taken for dead (the server pings every 15 s). */
export const SILENCE_MS = 45_000;
/** A connection that lasted so long starts the backoff over. */
const STEADY_MS = 5000;
const STALE_ON_WAKE_MS = 20_000;
const BACKOFF_MS = [250, 500, 1000, 2000, 4000, 8000, 15_000];

export class LiveStream {
  readonly #options: LiveStreamOptions;
  #state: StreamState = "closed";
  #abort: AbortController | null = null;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #lastByte = 0;

  constructor(options: LiveStreamOptions) {
    this.#options = options;
  }

  get state(): StreamState {
    return this.#state;
  }

  /** Connects, or connects anew with the present `url()`. */
  open(): void {
    this.#attempt = 0;
    this.#connect();
  }

  close(): void {
    this.#drop();
    this.#set("closed");
  }

  /** The page became visible, or the network came back: do not wait for the backoff. */
  wake(): void {
    if (this.#state === "closed") return;
    const stale = Date.now() - this.#lastByte > STALE_ON_WAKE_MS;
    if (this.#state === "waiting" || stale) this.open();
  }

  #set(state: StreamState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onState(state);
  }

  #drop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#abort?.abort();
    this.#abort = null;
  }

  #connect(): void {
    this.#drop();
    this.#set("connecting");
    const abort = new AbortController();
    this.#abort = abort;
    this.#alive(abort);
    void this.#run(abort).then(
      () => this.#again(abort),
      () => this.#again(abort),
    );
  }

  /** A byte came: the silence starts over. */
  #alive(abort: AbortController): void {
    this.#lastByte = Date.now();
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#again(abort), SILENCE_MS);
  }

  #again(abort: AbortController): void {
    if (abort !== this.#abort) return;
    this.#drop();
    const base = BACKOFF_MS[Math.min(this.#attempt, BACKOFF_MS.length - 1)] ?? 15_000;
    this.#attempt += 1;
    const jitter = 0.5 + (this.#options.random ?? Math.random)() / 2;
    this.#timer = setTimeout(() => this.#connect(), base * jitter);
    this.#set("waiting");
  }

  async #run(abort: AbortController): Promise<void> {
    const response = await (this.#options.fetch ?? fetch)(this.#options.url(), {
      headers: { accept: "text/event-stream" },
      credentials: "same-origin",
      cache: "no-store",
      signal: abort.signal,
    });
    if (abort !== this.#abort) return;
    if (response.status === 401) {
      this.close();
      this.#options.onSignedOut();
      return;
    }
    if (!response.ok || !response.body) {
      this.#options.onRefused?.(await readProblem(response));
      return;
    }
    const since = Date.now();
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const parser = new SseParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || abort !== this.#abort) return;
      this.#alive(abort);
      if (Date.now() - since > STEADY_MS) this.#attempt = 0;
      this.#set("live");
      for (const frame of parser.push(decoder.decode(value, { stream: true }))) {
        if (abort !== this.#abort) return;
        this.#options.onFrame(frame);
      }
    }
  }
}
