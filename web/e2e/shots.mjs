// `npm run shots DIR`: pictures of every screen in both themes, for the eye.

import { mkdir } from "node:fs/promises";
import { startMock } from "../mock/server.mjs";
import { DESKTOP, launch, MOBILE, openPage } from "./browser.mjs";

const target = process.argv[2] ?? "test-results/shots";
await mkdir(target, { recursive: true });
const mock = await startMock({ signedIn: true });
const browser = await launch();
const { flaky, question, failed, troubles, done, setupFailed, settingUp, reused } = mock.scenes;
const screens = [
  ["new", "/new?prompt=&repo=https%3A%2F%2Fgit.example.org%2Facme%2Fweb.git"],
  ["session", `/s/${flaky.id}`],
  ["review", `/s/${flaky.id}/diff?file=src%2Fauth%2Fsession.rs`],
  ["question", `/s/${question.id}`],
  ["failed", `/s/${failed.id}`],
  ["troubles", `/s/${troubles.id}`],
  ["done", `/s/${done.id}`],
  ["setup-failed", `/s/${setupFailed.id}`],
  ["setup-runs", `/s/${settingUp.id}`],
  ["setup-reused", `/s/${reused.id}`],
  ["environments", "/new", openPicker],
  ["environment-to-be", "/new", async (page) => {
    await openPicker(page);
    await page.click("text=Add environment");
    await page.click("dialog >> button[type=submit]");
    await page.fill("#env-variables", "A\nQ=\"x\"");
  }],
  ["environment", "/new", editRust],
  ["environment-script", "/new", tryOut],
  ["environment-secrets", "/new", async (page) => {
    await editRust(page);
    await page.click("text=Add a secret");
    await page.keyboard.type("API_TOKEN");
    await page.click("dialog >> button[type=submit]");
  }],
  ["environment-sandbox", "/new", async (page) => {
    await editRust(page);
    await page.locator("#env-tier-wrong").scrollIntoViewIfNeeded();
    await page.locator("dialog .body").evaluate((body) => body.scrollTo(0, body.scrollHeight));
  }],
  ["environment-conflict", "/new", conflict],
  ["list", "/"],
  ["login", "/login"],
];

async function openPicker(page) {
  await page.click("button.env:has-text('Default')");
  await page.locator("[data-line]").first().waitFor();
}

async function editRust(page) {
  await openPicker(page);
  await page.click('button[aria-label="Edit Rust, with protobuf"]');
  await page.locator("dialog.environment").waitFor();
}

async function tryOut(page) {
  await editRust(page);
  await page.fill("#env-network", "crates.example.org\nhttps://org");
  await page.fill("#env-network", "crates.example.org");
  await page.click("button:has-text('Test run')");
  await page.locator("text=Test passed:").waitFor();
  await page.fill("#env-network", "crates.example.org\nhttps://org");
  await page.locator("#env-setup_script").scrollIntoViewIfNeeded();
  await page.locator("[aria-label='Kept setup']").scrollIntoViewIfNeeded();
}

async function conflict(page) {
  await editRust(page);
  await page.fill("#env-setup_script", "cargo fetch");
  mock.environments.edit(mock.environments.rust.id, { setup_script: `cargo fetch --locked # ${Date.now()}\n` });
  await page.click("dialog >> button[type=submit]");
  await page.locator("text=Overwrite with mine").waitFor();
}

const wanted = process.argv[3]?.split(",");
for (const theme of ["light", "dark"]) {
  for (const [size, viewport] of [["wide", DESKTOP], ["phone", MOBILE]]) {
    const page = await openPage(browser, { viewport, theme, touch: size === "phone" });
    for (const [name, path, act] of screens) {
      if (wanted && !wanted.includes(name)) continue;
      await page.goto(mock.url + path);
      await page.locator("h1, nav").first().waitFor();
      await act?.(page);
      await page.waitForTimeout(500);
      await page.screenshot({ path: `${target}/${name}-${size}-${theme}.png` });
    }
    if (page.findings.length > 0) console.error(theme, size, page.findings);
    await page.context().close();
  }
}
await browser.close();
await mock.close();
