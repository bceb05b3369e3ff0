/**
 * Bodies of `/api/v1`, as the server writes them.
 *
 * Written by hand, one to one after `crates/protocol/src/{api,environment,event,git,pull_request,rewind,sandbox_spec,view,status,problem,usage}.rs`.
 * When one of those files changes, change this one; the field names are the contract.
 */

// ids.rs: a prefix that names the kind, then a ULID.
export type SessionId = string;
export type TurnId = string;
export type PromptId = string;
export type QuestionId = string;
export type EnvironmentId = string;
export type SetupTestId = string;
/** Dense from 1 within a session. */
export type Seq = number;
/** RFC 3339. */
export type Timestamp = string;

// status.rs
export type SandboxPhase = "none" | "creating" | "preparing" | "ready" | "suspended" | "failed";
export type TurnPhase = "idle" | "queued" | "running" | "waiting";
export type SessionStatus = "queued" | "preparing" | "running" | "waiting" | "idle" | "suspended" | "failed";
export type TurnStatus = "completed" | "interrupted" | "failed" | "limit";
export type StopReason =
  | "end_turn"
  | "user_stop"
  | "server_restart"
  | "refusal"
  | "max_tokens"
  | "max_requests"
  | "loop"
  | "model_error"
  | "model_unreachable"
  | "model_auth"
  | "sandbox"
  | "agent"
  | "deadline"
  | "hook"
  | "budget";

// usage.rs
export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cache_read_input_tokens: number;
  cache_creation_input_tokens: number;
  requests: number;
  cost_micro_usd: number;
}

export interface DiffStat {
  additions: number;
  deletions: number;
  files_changed: number;
}

// problem.rs
export interface Problem {
  type: string;
  status: number;
  title: string;
  detail?: string;
  code: string;
  next?: string;
}

// sandbox_spec.rs
export type Tier = "container" | "gvisor" | "vm";
export type TierRequest = { at_least: Tier } | { exactly: Tier };

export interface Limits {
  memory_bytes: number;
  cpu_millis: number;
  pids: number;
  disk_bytes: number;
  open_files: number;
}

export type Unenforced = "tell" | "refuse";

// network.rs
export type Rendering = "compatible" | "strict";

export interface TestNetwork {
  /** `host` or `host:port`; without a port, 443. */
  target: string;
  network?: NetworkLevel;
  rendering?: Rendering;
}

export type NetworkScope = "once" | "session" | "environment" | "deny";

export interface DecideNetwork {
  host: string;
  port: number;
  decision: NetworkScope;
}

export interface NetworkTest {
  target: string;
  allowed: boolean;
  rule?: string;
  access?: "read" | "write" | "opaque";
  /** One of a closed set of words; `message` says it in a sentence. */
  reason?: string;
  askable: boolean;
  message: string;
}

// egress.rs
interface AuditHead {
  at: Timestamp;
  seq: Seq;
  sandbox: string;
  connection: number;
}

/** One line of a session's record; what is left out here is for the export. */
export type AuditRecord = AuditHead &
  (
    | { event: "decided"; host: string; port: number; rule?: string; reason?: string; lenient?: boolean }
    | { event: "closed"; bytes_up: number; bytes_down: number; duration_ms: number; reason?: string }
    | { event: "repeated"; host: string; reason: string; count: number }
  );

export interface NetworkPage {
  records: AuditRecord[];
  last_seq: Seq;
  broken_after?: Seq;
}

// environment.rs
export type NetworkLevel =
  | { level: "none" }
  | { level: "trusted" }
  | { level: "full" }
  | { level: "custom"; domains: string[]; include_default: boolean };

export interface SecretBinding {
  /** The variable inside, which holds a placeholder. */
  name: string;
  hosts: string[];
  methods?: string[];
  paths?: string[];
  source: "sealed" | { operator: string };
}

export interface EnvironmentSettings {
  name: string;
  image: string;
  network: NetworkLevel;
  rendering: Rendering;
  variables: string;
  secrets: SecretBinding[];
  setup_script: string;
  limits: Limits;
  tier: TierRequest;
  unenforced: Unenforced;
  nested_containers: boolean;
  cache_setup: boolean;
}

export interface Environment {
  id: EnvironmentId;
  settings: EnvironmentSettings;
  default: boolean;
  archived: boolean;
  revision: number;
  created_at: Timestamp;
  updated_at: Timestamp;
  /** The network that its sandboxes have in truth. */
  warnings: string[];
  caches: SetupCache[];
}

export interface SetupCache {
  repository: string;
  commit: string;
  wrote_workspace: boolean;
  bytes: number;
  duration_ms: number;
  created_at: Timestamp;
  used_at?: Timestamp;
}

export interface EnvironmentRef {
  id: EnvironmentId;
  name: string;
}

export interface EnvironmentList {
  environments: Environment[];
}

export interface EditEnvironment {
  revision: number;
  settings: EnvironmentSettings;
}

export interface TestSetup {
  settings?: EnvironmentSettings;
  repository?: RepositorySource;
}

export type SetupTestState = "queued" | "running" | "passed" | "failed";

