// What people do, and what goes wrong while they do it.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { startMock } from "../mock/server.mjs";
import { axe, launch, openPage } from "./browser.mjs";

let browser;
let mock;
let page;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

beforeEach(async () => {
  mock = await startMock({ signedIn: true, pace: 20 });
  page = await openPage(browser);
});

afterEach(async () => {
  assert.deepEqual(page.findings, []);
  await page.context().close();
  await mock.close();
});

const open = async (name, tail = "") => {
  await page.goto(`${mock.url}/s/${mock.scenes[name].id}${tail}`);
  await page.locator(".item").first().waitFor();
};

const composer = () => page.locator("main textarea");
const transcript = () => page.locator("[role=log]");

/** What the transcript says, entry by entry; times are left out. */
const entries = () =>
  page.$$eval(".item", (items) => items.map((item) => item.textContent.replace(/\s+/g, " ").replace(/[\d.]+ (s|min)\b/g, "").trim()));

describe("sign in", () => {
  beforeEach(async () => {
    mock.open = false;
  });

  test("by the one-time URL, which leaves the address bar", async () => {
    await page.goto(`${mock.url}/login#one-time-code`);
    await page.waitForURL(`${mock.url}/`);
    await page.locator("nav h2").first().waitFor();
    assert.ok(!(await page.evaluate(() => location.href)).includes("one-time-code"));
    const cookies = await page.context().cookies();
    assert.equal(cookies[0].httpOnly, true);
  });

  test("by pasting the URL after a wrong code was explained", async () => {
    await page.goto(`${mock.url}/s/${mock.scenes.flaky.id}`);
    await page.fill("#code", "wrong");
    await page.keyboard.press("Enter");
    const alert = page.locator("[role=alert]");
    await alert.waitFor();
    assert.match(await alert.textContent(), /wrong or was used before.*start the server again/is);
    await page.fill("#code", "http://host/login#one-time-code");
    await page.click("button[type=submit]");
    // The way leads on to what was asked for.
    await page.locator("h1:has-text('Fix the flaky auth test')").waitFor();
  });

  test("again when the session ends", async () => {
    mock.open = true;
    await open("flaky");
    mock.open = false;
    mock.cutStreams();
    await page.locator("h1:has-text('Sign in')").waitFor();
  });
});

test("a session is made with the keyboard alone", async () => {
  await page.goto(mock.url);
  await page.locator("nav h2").first().waitFor();
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("c");
  await page.waitForURL("**/new");
  await page.keyboard.type("Fix the clock");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("and test it");
  await page.keyboard.press("Tab");
  await page.keyboard.type("https://git.example.org/acme/web.git");
  await page.keyboard.press("Tab");
  await page.keyboard.type("main");
  await page.keyboard.press("Enter");
  await page.locator("h1:has-text('Fix the clock')").waitFor();
  await page.locator(".item:has-text('The suite passes')").waitFor();
  assert.equal(await page.locator(".bubble").textContent(), "You:Fix the clock\nand test it");
  const created = mock.requests.filter((request) => request.name === "POST /sessions");
  assert.equal(created.length, 1);
  assert.match(created[0].key, /^[0-9A-HJKMNP-TV-Z]{26}$/);
  await page.locator("nav li:has-text('Fix the clock') >> text=done").waitFor();
});

test("an unreachable repository is explained, nothing typed is lost, and a new try has a new key", async () => {
  await page.goto(`${mock.url}/new?prompt=Do+it&repo=https://h/missing.git`);
  assert.equal(mock.requests.filter((request) => request.name.startsWith("POST")).length, 0, "a link starts nothing");
  await page.click("button[type=submit]");
  const alert = page.locator("[role=alert]");
  await alert.waitFor();
  assert.match(await alert.textContent(), /could not be fetched.*404.*Check its address/is);
  await page.fill("#repo", "https://h/there.git");
  await page.click("button[type=submit]");
  await page.locator("h1:has-text('Do it')").waitFor();
  const keys = mock.requests.filter((request) => request.name === "POST /sessions").map((request) => request.key);
  assert.equal(new Set(keys).size, 2);
});

