// Every screen, in both themes, wide and on a phone: axe finds nothing, the content policy reports
// nothing, the console is silent, the page never scrolls sideways, and touch targets are large.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startMock } from "../mock/server.mjs";
import { axe, DESKTOP, launch, MOBILE, openPage } from "./browser.mjs";

let browser;
let mock;

before(async () => {
  mock = await startMock({ signedIn: true });
  mock.info.missing = ["there is no model key: set ANTHROPIC_API_KEY for the server and start it again"];
  mock.info.agents = ["patchyard", "testy"];
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mock?.close();
});

const s = (name, tail = "") => () => `/s/${mock.scenes[name].id}${tail}`;

/** Name, address, what must be there, and what to do before looking. */
const SCREENS = [
  ["sign-in", () => "/login", "h1:has-text('Sign in')"],
  ["sign-in with a wrong code", () => "/login#wrong", "[role=alert]"],
  ["new session", () => "/new?prompt=Fix+it&repo=https://h/x.git&branch=dev", "text=Start on dev"],
  ["new session with an error", () => "/new?prompt=x&repo=nonsense", "text=Start session", (page) => page.click("button[type=submit]")],
  ["running session", s("flaky"), ".item.tool"],
  ["everything open", s("flaky"), ".item.tool", openAll],
  ["question", s("question"), "text=Keep the old file"],
  ["failed preparation", s("failed"), "text=Preparation failed"],
  ["failed setup", s("setupFailed"), "text=look inside"],
  ["running setup", s("settingUp"), ".item.steps pre"],
  ["reused setup and visits", s("reused"), ".item.line", openAll],
  ["environments", () => "/new", "button.env:has-text('Default')", (page) => openPicker(page)],
  ["environment to be", () => "/new", "button.env:has-text('Default')", async (page) => {
    await openPicker(page);
    await page.click("text=Add environment");
    await page.click("dialog >> button[type=submit]");
    await page.locator("text=Give it a name.").waitFor();
  }],
  ["environment", () => "/new", "button.env:has-text('Default')", async (page) => {
    await editRust(page);
    await page.fill("#env-test-host", "a.static.example.org");
    await page.press("#env-test-host", "Enter");
    await page.locator("text=by the rule `environment: *.static.example.org`").waitFor();
  }],
  ["environment with mistakes, tried out", () => "/new", "button.env:has-text('Default')", async (page) => {
    await editRust(page);
    await page.click("summary");
    await page.fill("#env-network", "https://a.org\n*.org");
    await page.fill("#env-variables", 'A\nQ="x"');
    await page.fill("#env-pids", "many");
    await page.fill("#env-setup_script", "echo one\nexit 3");
    await page.fill("#env-variables", 'Q="x"');
    await page.fill("#env-network", "a.org");
    await page.fill("#env-pids", "4096");
    await page.click("button:has-text('Test run')");
    await page.locator("text=Test failed:").waitFor();
    await page.fill("#env-test-host", "b.org");
    await page.press("#env-test-host", "Enter");
    await page.locator("text=A person could allow it for one session.").waitFor();
    await page.fill("#env-network", "https://a.org\n*.org");
    await page.press("#env-test-host", "Enter");
    await page.locator("fieldset [role=alert]:has-text('is no domain')").waitFor();
    await page.fill("#env-variables", 'A\nQ="x"');
    await page.fill("#env-pids", "many");
  }],
  ["environment with a secret to be", () => "/new", "button.env:has-text('Default')", async (page) => {
    await editRust(page);
    await page.click("#env-secrets summary");
    await page.click("text=Add a secret");
    await page.click("dialog >> button[type=submit]");
    await page.locator("text=A secret without a name: give it the name of a variable.").waitFor();
  }],
  ["environment changed in between", () => "/new", "button.env:has-text('Default')", async (page) => {
    await editRust(page);
    await page.fill("#env-variables", "MINE=1");
    mock.environments.edit(mock.environments.rust.id, { variables: `THEIRS=${Date.now()}` });
    await page.click("dialog >> button[type=submit]");
    await page.locator("text=Overwrite with mine").waitFor();
  }],
  ["environment to be archived", () => "/new", "button.env:has-text('Default')", async (page) => {
    await editRust(page);
    await page.click("dialog >> text=Archive…");
    await page.locator("text=Archive environment").waitFor();
  }],
  ["environment with changes", () => "/new", "button.env:has-text('Default')", async (page) => {
    await editRust(page);
    await page.fill("#env-name", "Rust");
    await page.click("dialog >> button[aria-label=Close]");
    await page.locator("text=Discard them").waitFor();
  }],
  ["troubles", s("troubles"), ".item.line", openAll],
  ["markdown", s("done"), ".md table"],
  ["long session", s("long"), ".item"],
  ["review", s("flaky", "/diff?file=src%2Fauth%2Fsession.rs"), "[role=row]"],
  ["review of a binary file", s("flaky", "/diff?file=assets%2Flogo.png"), "text=A binary file"],
  ["review without changes", s("question", "/diff"), "text=No changes yet"],
  ["review of 50,000 rows", s("huge", "/diff"), "[role=row]"],
  ["log", () => `/s/${mock.scenes.flaky.id}/log/${[...mock.scenes.flaky.blobs.keys()][0]}`, "[role=row]"],
  ["log that is not there", s("flaky", "/log/0000"), "[role=alert]"],
  ["network", s("reused", "/network"), "td:has-text('denied')"],
  ["network that nothing used", s("question", "/network"), "text=Nothing in this session has used"],
  ["network of an unknown session", () => "/s/ses_00000000000000000000000000/network", "[role=alert]"],
  ["unknown session", () => "/s/ses_00000000000000000000000000", "h1:has-text('gone')"],
  ["unknown page", () => "/nowhere", "h1:has-text('nothing here')"],
  ["session menu", s("flaky"), ".item", (page) => page.click("header [aria-expanded][popovertarget]")],
  [
    "delete dialog",
    s("flaky"),
    ".item",
    async (page) => {
      await page.click("header [aria-expanded][popovertarget]");
      await page.click("text=Delete…");
      await page.waitForSelector("dialog[open]");
    },
  ],
  ["keys", s("flaky"), ".item", (page) => page.keyboard.press("?")],
  ["list", () => "/", "nav, h1", async (page) => page.waitForSelector("nav h2")],
  [
    "archived",
    () => "/",
    "nav h2",
    async (page) => {
      await page.click("nav button:has-text('Archived')");
      await page.waitForSelector("text=Try the new linter");
    },
  ],
  ["settings", () => "/", "nav h2", (page) => page.click("[aria-label=Settings]")],
];

