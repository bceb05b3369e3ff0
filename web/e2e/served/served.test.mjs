// The page as the real binary serves it, over a real session: what it shows is what the log says.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { axe, launch, openPage } from "../browser.mjs";
import { findBinary, startDemo } from "./demo-server.mjs";

const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; " +
  "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
  "require-trusted-types-for 'script'; trusted-types ui svelte-trusted-html";

const binary = findBinary();
if (binary.missing) console.log(`skipped: ${binary.missing}`);

describe("the served page", { skip: binary.missing }, () => {
  let demo;
  let browser;
  let storageState;
  let session;

  /** Asks the API as the signed-in browser. */
  async function api(path, options = {}) {
    const cookie = storageState.cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
    const response = await fetch(`${demo.url}/api/v1${path}`, { ...options, headers: { cookie, ...options.headers } });
    assert.ok(response.ok, `${path}: ${response.status} ${await response.clone().text()}`);
    return response.status === 204 ? undefined : response.json();
  }

  const events = async () => (await api(`/sessions/${session}/events?after=0&limit=1000`)).events;
  const turnsEnded = (log) => log.filter((event) => event.kind === "turn.ended").length;

  /** Waits on the session's own stream until so many turns are over; a server that is away comes back. */
  async function untilTurns(count, tries = 100) {
    const cookie = storageState.cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
    const headers = { cookie, accept: "text/event-stream" };
    try {
      const stream = await fetch(`${demo.url}/api/v1/sessions/${session}/events?after=0`, { headers });
      let text = "";
      for await (const bytes of stream.body) {
        text += Buffer.from(bytes).toString();
        if (text.split('"kind":"turn.ended"').length > count) return;
      }
    } catch (error) {
      if (tries === 0) throw error;
      await setTimeout(100);
    }
    return untilTurns(count, tries - 1);
  }

  async function open(path, options = {}) {
    const page = await openPage(browser, { storageState, ...options });
    await page.goto(demo.url + path);
    return page;
  }

  before(async () => {
    demo = await startDemo(binary.path);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await demo?.stop();
  });

  test("the one-time address signs a browser in, once", async () => {
    const page = await openPage(browser);
    await page.goto(demo.loginUrl);
    await page.waitForURL((url) => !url.pathname.startsWith("/login"));
    assert.equal(new URL(page.url()).hash, "", "the code is gone from the address bar");
    storageState = await page.context().storageState();
    const [cookie] = storageState.cookies;
    assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Lax"]);
    assert.deepEqual(page.findings, []);
    await page.context().close();

    const again = await openPage(browser);
    await again.goto(demo.loginUrl);
    await again.waitForSelector("[role=alert]");
    await again.context().close();
    session = (await api("/sessions")).sessions[0].id;
  });

  test("the page comes with the strict policy and compressed", async () => {
    const response = await fetch(demo.url, { headers: { "accept-encoding": "br" } });
    assert.equal(response.headers.get("content-security-policy"), CSP);
    assert.equal(response.headers.get("content-encoding"), "br");
    assert.equal(response.headers.get("cache-control"), "no-cache");
    assert.equal((await fetch(`${demo.url}/assets/missing.js`)).status, 404);
  });

  for (const theme of ["light", "dark"]) {
    test(`session, review and new session have no finding in ${theme}`, async () => {
      for (const [path, wanted] of [
        [`/s/${session}`, ".item.tool"],
        [`/s/${session}/diff`, "[role=row]"],
        ["/new", "textarea"],
      ]) {
        const page = await open(path, { theme });
        await page.waitForSelector(wanted);
        assert.deepEqual(await axe(page), [], path);
        assert.deepEqual(page.findings, [], path);
        await page.context().close();
      }
    });
  }

  test("the page shows what the log says", async () => {
    const page = await open(`/s/${session}`);
    await page.waitForSelector(".item.tool");
    const shown = await page.locator("[role=log]").innerText();
    const log = await events();
    assert.deepEqual(log.map((event) => event.seq), log.map((_, index) => index + 1), "the log is dense");
    for (const event of log) {
      if (event.kind === "prompt.queued") assert.ok(shown.includes(event.body.text), event.body.text);
      if (event.kind === "tool.call" && event.body.name === "Bash") assert.ok(shown.includes(event.body.title), event.body.title);
      if (event.kind === "agent.message") {
        const words = event.body.text.split("\n")[0].replaceAll("`", "");
        assert.ok(shown.includes(words), words);
      }
    }
    const view = await api(`/sessions/${session}`);
    assert.ok((await page.locator("header").last().innerText()).includes(`+${view.diff.additions}`));
    await page.context().close();
  });

  test("a prompt goes on without the browser, and is there when it comes back", async () => {
    const page = await open(`/s/${session}`);
    await page.waitForSelector(".item.tool");
    const accepted = page.waitForResponse((response) => response.url().endsWith("/prompts") && response.status() === 202);
    await page.locator("textarea").fill("Say once more what you did.");
    await page.keyboard.press("Enter");
    await accepted;
    await page.context().close();

    await untilTurns(2);
    const back = await open(`/s/${session}`);
    const log = await events();
    await back.getByText("Say once more what you did.").waitFor();
    const last = log.filter((event) => event.kind === "agent.message").at(-1).body.text.split("\n")[0].replaceAll("`", "");
    await back.getByText(last).last().waitFor();
    assert.equal(turnsEnded(log), 2);
    assert.deepEqual(back.findings, []);
    await back.context().close();
  });

  test("an open page lives through a crash of the server, and nothing is missing or doubled", async () => {
    const page = await open(`/s/${session}`);
    await page.waitForSelector(".item.tool");
    demo.killServer();
    await page.locator("textarea").fill("Are you still there?");
    await page.keyboard.press("Enter");
    await untilTurns(3);
    await page.getByText("Are you still there?").first().waitFor();
    const log = await events();
    assert.equal(turnsEnded(log), 3);
    assert.deepEqual(log.map((event) => event.seq), log.map((_, index) => index + 1));
    await page.waitForFunction(
      (wanted) => document.querySelector("[role=log]").innerText.split(wanted).length === 2,
      "Are you still there?",
    );
    await page.context().close();
  });
});
