// A headless browser that remembers every console error and every report of the content policy.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const DESKTOP = { width: 1440, height: 860 };
export const MOBILE = { width: 390, height: 844 };

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });
}

/** A page in its own context. `page.findings` holds what must stay empty. */
export async function openPage(browser, { viewport = DESKTOP, theme = "light", touch = false, ...options } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: theme, hasTouch: touch, isMobile: touch, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.findings = [];
  page.on("console", (message) => {
    // A refused request is the test's own doing; the browser reports each one.
    if (message.type() === "error" && !/Failed to load resource|ERR_/.test(message.text())) page.findings.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => page.findings.push(`error: ${error.stack}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`content policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  return page;
}

/** What axe finds on the page as it is now, one line each. */
export async function axe(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap((violation) =>
    violation.nodes.map((node) => `${violation.id} (${violation.impact}): ${node.html.slice(0, 160)} · ${node.any[0]?.message ?? node.failureSummary}`),
  );
}