describe("prompts", () => {
  test("a failed send puts the text back, a reload keeps it, the next try has the same key", async () => {
    await open("done");
    const keys = [];
    await page.route("**/prompts", (route) => {
      keys.push(route.request().headers()["idempotency-key"]);
      return keys.length === 1 ? route.abort("connectionreset") : route.continue();
    });
    await composer().fill("Also document the ports");
    await composer().press("Enter");
    await page.locator("[role=alert]:has-text('cannot be reached')").waitFor();
    assert.equal(await composer().inputValue(), "Also document the ports");
    assert.equal(await page.locator(".bubble:has-text('ports')").count(), 0);
    await page.reload();
    await page.locator(".item").first().waitFor();
    assert.equal(await composer().inputValue(), "Also document the ports");
    await composer().press("Control+Enter");
    await page.locator(".item:has-text('The suite passes')").waitFor();
    assert.equal(keys.length, 2);
    assert.equal(keys[0], keys[1]);
    assert.equal(await page.locator(".bubble:has-text('ports')").count(), 1);
    assert.equal(await composer().inputValue(), "");
    await page.reload();
    await page.locator(".item").first().waitFor();
    assert.equal(await composer().inputValue(), "");
  });

  test("a prompt whose answer was lost is not asked for twice", async () => {
    await open("done");
    await page.route("**/prompts", async (route) => {
      await route.fetch();
      await route.abort("connectionreset");
    });
    await composer().fill("Also document the ports");
    await composer().press("Enter");
    await page.locator(".item:has-text('The suite passes')").waitFor();
    await page.locator("[role=alert]").waitFor({ state: "detached" });
    assert.equal(await composer().inputValue(), "");
    assert.equal(await page.locator(".bubble:has-text('ports')").count(), 1);
  });

  test("a refused prompt comes back with the reason", async () => {
    await open("done");
    mock.failNext("prompts", { status: 429, code: "queue_full", title: "ten prompts wait already", next: "wait for a turn to end" });
    await composer().fill("One more");
    await composer().press("Enter");
    await page.locator("[role=alert]:has-text('Ten prompts wait already')").waitFor();
    assert.equal(await composer().inputValue(), "One more");
  });

  test("each session keeps its own draft", async () => {
    await open("done");
    await composer().fill("for the docs");
    await page.click("nav >> text=Migrate settings");
    await page.locator("h1:has-text('Migrate')").waitFor();
    assert.equal(await composer().inputValue(), "");
    await composer().fill("for the settings");
    await page.goBack();
    await page.locator("h1:has-text('Document')").waitFor();
    assert.equal(await composer().inputValue(), "for the docs");
  });

  test("a prompt during a turn is queued and then runs, shown once", async () => {
    // The turn has to outlast the typing, also on a busy machine.
    mock.player.pace = 150;
    await open("done");
    await composer().fill("first");
    await composer().press("Enter");
    await page.locator("text=running cargo test").first().waitFor();
    await composer().fill("second");
    await composer().press("Enter");
    await page.locator(".item.prompt:has-text('second') >> text=Queued: read with the next results").waitFor();
    await page.waitForFunction(() => document.querySelectorAll(".item").length > 0 && [...document.querySelectorAll(".item")].filter((item) => item.textContent.includes("The suite passes")).length === 2);
    assert.equal(await page.locator(".bubble:has-text('second')").count(), 1);
    await page.locator(".state").waitFor({ state: "detached" });
  });

  test("what is typed survives a hundred events a second", async () => {
    await open("done");
    const session = mock.scenes.done;
    await composer().focus();
    let n = 0;
    const timer = setInterval(() => mock.world.append(session, "agent.message", { message: `m${n}`, text: `Line **${n++}**` }), 10);
    const text = "The quick brown fox jumps over the lazy dog, twice and then once more.";
    await page.keyboard.type(text, { delay: 15 });
    clearInterval(timer);
    assert.ok(n > 60, `${n} events`);
    assert.equal(await composer().inputValue(), text);
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "TEXTAREA");
    await page.locator(`.item:has-text('Line ${n - 1}')`).first().waitFor();
  });
});

