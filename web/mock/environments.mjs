// Environments in memory, and setup scripts that are tried out.

import { setTimeout as sleep } from "node:timers/promises";
import { Refused } from "./refused.mjs";
import { ulid } from "./world.mjs";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const USUAL = {
  image: "slim",
  network: { level: "trusted" },
  rendering: "compatible",
  variables: "",
  setup_script: "",
  limits: { memory_bytes: 16_000_000_000, cpu_millis: 4000, pids: 4096, disk_bytes: 30_000_000_000, open_files: 65_536 },
  tier: { at_least: "container" },
  unenforced: "tell",
  nested_containers: false,
  secrets: [],
  cache_setup: true,
};

const RUST = {
  ...USUAL,
  name: "Rust, with protobuf",
  image: "rust",
  network: { level: "custom", domains: ["crates.example.org", "*.static.example.org"], include_default: true },
  secrets: [{ name: "DEPLOY_TOKEN", hosts: ["deploy.example.org"], methods: ["POST"], source: "sealed" }],
  variables: 'RUST_LOG=info\nCARGO_TERM_COLOR=always\nGREETING="hello"',
  setup_script: "#!/usr/bin/env bash\nset -euo pipefail\napt-get install -y protobuf-compiler\ncargo fetch --locked\n",
  limits: { ...USUAL.limits, cpu_millis: 8000, memory_bytes: 2 ** 35 },
  tier: { at_least: "gvisor" },
};

export class Environments {
  #all = new Map();
  #tests = new Map();
  /** Values of secrets, by environment and name. */
  values = new Map();
  /** Milliseconds between two lines of a test run. */
  pace;

