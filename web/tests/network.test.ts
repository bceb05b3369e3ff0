import { describe, expect, test } from "vitest";

import type { AuditRecord } from "../src/lib/api-types.ts";
import { NetworkRows, place } from "../src/lib/network.ts";

let seq = 0;

function record(what: Record<string, unknown>): AuditRecord {
  seq += 1;
  const at = new Date(Date.parse("2026-11-20T12:00:00Z") + seq * 1000).toISOString();
  return { at, seq, sandbox: "sbx_a", connection: seq, ...what } as AuditRecord;
}

const decided = (host: string, more: Record<string, unknown> = {}) => record({ event: "decided", host, port: 443, ...more });

describe("rows of the network", () => {
  test("connections of one host by one rule are one row, with their bytes", () => {
    const rows = new NetworkRows();
    const [one, two] = [decided("a.test", { rule: "r" }), decided("a.test", { rule: "r" })];
    rows.add(one);
    rows.add(two);
    expect(rows.list("all")).toMatchObject([{ count: 2, open: 2, duration: null }]);
    const closed = { event: "closed", bytes_up: 10, bytes_down: 20, duration_ms: 30 };
    rows.add(record({ ...closed, connection: two.connection }));
    // The same number of another sandbox is another connection.
    rows.add(record({ ...closed, connection: one.connection, sandbox: "sbx_b" }));
    expect(rows.list("all")).toMatchObject([{ count: 2, open: 1, up: 10, down: 20, duration: 30 }]);
    rows.add(record({ ...closed, connection: one.connection }));
    expect(rows.list("all")).toMatchObject([{ open: 0, up: 20, down: 40 }]);
  });

  test("another port, rule or reason is another row, newest first, and the filter tells both kinds apart", () => {
    const rows = new NetworkRows();
    for (const more of [{ rule: "r" }, { rule: "r", port: 80 }, { rule: "s" }, { reason: "denylist", rule: "r" }, { reason: "rate" }]) {
      rows.add(decided("a.test", more));
    }
    rows.add(decided("a.test", { rule: "r" }));
    expect(rows.list("all").map((row) => row.reason || `${row.rule}:${row.port}`)).toEqual(["r:443", "rate", "denylist", "s:443", "r:80"]);
    expect(rows.list("allowed")).toHaveLength(3);
    expect(rows.list("denied").map((row) => row.count)).toEqual([1, 1]);
  });

  test("what was only counted joins its host, or stands alone", () => {
    const rows = new NetworkRows();
    rows.add(decided("a.test", { reason: "not_allowed" }));
    rows.add(record({ event: "repeated", host: "a.test", reason: "not_allowed", count: 41 }));
    rows.add(record({ event: "repeated", host: "(others)", reason: "not_allowed", count: 7 }));
    expect(rows.list("denied").map((row) => [place(row), row.count])).toEqual([
      ["(others)", 7],
      ["a.test:443", 42],
    ]);
  });

  test("a host that strangers can write to is told of", () => {
    const rows = new NetworkRows();
    rows.add(decided("a.test", { rule: "r" }));
    rows.add(decided("b.test", { rule: "r", lenient: true }));
    expect(rows.list("all").map((row) => [row.host, row.lenient])).toEqual([
      ["b.test", true],
      ["a.test", false],
    ]);
  });

  test("an address of IPv6 stands in brackets", () => {
    expect(place({ host: "2001:db8::1", port: 443 })).toBe("[2001:db8::1]:443");
  });
  });
