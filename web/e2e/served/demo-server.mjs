// The real server: `patchyard demo --keep` does a whole task in a real sandbox and stays up.

import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const DEFAULT = fileURLToPath(new URL("../../../target/debug/patchyard", import.meta.url));

/** The binary to test, or why there is none. */
export function findBinary() {
  const path = process.env.PATCHYARD_BIN ?? DEFAULT;
  if (!existsSync(path)) return { missing: `${path} is not built` };
  if (process.getuid() !== 0) return { missing: "sandboxes need root" };
  return { path };
}

/** Starts it; resolves when the task is done and the server stays up. */
export async function startDemo(path) {
  const { ANTHROPIC_API_KEY: _key, ANTHROPIC_AUTH_TOKEN: _token, ...env } = process.env;
  const child = spawn(path, ["demo", "--keep"], { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const said = [];
  child.stderr.on("data", (text) => said.push(String(text)));
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const up = new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      said.push(`${line}\n`);
      const found = /the server stays up: (\S+)/.exec(line);
      if (found) resolve(found[1]);
    });
    exited.then((code) => reject(new Error(`the demo ended with ${code}:\n${said.join("")}`)));
  });
  const loginUrl = await up;
  return {
    loginUrl,
    url: new URL(loginUrl).origin,
    /** Kills the server process hard; the supervisor starts it again. */
    killServer: () => process.kill(serverProcess(child.pid), "SIGKILL"),
    async stop() {
      process.kill(child.pid, "SIGINT");
      await exited;
    },
  };
}

/** The number of the `internal server` process below this one. */
function serverProcess(root) {
  const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      return [{ pid: Number(name), parent, line: readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0") }];
    } catch {
      return [];
    }
  });
  const below = (pid) => processes.filter((one) => one.parent === pid).flatMap((one) => [one, ...below(one.pid)]);
  const server = below(root).find((one) => one.line[1] === "internal" && one.line[2] === "server");
  if (!server) throw new Error("there is no server process");
  return server.pid;
}
