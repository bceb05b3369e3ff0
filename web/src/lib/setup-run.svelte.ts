/**
 * A setup script that is tried out, read piece by piece.
 *
 *   start() ─► queued ─► running ──poll()──► passed │ failed
 *   a dialog that is opened again goes on where the last one was
 */

import { api, problemOf } from "./api.ts";
import type { EnvironmentId, EnvironmentSettings, Problem, SetupTest, SetupTestId, SetupTestState } from "./api-types.ts";
import { load, save } from "./storage.ts";

/** A longer output keeps its end. */
const OUTPUT_CAP = 512 * 1024;
const AGAIN_MS = 2000;

export interface LastRun {
  id: SetupTestId;
  state: SetupTestState;
  message: string;
  /** Unix milliseconds of the last answer. */
  at: number;
  /** Of the script that ran. */
  script: number;
}

/** Tells scripts apart without keeping them. */
export function fingerprint(text: string): number {
  let hash = 5381;
  for (let i = 0; i < text.length; i += 1) hash = (hash * 33 + text.charCodeAt(i)) | 0;
  return hash;
}

export class SetupRun {
  last = $state.raw<LastRun | null>(null);
  output = $state("");
  truncated = $state(false);
  problem = $state.raw<Problem | null>(null);
  starting = $state(false);
  stopping = $state(false);
  /** Where the last run is remembered; what is not saved yet has no place. */
  readonly #name: string | null;
  #abort = new AbortController();

  constructor(environment: EnvironmentId | null) {
    this.#name = environment && `setup-test.${environment}`;
    try {
      this.last = JSON.parse((this.#name && load(this.#name)) ?? "null") as LastRun | null;
    } catch {
      this.last = null;
    }
  }

  get busy(): boolean {
    return this.starting || this.last?.state === "queued" || this.last?.state === "running";
  }

  /** Goes on with a test that ran when the dialog was closed. */
  resume(): void {
    if (this.last && this.busy) void this.#poll(this.last);
  }

  async start(environment: EnvironmentId, settings: EnvironmentSettings, url: string): Promise<void> {
    this.starting = true;
    this.problem = null;
    this.output = "";
    this.truncated = false;
    this.stopping = false;
    try {
      const test = await api.testSetup(environment, { settings, ...(url ? { repository: { type: "url", url } } : {}) });
      // The first answer says what was true before anything began.
      const run = { id: test.id, state: test.state, message: "asked for, no output yet", at: Date.now(), script: fingerprint(settings.setup_script) };
      this.#took(test, run);
      void this.#poll(run, test.next);
    } catch (error) {
      this.problem = problemOf(error);
    }
    this.starting = false;
  }

  async stop(): Promise<void> {
    if (!this.last) return;
    this.stopping = true;
    try {
      await api.stopSetupTest(this.last.id);
    } catch (error) {
      this.problem = problemOf(error);
      this.stopping = false;
    }
  }

  /** Nobody looks any more; the test itself goes on. */
  leave(): void {
    this.#abort.abort();
  }

  async #poll(run: LastRun, after = 0): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        const test = await api.setupTest(run.id, after, signal);
        after = test.next;
        this.problem = null;
        this.#took(test, { ...run, state: test.state, message: test.message, at: Date.now() });
        if (test.state === "passed" || test.state === "failed") return;
      } catch (error) {
        if (signal.aborted) return;
        const problem = problemOf(error);
        this.problem = problem;
        if (problem.status >= 400 && problem.status < 500) return this.#forget();
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  #took(test: SetupTest, run: LastRun): void {
    this.output = (this.output + test.output).slice(-OUTPUT_CAP);
    this.truncated = test.truncated;
    this.last = run;
    if (this.#name) save(this.#name, JSON.stringify(run));
  }

  #forget(): void {
    this.last = null;
    if (this.#name) save(this.#name, null);
  }
}
