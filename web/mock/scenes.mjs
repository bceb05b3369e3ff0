// The sessions that the mock server starts with: one for each thing that the page must show.

import { ulid } from "./world.mjs";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

class Scene {
  constructor(world, options) {
    this.world = world;
    this.session = world.create({ repository: { name: "web", url: "https://git.example.org/acme/web.git", branch: "main" }, ...options });
    this.message = `msg_${ulid()}`;
  }

  add(kind, body, after = 1000) {
    this.world.append(this.session, kind, body, { after });
    return this;
  }

  status(sandbox, turn, reason) {
    this.world.status(this.session, sandbox, turn, { after: 10, ...(reason ? { reason } : {}) });
    return this;
  }

  prompt(text) {
    this.last = `pmt_${ulid()}`;
    return this.add("prompt.queued", { prompt: this.last, text }, 0);
  }

  prepared() {
    this.status("creating", "queued");
    this.add("step.started", { step: "sandbox" }, 10).add("step.finished", { step: "sandbox", duration_ms: 412 }, 412);
    this.status("preparing", "queued");
    this.add("step.started", { step: "workspace" }, 5);
    this.add("step.output", { step: "workspace", text: "Cloning into 'web'...\ndone.\nSwitched to a new branch\n" }, 5);
    this.add("step.finished", { step: "workspace", duration_ms: 890 }, 890);
    return this.status("ready", "queued");
  }

  started() {
    this.add("turn.started", { prompt: this.last }, 5);
    return this.status("ready", "running");
  }

  begin(text) {
    return this.prompt(text).prepared().started();
  }

  say(text) {
    this.message = `msg_${ulid()}`;
    return this.add("agent.message", { message: this.message, text }, 1500);
  }

  think(text) {
    this.message = `msg_${ulid()}`;
    return this.add("agent.thought", { message: this.message, text }, 1500);
  }

  call(name, title, input) {
    this.open = `call_${ulid()}`;
    return this.add("tool.call", { message: this.message, call: this.open, name, title, input }, 200);
  }

