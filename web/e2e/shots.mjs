// `npm run shots DIR`: pictures of every screen in both themes, for the eye.

import { mkdir } from "node:fs/promises";
import { startMock } from "../mock/server.mjs";
import { DESKTOP, launch, MOBILE, openPage } from "./browser.mjs";

const target = process.argv[2] ?? "test-results/shots";
await mkdir(target, { recursive: true });
const mock = await startMock({ signedIn: true });
const browser = await launch();
const { flaky, question, failed, troubles, done } = mock.scenes;
const screens = [
  ["new", "/new?prompt=&repo=https%3A%2F%2Fgit.example.org%2Facme%2Fweb.git"],
  ["session", `/s/${flaky.id}`],
  ["review", `/s/${flaky.id}/diff?file=src%2Fauth%2Fsession.rs`],
  ["question", `/s/${question.id}`],
  ["failed", `/s/${failed.id}`],
  ["troubles", `/s/${troubles.id}`],
  ["done", `/s/${done.id}`],
  ["list", "/"],
  ["login", "/login"],
];
const wanted = process.argv[3]?.split(",");
for (const theme of ["light", "dark"]) {
  for (const [size, viewport] of [["wide", DESKTOP], ["phone", MOBILE]]) {
    const page = await openPage(browser, { viewport, theme, touch: size === "phone" });
    for (const [name, path] of screens) {
      if (wanted && !wanted.includes(name)) continue;
      await page.goto(mock.url + path);
      await page.locator("h1, nav").first().waitFor();
      await page.waitForTimeout(500);
      await page.screenshot({ path: `${target}/${name}-${size}-${theme}.png` });
    }
    if (page.findings.length > 0) console.error(theme, size, page.findings);
    await page.context().close();
  }
}
await browser.close();
await mock.close();