describe("the stream", () => {
  test("cut again and again in a turn, nothing is missing and nothing is there twice", async () => {
    mock.player.pace = 90;
    await open("done");
    await composer().fill("go");
    await composer().press("Enter");
    for (let i = 0; i < 6; i += 1) {
      while (mock.streams.size === 0) await page.waitForTimeout(10);
      await page.waitForTimeout(60);
      mock.cutStreams();
    }
    assert.ok(mock.scenes.done.view.current_turn, "the turn still runs");
    await page.locator(".item:has-text('The suite passes')").waitFor();
    await page.locator("header >> text=done").waitFor();
    const live = await entries();
    await page.reload();
    await page.locator(".item:has-text('The suite passes')").waitFor();
    assert.deepEqual(live, await entries());
    const streams = mock.requests.filter((request) => request.name === "GET /stream").length;
    assert.ok(streams >= 7, `${streams} connections`);
  });

  test("events that happen while it is away arrive, and a banner tells the time", async () => {
    await open("done");
    const session = mock.scenes.done;
    mock.offline = true;
    mock.cutStreams();
    const start = Date.now();
    const banner = page.locator("text=/^Reconnecting, last update \\d\\d:\\d\\d:\\d\\d$/");
    await banner.waitFor();
    assert.ok(Date.now() - start > 1500, "a short break says nothing");
    assert.deepEqual(await axe(page), []);
    for (let i = 0; i < 700; i += 1) mock.world.append(session, "agent.message", { message: `away-${i}`, text: `Away ${i}` });
    const elsewhere = mock.scenes.question;
    mock.world.append(elsewhere, "session.archived", { archived: true });
    mock.offline = false;
    await page.evaluate(() => dispatchEvent(new Event("online")));
    await page.locator(".item:has-text('Away 699')").waitFor();
    await banner.waitFor({ state: "detached" });
    await page.locator("nav >> text=Migrate settings").waitFor({ state: "detached" });
  });

  test("a gap in the frames is fetched, a repeated frame is dropped", async () => {
    await open("done");
    const session = mock.scenes.done;
    const say = (text) => mock.world.append(session, "agent.message", { message: text, text });
    // The log grows while the stream says nothing about it.
    const emit = mock.world.emit;
    mock.world.emit = (name, ...rest) => (name === "event" ? false : emit.call(mock.world, name, ...rest));
    for (let i = 0; i < 5; i += 1) say(`Silent ${i}`);
    mock.world.emit = emit;
    const last = say("Loud");
    mock.world.emit("event", last);
    mock.world.emit("event", session.events[3]);
    await page.locator(".item:has-text('Loud')").waitFor();
    const texts = (await entries()).slice(-6);
    assert.deepEqual(texts, ["Silent 0", "Silent 1", "Silent 2", "Silent 3", "Silent 4", "Loud"]);
  });

  test("a new build of the server offers a reload and keeps what was typed", async () => {
    await open("done");
    await composer().fill("half a thought");
    mock.build = "build-2";
    mock.cutStreams();
    await page.click("button:has-text('Reload')");
    await page.locator(".item").first().waitFor();
    assert.equal(await composer().inputValue(), "half a thought");
  });

  test("a session that is deleted elsewhere says so", async () => {
    await open("done");
    mock.world.remove(mock.scenes.done);
    await page.locator("h1:has-text('This session is gone')").waitFor();
    await page.locator("nav >> text=Document the proxy").waitFor({ state: "detached" });
  });
});

