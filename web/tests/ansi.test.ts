import { expect, test } from "vitest";

import { ansiLines } from "../src/lib/ansi.ts";

const one = (text: string) => ansiLines(text)[0];

test.each([
  ["plain", [{ text: "plain", style: "" }]],
  ["\x1b[31mred\x1b[0m rest", [{ text: "red", style: "a-red" }, { text: " rest", style: "" }]],
  ["\x1b[1;32mok\x1b[22m still\x1b[39m.", [{ text: "ok", style: "a-green a-bold" }, { text: " still", style: "a-green" }, { text: ".", style: "" }]],
  ["\x1b[94mbright\x1b[m", [{ text: "bright", style: "a-blue" }]],
  ["\x1b[38;5;208morange", [{ text: "orange", style: "a-yellow" }]],
  ["\x1b[38;5;196mred", [{ text: "red", style: "a-red" }]],
  ["\x1b[38;5;244mgrey", [{ text: "grey", style: "a-grey" }]],
  ["\x1b[38;2;20;200;60mgreen", [{ text: "green", style: "a-green" }]],
  ["\x1b[38;2;255;255;255mwhite", [{ text: "white", style: "" }]],
  ["\x1b[31;44mon blue", [{ text: "on blue", style: "a-on-blue" }]],
  ["\x1b[7minverse\x1b[27m", [{ text: "inverse", style: "a-inverse" }]],
  ["\x1b[3;4;9mall", [{ text: "all", style: "a-italic a-underline a-strike" }]],
  ["\x1b[2mdim", [{ text: "dim", style: "a-grey" }]],
  ["\x1b[999mx", [{ text: "x", style: "" }]],
])("%j", (text, spans) => {
  expect(one(text)).toEqual(spans);
});

test("a colour holds over lines until it is reset", () => {
  expect(ansiLines("\x1b[31ma\nb\x1b[0m\nc")).toEqual([
    [{ text: "a", style: "a-red" }],
    [{ text: "b", style: "a-red" }],
    [{ text: "c", style: "" }],
  ]);
});

test("carriage returns leave the last drawing", () => {
  expect(one("10%\r50%\r100%")).toEqual([{ text: "100%", style: "" }]);
  expect(one("done\r")).toEqual([{ text: "done", style: "" }]);
  expect(ansiLines("a\r\nb\r\n")).toHaveLength(2);
});

test.each([
  ["\x1b[2J\x1b[Hx", "cursor moves"],
  ["\x1b]0;title\x07x", "title, ended by BEL"],
  ["\x1b]8;;https://evil.example\x1b\\x\x1b]8;;\x1b\\", "hyperlink"],
  ["\x1bPq#0\x1b\\x", "device control"],
  ["\x1b(Bx", "character set"],
  ["\x1b=x", "keypad"],
  ["\x07\x08\x0ex", "control characters"],
  ["\x1b[?25lx\x1b[?25h", "private mode"],
])("%j is dropped (%s)", (text) => {
  expect(one(text)?.map((span) => span.text).join("")).toBe("x");
});

test("an unfinished escape at the end shows nothing odd", () => {
  expect(one("x\x1b")?.map((span) => span.text).join("")).toBe("x");
});

test("text comes back unchanged where there is nothing to do", () => {
  const text = "tab\tand <b>&amp;</b> ünïcode 😀";
  expect(one(text)).toEqual([{ text, style: "" }]);
});
