/** What the transcript shows: one item per entry, replaced as a whole when it changes. */

import type { Answer, BlobRef, Delivery, DiffStat, NetworkScope, PlanEntry, Question, RepositoryOrigin, Seq, Step, Timestamp } from "./api-types.ts";

export interface StartItem {
  type: "start";
  key: string;
  at: Timestamp;
  repository: RepositoryOrigin;
  base: string;
  branch: string;
  /** Whether the workspace began with uncommitted changes of the user. */
  dirty: boolean;
}

export interface StepState {
  step: Step;
  startedAt: Timestamp;
  /** What is durable. */
  output: string;
  /** What was printed since; the next durable piece holds it. */
  live: string;
  durationMs: number | null;
  error: string | null;
  /** What was reused, or was not kept. */
  detail: string | null;
}

/** One preparation of the sandbox: its steps stand together. */
export interface StepsItem {
  type: "steps";
  key: string;
  steps: StepState[];
}

export interface PromptItem {
  type: "prompt";
  key: string;
  at: Timestamp;
  text: string;
  /** `sending` exists only in this tab, until the server has made it durable. */
  state: "sending" | "queued" | "started" | "cancelled";
  delivery: Delivery;
}

interface Block<Type> {
  type: Type;
  key: string;
  text: string;
  /** The model is still writing it. */
  live: boolean;
}

export type BlockItem = Block<"message"> | Block<"thought">;

export interface ToolState {
  call: string;
  name: string;
  title: string;
  input: unknown;
  at: Timestamp;
  /** `lost`: the turn ended without a result. */
  state: "running" | "done" | "failed" | "lost";
  /** The result, or what a running tool has printed so far. */
  output: string;
  durationMs: number | null;
  detail: Record<string, unknown>;
  full: BlobRef | null;
}

export interface ToolItem {
  type: "tool";
  key: string;
  tool: ToolState;
}

/** An agent that the agent sent to work: what it did stands together. */
export interface ThreadItem {
  type: "thread";
  key: string;
  /** The call that sent it; its result is the thread's last words. */
  tool: ToolState;
  agent: string;
  description: string;
  items: Item[];
  toolUses: number;
}

/** Consecutive read-only tools. */
export interface ExploreItem {
  type: "explore";
  key: string;
  tools: ToolState[];
}

export interface PlanItem {
  type: "plan";
  key: string;
  /** Entries that are new or moved. */
  changes: PlanEntry[];
  done: number;
  total: number;
  /** The first list of the session, or a wholly new one. */
  first: boolean;
}

export interface QuestionItem {
  type: "question";
  key: string;
  question: Question;
  answer: Answer | null;
  /** The turn ended before an answer. */
  closed: boolean;
}

/** A host and port that the network refused. */
export interface DeniedPlace {
  host: string;
  port: number;
  text: string;
  /** What was decided since. */
  scope: NetworkScope | null;
}

/** Something that the network refused, and that a person may decide about. */
export interface DeniedItem extends DeniedPlace {
  type: "denied";
  key: string;
  /** What its hosts have in common: they are one question. */
  domain: string | null;
  /** What else of that domain was refused while nobody had decided. */
  more: DeniedPlace[];
}

export interface LineItem {
  type: "line";
  key: string;
  tone: "neutral" | "warn" | "bad";
  text: string;
  /** How often in a row, for retries. */
  count: number;
  code: string | null;
}

/** The state at a turn's end, to go back to or on from. */
export interface CheckpointItem {
  type: "checkpoint";
  key: string;
  at: Timestamp;
  checkpoint: Seq;
  diff: DiffStat;
}

/** `void`: gone back from; the agent does not know it any more. */
export type Item = { void?: boolean } & (
  | StartItem
  | StepsItem
  | PromptItem
  | BlockItem
  | ToolItem
  | ExploreItem
  | ThreadItem
  | PlanItem
  | QuestionItem
  | DeniedItem
  | CheckpointItem
  | LineItem
);