describe("reading", () => {
  const top = () => transcript().evaluate((element) => element.scrollTop);
  const fromEnd = () => transcript().evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight);
  const add = (count, name) => {
    for (let i = 0; i < count; i += 1) mock.world.append(mock.scenes.long, "agent.message", { message: `${name}${i}`, text: `${name} ${i}` });
  };

  test("the newest hundred events come first and the tail is followed", async () => {
    await open("long");
    assert.ok((await entries()).length < 120);
    await page.waitForFunction(() => { const e = document.querySelector("[role=log]"); return e.scrollHeight - e.scrollTop - e.clientHeight < 4; });
    add(5, "More");
    await page.locator(".item:has-text('More 4')").waitFor();
    await page.waitForFunction(() => { const e = document.querySelector("[role=log]"); return e.scrollHeight - e.scrollTop - e.clientHeight < 4; });
  });

  test("scrolling up stops the following; the pill counts and leads back", async () => {
    await open("long");
    await transcript().hover();
    await page.mouse.wheel(0, -30);
    await page.locator(".pill:has-text('End')").waitFor();
    const before = await top();
    add(12, "New");
    const pill = page.locator("button:has-text('12 new')");
    await pill.waitFor();
    assert.equal(await top(), before);
    await pill.click();
    await page.locator(".item:has-text('New 11')").waitFor();
    assert.ok((await fromEnd()) < 4);
    await pill.waitFor({ state: "detached" });
  });

  test("sending a prompt leads to the end from wherever one reads", async () => {
    await open("long");
    await transcript().hover();
    await page.mouse.wheel(0, -600);
    await page.locator(".pill").waitFor();
    await composer().fill("and then?");
    await composer().press("Enter");
    await page.locator(".pill").waitFor({ state: "detached" });
    await page.locator(".item:has-text('The suite passes')").waitFor();
    assert.ok((await fromEnd()) < 4);
  });

  test("earlier events come in above and what is read stays where it is", async () => {
    await open("long");
    const count = (await entries()).length;
    await transcript().hover();
    await page.mouse.wheel(0, -200);
    await transcript().evaluate((element) => {
      element.scrollTop = 400;
    });
    await page.waitForFunction((known) => document.querySelectorAll(".item").length > known, count);
    // Back to the very first event, page by page.
    for (let i = 0; i < 40; i += 1) {
      if (await page.locator(".item.start").count()) break;
      const known = (await entries()).length;
      await transcript().evaluate((element) => {
        element.scrollTop = 0;
      });
      await page.waitForFunction((n) => document.querySelectorAll(".item").length > n || document.querySelector(".item.start"), known);
    }
    assert.equal(await page.locator(".item.start").count(), 1);
    const all = await entries();
    assert.equal(all.filter((text) => text.startsWith("File 1 is next")).length, 1);
  });

  test("prepending keeps the entry in view at its place", async () => {
    await open("long");
    await transcript().hover();
    await page.mouse.wheel(0, -200);
    // Above the point where earlier events are asked for, until everything in view has its real height.
    const at = await transcript().evaluate(async (element) => {
      element.scrollTop = 1000;
      let item;
      let top = NaN;
      for (let still = 0; still < 5; ) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        const edge = element.getBoundingClientRect().top;
        item ??= [...element.querySelectorAll(".item")].find((entry) => entry.getBoundingClientRect().top > edge + 100);
        const now = item.getBoundingClientRect().top;
        still = now === top ? still + 1 : 0;
        top = now;
      }
      item.id = "anchor";
      return top;
    });
    const known = (await entries()).length;
    await page.mouse.wheel(0, -150);
    await page.waitForFunction((n) => document.querySelectorAll(".item").length > n, known);
    await page.waitForTimeout(300);
    const now = await page.locator("#anchor").evaluate((item) => item.getBoundingClientRect().top);
    assert.ok(Math.abs(now - at - 150) <= 4, `moved by ${now - at - 150} px`);
  });

  test("a long output unfolds in steps and opens as a page of its own", async () => {
    await open("flaky");
    const card = page.locator(".item.tool:has-text('exit 0')");
    await card.locator("button").first().click();
    assert.equal(await card.locator("pre").evaluate((pre) => pre.textContent.trimEnd().split("\n").length), 12);
    await card.locator("text=/more lines/").click();
    assert.equal(await card.locator("pre").evaluate((pre) => pre.textContent.trimEnd().split("\n").length), 54);
    await card.locator("text=Open full log").click();
    await page.locator("text=3,000 lines").waitFor();
    assert.ok((await page.locator("[role=row]").count()) < 100);
    await page.keyboard.press("Escape");
    await page.locator("h1:has-text('Fix the flaky')").waitFor();
  });
});