  constructor(pace) {
    this.pace = pace;
    const now = Date.now();
    this.usual = this.#make({ ...USUAL, name: "Default" }, { default: true, created_at: new Date(now - 30 * DAY).toISOString() });
    this.rust = this.#make(RUST, {
      warnings: ["line 3: the quotes are part of the value of GREETING"],
      caches: [
        {
          repository: "https://git.example.org/acme/web.git",
          commit: "3f1c9a7e5b2d4c6880917263544a5b6c7d8e9f00",
          wrote_workspace: true,
          bytes: 412_000_000,
          duration_ms: 96_000,
          created_at: new Date(now - 26 * HOUR).toISOString(),
          used_at: new Date(now - 12 * 60_000).toISOString(),
        },
        {
          repository: "https://git.example.org/acme/api.git",
          commit: "a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1",
          wrote_workspace: false,
          bytes: 96_300_000,
          duration_ms: 41_000,
          created_at: new Date(now - 3 * DAY).toISOString(),
        },
      ],
    });
    this.offline = this.#make({ ...USUAL, name: "Offline", network: { level: "none" }, tier: { exactly: "vm" } }, {
      warnings: ["no sandbox of the tier `vm` can be had here: vm: there is no /dev/kvm; sessions in this environment are refused"],
    });
    this.#make({ ...USUAL, name: "Old toolchain" }, { archived: true });
  }

  #make(settings, facts = {}) {
    const at = new Date().toISOString();
    const made = {
      id: `env_${ulid()}`,
      settings,
      default: false,
      archived: false,
      revision: 1,
      created_at: at,
      updated_at: at,
      warnings: [],
      caches: [],
      ...facts,
    };
    this.#all.set(made.id, made);
    return made;
  }

  /** By id or name; the default without a word. */
  resolve(wanted) {
    const usable = [...this.#all.values()].filter(({ archived }) => !archived);
    const found = usable.find((one) => (wanted === undefined ? one.default : one.id === wanted || one.settings.name === wanted));
    if (found) return found;
    if (this.#all.has(wanted)) {
      throw new Refused(409, "environment_archived", `the environment \`${this.#all.get(wanted).settings.name}\` is archived; bring it back, or choose another one`, "bring it back, or choose another one");
    }
    throw new Refused(400, "environment_not_found", `there is no environment \`${wanted}\``, "name one of these, or leave the environment out");
  }

  /** Somebody else saves it. */
  edit(id, change) {
    const old = this.#all.get(id);
    this.#check(id, { ...old.settings, ...change });
    const settings = { ...old.settings, ...change };
    const warnings = /^PATH=/m.test(settings.variables) ? ["line 1: PATH changes what every program of the sandbox does"] : [];
    if (settings.nested_containers) warnings.push("containers inside need a wider range of ids than this host has; they will fail to start");
    const edited = { ...old, settings, warnings, revision: old.revision + 1, updated_at: new Date().toISOString(), caches: [] };
    this.#all.set(id, edited);
    return edited;
  }

  #check(id, { name, variables, image }) {
    if (name.trim() === "") throw new Refused(400, "bad_environment", "an environment's name has 1 to 60 characters, and no control characters", "change it and send it again");
    for (const other of this.#all.values()) {
      if (other.id !== id && !other.archived && other.settings.name.toLowerCase() === name.toLowerCase()) {
        throw new Refused(409, "name_taken", `there is an environment \`${name}\` already; choose another name, or archive that one`, "choose another name");
      }
    }
    const bad = variables.split("\n").findIndex((line) => line.trim() !== "" && !line.includes("="));
    if (bad >= 0) throw new Refused(400, "bad_environment", `line ${bad + 1} of the variables has no \`=\`; write KEY=value, one per line, \`#\` for a comment`, "change it and send it again");
    if (image === "gone") throw new Refused(400, "image_not_found", "there is no image `gone`; this server has slim, rust", "name one of these, or leave the image out");
  }

  #set(id, change) {
    const changed = { ...this.#all.get(id), ...change };
    this.#all.set(id, changed);
    return changed;
  }

  /** Status and body of a call below `/environments`; `once` keeps to the idempotency key. */
  answer({ method, id, what, which, query, body, once }) {
    if (id === undefined && method === "GET") {
      const archived = query.get("archived") === "true";
      const shown = [...this.#all.values()].filter((one) => one.archived === archived);
      shown.sort((a, b) => Number(b.default) - Number(a.default) || a.settings.name.localeCompare(b.settings.name));
      return [200, { environments: shown }];
    }
    if (id === undefined) {
      return [201, once(() => {
        this.#check(null, body);
        return this.#make(body);
      })];
    }
    const known = this.#all.get(id);
    if (!known) throw new Refused(404, "environment_not_found", `there is no environment ${id}`, "see `patchyard environments list` for those that there are");
    switch (`${method} ${what ?? ""}`) {
      case "GET ":
        return [200, known];
      case "PUT ":
        if (body.revision !== known.revision) {
          throw new Refused(409, "environment_changed", `the environment was changed in between: it is at revision ${known.revision} now, and ${body.revision} was edited`, "read it again, and edit what is there now");
        }
        return [200, this.edit(id, body.settings)];
      case "POST archive":
        if (body.archived && known.default) {
          throw new Refused(409, "default_environment", "the default environment cannot be archived; make another one the default first", "make another one the default first");
        }
        return [200, this.#set(id, { archived: body.archived, caches: [] })];
      case "POST default":
        for (const other of this.#all.values()) this.#set(other.id, { default: other.id === id });
        return [200, this.#all.get(id)];
      case "PUT secrets":
        if (!known.settings.secrets.some(({ name }) => name === which)) {
          throw new Refused(409, "secret_not_bound", `the environment binds no secret \`${which}\``, "bind it first");
        }
        this.values.set(`${id} ${which}`, body.value);
        return [204];
      case "POST cache":
        return [200, this.#set(id, { caches: [] })];
      case "POST network-test":
        return [200, this.#passes({ ...known.settings, ...body })];
      case "POST test-setup":
        return [202, this.#view(this.#test(known, body.settings ?? known.settings), 0)];
    }
    throw new Refused(404, "not_found", "no such route", "check the address");
  }

  /** The level alone decides, and the environment's own list word by word. */
  #passes({ target, network }) {
    const shown = target.includes(":") ? target : `${target}:443`;
    const host = target.split(":")[0];
    const refused = (reason, why, askable) => ({ target: shown, allowed: false, reason, askable, message: `${shown} is refused: ${why}` });
    const allowed = (rule) => ({ target: shown, allowed: true, rule, access: "opaque", askable: false, message: `${shown} is allowed, by the rule \`${rule}\`` });
    if (host === "localhost") return refused("addr_loopback", "the host is the machine that runs the proxy itself", false);
    if (network.level === "full") return allowed("level full");
    const own = network.level === "custom" ? network.domains : [];
    const bad = own.find((pattern) => pattern.includes("/"));
    if (bad) throw new Refused(400, "bad_environment", `the network's rules cannot be used: environment: \`${bad}\` is no domain: it has a scheme, a path, or a user`, "change it and send it again");
    const rule = own.find((pattern) => pattern === host || (pattern.startsWith("*.") && host.endsWith(pattern.slice(1))));
    return rule ? allowed(`environment: ${rule}`) : refused("not_allowed", "no rule of this session allows the host", network.level !== "none");
  }

  /** What holds after a decision of a session that works in an environment, or in the default one. */
  decide(id, { host, port, decision }) {
    const { settings, ...one } = this.resolve(id);
    const target = `${host}:${port}`;
    const { allowed, askable, reason, message } = this.#passes({ ...settings, target });
    if (!allowed && !askable) throw new Refused(409, reason === "not_allowed" ? "no_network" : "not_askable", message, "a person cannot allow it");
    const rule = { once: "allowed once", session: `allowed for this session: ${target}`, environment: `environment: ${host}` }[decision];
    if (!rule) return { target, allowed: false, reason: "denylist", rule: `denied for this session: ${target}`, askable: false, message: `${target} is refused: the host is on a list of denied hosts` };
    if (decision === "environment") {
      const { domains = [], include_default = true } = settings.network;
      this.edit(one.id, { network: { level: "custom", domains: [...domains, host], include_default } });
    }
    return { target, allowed: true, rule, access: "opaque", askable: false, message: `${target} is allowed, by the rule \`${rule}\`` };
  }

  async tests({ method, id, after, closed }) {
    const test = this.#tests.get(id);
    if (!test) throw new Refused(404, "setup_test_not_found", `there is no setup test ${id}; it is kept for an hour after its end`, "start another one");
    if (method === "DELETE") {
      test.stopped = true;
      return [204];
    }
    while (!closed() && test.output.length <= after && !test.ended) await sleep(5);
    return [200, this.#view(test, after)];
  }

  #view({ id, environment, state, message, output, began, ended }, after) {
    return {
      id,
      environment,
      state,
      message,
      output: output.slice(after),
      next: output.length,
      truncated: false,
      duration_ms: (ended ?? Date.now()) - began,
    };
  }

  /** Prints what the script's lines say; a line `exit N` ends it so. */
  #test(environment, settings) {
    const test = {
      id: `tst_${ulid()}`,
      environment: environment.id,
      state: "queued",
      message: "waiting for other tests to end",
      output: "",
      began: Date.now(),
      ended: null,
      stopped: false,
    };
    this.#tests.set(test.id, test);
    void this.#play(test, settings.setup_script);
    return test;
  }

  async #play(test, script) {
    await sleep(this.pace);
    test.state = "running";
    test.message = "starting the sandbox";
    await sleep(this.pace);
    test.message = "running the setup script";
    const end = (state, message) => {
      test.ended = Date.now();
      test.state = state;
      test.message = message;
    };
    for (const line of script.split("\n").filter((text) => text.trim() !== "" && !text.startsWith("#"))) {
      const code = /^exit (\d+)/.exec(line)?.[1];
      if (code === "0") break;
      if (code) return end("failed", `the setup script ended with ${code}`);
      const times = /^repeat/.test(line) ? 2000 : 2;
      for (let i = 1; i <= times; i += 1) {
        await sleep(this.pace);
        if (test.stopped) return end("failed", "the setup test was stopped");
        test.output += `\u001b[2m${line}\u001b[0m: step ${i}\n`;
      }
    }
    end("passed", `the setup script ended with 0 after ${Math.round((Date.now() - test.began) / 1000)} s`);
  }
}
