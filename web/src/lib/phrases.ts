/** Words for people: durations, times, states, what a tool does. Pure; the time is passed in. */

import type { CheckCounts, EventBodies, NetworkScope, PullRequestPhase, SessionView, Step, StopReason } from "./api-types.ts";

const EXPLORE = new Set(["Read", "Glob", "Grep", "LS", "NotebookRead"]);

/** Whether a tool only looks. */
export function isExplore(name: string): boolean {
  return EXPLORE.has(name);
}

/** Whether a tool's result is a change of one file. */
export function isEdit(name: string): boolean {
  return name === "Edit" || name === "Write" || name === "MultiEdit" || name === "NotebookEdit";
}

export function duration(ms: number): string {
  if (ms < 950) return `${(Math.max(ms, 50) / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** "2m", "3h", "5d": the age of a row in the list. */
export function age(at: string, now: number): string {
  const minutes = Math.max(0, Math.floor((now - Date.parse(at)) / 60_000));
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes}m`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}h`;
  return `${Math.floor(minutes / (24 * 60))}d`;
}

/** "14:02:10" in the viewer's zone. */
export function clock(ms: number): string {
  return new Date(ms).toTimeString().slice(0, 8);
}

export function bytes(size: number): string {
  if (size < 1000) return `${size} B`;
  if (size < 1_000_000) return `${(size / 1000).toFixed(size < 10_000 ? 1 : 0)} kB`;
  if (size < 1_000_000_000) return `${(size / 1_000_000).toFixed(size < 10_000_000 ? 1 : 0)} MB`;
  return `${(size / 1_000_000_000).toFixed(size < 10_000_000_000 ? 1 : 0)} GB`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

export function stepName(step: Step): string {
  const names: Record<Step, string> = {
    sandbox: "Sandbox",
    workspace: "Workspace",
    setup: "Setup script",
    cache: "Keep the setup",
    hooks: "Hooks",
    mcp: "MCP servers",
  };
  return names[step] ?? step;
}

export function shellOpened(command: string[]): string {
  return command.length === 0 ? "Shell opened" : `Shell opened: ${command.join(" ")}`;
}

export function shellClosed({ duration_ms, code, reason }: EventBodies["shell.closed"]): string {
  const end = [code === undefined ? "" : `exit ${code}`, reason ?? ""].filter(Boolean).join(", ");
  return `Shell closed after ${duration(duration_ms)}${end === "" ? "" : `: ${end}`}`;
}

export function filesCopied({ path, direction, bytes: size }: EventBodies["files.copied"]): string {
  return `Copied ${path} ${direction === "in" ? "into" : "out of"} the sandbox, ${bytes(size)}`;
}

/** A push in a sentence; nothing for one that is only planned, whose end follows. */
export function gitPush({ outcome, refs, words }: EventBodies["git.push"]): string | null {
  if (outcome === "planned") return null;
  const names = refs.map((ref) => ref.name.replace(/^refs\/heads\//, "")).join(", ") || "something unreadable";
  if (outcome === "done") return words ? `Pushed ${names}: ${words.replace(/\n/g, " ")}` : `Pushed ${names}`;
  const why = refs.find((ref) => ref.error && !ref.error.startsWith("not pushed:"))?.error ?? words ?? "no reason was given";
  const how = { refused: "was refused", rejected: "was rejected by its server", failed: "failed" }[outcome] ?? outcome;
  return `The push of ${names} ${how}: ${why}`;
}

const phases: Record<PullRequestPhase, string> = { open: "open", draft: "draft", merged: "merged", closed: "closed" };

export function phaseWord(phase: PullRequestPhase): string {
  return phases[phase] ?? phase;
}

/** "2 passed, 1 failed (lint)"; nothing without checks. */
export function checksPhrase({ passed, failed, pending, failing = [] }: CheckCounts): string {
  const names = failing.length > 0 ? ` (${failing.join(", ")})` : "";
  const parts = [passed > 0 ? `${passed} passed` : "", failed > 0 ? `${failed} failed${names}` : "", pending > 0 ? `${pending} pending` : ""];
  return parts.filter((part) => part !== "").join(", ");
}

/** How a wish for a pull request ended; nothing while it is on its way. */
export function pullRequestCreate({ outcome, number, url, repository, base, error }: EventBodies["pr.create"]): string | null {
  if (outcome === "done") return `Opened pull request #${number} of ${repository} into ${base}: ${url}`;
  if (outcome === "failed") return `No pull request was opened: ${error ?? "no reason was given"}`;
  return null;
}