describe("review", () => {
  test("50,000 rows open fast, with few nodes, and scroll to the end", async () => {
    await open("huge");
    await page.locator("header [aria-pressed]").waitFor();
    const ms = await page.evaluate(async () => {
      const start = performance.now();
      document.querySelector("header [aria-pressed]").click();
      await new Promise((resolve) => {
        const look = () => (document.querySelector("section [role=row]") ? resolve() : requestAnimationFrame(look));
        look();
      });
      return performance.now() - start;
    });
    console.log(`# 50,000 rows: ${Math.round(ms)} ms from the click to the first rows`);
    const table = page.locator("section [role=table]");
    assert.equal(await table.getAttribute("aria-rowcount"), "50000");
    const nodes = await page.evaluate(() => document.querySelectorAll("section *").length);
    assert.ok(nodes < 1500, `${nodes} nodes`);
    await table.evaluate((element) => {
      element.scrollTop = element.scrollHeight;
    });
    await page.locator("[aria-rowindex='50000']").waitFor();
    await table.evaluate((element) => {
      element.scrollTop = 0;
    });
    await page.locator("[aria-rowindex='1']").waitFor();
  });

  test("d toggles it, a file has an address, and it follows new states", async () => {
    await open("flaky");
    await page.keyboard.press("d");
    await page.locator("section[aria-label=Changes]").waitFor();
    await page.click("section >> text=clock.rs");
    assert.match(page.url(), /\/diff\?file=src%2Fauth%2Fclock\.rs$/);
    await page.locator("[role=row]:has-text('Where the time comes from')").waitFor();
    mock.world.setDiff(mock.scenes.flaky, [["src/auth/clock.rs", "added", [{ kind: "added", new: 1, text: "fresh line" }]]]);
    await page.locator("[role=row]:has-text('fresh line')").waitFor();
    await page.locator("section li").nth(1).waitFor({ state: "detached" });
    assert.equal(await page.locator("section li").count(), 1);
    await page.keyboard.press("d");
    await page.locator("section[aria-label=Changes]").waitFor({ state: "detached" });
  });
});

describe("the pull request", () => {
  const bar = () => page.locator("section[aria-label=Changes] .bar");

  test("is opened above the diff with the words that one gives it, and is a line then", async () => {
    await open("flaky", "/diff");
    await bar().locator("button:has-text('Create PR')").click();
    const title = page.getByRole("textbox", { name: "Title" });
    assert.equal(await title.inputValue(), "Fix the flaky auth test");
    assert.deepEqual(await axe(page), []);
    mock.failNext("POST", { status: 409, code: "branch_not_pushed", title: "github.com did not take the branch", next: "mend that" });
    await title.fill("Steady the auth test");
    await page.click("text=Create draft");
    await page.locator("[role=dialog] >> text=github.com did not take the branch").waitFor();
    await page.click("text=On the forge…");
    const link = page.locator("a:has-text('Continue there')");
    assert.match(await link.getAttribute("href"), /^https:\/\/github\.com\/team\/thing\/compare\/main\.\.\./);
    await page.click("text=Create draft");
    await bar().locator("a:has-text('#7 Steady the auth test')").waitFor();
    assert.match(await bar().textContent(), /draft\s*1 pending/);
    assert.equal(await bar().locator("button").count(), 0);
    const sent = mock.requests.filter((request) => request.name.startsWith("POST") && request.name.endsWith("/pull-request"));
    assert.deepEqual(sent.map(({ body }) => body?.draft ?? body?.compose), [undefined, true, true]);
    assert.deepEqual(await axe(page), []);
  });

  test("cannot be made, and the line says why", async () => {
    await open("huge", "/diff");
    await bar().locator("text=this session has no remote repository").waitFor();
    const button = bar().locator("button:has-text('Create PR')");
    assert.equal(await button.isDisabled(), true);
    assert.match(await page.locator(`#${await button.getAttribute("aria-describedby")}`).textContent(), /brings its branch home/);
  });

  test("begins with a repository and a branch that can be chosen", async () => {
    await page.goto(`${mock.url}/new`);
    await page.locator("#repos option[value='https://github.com/team/thing.git']").waitFor({ state: "attached" });
    await page.fill("#repo", "https://github.com/team/thing.git");
    await page.locator("#branches option[value='release/1']").waitFor({ state: "attached" });
    assert.equal(await page.getAttribute("#branch", "placeholder"), "main");
    await page.fill("#repo", "https://github.com/team/other.git");
    await page.locator("#branches option[value='release/1']").waitFor({ state: "detached" });
    await page.fill("#branch", "main");
    await page.getByLabel("Work on main itself").check();
    assert.deepEqual(await axe(page), []);
    await page.getByLabel("Prompt").fill("Go on");
    await page.click("button[type=submit]");
    await page.waitForURL("**/s/*");
    const sent = mock.requests.find((request) => request.name === "POST /sessions");
    assert.deepEqual(sent.body.repository, { type: "url", url: "https://github.com/team/other.git", branch: "main", on_branch: true });
  });
});

