import { describe, expect, test } from "vitest";

import type { EnvironmentSettings, Problem } from "../src/lib/api-types.ts";
import {
  checkDomain,
  checkName,
  differences,
  fieldOf,
  formatSize,
  LIMITS,
  parseSize,
  readDomains,
  readLimit,
  readVariables,
  usualSettings,
  wrongDomains,
} from "../src/lib/environment.ts";
import { filesCopied, gitPush, shellClosed, shellOpened } from "../src/lib/phrases.ts";

const limit = (name: string) => LIMITS.find((words) => words.name === name)!;

describe("sizes", () => {
  test.each([
    ["16 GB", 16_000_000_000],
    ["16gb", 16_000_000_000],
    ["16", 16_000_000_000],
    ["1.5 GiB", 1_610_612_736],
    ["512 MiB", 536_870_912],
    ["2 TB", 2_000_000_000_000],
    [" 64 MB ", 64_000_000],
  ])("%s", (text, value) => expect(parseSize(text)).toBe(value));

  test.each(["", "GB", "-1 GB", "1 GB 2", "1,5 GB", "1 XB", "NaN"])("“%s” is none", (text) => {
    expect(parseSize(text)).toBeNull();
  });

  test("what is written reads as the same bytes, whatever they are", () => {
    let seed = 7;
    for (let i = 0; i < 5000; i += 1) {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      const unit = [1, 1e3, 1e6, 1e9, 2 ** 20, 2 ** 30][i % 6]!;
      const bytes = (seed % 4000) * unit;
      expect(parseSize(formatSize(bytes)), formatSize(bytes)).toBe(bytes);
    }
    expect([16e9, 2 ** 34, 1.5e9, 67_108_864, 12_345].map(formatSize)).toEqual(["16 GB", "16 GiB", "1.5 GB", "64 MiB", "12345 B"]);
  });
});

describe("limits", () => {
  test("are read with their bounds, in words", () => {
    expect(readLimit(limit("cpu_millis"), "0.5")).toEqual({ value: 500 });
    expect(readLimit(limit("cpu_millis"), "0.01")).toEqual({ wrong: "0.05 to 1024 are allowed" });
    expect(readLimit(limit("memory_bytes"), "1 MB")).toEqual({ wrong: "64 MiB to 16 TiB are allowed" });
    expect(readLimit(limit("pids"), "4,096")).toEqual({ value: 4096 });
    expect(readLimit(limit("pids"), "many")).toEqual({ wrong: "Write a number, such as 4,096; threads count too" });
    expect(readLimit(limit("open_files"), "63")).toEqual({ wrong: "64 to 1,073,741,824 are allowed" });
  });

  test("the usual ones read as they are written", () => {
    const { limits } = usualSettings("slim");
    for (const words of LIMITS) expect(readLimit(words, words.format(limits[words.name]))).toEqual({ value: limits[words.name] });
  });
});

describe("variables", () => {
  test("are everything after the first equals sign, the last of a name counts", () => {
    const read = readVariables("# words\n\nA=1\nB=x=y\r\n  # more\nEMPTY=\nA=2\n");
    expect(read.pairs).toEqual([
      { name: "B", value: "x=y" },
      { name: "EMPTY", value: "" },
      { name: "A", value: "2" },
    ]);
    expect(read.errors).toEqual([]);
    expect(read.warnings).toEqual(["Line 7: A stands there twice; the last one counts"]);
  });

  test("what cannot be read is told with its line", () => {
    expect(readVariables("A\n1B=2\nexport C=3\nA B=1").errors).toEqual([
      "Line 1 has no “=”: write KEY=value",
      "Line 2: “1B” is no name; use letters, digits and “_”, not a digit first",
      "Line 3 begins with “export”: leave the word out",
      "Line 4: “A B” is no name; use letters, digits and “_”, not a digit first",
    ]);
  });

  test("what is rarely meant is told", () => {
    const { warnings } = readVariables('Q="x"\nS= x\nLD_PRELOAD=a\nPATCHYARD_X=1\nmy_token=1');
    expect(warnings).toEqual([
      "Line 1: the quotes are part of the value of Q",
      "Line 2: the spaces around it are part of the value of S",
      "Line 3: LD_PRELOAD changes what every program of the sandbox does",
      "Line 4: PATCHYARD_X is set by patchyard, and this value is not used",
      "Line 5: my_token looks like a secret; it is visible to whoever can edit the environment, and to everything that runs in the sandbox",
    ]);
  });
});