async function openPicker(page) {
  await page.click("button.env");
  await page.locator("[data-line]").first().waitFor();
}

async function editRust(page) {
  await openPicker(page);
  await page.click('button[aria-label="Edit Rust, with protobuf"]');
  await page.locator("dialog.environment").waitFor();
}

async function openAll(page) {
  for (const closed of [".item button[aria-expanded=false]", ".item button:has-text('more line')"]) {
    const first = page.locator(closed).first();
    while (await first.count()) await first.click();
  }
}

for (const theme of ["light", "dark"]) {
  for (const [size, viewport] of [["wide", DESKTOP], ["phone", MOBILE]]) {
    describe(`${theme}, ${size}`, () => {
      for (const [name, address, landmark, act] of SCREENS) {
        test(name, async () => {
          const page = await openPage(browser, { viewport, theme, touch: size === "phone" });
          try {
            await page.goto(mock.url + address());
            await page.locator(landmark).first().waitFor();
            await act?.(page);
            assert.deepEqual(await axe(page), []);
            const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
            assert.ok(wide <= 0, `the page is ${wide} px wider than the window`);
            if (size === "phone") assert.deepEqual(await small(page), []);
            assert.deepEqual(page.findings, []);
          } finally {
            await page.context().close();
          }
        });
      }
    });
  }
}

/** Controls that are lower than 44 px on a touch screen. Links inside of text are exempt. */
function small(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("button, a.btn, a.icon-btn, a[data-row], input:not([type=radio]):not([type=checkbox]), select, summary")]
      .filter((element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !element.closest("[inert]"))
      .map((element) => [element.getBoundingClientRect(), element])
      .filter(([box]) => box.width > 1 && box.height > 0 && box.height < 43.5)
      .map(([box, element]) => `${Math.round(box.height)} px: ${element.outerHTML.slice(0, 120)}`),
  );
}
