// The mock answers as the described API does: what the page learns from it holds for the server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "../mock/server.mjs";
import { offences } from "./contract.mjs";

let mock;

before(async () => {
  mock = await startMock({ signedIn: true, pace: 1 });
});

after(() => mock?.close());

async function call(method, path, body) {
  const headers = { "content-type": "application/json", "idempotency-key": `${method}${path}` };
  const response = await fetch(`${mock.url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  return response.status === 204 ? undefined : response.json();
}

test("the judge finds what is wrong", () => {
  const good = mock.environments.rust;
  assert.deepEqual(offences("Environment", good), []);
  const { revision: _, ...lacking } = good;
  for (const [bad, why] of [
    [lacking, "Environment lacks revision"],
    [{ ...good, extra: 1 }, "Environment.extra is not described"],
    [{ ...good, archived: "no" }, 'Environment.archived is no boolean: "no"'],
    [{ ...good, settings: { ...good.settings, rendering: "lax" } }, 'Environment.settings.rendering is "lax", allowed are compatible, strict'],
    [{ ...good, settings: { ...good.settings, network: { level: "none", domains: [] } } }, "Environment.settings.network.domains is not described"],
    [{ ...good, settings: { ...good.settings, tier: { exactly: "jail" } } }, 'Environment.settings.tier.exactly is "jail", allowed are container, gvisor, vm'],
  ]) assert.deepEqual(offences("Environment", bad), [why]);
});

test("environments", async () => {
  const list = await call("GET", "/environments");
  assert.deepEqual(offences("EnvironmentList", list), []);
  assert.deepEqual(offences("EnvironmentList", await call("GET", "/environments?archived=true")), []);
  const made = await call("POST", "/environments", { ...list.environments[0].settings, name: "Made" });
  const own = `/environments/${made.id}`;
  for (const answer of [
    made,
    await call("GET", own),
    await call("PUT", own, { revision: 1, settings: made.settings }),
    await call("POST", `${own}/cache/refresh`),
    await call("POST", `${own}/archive`, { archived: true }),
    await call("POST", `${own}/archive`, { archived: false }),
    await call("POST", `${own}/default`),
  ]) assert.deepEqual(offences("Environment", answer), []);
  assert.deepEqual(offences("Problem", await call("PUT", own, { revision: 1, settings: made.settings })), []);
});

test("tests of the network", async () => {
  const own = `/environments/${mock.environments.rust.id}/network-test`;
  for (const body of [{ target: "crates.example.org" }, { target: "localhost:80" }, { target: "a.b", network: { level: "none" } }]) {
    assert.deepEqual(offences("TestNetwork", body), []);
    assert.deepEqual(offences("NetworkTest", await call("POST", own, body)), []);
  }
  const bad = { target: "a.b", network: { level: "custom", domains: ["https://x"], include_default: false } };
  assert.deepEqual(offences("Problem", await call("POST", own, bad)), []);
});

test("decisions about the network", async () => {
  const own = `/sessions/${mock.scenes.reused.id}/network`;
  for (const decision of ["deny", "once", "session", "environment"]) {
    const body = { host: `${decision}.example.net`, port: 443, decision };
    assert.deepEqual(offences("DecideNetwork", body), []);
    assert.deepEqual(offences("NetworkTest", await call("POST", own, body)), []);
    assert.deepEqual(offences("Event", mock.scenes.reused.events.at(-1)), []);
  }
  const closed = await call("POST", own, { host: "localhost", port: 80, decision: "session" });
  assert.equal(closed.code, "not_askable");
  assert.deepEqual(offences("Problem", closed), []);
});

test("records of the network", async () => {
  const own = `/sessions/${mock.scenes.reused.id}/network`;
  for (const query of ["", "?after=3&limit=2"]) assert.deepEqual(offences("NetworkPage", await call("GET", own + query)), []);
  assert.ok((await call("GET", own)).records.length > 20);
});

test("setup tests", async () => {
  const begun = await call("POST", `/environments/${mock.environments.rust.id}/test-setup`, {});
  assert.deepEqual(offences("SetupTest", begun), []);
  let test = begun;
  while (test.state !== "passed") {
    test = await call("GET", `/setup-tests/${test.id}?after=${test.next}`);
    assert.deepEqual(offences("SetupTest", test), []);
  }
});

test("sessions, and a failed one that is tried again", async () => {
  const views = await call("GET", "/sessions");
  assert.ok(views.sessions.length > 8);
  assert.deepEqual(offences("SessionList", views), []);
  assert.deepEqual(offences("SessionView", await call("POST", `/sessions/${mock.scenes.setupFailed.id}/retry`)), []);
});
