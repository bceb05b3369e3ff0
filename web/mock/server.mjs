// The API of patchyard over scripted sessions, and the built page with the real content policy.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { Environments } from "./environments.mjs";
import { Player } from "./play.mjs";
import { Refused } from "./refused.mjs";
import { scenes } from "./scenes.mjs";
import { World } from "./world.mjs";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));

export const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; " +
  "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
  "require-trusted-types-for 'script'; trusted-types ui svelte-trusted-html";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

/**
 * `signedIn`: no login is asked. `pace`: milliseconds between two moves of a played turn.
 * Tests reach in by `failNext`, `cutStreams` and `world`.
 */
export async function startMock({ port = 0, signedIn = false, pace = 60, code = "one-time-code" } = {}) {
  const mock = new Mock({ signedIn, pace, code });
  await new Promise((resolve) => mock.server.listen(port, "127.0.0.1", resolve));
  mock.url = `http://127.0.0.1:${mock.server.address().port}`;
  return mock;
}

class Mock {
  world = new World();
  info = { version: "0.1.0", agents: ["patchyard"], images: ["slim", "rust"], model: "scripted", missing: [] };
  build = "build-1";
  requests = [];
  streams = new Set();
  /** Set to keep streams from connecting. */
  offline = false;
  #answers = new Map();
  #failures = [];