describe("the list", () => {
  test("groups what it has, and the keys walk through it", async () => {
    await open("done");
    const groups = await page.$$eval("nav h2", (heads) => heads.map((head) => head.textContent));
    assert.deepEqual(groups.slice(0, 2), ["Needs you", "Running"]);
    await page.keyboard.press("j");
    const first = await page.evaluate(() => document.activeElement.textContent);
    await page.keyboard.press("k");
    assert.notEqual(await page.evaluate(() => document.activeElement.textContent), first);
    await page.keyboard.press("/");
    await page.keyboard.type("metrics");
    await page.locator("nav li").nth(1).waitFor({ state: "detached" });
    assert.equal(await page.locator("nav li").count(), 1);
    await page.keyboard.press("Escape");
    await page.locator("nav li").nth(3).waitFor();
  });

  test("archiving can be undone", async () => {
    await page.goto(mock.url);
    const row = page.locator("nav li:has-text('Document the proxy')");
    await row.hover();
    await row.locator("button[title=Archive]").click();
    await row.waitFor({ state: "detached" });
    await page.click("button:has-text('Undo')");
    await row.waitFor();
    assert.equal(mock.scenes.done.view.archived, false);
  });

  test("deleting asks once", async () => {
    await open("failed");
    await page.click("header [popovertarget]");
    await page.click("text=Delete…");
    await page.keyboard.press("Escape");
    assert.ok(mock.world.sessions.has(mock.scenes.failed.id));
    await page.click("header [popovertarget]");
    await page.click("text=Delete…");
    await page.click("dialog >> text=Delete session");
    await page.waitForURL(`${mock.url}/`);
    assert.ok(!mock.world.sessions.has(mock.scenes.failed.id));
    await page.locator("nav >> text=Upgrade to sqlx").waitFor({ state: "detached" });
  });
});

describe("a checkpoint", () => {
  const checkpoint = () => page.getByRole("group", { name: "Checkpoint" }).last();

  test("is gone back to, the files alone or both, and what came after is shown as void", async () => {
    await open("done");
    await checkpoint().getByRole("button", { name: "Rewind…" }).click();
    await page.getByRole("radio", { name: "Files only" }).check();
    await axe(page);
    await page.click("dialog >> text=Rewind");
    await page.locator(".item:has-text('The files went back to a checkpoint')").waitFor();
    assert.equal(await page.locator(".item.void").count(), 0);
    const { kind, body } = mock.scenes.done.events.at(-1);
    assert.deepEqual([kind, body.files, body.conversation], ["session.rewound", true, false]);

    await checkpoint().getByRole("button", { name: "Rewind…" }).click();
    await page.click("dialog >> text=Rewind");
    await page.locator(".item:has-text('Files and conversation went back')").waitFor();
    // The first way back is void now; the checkpoint and what came before stand.
    assert.match(await page.locator(".item.void").textContent(), /The files went back/);
  });

  test("is where a fork goes on, once however often it is clicked", async () => {
    await open("done");
    const before = mock.world.sessions.size;
    await checkpoint().getByRole("button", { name: "Fork" }).dblclick();
    await page.waitForURL((url) => url.pathname.startsWith("/s/") && !url.pathname.endsWith(mock.scenes.done.id));
    assert.equal(mock.world.sessions.size, before + 1);
  });

  test("cannot be gone back to while the session is at work", async () => {
    await open("done");
    const { done } = mock.scenes;
    mock.world.status(done, "ready", "running");
    await page.waitForFunction(() => document.querySelector("[aria-label=Checkpoint] button")?.disabled);
  });
});