/** What is new of a pull request, where it is worth a line. */
export function pullRequestState({ number, phase, checks }: EventBodies["pr.state"]): string | null {
  if (phase === "merged" || phase === "closed") return `Pull request #${number} is ${phase}`;
  return checks.failed > 0 ? `Pull request #${number}: ${checksPhrase(checks)}` : null;
}

/** The commonest reasons of the network in words; the others are shown as they are. */
const denials: Record<string, string> = {
  not_allowed: "no rule of the environment allows it",
  denylist: "it is on a list of denied hosts",
  bad_host: "this is no host name",
  bad_port: "it is allowed at other ports only",
  raw_ip: "an address needs a rule of its own",
  addr_loopback: "it is the machine of the proxy itself",
  addr_private: "it is in a private network",
  addr_metadata: "it is the metadata service of a cloud",
  dns_error: "its name does not resolve",
  alpn: "the TLS greeting asks for DNS over TLS",
  sni_mismatch: "the TLS greeting names another host",
  sni_missing: "the TLS greeting names no host",
  host_mismatch: "the request names another host",
  not_tls: "TLS is expected there",
  method: "it may only be read",
  rate: "too many connections",
};

export function networkDenied({ host, port, reason, rule }: EventBodies["network.denied"]): string {
  const place = port === 0 ? host : `${host}:${port}`;
  return `Network: ${place} refused, ${denials[reason] ?? reason}${rule === undefined ? "" : ` (${rule})`}`;
}

/** What a person decided about a host and port. */
export const decisions: Record<NetworkScope, string> = {
  deny: "Kept blocked",
  once: "Allowed once",
  session: "Allowed for this session",
  environment: "Added to this environment",
};

export function networkAllowed({ host, port, scope }: EventBodies["network.allowed"]): string {
  return `Network: ${host}:${port}. ${decisions[scope] ?? scope}.`;
}

/** What a hook or the platform told the model, in one line. */
export function contextAdded({ source, text }: EventBodies["context.added"]): string {
  const words = text.replace(/<\/?system-reminder>/g, "").replace(/\s+/g, " ").trim();
  const said = words.startsWith(source) ? words : `${source}: ${words}`;
  return said.length > 300 ? `${said.slice(0, 299)}…` : said;
}

/** What became shorter. */
export function contextCompacted({ summary, left_out, tokens_before }: EventBodies["context.compacted"]): string {
  const before = tokens_before > 0 ? ` (${Math.max(1, Math.round(tokens_before / 1000))}k tokens before)` : "";
  if (summary !== undefined) return `The conversation was summed up to make room${before}; the log keeps all of it`;
  return `${plural(left_out?.length ?? 0, "old result")} left out to make room${before}; the log keeps all of it`;
}

export function stopPhrase(reason: StopReason): string {
  const phrases: Record<StopReason, string> = {
    end_turn: "the agent ended its turn.",
    user_stop: "by you.",
    server_restart: "the server restarted while it ran. Send a prompt to go on.",
    refusal: "the model refused. Put the task in other words.",
    max_tokens: "the model's answer hit its token limit too often. Ask for smaller steps.",
    max_requests: "too many model requests in one turn. Send a prompt to go on.",
    loop: "the agent repeated itself. Tell it what to do differently.",
    model_error: "the model endpoint answered with an error.",
    model_unreachable: "the model endpoint could not be reached. Check the server's model settings.",
    model_auth: "the model key is missing or was refused. Set it for the server, then send the prompt again.",
    budget: "the turn used as much as it may. Send a prompt to go on.",
    sandbox: "the sandbox died or could not be made. Send a prompt to make a new one.",
    agent: "the agent in the sandbox ended early.",
    deadline: "a time limit of the platform passed.",
    hook: "a hook refused the prompt or ended the turn.",
  };
  return phrases[reason] ?? `reason “${String(reason)}”.`;
}

