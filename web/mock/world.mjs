// Sessions in memory: append-only logs, their folded views, and who listens.
//
//   append(session, kind, body) ─► log ─► view ─► every stream: `session`; those that watch it: `event`
//   live(session, delta) ────────────────────────► those that watch it: `live`

import { EventEmitter } from "node:events";
import { createHash, randomBytes } from "node:crypto";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

export function ulid(at = Date.now()) {
  let time = "";
  for (let i = 0, rest = at; i < 10; i += 1, rest = Math.floor(rest / 32)) time = ALPHABET[rest % 32] + time;
  return time + Array.from(randomBytes(16), (byte) => ALPHABET[byte % 32]).join("");
}

const ACTIVITIES = {
  sandbox: "starting the sandbox",
  workspace: "preparing the workspace",
  setup: "running the setup script",
  cache: "keeping the prepared state",
  hooks: "running the SessionStart hooks",
};

const BUSY = new Set(["queued", "preparing", "running", "waiting"]);

function statusOf(sandbox, turn) {
  if (sandbox === "failed") return "failed";
  if (sandbox === "creating" || sandbox === "preparing") return "preparing";
  if (turn !== "idle") return turn;
  return sandbox === "ready" ? "idle" : "suspended";
}

export class World extends EventEmitter {
  sessions = new Map();
  /** Of sessions that name none. */
  environment;

  constructor() {
    super();
    this.setMaxListeners(0);
  }

  /** A new session with its first event. `at`: its creation in unix milliseconds. */
  create({ title, repository, at = Date.now(), agent = "patchyard", image = "slim", environment = this.environment, dirty = false, fork }) {
    const id = `ses_${ulid(at)}`;
    const head = createHash("sha1").update(id).digest("hex");
    const slug = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 24).replace(/-$/, "");
    const created = {
      title,
      agent,
      image,
      ...(environment ? { environment } : {}),
      repository,
      head,
      base: dirty ? createHash("sha1").update(head).digest("hex") : head,
      branch: `patchyard/${slug}-${id.slice(-8).toLowerCase()}`,
      ...(fork ? { fork } : {}),
    };
    const session = {
      id,
      clock: at,
      events: [],
      blobs: new Map(),
      files: [],
      rows: new Map(),
      turnId: null,
      view: {
        id,
        ...created,
        status: "queued",
        sandbox: "none",
        turn: "queued",
        activity: "",
        reason: null,
        archived: false,
        created_at: new Date(at).toISOString(),
        updated_at: new Date(at).toISOString(),
        last_seq: 0,
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
      },
    };
    this.sessions.set(id, session);
    this.append(session, "session.created", created, { after: 0 });
    return session;
  }

  /** `after`: milliseconds since the last event of a scripted past; without it, the time is now. */
  append(session, kind, body, { after } = {}) {
    session.clock = after === undefined ? Date.now() : session.clock + after;
    if (kind === "turn.started") session.turnId = `trn_${ulid(session.clock)}`;
    const event = {
      session: session.id,
      seq: session.events.length + 1,
      at: new Date(session.clock).toISOString(),
      epoch: 1,
      ...(session.turnId ? { turn: session.turnId } : {}),
      kind,
      body,
    };
    session.events.push(event);
    fold(session.view, event);
    if (kind === "turn.ended") session.turnId = null;
    this.emit("event", event);
    this.emit("session", session.view);
    return event;
  }

  status(session, sandbox, turn, options = {}) {
    const { reason, ...rest } = options;
    const body = { sandbox, turn, status: statusOf(sandbox, turn), ...(reason ? { reason } : {}) };
    return this.append(session, "session.status", body, rest);
  }

  live(session, delta) {
    this.emit("live", session.id, delta);
  }

  remove(session) {
    this.sessions.delete(session.id);
    this.emit("gone", session.id);
  }

  blob(session, text) {
    const blob = createHash("sha256").update(text).digest("hex");
    session.blobs.set(blob, text);
    return { blob, size: Buffer.byteLength(text), truncated: false };
  }

  /** Sets the diff: `[path, status, rows | null (binary), old_path?]`. */
  setDiff(session, files, options) {
    session.files = [];
    session.rows = new Map();
    for (const [path, status, rows, oldPath] of files) {
      const count = (kind) => (rows ?? []).filter((row) => row.kind === kind).length;
      session.files.push({
        path,
        ...(oldPath ? { old_path: oldPath } : {}),
        status,
        additions: count("added"),
        deletions: count("deleted"),
        binary: rows === null,
      });
      session.rows.set(path, rows ?? []);
    }
    const sum = (name) => session.files.reduce((total, file) => total + file[name], 0);
    const stat = { additions: sum("additions"), deletions: sum("deletions"), files_changed: session.files.length };
    const commit = createHash("sha1").update(JSON.stringify([session.events.length, stat])).digest("hex");
    this.append(session, "checkpoint", { commit, tree: commit }, options);
    this.append(session, "diffstat", stat, options);
  }
}

/** The part of the server's view reducer that the page depends on. */
function fold(view, { kind, body, seq, at, turn }) {
  view.last_seq = seq;
  view.updated_at = at;
  switch (kind) {
    case "session.status":
      view.sandbox = body.sandbox;
      view.turn = body.turn;
      view.status = body.status;
      view.reason = body.reason ?? null;
      if (!BUSY.has(view.status)) view.activity = "";
      break;
    case "session.archived":
      view.archived = body.archived;
      break;
    case "step.started":
      view.activity = ACTIVITIES[body.step];
      break;
    case "prompt.queued":
      view.queued_prompts += 1;
      break;
    case "turn.started":
      view.turns += 1;
      view.queued_prompts = Math.max(0, view.queued_prompts - 1);
      view.current_turn = turn;
      view.activity = "thinking";
      break;
    case "turn.ended":
      view.current_turn = null;
      view.question = null;
      view.activity = "";
      view.last_turn = { turn, status: body.status, stop_reason: body.stop_reason, message: body.message ?? null };
      break;
    case "tool.call":
      view.activity = `${body.name} ${body.title}`;
      break;
    case "tool.result":
      view.activity = "thinking";
      break;
    case "plan": {
      view.plan = body.entries;
      const now = body.entries.find((entry) => entry.status === "in_progress");
      if (now) view.activity = now.active_form;
      break;
    }
    case "question.asked":
      view.question = body;
      break;
    case "question.answered":
      view.question = null;
      break;
    case "checkpoint":
      view.checkpoint = body;
      break;
    case "diffstat":
      view.diff = body;
      break;
  }
}