test("a question is answered once", async () => {
  await open("question");
  await page.click("button:has-text('Keep the old file')");
  await page.locator("text=/Answered:\\s+Keep the old file/").waitFor();
  const answered = mock.requests.filter((request) => request.name.includes("/questions/"));
  assert.equal(answered.length, 1);
});

describe("a refusal of the network", () => {
  const refusal = (text) => page.locator(`.item.denied:has-text('${text}')`);
  const decided = () => mock.requests.filter((request) => request.name.endsWith("/network"));

  test("is decided once, by the keyboard, and says what was decided", async () => {
    await open("reused");
    const metrics = refusal("metrics.example.net");
    await metrics.getByRole("button", { name: "Keep blocked" }).focus();
    for (const name of ["Allow once", "Allow for this session", "Add to this environment"]) {
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), name);
    }
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await metrics.locator("text=Allowed for this session").waitFor();
    assert.equal(await metrics.getByRole("button").count(), 0);
    assert.deepEqual(decided().map(({ body }) => body), [{ host: "metrics.example.net", port: 443, decision: "session" }]);
    // The other one is still open, and what nobody may allow offers nothing.
    assert.equal(await refusal("collector.example.net:4318").getByRole("button").count(), 4);
    assert.equal(await page.locator(".item.line:has-text('169.254.169.254:80 refused')").getByRole("button").count(), 0);
  });

  test("shows why a decision was not taken, and can be decided then", async () => {
    mock.failNext("POST", { status: 503, code: "egress", title: "one connection could not be let through", next: "try again in a moment" });
    await open("reused");
    const metrics = refusal("metrics.example.net");
    await metrics.locator("text=Allow once").click();
    await page.locator("text=/could not be let through/i").first().waitFor();
    await metrics.locator("text=Add to this environment").click();
    await metrics.locator("text=Added to this environment").waitFor();
  });

  test("of several hosts of a domain is one question with one answer", async () => {
    await open("reused");
    for (const host of ["a.example.com", "b.example.com"]) {
      mock.world.append(mock.scenes.reused, "network.denied", { host, port: 443, via: "connect", reason: "not_allowed", askable: true, domain: "example.com" });
    }
    const both = refusal("b.example.com:443");
    await both.waitFor();
    assert.equal(await both.locator("text=a.example.com:443").count(), 1);
    await both.getByRole("group", { name: "example.com" }).getByRole("button", { name: "Keep blocked" }).click();
    await both.locator("text=Kept blocked").nth(1).waitFor();
    assert.equal(await both.getByRole("button").count(), 0);
    assert.deepEqual(decided().map(({ body }) => body.host), ["a.example.com", "b.example.com"]);
  });

  test("that was decided elsewhere says so, too", async () => {
    await open("reused");
    mock.world.append(mock.scenes.reused, "network.allowed", { host: "metrics.example.net", port: 443, scope: "deny" });
    await refusal("metrics.example.net").locator("text=Kept blocked").waitFor();
  });
});

test("stop ends the turn and says so", async () => {
  await open("done");
  await composer().fill("go");
  await composer().press("Enter");
  await page.locator("text=running cargo test").first().waitFor();
  await page.keyboard.press("Shift+Escape");
  await page.locator(".item:has-text('Stopped by you.')").waitFor();
  await page.locator("header >> text=stopped by you").waitFor();
});