describe("domains", () => {
  test.each([
    "example.org", "*.Example.ORG", "xn--bcher-kva.example", "a.b-c.d0", "example.org:8443", "*.a.org:22", "example.org.",
    "registry", "a_b.example.org", "192.0.2.7", "192.0.2.7:80", "[2001:db8::1]", "[2001:db8::1]:443",
  ])("%s", (pattern) => {
    expect(checkDomain(pattern)).toBeNull();
  });

  test.each([
    "*", "*.", "*.org", "*:443", "*.*.example.org", "a.*.org", "ex*mple.org", "https://example.org", "example.org/x",
    "example.org:0", "example.org:", "example.org:0443", "example.org:65536", "example.org:443:22", "10.0.0.1.", "10.1",
    "010.0.0.1", "0x7f.1", "256.0.0.1", "a@b.org", "[::1]:x", "::1", "example..org", ".example.org", "-a.org", "a-.org",
    "bücher.example", "exam ple.org", "a.1", "*.1.2.3.4", `${"a".repeat(64)}.org`, `${"a.".repeat(130)}org`,
  ])("%s is none", (pattern) => {
    expect(checkDomain(pattern)).toEqual(expect.any(String));
  });

  test("are read from lines and commas, and each wrong one is named", () => {
    expect(readDomains(" a.org, *.b.org\n\nc.org ")).toEqual(["a.org", "*.b.org", "c.org"]);
    expect(wrongDomains("a.org\nhttps://b.org\n*.org")).toEqual([
      "“https://b.org”: leave the scheme and the path out",
      "“*.org”: that would be a whole top-level domain",
    ]);
    expect(wrongDomains(Array.from({ length: 1001 }, (_, i) => `a${i}.org`).join("\n"))).toEqual([
      "1001 domains are too many; 1,000 are allowed",
    ]);
  });
});

test("a name has 1 to 60 characters", () => {
  expect(checkName(" ")).toBe("Give it a name");
  expect(checkName("🦀".repeat(60))).toBeNull();
  expect(checkName("x".repeat(61))).toBe("A name has at most 60 characters; this one has 61");
});

describe("a refusal", () => {
  const problem = (code: string, title = ""): Problem => ({ type: "about:blank", status: 400, code, title });

  test.each([
    [problem("name_taken"), "name"],
    [problem("bad_environment", "an environment's name has 1 to 60 characters, and no control characters"), "name"],
    [problem("image_not_found"), "image"],
    [problem("tier_not_available"), "tier"],
    [problem("bad_environment", "line 3 of the variables has no `=`; write KEY=value"), "variables"],
    [problem("bad_environment", "the variables' text has 70000 bytes, 65536 are allowed"), "variables"],
    [problem("bad_environment", "the setup script holds a NUL character"), "setup_script"],
    [problem("bad_environment", "`org` is no domain: it has one part only; write a name like example.org"), "network"],
    [problem("bad_environment", "1,200 domains are too many; 1,000 are allowed"), "network"],
    [problem("bad_environment", "the limit `pids` must be 16 to 4194304"), "pids"],
    [problem("internal", "the name of the game"), null],
  ])("%o is about its field", (given, field) => expect(fieldOf(given)).toBe(field));
});

test("what differs between two is told setting by setting", () => {
  const theirs: EnvironmentSettings = { ...usualSettings("slim"), name: "work", setup_script: "npm ci" };
  const mine: EnvironmentSettings = {
    ...theirs,
    setup_script: "npm install",
    limits: { ...theirs.limits, memory_bytes: 8e9 },
    network: { level: "custom", domains: ["a.org"], include_default: true },
    tier: { exactly: "vm" },
  };
  expect(differences(theirs, theirs)).toEqual([]);
  expect(differences(theirs, mine)).toEqual([
    { label: "Network", theirs: "Trusted", mine: "Custom, with the default list" },
    { label: "Domains", theirs: "", mine: "a.org" },
    { label: "Setup script", theirs: "npm ci", mine: "npm install" },
    { label: "Memory", theirs: "16 GB", mine: "8 GB" },
    { label: "Isolation", theirs: "at least container", mine: "exactly vm" },
  ]);
});

test("a push is told with what became of it, and a planned one is not", () => {
  const push = (outcome: "planned" | "done" | "refused" | "rejected" | "failed", error?: string, words?: string) =>
    gitPush({ repository: "https://h.test/r", by: "sandbox", outcome, refs: [{ name: "refs/heads/a/b", ...(error ? { error } : {}) }], ...(words ? { words } : {}) });
  expect(push("planned")).toBeNull();
  expect(push("done")).toBe("Pushed a/b");
  expect(push("done", undefined, "open it:\nhttps://h.test/pr")).toBe("Pushed a/b: open it: https://h.test/pr");
  expect(push("refused", "this is another branch")).toBe("The push of a/b was refused: this is another branch");
  expect(push("rejected", "hook declined")).toBe("The push of a/b was rejected by its server: hook declined");
  expect(push("failed", undefined, "h.test cannot be reached")).toBe("The push of a/b failed: h.test cannot be reached");
});

test("what people do inside is one line each", () => {
  expect(shellOpened([])).toBe("Shell opened");
  expect(shellOpened(["htop"])).toBe("Shell opened: htop");
  expect(shellClosed({ shell: "s", duration_ms: 90_000, code: 0 })).toBe("Shell closed after 1 min 30 s: exit 0");
  expect(shellClosed({ shell: "s", duration_ms: 5000, reason: "the sandbox ended" })).toBe("Shell closed after 5 s: the sandbox ended");
  expect(shellClosed({ shell: "s", duration_ms: 5000 })).toBe("Shell closed after 5 s");
  expect(filesCopied({ path: "a.txt", direction: "in", bytes: 12 })).toBe("Copied a.txt into the sandbox, 12 B");
});