  tool(name, title, input, content, result = {}) {
    this.call(name, title, input);
    const duration_ms = result.duration_ms ?? 300;
    const body = { call: this.open, content, is_error: false, duration_ms, ...result };
    // The model reads plain text; the page gets the colours beside it.
    if (/[\u001b\r]/.test(content)) {
      body.content = content.replace(/\u001b\[[\d;]*m/g, "").replace(/[^\n]*\r/g, "");
      body.detail = { ...body.detail, output_ansi: content.replace(/^Exit code \d+\n/, "") };
    }
    return this.add("tool.result", body, duration_ms);
  }

  plan(...entries) {
    const names = ["pending", "in_progress", "completed"];
    return this.add("plan", {
      entries: entries.map(([state, content, active_form = content]) => ({ content, active_form, status: names[state] })),
    });
  }

  ended(status = "completed", stop_reason = "end_turn", message) {
    this.add("turn.ended", { status, stop_reason, duration_ms: 42_000, ...(message ? { message } : {}) });
    return this.status("ready", "idle");
  }

  diff(files) {
    this.world.setDiff(this.session, files, { after: 50 });
    return this;
  }
}

const line = (kind, text, before, after) => ({ kind, text, ...(before ? { old: before } : {}), ...(after ? { new: after } : {}) });

const SESSION_RS = [
  line("hunk", "@@ -39,7 +39,12 @@ impl Session"),
  line("context", "    /// Whether the session is over.", 39, 39),
  line("context", "    #[must_use]", 40, 40),
  line("context", "    pub fn is_expired(&self) -> bool {", 41, 41),
  line("deleted", "        self.expires_at < SystemTime::now()", 42),
  line("added", "        self.expires_at <= self.clock.now()", undefined, 42),
  line("context", "    }", 43, 43),
  line("context", "", 44, 44),
  line("added", "    // The clock is injected so that tests can move it.", undefined, 45),
  line("added", "    pub fn with_clock(clock: Clock) -> Self {", undefined, 46),
  line("added", "        Self { clock, ..Self::default() }", undefined, 47),
  line("added", "    }", undefined, 48),
  line("hunk", "@@ -172,3 +177,3 @@ impl Session"),
  line("context", "    pub fn refresh(&mut self) {", 172, 177),
  line("deleted", "        self.expires_at = SystemTime::now() + TTL;", 173),
  line("added", "        self.expires_at = self.clock.now() + TTL;", undefined, 178),
  line("context", "    }", 174, 179),
];

const added = (lines) => [line("hunk", `@@ -0,0 +1,${lines.length} @@`), ...lines.map((text, i) => line("added", text, undefined, i + 1))];

const CLOCK_RS = added([
  "//! Where the time comes from.",
  "",
  "use std::time::SystemTime;",
  "",
  "/// A source of time that tests can move.",
  "#[derive(Debug, Clone, Default)]",
  "pub enum Clock {",
  "    #[default]",
  "    System,",
  "    Fixed(SystemTime),",
  "}",
]);

const BASH_OUTPUT = [
  "\u001b[1m\u001b[32m   Compiling\u001b[0m web v0.4.2 (/workspace/web)",
  "\u001b[1m\u001b[32m    Finished\u001b[0m `test` profile [unoptimized + debuginfo] target(s) in 7.31s",
  "\u001b[1m\u001b[32m     Running\u001b[0m unittests src/lib.rs",
  "",
  ...Array.from({ length: 46 }, (_, i) => `test auth::case_${String(i + 1).padStart(2, "0")} ... \u001b[32mok\u001b[0m`),
  "test auth::expires_at_boundary ... \u001b[32mok\u001b[0m",
  "test auth::refresh_is_idempotent ... \u001b[32mok\u001b[0m",
  "",
  "test result: \u001b[32mok\u001b[0m. 48 passed; 0 failed; 0 ignored; finished in 3.64s",
].join("\n");

const EDIT_PATCH = `@@ -41,3 +41,3 @@ impl Session
     pub fn is_expired(&self) -> bool {
-        self.expires_at < SystemTime::now()
+        self.expires_at <= self.clock.now()
     }
`;

function flaky(world, now) {
  const scene = new Scene(world, { title: "Fix the flaky auth test", at: now - 6 * MINUTE });
  const full = world.blob(scene.session, `${Array.from({ length: 3000 }, (_, i) => `\u001b[36m${i + 1}\u001b[0m probe of the auth clock, run ${i % 50}`).join("\n")}\n`);
  scene
    .begin("The auth test fails about one run in five. Find out why and fix it, and add a test that would have caught it.")
    .think("The failure is rare, so it depends on time or order. I look at the test and at what it compares first.")
    .tool("Grep", "session_expiry", { pattern: "session_expiry" }, "src/auth/session.rs\ntests/auth.rs");
  for (const file of ["src/auth/session.rs", "src/auth/mod.rs", "src/lib.rs", "tests/auth.rs", "Cargo.toml", "src/clock.rs"]) {
    scene.tool("Read", file, { file_path: file }, `1\t// ${file}`, { duration_ms: 620 });
  }
  scene
    .say("The test compares wall-clock times across a tick: `expires_at` is taken before the second turns and read after it. I’ll inject a clock, then run the suite 50 times.")
    .plan([1, "Inject a clock", "Injecting a clock"], [0, "Rewrite the boundary test"], [0, "Run the suite 50 times"], [0, "Check the other users of the time"])
    .tool("Write", "src/auth/clock.rs", { file_path: "src/auth/clock.rs" }, "File created successfully at: src/auth/clock.rs", {
      detail: { patch: `@@ -0,0 +1,4 @@\n+/// A source of time that tests can move.\n+pub enum Clock {\n+    System,\n+    Fixed(SystemTime),\n` },
    })
    .tool("Edit", "src/auth/session.rs", { file_path: "src/auth/session.rs" }, "The file src/auth/session.rs has been updated successfully.", {
      detail: { patch: EDIT_PATCH },
    })
    .plan([2, "Inject a clock"], [2, "Rewrite the boundary test"], [1, "Run the suite 50 times", "Running the suite 50 times"], [0, "Check the other users of the time"])
    .tool("Bash", "cargo test auth -- --test-threads=1", { command: "cargo test auth -- --test-threads=1" }, BASH_OUTPUT, {
      duration_ms: 11_000,
      detail: { exit_code: 0 },
      full_output: full,
    })
    .diff([
      ["Cargo.toml", "modified", [line("hunk", "@@ -12,2 +12,3 @@ [dependencies]"), line("context", 'serde = "1"', 12, 12), line("added", 'jiff = "0.2"', undefined, 13), line("context", "", 13, 14)]],
      ["assets/logo.png", "modified", null],
      ["src/auth/clock.rs", "added", CLOCK_RS],
      ["src/auth/session.rs", "modified", SESSION_RS],
      ["src/auth/wall_time.rs", "deleted", [line("hunk", "@@ -1,2 +0,0 @@"), line("deleted", "use std::time::SystemTime;", 1), line("deleted", "pub fn now() -> SystemTime { SystemTime::now() }", 2)]],
      ["tests/auth/boundary.rs", "renamed", [line("hunk", "@@ -1,2 +1,2 @@"), line("deleted", "fn expires_at_tick() {", 1), line("added", "fn expires_at_boundary() {", undefined, 1), line("context", "}", 2, 2)], "tests/auth.rs"],
    ]);
  scene.call("Bash", "for i in $(seq 50); do cargo test auth -q; done", { command: "for i in $(seq 50); do cargo test auth -q; done" });
  scene.session.clock = now - 8000;
  scene.session.view.updated_at = new Date(now - 8000).toISOString();
  return scene.session;
}

function question(world, now) {
  const scene = new Scene(world, { title: "Migrate settings to TOML", at: now - 12 * MINUTE, repository: { name: "api", branch: "main" }, dirty: true });
  scene
    .begin("Move the settings from JSON to TOML and keep reading the old files.")
    .say("The old files may hold comments that TOML cannot keep in place. Before I convert them I need a decision.")
    .add("question.asked", {
      question: `qst_${ulid()}`,
      text: "Old settings files have comments. Should the conversion keep the old file beside the new one?",
      options: [
        { id: "keep", label: "Keep the old file" },
        { id: "drop", label: "Remove it after conversion" },
        { id: "ask", label: "Leave the files to the user" },
      ],
    })
    .status("ready", "waiting");
  return scene.session;
}

function done(world, now) {
  const scene = new Scene(world, { title: "Document the proxy rules", at: now - 90 * MINUTE, repository: { name: "docs", branch: "main" } });
  scene
    .begin("Document the proxy rules with one example per rule.")
    .tool("Read", "docs/proxy.md", { file_path: "docs/proxy.md" }, "1\t# Proxy")
    .say(
      [
        "# What changed",
        "",
        "The rules stand in `docs/proxy.md`, one example each:",
        "",
        "| Rule | Means | Example |",
        "|---|---|---|",
        "| exact host | one name | `crates.example.org` |",
        "| suffix | a name and all below | `.example.org` |",
        "",
        "1. Exact names come first.",
        "2. Then suffixes, longest first.",
        "   - a refused host answers 403",
        "   - the header says why",
        "",
        "> A missing policy means no network.",
        "",
        "```toml\n[network]\nlevel = \"trusted\"\nallow = [\"crates.example.org\"]\n```",
        "",
        "See [the guide](https://docs.example.org/guide), and ![a picture](https://evil.example/pixel.png). <b>Not bold</b>.",
      ].join("\n"),
    )
    .diff([["docs/proxy.md", "modified", added(Array.from({ length: 118 }, (_, i) => `Rule ${i + 1}`))]])
    .ended();
  return scene.session;
}

function failed(world, now) {
  const scene = new Scene(world, { title: "Upgrade to sqlx 0.9", at: now - 70 * MINUTE, repository: { name: "api", branch: "main" } });
  scene
    .prompt("Upgrade sqlx to 0.9.")
    .status("creating", "queued")
    .add("step.started", { step: "sandbox" })
    .add("step.finished", { step: "sandbox", duration_ms: 380 })
    .status("preparing", "queued")
    .add("step.started", { step: "workspace" })
    .add("step.output", { step: "workspace", text: "Cloning into 'api'...\n\u001b[31mfatal:\u001b[0m unable to checkout working tree\nerror: No space left on device\n" })
    .add("step.finished", {
      step: "workspace",
      duration_ms: 2100,
      error: "the workspace of api could not be made: no space left on device; free space in the data directory, then send the prompt again",
    });
  world.status(scene.session, "failed", "idle", { after: 5, reason: "no space left on device while the workspace was made" });
  return scene.session;
}

function troubles(world, now) {
  const scene = new Scene(world, { title: "Rename the metrics", at: now - 2 * DAY });
  scene
    .begin("Rename the metrics to the new scheme.")
    .add("error", { code: "model_overloaded", message: "the model endpoint is overloaded (529)", retry_in_ms: 1000 })
    .add("error", { code: "model_overloaded", message: "the model endpoint is overloaded (529)", retry_in_ms: 2000 })
    .add("error", { code: "model_overloaded", message: "the model endpoint is overloaded (529)", retry_in_ms: 4000 })
    .tool("Read", "src/metrics.rs", { file_path: "src/metrics.rs" }, "File does not exist.", { is_error: true })
    .tool("Glob", "**/metrics*", { pattern: "**/metrics*" }, "src/obs/metrics.rs")
    .tool(
      "Bash",
      "make metrics",
      { command: "make metrics" },
      `Exit code 2\n${Array.from({ length: 30 }, (_, i) => `step ${i}`).join("\n")}\n\u001b[1;31merror\u001b[0m: unknown metric \u001b[33m"http_reqs"\u001b[0m\n\u001b[41mfailed\u001b[0m \u001b[38;5;208morange\u001b[0m \u001b[38;2;120;80;255mviolet\u001b[0m \u001b[7minverse\u001b[0m \u001b[2mdim\u001b[0m\nprogress 10%\rprogress 100%`,
      { is_error: true, duration_ms: 3200, detail: { exit_code: 2 } },
    )
    .add("pr.opened", { number: 7 })
    .tool("Fetch", "https://example.org", { url: "https://example.org" }, "", { is_error: false })
    .add("error", { code: "checkpoint_failed", message: "the workspace could not be recorded: the guest did not answer within 60 s; the next turn tries again" })
    .add("turn.interrupted", { reason: "user_stop" })
    .ended("interrupted", "user_stop")
    .prompt("Go on, but leave the old names as aliases.")
    .started()
    .say("The aliases are in place.")
    .ended("failed", "model_auth", "the model key was refused (401); set a valid ANTHROPIC_API_KEY for the server, then send the prompt again");
  world.status(scene.session, "suspended", "idle", { after: 600_000, reason: "idle for 10 minutes" });
  return scene.session;
}

/** 5,000 events. */
function long(world, now) {
  const scene = new Scene(world, { title: "Port the parser, file by file", at: now - 3 * DAY });
  scene.begin("Port the parser to the new grammar, file by file.");
  for (let i = 1; scene.session.events.length < 4990; i += 1) {
    scene.say(`File ${i} is next: \`src/parser/part_${i}.rs\`.`);
    scene.tool("Read", `src/parser/part_${i}.rs`, { file_path: `src/parser/part_${i}.rs` }, "1\tfn parse() {}");
    scene.tool("Bash", `cargo check -p part_${i}`, { command: `cargo check -p part_${i}` }, `Checking part_${i}\n\u001b[32mFinished\u001b[0m in 0.${i % 10} s`, { detail: { exit_code: 0 } });
  }
  scene.say("All parts are ported.").ended();
  while (scene.session.events.length < 5000) scene.add("usage", { model: "scripted", usage: {} }, 0);
  return scene.session;
}

/** A diff of 50,000 rows in one file, and a truncated one. */
function huge(world, now) {
  const scene = new Scene(world, { title: "Regenerate the tables", at: now - 26 * 60 * MINUTE, repository: { name: "tables", branch: "main" } });
  const rows = [line("hunk", "@@ -1,40000 +1,45000 @@")];
  let before = 1;
  let after = 1;
  while (rows.length < 50_000) {
    const at = rows.length % 10;
    if (at === 3) rows.push(line("deleted", `    entry(${before}, "old value ${before}"),`, before++));
    else if (at === 4 || at === 5) rows.push(line("added", `    entry(${after}, "new value ${after}"),`, undefined, after++));
    else rows.push(line("context", `    entry(${after}, "value ${after}"), // kept`, before++, after++));
  }
  scene.begin("Regenerate the tables.").say("Done.").diff([
    ["src/tables.rs", "modified", rows],
    ["zz/small.rs", "modified", [line("hunk", "@@ -1 +1 @@"), line("deleted", "a", 1), line("added", "b", undefined, 1), line("note", "No newline at end of file")]],
  ]);
  return scene.ended().session;
}

function archived(world, now) {
  const scene = new Scene(world, { title: "Try the new linter", at: now - 5 * DAY });
  scene.begin("Try the new linter.").say("It finds nothing new.").ended();
  scene.add("session.archived", { archived: true });
  return scene.session;
}

/** A start that reused a kept setup, and a person who looked inside. */
function reused(world, now, environment) {
  const scene = new Scene(world, { title: "Bump the protobuf schema", at: now - 40 * MINUTE, environment });
  scene.prompt("Bump the protobuf schema to version 4.").status("creating", "queued");
  scene.add("step.started", { step: "sandbox" }, 10).add("step.finished", { step: "sandbox", duration_ms: 120 }, 120);
  scene.status("preparing", "queued").add("step.started", { step: "workspace" }, 5);
  scene.add("step.finished", { step: "workspace", duration_ms: 310, detail: "reused the setup of https://git.example.org/acme/web.git at 3f1c9a7e5b, built 26 h ago, saved 1 min 36 s" }, 310);
  scene.add("step.started", { step: "hooks" }, 5);
  scene.add("step.output", { step: "hooks", text: "postgres is ready\n" }, 400);
  scene.add("step.finished", { step: "hooks", duration_ms: 640 }, 240);
  scene.status("ready", "queued").started().say("The schema is at version 4.").ended();
  scene.add("shell.opened", { shell: "shl_1", command: ["bash", "-l"] }, 60_000);
  scene.add("files.copied", { path: "target/schema.json", direction: "out", bytes: 12_400 }, 20_000);
  scene.add("shell.closed", { shell: "shl_1", duration_ms: 95_000, code: 0 }, 75_000);
  scene.add("network.denied", { host: "metrics.example.net", port: 443, via: "capture", reason: "not_allowed", askable: true }, 1_000);
  scene.add("network.denied", { host: "collector.example.net", port: 4318, via: "connect", reason: "not_allowed", askable: true }, 1_000);
  scene.add("network.denied", { host: "169.254.169.254", port: 80, via: "capture", reason: "addr_metadata", askable: false }, 1_000);
  return scene.session;
}

/** The record of what a session tried to reach. */
function record(session, what) {
  session.network ??= { records: [], broken_after: undefined };
  const { records } = session.network;
  const seq = records.length + 1;
  const at = new Date(session.clock + seq * 1000).toISOString();
  const previous = seq === 1 ? "" : seq.toString(16).padStart(64, "0");
  records.push({ at, seq, previous, session: session.id, sandbox: session.id.replace("ses_", "sbx_"), connection: seq, ...what });
  return seq;
}

function networked(session) {
  const decided = (host, port, more) => record(session, { event: "decided", via: "connect", host, port, ...more });
  const closed = (connection, bytes_up, bytes_down, duration_ms) =>
    record(session, { event: "closed", connection, dialed: "198.51.100.7:443", bytes_up, bytes_down, duration_ms });
  const crates = { rule: "environment: crates.example.org", resolved: ["198.51.100.7"], askable: false };
  closed(decided("crates.example.org", 443, crates), 1_204, 86_214, 412);
  closed(decided("crates.example.org", 443, crates), 980, 1_204_000, 2_310);
  decided("git.example.org", 443, { rule: "trusted list: git.example.org", askable: false });
  for (let n = 0; n < 20; n += 1) decided("metrics.example.net", 443, { reason: "not_allowed", askable: true });
  record(session, { event: "repeated", host: "metrics.example.net", reason: "not_allowed", count: 180, connection: 0 });
  decided("169.254.169.254", 80, { via: "capture", reason: "addr_metadata", askable: false });
  return session;
}

/** A setup script that ended with an error. */
function setupFailed(world, now, environment) {
  const scene = new Scene(world, { title: "Port the service to tonic", at: now - 20 * MINUTE, environment });
  scene.prompt("Port the service to tonic.").status("creating", "queued");
  scene.add("step.started", { step: "sandbox" }, 10).add("step.finished", { step: "sandbox", duration_ms: 120 }, 120);
  scene.status("preparing", "queued").add("step.started", { step: "workspace" }, 5);
  scene.add("step.output", { step: "workspace", text: "Cloning into 'web'...\ndone.\n" }, 5);
  scene.add("step.finished", { step: "workspace", duration_ms: 890 }, 890).add("step.started", { step: "setup" }, 5);
  scene.add("step.output", { step: "setup", text: "Reading package lists...\nBuilding dependency tree...\n" }, 900);
  scene.add("step.output", { step: "setup", text: "\u001b[1;31mE:\u001b[0m Unable to locate package protobuf-compilr\n" }, 300);
  scene.add("step.finished", { step: "setup", duration_ms: 2400, error: "the setup script ended with 100: E: Unable to locate package protobuf-compilr" }, 1200);
  world.status(scene.session, "failed", "queued", { after: 5, reason: "the setup script ended with 100: E: Unable to locate package protobuf-compilr" });
  return scene.session;
}

/** A setup script that runs. */
function settingUp(world, now, environment) {
  const scene = new Scene(world, { title: "Add tracing to the API", at: now - MINUTE, environment });
  scene.prompt("Add tracing to the API.").status("creating", "queued");
  scene.add("step.started", { step: "sandbox" }, 10).add("step.finished", { step: "sandbox", duration_ms: 120 }, 120);
  scene.status("preparing", "queued").add("step.started", { step: "workspace" }, 5);
  scene.add("step.finished", { step: "workspace", duration_ms: 890 }, 890).add("step.started", { step: "setup" }, 5);
  scene.add("step.output", { step: "setup", text: "Reading package lists...\nSetting up protobuf-compiler (3.21.12) ...\n" }, 900);
  scene.session.clock = now - 30_000;
  scene.session.view.updated_at = new Date(now - 3000).toISOString();
  return scene.session;
}

export function scenes(world, environments, now = Date.now()) {
  const of = ({ id, settings: { name } }) => ({ id, name });
  const rust = of(environments.rust);
  world.environment = of(environments.usual);
  return {
    archived: archived(world, now),
    long: long(world, now),
    troubles: troubles(world, now),
    huge: huge(world, now),
    done: done(world, now),
    failed: failed(world, now),
    reused: networked(reused(world, now, rust)),
    setupFailed: setupFailed(world, now, rust),
    question: question(world, now),
    settingUp: settingUp(world, now, rust),
    flaky: flaky(world, now),
  };
}
