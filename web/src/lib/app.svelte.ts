/**
 * What lives as long as the tab: who is signed in, the one stream, the open session.
 *
 *   start ─► me ─► 200: server info, stream ─► hello ─► list
 *                  401: sign-in screen
 */

import { api, path, problemOf, whenSignedOut } from "./api.ts";
import type { Event, LiveDelta, Problem, ServerInfo, SessionGone, SessionId, SessionView, StreamHello } from "./api-types.ts";
import { environments } from "./environments.svelte.ts";
import { sessions } from "./list.svelte.ts";
import { notifier } from "./notify.svelte.ts";
import { router } from "./router.svelte.ts";
import { SessionModel } from "./session.svelte.ts";
import { type Frame, LiveStream, type StreamState } from "./stream.ts";
import { toasts } from "./toast.svelte.ts";

/** Sessions that stay in memory, so that going back to one is immediate. */
const KEPT = 6;
/** A shorter break is not worth a word. */
const BANNER_AFTER_MS = 2000;

class App {
  auth = $state<"unknown" | "in" | "out" | "unreachable">("unknown");
  problem = $state.raw<Problem | null>(null);
  server = $state.raw<ServerInfo | null>(null);
  listProblem = $state.raw<Problem | null>(null);
  session = $state.raw<SessionModel | null>(null);
  /** Whether the stream has been down for longer than two seconds. */
  offline = $state(false);
  /** When the last byte of the stream came. */
  lastUpdate = $state(Date.now());
  /** The server was replaced by another build while the page was open. */
  outdated = $state(false);

  readonly #kept = new Map<SessionId, SessionModel>();
  readonly #stream: LiveStream;
  #watched: SessionModel | null = null;
  #build: string | null = null;
  #offlineTimer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    this.#stream = new LiveStream({
      url: () =>
        path(["stream"], {
          session: this.#watched?.id,
          after: this.#watched?.lastSeq,
        }),
      onFrame: (frame) => this.#frame(frame),
      onState: (state) => this.#state(state),
      onSignedOut: () => this.#signedOut(),
      onRefused: (problem) => {
        if (problem.status === 404 && this.#watched) this.#watched = null;
      },
    });
  }

  async start(): Promise<void> {
    whenSignedOut(() => this.#signedOut());
    sessions.onChange = (before, after) => notifier.changed(before, after);
    for (const name of ["online", "pageshow"]) addEventListener(name, () => this.#stream.wake());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#stream.wake();
    });
    await this.signIn();
  }

  async signIn(): Promise<void> {
    try {
      await api.me();
      this.server = await api.server();
    } catch (error) {
      const problem = problemOf(error);
      if (problem.status === 401) this.auth = "out";
      else {
        this.problem = problem;
        this.auth = "unreachable";
      }
      return;
    }
    this.auth = "in";
    this.#stream.open();
  }

  async signOut(): Promise<void> {
    try {
      await api.logout();
    } catch (error) {
      toasts.problem(problemOf(error));
      return;
    }
    this.#signedOut();
    router.go("/");
  }

  /** Shows a session: from memory at once, else from the server; then follows it live. */
  async show(id: SessionId): Promise<void> {
    if (this.session?.id === id) return;
    this.session?.leave();
    const kept = this.#kept.get(id);
    const model = kept?.phase === "ready" ? kept : new SessionModel(id, () => this.#stream.open());
    this.session = model;
    this.#kept.delete(id);
    this.#kept.set(id, model);
    for (const old of [...this.#kept.keys()].slice(0, -KEPT)) this.#kept.delete(old);
    if (model !== kept) await model.load();
    if (this.session === model && model.phase === "ready") this.#watch(model);
  }

  leave(): void {
    this.session?.leave();
    this.session = null;
    if (this.#watched) this.#watch(null);
  }

  async retry(): Promise<void> {
    const model = this.session;
    if (!model) return;
    await model.load();
    if (this.session === model && model.phase === "ready") this.#watch(model);
  }

  #watch(model: SessionModel | null): void {
    this.#watched?.forgetLive();
    this.#watched = model;
    if (this.#stream.state !== "closed") this.#stream.open();
  }

  #signedOut(): void {
    this.#stream.close();
    this.#watched = null;
    this.session = null;
    this.#kept.clear();
    sessions.clear();
    environments.clear();
    this.auth = "out";
  }

  #state(state: StreamState): void {
    if (state === "live") {
      clearTimeout(this.#offlineTimer);
      this.#offlineTimer = undefined;
      this.offline = false;
      return;
    }
    this.#watched?.forgetLive();
    if (state === "closed") {
      clearTimeout(this.#offlineTimer);
      this.#offlineTimer = undefined;
      this.offline = false;
    } else this.#offlineTimer ??= setTimeout(() => (this.offline = true), BANNER_AFTER_MS);
  }

  #frame(frame: Frame): void {
    this.lastUpdate = Date.now();
    switch (frame.event) {
      case "hello":
        this.#hello(JSON.parse(frame.data) as StreamHello);
        break;
      case "session":
        sessions.merge(JSON.parse(frame.data) as SessionView);
        break;
      case "gone":
        this.#gone((JSON.parse(frame.data) as SessionGone).session);
        break;
      case "event":
        this.#watched?.push(JSON.parse(frame.data) as Event);
        break;
      case "live":
        this.#watched?.live(JSON.parse(frame.data) as LiveDelta);
        break;
      case "resync":
        // The open session needs nothing: its gate asks for what it misses.
        void this.refreshList();
        break;
    }
  }

  /** The stream is registered: a list read now misses nothing that the stream does not tell. */
  #hello(hello: StreamHello): void {
    if (this.#build !== null && this.#build !== hello.build) this.outdated = true;
    this.#build ??= hello.build;
    void this.refreshList();
  }

  async refreshList(): Promise<void> {
    try {
      await sessions.refresh();
      this.listProblem = null;
    } catch (error) {
      this.listProblem = problemOf(error);
    }
  }

  #gone(id: SessionId): void {
    sessions.remove(id);
    const model = this.#kept.get(id);
    this.#kept.delete(id);
    if (model) model.phase = "gone";
    if (this.#watched?.id === id) this.#watch(null);
  }
}

export const app = new App();