describe("being told", () => {
  beforeEach(async () => {
    await page.addInitScript(() => {
      globalThis.shown = [];
      const asked = [];
      class Fake {
        static permission = "default";
        static requestPermission() {
          asked.push(1);
          Fake.permission = "granted";
          return Promise.resolve("granted");
        }
        constructor(title, options) {
          globalThis.shown.push([title, options.body]);
        }
        close() {}
      }
      globalThis.asked = asked;
      Object.defineProperty(globalThis, "Notification", { value: Fake, configurable: true });
    });
  });

  test("off by default, asked for once, not about the session in view", async () => {
    await open("done");
    const ended = (name) => {
      const session = mock.scenes[name];
      session.turnId = `trn_${session.events.length}`;
      mock.world.append(session, "turn.ended", { status: "completed", stop_reason: "end_turn", duration_ms: 1 });
    };
    ended("flaky");
    await page.waitForFunction(() => document.title.startsWith("(1) "));
    assert.deepEqual(await page.evaluate(() => [globalThis.shown, globalThis.asked]), [[], []]);
    await page.click("[aria-label=Settings]");
    await page.click("[role=switch]");
    await page.waitForFunction(() => globalThis.asked.length === 1);
    await page.keyboard.press("Escape");
    ended("done");
    ended("troubles");
    await page.waitForFunction(() => globalThis.shown.length > 0);
    assert.deepEqual(await page.evaluate(() => globalThis.shown.map(([title]) => title)), ["Rename the metrics"]);
    assert.equal(await page.evaluate(() => globalThis.asked.length), 1);
    await page.click("nav >> text=Rename the metrics");
    await page.waitForFunction(() => document.title.startsWith("(1) "));
    await page.click("nav >> text=Fix the flaky");
    await page.waitForFunction(() => !document.title.startsWith("("));
  });
});

test("the theme is chosen once and stands before the first paint", async () => {
  await page.goto(mock.url);
  await page.click("[aria-label=Settings]");
  await page.check("input[value=dark]");
  await page.addInitScript(() => {
    document.addEventListener("DOMContentLoaded", () => {
      globalThis.early = document.documentElement.dataset.theme;
    });
  });
  await page.reload();
  assert.equal(await page.evaluate(() => globalThis.early), "dark");
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(22, 22, 21)");
});

describe("the network of a session", () => {
  const lines = () =>
    page.$$eval("tbody tr", (rows) => rows.map((row) => [...row.cells].slice(1).map((cell) => cell.textContent.trim()).join(" | ")));

  test("is shown by host, repeated ones as one, with a filter, by keys alone", async () => {
    await open("reused");
    await page.locator("header a.network").focus();
    await page.keyboard.press("Enter");
    await page.locator("tbody tr").first().waitFor();
    assert.deepEqual(await lines(), [
      "169.254.169.254:80 | ✕ denied | addr_metadata | 1 |  |  | ",
      "metrics.example.net:443 | ✕ denied | not_allowed | 200 |  |  | ",
      "git.example.org:443 | ✓ allowed | trusted list: git.example.org | 1 | 0 B | 0 B | open",
      "crates.example.org:443 | ✓ allowed | environment: crates.example.org | 2 | 2.2 kB | 1.3 MB | 2 s",
    ]);
    const denied = page.locator("button:has-text('Denied')");
    await denied.focus();
    await page.keyboard.press("Space");
    assert.equal(await denied.getAttribute("aria-pressed"), "true");
    assert.equal((await lines()).length, 2);
    assert.equal(await page.locator("[role=status]:has-text('2 rows shown')").count(), 1);
    await page.keyboard.press("Escape");
    await page.waitForURL(`${mock.url}/s/${mock.scenes.reused.id}`);
  });

  test("grows while it is looked at, and says when the record was changed", async () => {
    await page.goto(`${mock.url}/s/${mock.scenes.reused.id}/network`);
    await page.locator("tbody tr").first().waitFor();
    assert.equal(await page.locator("[role=alert]").count(), 0);
    const { network } = mock.scenes.reused;
    const last = network.records.at(-1);
    network.records.push({ ...last, seq: last.seq + 1, connection: 99, host: "late.example.net", reason: "denylist" });
    network.broken_after = last.seq;
    await page.locator("th:has-text('late.example.net')").waitFor();
    await page.locator(`[role=alert]:has-text('broken after entry ${last.seq}')`).waitFor();
    assert.equal((await lines()).length, 5);
  });
});
