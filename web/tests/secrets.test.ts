import { describe, expect, test } from "vitest";

import type { SecretBinding } from "../src/lib/api-types.ts";
import { bindingOf, newRow, rowOf, type SecretRow, valuesOf, wrongSecrets } from "../src/lib/secrets.ts";

const row = (change: Partial<SecretRow> = {}): SecretRow => ({ ...newRow(), name: "TOKEN", hosts: "api.example.org", ...change });

describe("a binding and its row", () => {
  const bindings: SecretBinding[] = [
    { name: "A", hosts: ["a.example.org"], source: "sealed" },
    { name: "B", hosts: ["a.example.org", "b.example.org:8443"], methods: ["GET", "POST"], paths: ["/v1", "/x/"], source: { operator: "production" } },
  ];

  test.each(bindings)("%o is what it was when nothing is changed", (binding) => {
    expect(bindingOf(rowOf(binding))).toEqual(binding);
  });

  test("is read as people type", () => {
    const typed = row({ name: " TOKEN ", hosts: "a.example.org, b.example.org\n", methods: "get,post", paths: "/a /b\n/c" });
    expect(bindingOf(typed)).toEqual({
      name: "TOKEN",
      hosts: ["a.example.org", "b.example.org"],
      methods: ["GET", "POST"],
      paths: ["/a", "/b", "/c"],
      source: "sealed",
    });
  });

  test("a value is sent only where one was typed, and only for the source that has one", () => {
    const rows = [row({ value: "long enough" }), row({ name: "B" }), row({ name: "C", value: "long enough", source: "operator", operator: "x" })];
    expect(valuesOf(rows)).toEqual([{ name: "TOKEN", value: "long enough" }]);
  });
});

describe("what is wrong with one", () => {
  test("nothing", () => {
    expect(wrongSecrets([row(), row({ name: "B", hosts: "b.example.org:8443", methods: "GET", paths: "/v1/" })], "C=1")).toEqual([]);
  });

  test.each<[Partial<SecretRow>, string]>([
    [{ name: "" }, "name of a variable"],
    [{ name: "A-B" }, "a name that a variable can have"],
    [{ name: "CLAUDECODE" }, "not one of patchyard’s"],
    [{ name: "TAKEN" }, "another secret or variable"],
    [{ hosts: " " }, "name each host"],
    [{ hosts: "*.example.org" }, "has to be one host"],
    [{ hosts: "https://a.example.org" }, "leave the scheme and the path out"],
    [{ methods: "GET2" }, "is no method"],
    [{ paths: "v1" }, "no plain path"],
    [{ paths: "/v1/../x" }, "no plain path"],
    [{ paths: "/v1%2f" }, "no plain path"],
    [{ value: "short" }, "8 to 16,384 bytes; this one has 5"],
    [{ value: "two\nlines of it" }, "a line end"],
    [{ source: "operator" }, "the operator’s entry"],
  ])("%o", (change, why) => {
    const [wrong] = wrongSecrets([row(change)], "TAKEN=1");
    expect(wrong).toContain(why);
  });

  test("two of one name", () => {
    expect(wrongSecrets([row(), row()], "")).toEqual(["TOKEN: another secret or variable has this name"]);
  });

  test("too many", () => {
    const many = Array.from({ length: 33 }, (_, at) => row({ name: `T${at}` }));
    expect(wrongSecrets(many, "")).toEqual(["33 secrets are too many; 32 are allowed"]);
  });
});