/** The same in three words, for a row of the list. */
function stopWord(reason: StopReason): string {
  const words: Partial<Record<StopReason, string>> = {
    server_restart: "server restarted",
    refusal: "the model refused",
    max_tokens: "answer too long",
    max_requests: "too many requests",
    loop: "repeated itself",
    model_error: "model error",
    model_unreachable: "model unreachable",
    model_auth: "model key refused",
    sandbox: "sandbox died",
    agent: "agent ended early",
    deadline: "time limit",
  };
  return words[reason] ?? "";
}

export type Tone = "run" | "need" | "ok" | "bad" | "off";

/** A busy session that was silent for longer than this says so. */
export const SILENT_MS = 3 * 60_000;

export interface Status {
  tone: Tone;
  text: string;
}

const VERBS: Record<string, string> = {
  Bash: "running",
  Read: "reading",
  Edit: "editing",
  Write: "writing",
  Grep: "searching",
  Glob: "finding",
};

/** "Bash cargo test" as people say it: "running cargo test". */
export function activityPhrase(activity: string): string {
  const space = activity.indexOf(" ");
  const verb = space > 0 ? VERBS[activity.slice(0, space)] : undefined;
  const text = verb ? `${verb} ${activity.slice(space + 1)}` : activity;
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}

/** What a session is doing, truthfully and in few words. `heardAt`: its last sign of life. */
export function statusOf(view: SessionView, now: number, heardAt = Date.parse(view.updated_at)): Status {
  const silent = now - heardAt;
  const since = silent > SILENT_MS ? `, no output for ${Math.floor(silent / 60_000)} min` : "";
  switch (view.status) {
    case "queued":
      return { tone: "run", text: `queued${since}` };
    case "preparing":
      return { tone: "run", text: (activityPhrase(view.activity) || "preparing") + since };
    case "running":
      return { tone: "run", text: (activityPhrase(view.activity) || "working") + since };
    case "waiting":
      return { tone: "need", text: "waiting for your answer" };
    case "failed":
      return { tone: "bad", text: view.reason ? `failed: ${view.reason}` : "failed" };
    case "idle":
    case "suspended":
      return ended(view);
  }
}

function ended(view: SessionView): Status {
  switch (view.last_turn?.status) {
    case "completed":
      return { tone: "ok", text: "done" };
    case "interrupted":
      return { tone: "off", text: view.last_turn.stop_reason === "user_stop" ? "stopped by you" : "interrupted" };
    case "failed":
      return { tone: "bad", text: reason("failed", stopWord(view.last_turn.stop_reason)) };
    case "limit":
      return { tone: "bad", text: reason("limit reached", stopWord(view.last_turn.stop_reason)) };
    default:
      return { tone: "off", text: view.status === "suspended" ? "suspended" : "idle" };
  }
}

function reason(what: string, why: string): string {
  return why === "" ? what : `${what}: ${why}`;
}

export function isBusy(view: SessionView): boolean {
  return view.status === "queued" || view.status === "preparing" || view.status === "running" || view.status === "waiting";
}

export type Group = "Needs you" | "Running" | "Today" | "Earlier";

export function groupOf(view: SessionView, now: number): Group {
  if (view.status === "waiting") return "Needs you";
  if (isBusy(view)) return "Running";
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  return Date.parse(view.updated_at) >= midnight ? "Today" : "Earlier";
}

export function rewound({ files, conversation }: EventBodies["session.rewound"]): string {
  const what = files && conversation ? "Files and conversation went" : files ? "The files went" : "The conversation went";
  return `${what} back to a checkpoint`;
}
