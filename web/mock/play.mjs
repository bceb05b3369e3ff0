// What a session does after a prompt: steps, streamed text, a tool with live output, a diff.

import { setTimeout as sleep } from "node:timers/promises";
import { ulid } from "./world.mjs";

const ANSWER = [
  "I read the test first. ",
  "It compares **wall-clock times** across a tick, ",
  "so about one run in five fails.\n\n",
  "```rust\nlet clock = FixedClock::at(1_700_000_000);\n",
  "assert!(session.is_expired(&clock));\n```\n\n",
  "Now I run the suite.",
];

/** Plays one turn for each queued prompt. */
export class Player {
  #world;
  /** Milliseconds between two moves. */
  pace;
  #busy = new Set();
  stopped = new Set();

  #environments;

  constructor(world, pace, environments) {
    this.#world = world;
    this.#environments = environments;
    this.pace = pace;
  }

  async prepare(session) {
    const world = this.#world;
    world.status(session, "creating", "queued");
    const { settings } = this.#environments.resolve(session.view.environment?.id);
    const steps = settings.setup_script === "" ? ["sandbox", "workspace"] : ["sandbox", "workspace", "setup", "cache"];
    for (const step of steps) {
      world.append(session, "step.started", { step });
      if (step === "setup") {
        for (const line of settings.setup_script.trim().split("\n")) await this.#print(session, step, line);
      } else await sleep(this.pace * 3);
      if (step === "workspace") world.append(session, "step.output", { step, text: "Cloning into 'web'…\ndone.\n" });
      const detail = step === "cache" ? { detail: "kept for later sessions of web, 41 MB" } : {};
      world.append(session, "step.finished", { step, duration_ms: this.pace * 3, ...detail });
    }
    world.status(session, "ready", "queued");
  }

  /** A line word by word, live; then as a whole, durable. */
  async #print(session, step, line) {
    for (const text of `${line}\n`.match(/\S*\s/g)) {
      await sleep(this.pace / 4);
      this.#world.live(session, { type: "step_output", step, text });
    }
    this.#world.append(session, "step.output", { step, text: `${line}\n` });
  }

  accept(session, text) {
    const prompt = `pmt_${ulid()}`;
    const event = this.#world.append(session, "prompt.queued", { prompt, text });
    if (session.view.turn === "idle") this.#world.status(session, session.view.sandbox, "queued");
    return { prompt, seq: event.seq };
  }

  async run(session) {
    if (this.#busy.has(session.id)) return;
    this.#busy.add(session.id);
    const taken = () => session.events.filter((event) => event.kind === "turn.started").map((event) => event.body.prompt);
    if (session.view.sandbox !== "ready") await this.prepare(session);
    for (;;) {
      const next = session.events.find(
        (event) => event.kind === "prompt.queued" && !taken().includes(event.body.prompt),
      );
      if (!next) break;
      await this.#turn(session, next.body.prompt);
    }
    this.#busy.delete(session.id);
  }

  async #turn(session, prompt) {
    const world = this.#world;
    const message = `msg_${ulid()}`;
    const started = Date.now();
    this.stopped.delete(session.id);
    world.append(session, "turn.started", { prompt });
    world.status(session, "ready", "running");
    for (const text of ANSWER) {
      await sleep(this.pace);
      world.live(session, { type: "text", message, block: 0, text });
    }
    world.append(session, "agent.message", { message, text: ANSWER.join("") });
    const call = `call_${ulid()}`;
    world.append(session, "tool.call", { message, call, name: "Bash", title: "cargo test", input: { command: "cargo test" } });
    let output = "";
    for (let i = 1; i <= 20 && !this.stopped.has(session.id); i += 1) {
      await sleep(this.pace);
      const text = `\u001b[32mtest case_${i} ... ok\u001b[0m\n`;
      output += text;
      world.live(session, { type: "tool_output", call, text });
    }
    if (this.stopped.has(session.id)) {
      world.append(session, "turn.interrupted", { reason: "user_stop" });
      world.append(session, "turn.ended", { status: "interrupted", stop_reason: "user_stop", duration_ms: Date.now() - started });
      world.status(session, "ready", "idle");
      return;
    }
    world.append(session, "tool.result", {
      call,
      content: output,
      is_error: false,
      duration_ms: Date.now() - started,
      detail: { exit_code: 0 },
    });
    world.setDiff(session, [
      ["src/clock.rs", "added", Array.from({ length: 4 }, (_, i) => ({ kind: "added", new: i + 1, text: `line ${i + 1}` }))],
    ]);
    world.append(session, "agent.message", { message: `msg_${ulid()}`, text: "The suite passes. The clock is injected now." });
    world.append(session, "turn.ended", { status: "completed", stop_reason: "end_turn", duration_ms: Date.now() - started });
    world.status(session, "ready", "idle");
  }
}
