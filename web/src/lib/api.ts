/**
 * The typed client of `/api/v1`.
 *
 *   call → fetch (cookie, same origin) → 2xx: the body
 *                                      → else: ApiError with the server's problem
 *                                      → no answer: ApiError with status 0
 */

import type {
  AnswerQuestion,
  CreatePullRequest,
  CreateSession,
  DecideNetwork,
  Diff,
  DiffFile,
  EditEnvironment,
  EditPrompt,
  Environment,
  EnvironmentId,
  EnvironmentList,
  EnvironmentSettings,
  EventPage,
  FileDiff,
  ForgeBranches,
  ForgeRepositories,
  ForkSession,
  NetworkPage,
  NetworkTest,
  Problem,
  PromptAccepted,
  Rewound,
  ServerInfo,
  SessionId,
  SessionList,
  SessionPullRequest,
  SessionView,
  SetupTest,
  SetupTestId,
  TestNetwork,
  TestSetup,
} from "./api-types.ts";

export const API = "/api/v1";

/** An answer that is not the wanted one. `problem.status` is 0 where no answer came. */
export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.title);
    this.name = "ApiError";
    this.problem = problem;
  }
}

/** Any thrown thing as a problem that can be shown. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  return {
    type: "about:blank",
    status: 0,
    code: "page_error",
    title: "The page could not do this",
    detail: error instanceof Error ? error.message : String(error),
    next: "Reload the page; what you typed is kept.",
  };
}

/** The problem that an unsuccessful response carries, or one made from its status. */
export async function readProblem(response: Response): Promise<Problem> {
  if (response.headers.get("content-type")?.includes("json")) {
    const body = (await response.json().catch(() => null)) as Partial<Problem> | null;
    if (body && typeof body.title === "string") {
      return { type: "about:blank", code: "unknown", ...body, title: body.title, status: response.status };
    }
  }
  return {
    type: "about:blank",
    status: response.status,
    code: "unexpected_answer",
    title: `The server answered ${response.status} without an explanation`,
    next: "Try again; if it stays, look at the server's log.",
  };
}

/** Whether the server may have done it all the same: the next try carries the same key. */
export function isUncertain(problem: Problem): boolean {
  return problem.status === 0 || problem.status >= 500;
}

const UNREACHABLE: Problem = {
  type: "about:blank",
  status: 0,
  code: "unreachable",
  title: "The server cannot be reached",
  detail: "No answer came: it is stopped, or the network is down.",
  next: "Check that `patchyard serve` runs, then try again.",
};

type Query = Record<string, string | number | boolean | undefined>;

interface CallOptions {
  query?: Query;
  body?: unknown;
  /** Sent as `Idempotency-Key`: the same key never does the same thing twice. */
  key?: string;
  signal?: AbortSignal;
}

/** Called on each 401 but that of the login itself. */
let onSignedOut: () => void = () => {};

export function whenSignedOut(callback: () => void): void {
  onSignedOut = callback;
}

export function path(parts: string[], query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
  const tail = search.size > 0 ? `?${search}` : "";
  return `${API}/${parts.map(encodeURIComponent).join("/")}${tail}`;
}

async function send(method: string, parts: string[], options: CallOptions = {}): Promise<Response> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (options.body !== undefined) headers["content-type"] = "application/json";
  if (options.key !== undefined) headers["idempotency-key"] = options.key;
  let response: Response;
  try {
    response = await fetch(path(parts, options.query), {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      body: options.body === undefined ? null : JSON.stringify(options.body),
      signal: options.signal ?? null,
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(UNREACHABLE);
  }
  if (response.ok) return response;
  const problem = await readProblem(response);
  if (response.status === 401 && parts.join("/") !== "auth/login") onSignedOut();
  throw new ApiError(problem);
}

async function json<T>(method: string, parts: string[], options?: CallOptions): Promise<T> {
  const response = await send(method, parts, options);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new ApiError(UNREACHABLE);
  }
}

async function done(method: string, parts: string[], options?: CallOptions): Promise<void> {
  await send(method, parts, options);
}

