// The initial page may weigh at most 90 kB gzipped: every script and style that index.html names.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT = 90_000;
const html = readFileSync("dist/index.html", "utf8");
const files = [...html.matchAll(/(?:src|href)="\/([^"]+\.(?:js|css))"/g)].map((match) => match[1]);
if (files.length === 0) {
  console.error("dist/index.html names no script: run `npm run build` first");
  process.exit(1);
}
let total = 0;
for (const file of files) {
  const bytes = readFileSync(`dist/${file}`);
  const packed = gzipSync(bytes, { level: 9 }).length;
  total += packed;
  console.log(`${file.padEnd(40)} ${(bytes.length / 1000).toFixed(1).padStart(7)} kB  ${(packed / 1000).toFixed(1).padStart(6)} kB gz`);
}
console.log(`initial page ${(total / 1000).toFixed(1)} kB gz of ${LIMIT / 1000}`);
if (total > LIMIT) {
  console.error(`the initial page is ${total - LIMIT} bytes too large: load what is not needed at first with import()`);
  process.exit(1);
}