  constructor({ signedIn, pace, code }) {
    this.open = signedIn;
    this.code = code;
    this.environments = new Environments(pace);
    this.player = new Player(this.world, pace, this.environments);
    this.scenes = scenes(this.world, this.environments);
    this.server = createServer((request, response) => {
      this.#handle(request, response).catch((error) => {
        const body = error instanceof Refused ? error.body : { type: "about:blank", status: 500, code: "mock", title: String(error) };
        send(response, body.status, body, "application/problem+json");
      });
    });
  }

  close() {
    this.cutStreams();
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  cutStreams() {
    for (const stream of this.streams) stream.destroy();
  }

  /** The next call whose `METHOD path` contains `match` answers with this problem. */
  failNext(match, problem) {
    this.#failures.push({ match, problem });
  }

  async #handle(request, response) {
    const url = new URL(request.url, "http://mock");
    if (!url.pathname.startsWith("/api/")) return this.#page(url, response);
    const name = `${request.method} ${url.pathname.replace("/api/v1", "")}`;
    const told = { name, query: url.search, key: request.headers["idempotency-key"] };
    this.requests.push(told);
    const at = this.#failures.findIndex((failure) => name.includes(failure.match));
    if (at >= 0) {
      const [{ problem }] = this.#failures.splice(at, 1);
      throw new Refused(problem.status, problem.code, problem.title, problem.next, problem.detail);
    }
    const body = (told.body = await readBody(request));
    const [area, id, what, which] = url.pathname.split("/").slice(3).map(decodeURIComponent);
    if (area === "auth") return this.#auth(id, body, request, response);
    if (!this.open && !/patchyard_session=ok/.test(request.headers.cookie ?? "")) {
      throw new Refused(401, "not_signed_in", "you are not signed in", "open the one-time URL that `patchyard serve` printed");
    }
    if (area === "server") return send(response, 200, this.info);
    if (area === "stream") return this.#stream(url, request, response);
    if (area === "environments") {
      const once = (run) => this.#remembered(request, run);
      return send(response, ...this.environments.answer({ method: request.method, id, what, which, query: url.searchParams, body, once }));
    }
    if (area === "setup-tests") {
      const after = Number(url.searchParams.get("after") ?? 0);
      const closed = () => response.destroyed;
      return send(response, ...(await this.environments.tests({ method: request.method, id, after, closed })));
    }
    if (area === "forge") return send(response, 200, this.#forge(id, url.searchParams));
    if (area !== "sessions") throw new Refused(404, "not_found", "no such route", "check the address");
    if (id === undefined) return this.#list(url, body, request, response);
    const session = this.world.sessions.get(id);
    if (!session) throw new Refused(404, "session_not_found", `there is no session ${id}`, "list the sessions");
    return this.#session({ session, what, which, url, body, request, response });
  }

  #forge(what, query) {
    if (what === "repositories") {
      const known = { host: "github.com", private: true, default_branch: "main", push: true };
      const names = ["team/thing", "team/other"];
      return { repositories: names.map((name) => ({ ...known, name, url: `https://github.com/${name}.git` })), problems: [] };
    }
    const names = query.get("url").includes("thing") ? ["main", "release/1"] : ["main"];
    return { default_branch: "main", branches: names.map((name) => ({ name, protected: name === "main" })) };
  }

  #auth(what, body, request, response) {
    const signedIn = this.open || /patchyard_session=ok/.test(request.headers.cookie ?? "");
    if (what === "login") {
      if (body.code !== this.code) {
        throw new Refused(401, "bad_code", "the code is wrong or was used before", "start the server again for a new one-time URL");
      }
      response.setHeader("set-cookie", "patchyard_session=ok; HttpOnly; SameSite=Lax; Path=/");
      return send(response, 204);
    }
    if (what === "logout") {
      this.open = false;
      response.setHeader("set-cookie", "patchyard_session=; Max-Age=0; Path=/");
      return send(response, 204);
    }
    if (!signedIn) throw new Refused(401, "not_signed_in", "you are not signed in", "open the one-time URL");
    return send(response, 200, { kind: "browser" });
  }

  #list(url, body, request, response) {
    if (request.method === "POST") {
      return this.#once(request, response, 201, () => {
        if (body.repository.url.includes("missing")) {
          throw new Refused(422, "repository_unreachable", `the repository ${body.repository.url} could not be fetched`, "check its address and that the server may read it", "the host answered 404");
        }
        const environment = this.environments.resolve(body.environment);
        const name = body.repository.url.split("/").pop().replace(/\.git$/, "");
        const session = this.world.create({
          title: body.prompt.split("\n")[0].slice(0, 80),
          repository: { name, url: body.repository.url, branch: body.repository.branch ?? "main" },
          image: environment.settings.image,
          environment: { id: environment.id, name: environment.settings.name },
        });
        this.player.accept(session, body.prompt);
        void this.player.run(session);
        return session.view;
      });
    }
    const archived = url.searchParams.get("archived") === "true";
    const limit = Number(url.searchParams.get("limit") ?? 50);
    const before = url.searchParams.get("before") ?? "~";
    const all = [...this.world.sessions.values()]
      .map((session) => session.view)
      .filter((view) => view.archived === archived && view.id < before)
      .sort((a, b) => (a.id < b.id ? 1 : -1));
    const page = all.slice(0, limit);
    return send(response, 200, { sessions: page, ...(all.length > limit ? { next: page.at(-1).id } : {}) });
  }

  #session({ session, what, which, url, body, request, response }) {
    const { world, player } = this;
    switch (`${request.method} ${what ?? ""}`) {
      case "GET ":
        return send(response, 200, session.view);
      case "DELETE ":
        world.remove(session);
        return send(response, 204);
      case "POST prompts":
        return this.#once(request, response, 202, () => {
          const accepted = player.accept(session, body.text);
          void player.run(session);
          return accepted;
        });
      case "POST retry":
        if (session.view.status !== "failed") throw new Refused(409, "nothing_failed", "the preparation of the session did not fail", "send a prompt instead");
        void player.run(session);
        return send(response, 202, session.view);
      case "POST stop":
        player.stopped.add(session.id);
        return send(response, 202, {});
      case "POST rewind":
        if (!["idle", "suspended"].includes(session.view.status)) throw new Refused(409, "busy", `session ${session.id} is at work; stop it first`, "stop it, or wait for the turn's end");
        if (session.events[body.to - 1]?.kind !== "checkpoint") throw new Refused(404, "no_checkpoint", `event ${body.to} is no checkpoint of this session`, "choose one from the list");
        world.append(session, "session.rewound", body);
        return send(response, 200, session.view);
      case "POST fork":
        return this.#once(request, response, 201, () => {
          const { id, title, repository, agent, image, environment } = session.view;
          const made = world.create({ title, repository, agent, image, environment, fork: { session: id, checkpoint: body.at } });
          world.status(made, "none", "idle");
          return made.view;
        });
      case "POST archive":
        world.append(session, "session.archived", body);
        return send(response, 204);
      case "POST questions":
        world.append(session, "question.answered", { question: which, answer: { option: body.option, by_deadline: false } });
        world.status(session, "ready", "running");
        return send(response, 204);
      case "GET network": {
        const { records = [], broken_after } = session.network ?? {};
        const after = Number(url.searchParams.get("after") ?? 0);
        const limit = Number(url.searchParams.get("limit") ?? 200);
        return send(response, 200, { records: records.slice(after, after + limit), last_seq: records.length, ...(broken_after ? { broken_after } : {}) });
      }
      case "POST network": {
        const answer = this.environments.decide(session.view.environment?.id, body);
        world.append(session, "network.allowed", { host: body.host, port: body.port, scope: body.decision });
        return send(response, 200, answer);
      }
      case "GET pull-request":
        return send(response, 200, this.#pullRequest(session));
      case "POST pull-request": {
        const { title, compose, draft = false, base } = body;
        const url = "https://github.com/team/thing/pull/7";
        if (compose) return send(response, 200, { compose: `https://github.com/team/thing/compare/${base}...x?expand=1` });
        const checks = { passed: 0, failed: 0, pending: 1 };
        const state = { number: 7, url, title, phase: draft ? "draft" : "open", base, commit: "c0ffee", checks };
        world.append(session, "pr.state", state);
        session.view.pull_request = state;
        return send(response, 200, { pull_request: state });
      }
      case "GET events":
        return send(response, 200, page(session.events, url.searchParams));
      case "GET blobs":
        if (!session.blobs.has(which)) throw new Refused(404, "blob_not_found", "there is no such output", "reload the session");
        return send(response, 200, session.blobs.get(which), "text/plain; charset=utf-8");
      case "GET diff": {
        if (which === "file") {
          const path = url.searchParams.get("path");
          const rows = session.rows.get(path);
          if (!rows) throw new Refused(404, "file_not_found", `${path} is not part of the diff`, "reload the diff");
          return send(response, 200, { path, rows: rows.slice(0, 200_000), truncated: false });
        }
        if (url.searchParams.get("format") === "patch") return send(response, 200, "diff --git a/x b/x\n", "text/plain");
        const { base, diff, checkpoint } = session.view;
        return send(response, 200, { base, commit: checkpoint?.commit ?? base, stat: diff, files: session.files });
      }
    }
    throw new Refused(404, "not_found", "no such route", "check the address");
  }

  #pullRequest({ view }) {
    if (view.pull_request) return { pull_request: view.pull_request };
    if (!view.repository.url) return { reason: `this session has no remote repository; \`patchyard sessions pull ${view.id}\` brings its branch home` };
    const proposal = { repository: "team/thing", title: view.title, body: `> ${view.title}`, base: "main", head: view.branch };
    return { proposal };
  }

  #once(request, response, status, run) {
    return send(response, status, this.#remembered(request, run));
  }

  /** The same key never does the same thing twice. */
  #remembered(request, run) {
    const key = request.headers["idempotency-key"];
    if (!key) throw new Refused(400, "no_key", "the request has no Idempotency-Key", "send one");
    if (!this.#answers.has(key)) this.#answers.set(key, structuredClone(run()));
    return this.#answers.get(key);
  }

  #stream(url, request, response) {
    if (this.offline) return response.destroy();
    const watched = url.searchParams.get("session");
    const after = Number(url.searchParams.get("after") ?? 0);
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" });
    const frame = (event, data, id) => response.write(`${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    frame("hello", { version: this.info.version, build: this.build });
    const session = this.world.sessions.get(watched);
    for (const event of session?.events.slice(after) ?? []) frame("event", event, event.seq);
    const on = {
      event: (event) => event.session === watched && frame("event", event, event.seq),
      session: (view) => frame("session", view),
      gone: (id) => frame("gone", { session: id }),
      live: (id, delta) => id === watched && frame("live", delta),
      raw: (text) => response.write(text),
    };
    for (const [name, handler] of Object.entries(on)) this.world.on(name, handler);
    const ping = setInterval(() => {
      response.write(": ping\n\n");
      frame("ping", {});
    }, 15_000);
    this.streams.add(response);
    response.on("close", () => {
      clearInterval(ping);
      this.streams.delete(response);
      for (const [name, handler] of Object.entries(on)) this.world.off(name, handler);
    });
  }

  async #page(url, response) {
    const path = normalize(url.pathname);
    const file = extname(path) === "" ? "/index.html" : path;
    try {
      const bytes = await readFile(join(DIST, file));
      response.setHeader("content-security-policy", CSP);
      response.setHeader("x-content-type-options", "nosniff");
      response.setHeader("referrer-policy", "no-referrer");
      response.setHeader("cross-origin-opener-policy", "same-origin");
      return send(response, 200, bytes, TYPES[extname(file)] ?? "application/octet-stream");
    } catch {
      return send(response, 404, "not found", "text/plain");
    }
  }
}

function page(events, query) {
  const last_seq = events.length;
  const limit = Number(query.get("limit") ?? 100);
  if (query.has("tail")) return { events: events.slice(-Number(query.get("tail"))), last_seq };
  if (query.has("before")) {
    const end = Number(query.get("before")) - 1;
    return { events: events.slice(Math.max(0, end - limit), end), last_seq };
  }
  const after = Number(query.get("after") ?? 0);
  return { events: events.slice(after, after + limit), last_seq };
}

async function readBody(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return parts.length === 0 ? {} : JSON.parse(Buffer.concat(parts).toString());
}

function send(response, status, body, type = "application/json") {
  response.writeHead(status, body === undefined ? {} : { "content-type": type });
  response.end(body === undefined || typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body));
}