export const api = {
  login: (code: string) => done("POST", ["auth", "login"], { body: { code } }),
  logout: () => done("POST", ["auth", "logout"]),
  me: () => json<{ kind: string }>("GET", ["auth", "me"]),
  server: () => json<ServerInfo>("GET", ["server"]),

  sessions: (query: { archived: boolean; limit?: number; before?: SessionId | undefined }) =>
    json<SessionList>("GET", ["sessions"], { query }),
  session: (id: SessionId) => json<SessionView>("GET", ["sessions", id]),
  create: (body: CreateSession, key: string) => json<SessionView>("POST", ["sessions"], { body, key }),
  remove: (id: SessionId) => done("DELETE", ["sessions", id]),
  archive: (id: SessionId, archived: boolean) => done("POST", ["sessions", id, "archive"], { body: { archived } }),
  stop: (id: SessionId) => done("POST", ["sessions", id, "stop"]),
  rewind: (id: SessionId, body: Rewound) => json<SessionView>("POST", ["sessions", id, "rewind"], { body }),
  fork: (id: SessionId, body: ForkSession, key: string) =>
    json<SessionView>("POST", ["sessions", id, "fork"], { body, key }),
  retry: (id: SessionId) => json<SessionView>("POST", ["sessions", id, "retry"]),
  prompt: (id: SessionId, text: string, key: string) =>
    json<PromptAccepted>("POST", ["sessions", id, "prompts"], { body: { text }, key }),
  editPrompt: (id: SessionId, prompt: string, body: EditPrompt) => done("PATCH", ["sessions", id, "prompts", prompt], { body }),
  cancelPrompt: (id: SessionId, prompt: string) => done("DELETE", ["sessions", id, "prompts", prompt]),
  answer: (id: SessionId, question: string, option: string) => {
    const body: AnswerQuestion = { option };
    return done("POST", ["sessions", id, "questions", question], { body });
  },
  network: (id: SessionId, query: { after: number; limit: number }) =>
    json<NetworkPage>("GET", ["sessions", id, "network"], { query }),
  decideNetwork: (id: SessionId, body: DecideNetwork) =>
    json<NetworkTest>("POST", ["sessions", id, "network"], { body }),
  events: (id: SessionId, query: { after?: number; before?: number; tail?: number; limit?: number }) =>
    json<EventPage>("GET", ["sessions", id, "events"], { query }),
  diff: (id: SessionId, signal?: AbortSignal) =>
    json<Diff>("GET", ["sessions", id, "diff"], signal ? { signal } : {}),
  fileDiff: (id: SessionId, file: Pick<DiffFile, "path" | "old_path">, signal: AbortSignal) => {
    const query = { path: file.path, old_path: file.old_path };
    return json<FileDiff>("GET", ["sessions", id, "diff", "file"], { query, signal });
  },
  pullRequest: (id: SessionId) => json<SessionPullRequest>("GET", ["sessions", id, "pull-request"]),
  createPullRequest: (id: SessionId, body: CreatePullRequest) =>
    json<SessionPullRequest>("POST", ["sessions", id, "pull-request"], { body }),
  forgeRepositories: () => json<ForgeRepositories>("GET", ["forge", "repositories"]),
  forgeBranches: (url: string, signal: AbortSignal) =>
    json<ForgeBranches>("GET", ["forge", "branches"], { query: { url }, signal }),
  blob: async (id: SessionId, blob: string) => (await send("GET", ["sessions", id, "blobs", blob])).text(),

  environments: () => json<EnvironmentList>("GET", ["environments"]),
  environment: (id: EnvironmentId) => json<Environment>("GET", ["environments", id]),
  createEnvironment: (body: EnvironmentSettings, key: string) =>
    json<Environment>("POST", ["environments"], { body, key }),
  editEnvironment: (id: EnvironmentId, body: EditEnvironment) =>
    json<Environment>("PUT", ["environments", id], { body }),
  archiveEnvironment: (id: EnvironmentId, archived: boolean) =>
    json<Environment>("POST", ["environments", id, "archive"], { body: { archived } }),
  makeDefaultEnvironment: (id: EnvironmentId) => json<Environment>("POST", ["environments", id, "default"]),
  setSecret: (id: EnvironmentId, name: string, value: string) =>
    done("PUT", ["environments", id, "secrets", name], { body: { value } }),
  refreshSetup: (id: EnvironmentId) => json<Environment>("POST", ["environments", id, "cache", "refresh"]),
  testNetwork: (id: EnvironmentId, body: TestNetwork) =>
    json<NetworkTest>("POST", ["environments", id, "network-test"], { body }),
  testSetup: (id: EnvironmentId, body: TestSetup) =>
    json<SetupTest>("POST", ["environments", id, "test-setup"], { body }),
  /** Answers when there is output after byte `after`, when it is over, or after 20 s. */
  setupTest: (id: SetupTestId, after: number, signal: AbortSignal) =>
    json<SetupTest>("GET", ["setup-tests", id], { query: { after }, signal }),
  stopSetupTest: (id: SetupTestId) => done("DELETE", ["setup-tests", id]),
};