export interface SetupTest {
  id: SetupTestId;
  environment: EnvironmentId;
  state: SetupTestState;
  message: string;
  /** From byte `after` of the request on. */
  output: string;
  next: number;
  truncated: boolean;
  duration_ms: number;
}

// event.rs
export interface RepositoryOrigin {
  name: string;
  url?: string;
  branch?: string;
}

export interface SessionCreated {
  title: string;
  agent: string;
  image: string;
  environment?: EnvironmentRef;
  repository: RepositoryOrigin;
  head: string;
  base: string;
  branch: string;
  existing_branch?: boolean;
}

export interface StatusChange {
  sandbox: SandboxPhase;
  turn: TurnPhase;
  status: SessionStatus;
  reason?: string;
}

export type Step = "sandbox" | "workspace" | "setup" | "cache" | "hooks" | "mcp";

export interface TurnEnded {
  status: TurnStatus;
  stop_reason: StopReason;
  message?: string;
  duration_ms: number;
}

export interface AgentBlock {
  message: string;
  text: string;
  raw?: unknown;
}

export interface ToolCall {
  message: string;
  call: string;
  name: string;
  title: string;
  input: unknown;
}

export interface ToolResult {
  call: string;
  content: string;
  is_error: boolean;
  duration_ms: number;
  detail?: unknown;
  full_output?: BlobRef;
}

export interface BlobRef {
  blob: string;
  size: number;
  truncated: boolean;
}

export type PlanStatus = "pending" | "in_progress" | "completed";

export interface PlanEntry {
  content: string;
  active_form: string;
  status: PlanStatus;
}

export interface QuestionOption {
  id: string;
  label: string;
}

export interface Question {
  question: QuestionId;
  text: string;
  options: QuestionOption[];
}

export interface Answer {
  option: string;
  by_deadline: boolean;
}

export interface Checkpoint {
  commit: string;
  tree: string;
}

export interface SessionError {
  code: string;
  message: string;
  retry_in_ms?: number;
}

/** When a prompt that is sent while a turn runs reaches the agent. */
export type Delivery = "next" | "later" | "now";

/** Body of `PATCH /sessions/{id}/prompts/{prompt}`: what is left out stays. */
export interface EditPrompt {
  text?: string;
  delivery?: Delivery;
}

/** What the sandboxes of a session that rests wrote, kept whole. */
export interface SavedWorkspace {
  layers: string[];
  commit: string;
  bytes: number;
}

// rewind.rs
export interface Rewound {
  /** The seq of a `checkpoint` event. */
  to: Seq;
  files: boolean;
  conversation: boolean;
}

export interface ForkSession {
  at: Seq;
  prompt?: string;
}

/** Kind to body: the union `EventBody`. */
export interface EventBodies {
  "session.created": SessionCreated;
  "session.status": StatusChange;
  "session.archived": { archived: boolean };
  "session.rewound": Rewound;
  "step.started": { step: Step };
  "step.output": { step: Step; text: string };
  "step.finished": { step: Step; duration_ms: number; error?: string; detail?: string };
  "prompt.queued": { prompt: PromptId; text: string; delivery?: Delivery };
  "workspace.saved": SavedWorkspace;
  "prompt.edited": { prompt: PromptId; text: string; delivery: Delivery };
  "prompt.cancelled": { prompt: PromptId };
  "prompt.delivered": { prompt: PromptId };
  "turn.started": { prompt: PromptId };
  "turn.resumed": Record<string, never>;
  "turn.interrupted": { reason: StopReason };
  "turn.ended": TurnEnded;
  "agent.message": AgentBlock;
  "agent.thought": AgentBlock;
  "tool.call": ToolCall;
  "tool.result": ToolResult;
  plan: { entries: PlanEntry[] };
  "thread.started": { thread: string; agent: string; description: string; prompt: string };
  "thread.event": { thread: string; event: { kind: string; body?: unknown } };
  "thread.ended": { thread: string; status: TurnStatus; message?: string; tool_uses: number; usage: Usage };
  "context.added": { source: string; text: string };
  "context.compacted": { trigger: "manual" | "auto"; summary?: string; left_out?: string[]; tokens_before: number };
  "command.ran": { name: string; output?: string; prompt?: string };
  "question.asked": Question;
  "question.answered": { question: QuestionId; answer: Answer };
  checkpoint: Checkpoint;
  diffstat: DiffStat;
  usage: { model: string; usage: Usage };
  "shell.opened": { shell: string; command: string[] };
  "shell.closed": { shell: string; duration_ms: number; code?: number; reason?: string };
  "network.denied": { host: string; port: number; via: string; reason: string; rule?: string; askable: boolean; domain?: string };
  "network.allowed": { host: string; port: number; scope: NetworkScope };
  "git.push": GitPush;
  "pr.create": PullRequestCreate;
  "pr.state": PullRequestState;
  "files.copied": { path: string; direction: "in" | "out"; bytes: number };
  error: SessionError;
}

export interface GitPush {
  repository: string;
  by: "sandbox" | "server";
  outcome: "planned" | "done" | "refused" | "rejected" | "failed";
  refs: { name: string; old?: string; new?: string; error?: string }[];
  words?: string;
}

