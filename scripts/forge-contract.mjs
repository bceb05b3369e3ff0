// Requests, one JSON object a line, judged by Prism; see scripts/forge-contract.

import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";

const [tools, file] = process.argv.slice(2);

const port = await new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});
const description = join(tools, "node_modules/@octokit/openapi/generated/api.github.com.json");
const prism = spawn(join(tools, "node_modules/.bin/prism"), ["mock", "-h", "127.0.0.1", "-p", String(port), description], {
  stdio: ["ignore", "pipe", "inherit"],
});
process.on("exit", () => prism.kill());
await new Promise((resolve, reject) => {
  prism.on("exit", () => reject(new Error("Prism did not start")));
  prism.stdout.on("data", (text) => String(text).includes("is listening") && resolve());
});

/** What is wrong with a request, one line each. */
async function offences({ method, path, query, body }) {
  const headers = { authorization: "Bearer x", "user-agent": "patchyard", "x-github-api-version": "2022-11-28" };
  // The description knows this kind alone; the others are ways in which the forge says the same.
  headers.accept = "application/json";
  if (body !== null) headers["content-type"] = "application/json";
  const sent = body === null ? undefined : JSON.stringify(body);
  const address = `http://127.0.0.1:${port}/${path}${query ? `?${query}` : ""}`;
  const answer = await fetch(address, { method, headers, body: sent, redirect: "manual" });
  const text = await answer.text();
  const said = JSON.parse(answer.headers.get("sl-violations") ?? "[]");
  const found = said.filter(({ location }) => location[0] === "request").map(({ location, message }) => `${location.join(".")}: ${message}`);
  if (answer.status >= 400 && text.includes("stoplight.io/prism/errors#")) found.push(`${answer.status} ${JSON.parse(text).title}`);
  return found;
}

// What the judge must not let pass, lest it lets everything pass.
const bad = { method: "POST", path: "repos/o/r/pulls", query: "", body: { title: "x" } };
if ((await offences(bad)).length === 0) throw new Error("Prism took a pull request without a branch");
const odd = { method: "GET", path: "no/such", query: "", body: null };
if ((await offences(odd)).length === 0) throw new Error("Prism took a path that there is not");

const lines = [...new Set((await readFile(file, "utf8")).split("\n").filter(Boolean))];
let wrong = 0;
const kinds = new Set();
for (const line of lines) {
  const request = JSON.parse(line);
  kinds.add(`${request.method} ${request.path.replace(/\d+/g, "N")}`);
  for (const offence of await offences(request)) {
    wrong += 1;
    console.log(`${request.method} /${request.path}?${request.query}: ${offence}`);
  }
}
console.log(`${lines.length} requests of ${kinds.size} kinds, ${wrong} offences`);
process.exit(wrong === 0 && lines.length > 0 ? 0 : 1);