// pull_request.rs
export interface PullRequestCreate {
  effect: string;
  host: string;
  repository: string;
  head: string;
  commit: string;
  base: string;
  title: string;
  body: string;
  draft: boolean;
  outcome: "planned" | "claimed" | "done" | "failed";
  number?: number;
  url?: string;
  error?: string;
}

export type PullRequestPhase = "open" | "draft" | "merged" | "closed";

export interface CheckCounts {
  passed: number;
  failed: number;
  pending: number;
  failing?: string[];
}

export interface PullRequestState {
  number: number;
  url: string;
  title: string;
  phase: PullRequestPhase;
  base: string;
  commit: string;
  checks: CheckCounts;
}

export interface CreatePullRequest {
  title?: string;
  body?: string;
  base?: string;
  draft?: boolean;
  compose?: boolean;
}

export interface SessionPullRequest {
  pull_request?: PullRequestState;
  reason?: string;
  proposal?: { repository: string; title: string; body: string; base: string; head: string };
  compose?: string;
  stale?: string;
}

export interface ForgeRepository {
  host: string;
  name: string;
  url: string;
  private: boolean;
  default_branch: string;
  push: boolean;
}

export interface ForgeRepositories {
  repositories: ForgeRepository[];
  problems: string[];
}

export interface ForgeBranches {
  default_branch: string;
  branches: { name: string; protected: boolean }[];
}

export interface EventHead {
  session: SessionId;
  seq: Seq;
  at: Timestamp;
  epoch: number;
  turn?: TurnId;
  causation?: Seq;
}

/** An event of a kind that this page knows. */
export type KnownEvent = {
  [K in keyof EventBodies]: EventHead & { kind: K; body: EventBodies[K] };
}[keyof EventBodies];

/** An event as it arrives: the kind may be newer than this page. */
export type Event = EventHead & { kind: string; body: unknown };

export type LiveDelta =
  | { type: "text"; message: string; block: number; text: string }
  | { type: "thought"; message: string; block: number; text: string }
  | { type: "discard"; message: string }
  | { type: "tool_output"; call: string; text: string }
  | { type: "step_output"; step: Step; text: string };

// view.rs
export interface TurnOutcome {
  turn: TurnId;
  status: TurnStatus;
  stop_reason: StopReason;
  message: string | null;
}

export interface SessionView {
  id: SessionId;
  title: string;
  agent: string;
  image: string;
  environment?: EnvironmentRef;
  repository: RepositoryOrigin;
  head: string;
  base: string;
  branch: string;
  fork?: { session: SessionId; checkpoint: Seq };
  /** It was there before, and others have it too. */
  existing_branch?: boolean;
  status: SessionStatus;
  sandbox: SandboxPhase;
  turn: TurnPhase;
  activity: string;
  reason: string | null;
  archived: boolean;
  created_at: Timestamp;
  updated_at: Timestamp;
  last_seq: Seq;
  turns: number;
  queued_prompts: number;
  current_turn: TurnId | null;
  last_turn: TurnOutcome | null;
  diff: DiffStat;
  checkpoint: Checkpoint | null;
  saved?: SavedWorkspace;
  push?: GitPush;
  pushed?: string;
  pull_request_create?: PullRequestCreate;
  pull_request?: PullRequestState;
  usage: Usage;
  plan: PlanEntry[];
  question: Question | null;
}

// api.rs
export const MAX_PROMPT_CHARS = 64_000;

export interface CreateSession {
  prompt: string;
  repository: RepositorySource;
  agent?: string;
  environment?: string;
  image?: string;
}

export type RepositorySource =
  | { type: "bundle"; upload: string; name: string; branch?: string }
  | { type: "url"; url: string; branch?: string; on_branch?: boolean };

export interface SessionList {
  sessions: SessionView[];
  next?: SessionId;
}

export interface CreatePrompt {
  text: string;
}

export interface PromptAccepted {
  prompt: PromptId;
  seq: Seq;
}

export interface EventPage {
  events: Event[];
  last_seq: Seq;
}

export interface AnswerQuestion {
  option: string;
}

export interface ArchiveSession {
  archived: boolean;
}

export interface Diff {
  base: string;
  commit: string;
  stat: DiffStat;
  files: DiffFile[];
}

export interface DiffFile {
  path: string;
  old_path?: string;
  status: FileStatus;
  additions: number;
  deletions: number;
  binary: boolean;
}

export type FileStatus = "added" | "deleted" | "modified" | "renamed";

export interface FileDiff {
  path: string;
  rows: DiffRow[];
  truncated: boolean;
}

export interface DiffRow {
  kind: DiffRowKind;
  old?: number;
  new?: number;
  text: string;
}

export type DiffRowKind = "hunk" | "context" | "added" | "deleted" | "note";

export interface LoginCode {
  code: string;
}

export interface ServerInfo {
  version: string;
  agents: string[];
  images: string[];
  model?: string;
  missing: string[];
}

/** Data of a `hello` frame of the stream. */
export interface StreamHello {
  version: string;
  build: string;
}

/** Data of a `gone` frame of the stream. */
export interface SessionGone {
  session: SessionId;
}
