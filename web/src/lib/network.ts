/**
 * The record of a session's network as rows to look at.
 *
 *   decided ─┬─ same host, port, rule and reason ─▶ one row, counted, newest first
 *   closed ──┤  bytes and duration of its connection, added to the row
 *   repeated ┘  what was counted instead of written, added to the row of the same host and reason
 */

import type { AuditRecord } from "./api-types.ts";

export interface NetworkRow {
  key: string;
  host: string;
  /** 0 where there was none. */
  port: number;
  allowed: boolean;
  rule: string;
  reason: string;
  /** Of the newest. */
  at: string;
  first: string;
  count: number;
  up: number;
  down: number;
  /** Of the newest that ended, in milliseconds; none while nothing ended. */
  duration: number | null;
  open: number;
  /** Strangers can write to the host, and everything may be done there all the same. */
  lenient: boolean;
}

/** Takes records as they come, in order, and keeps the rows. */
export class NetworkRows {
  #rows = new Map<string, NetworkRow>();
  #connections = new Map<string, NetworkRow>();

  add(record: AuditRecord): void {
    const connection = `${record.sandbox} ${record.connection}`;
    if (record.event === "decided") {
      const row = this.#row(record.host, record.port, record.rule, record.reason, record.at);
      row.count += 1;
      row.lenient ||= record.lenient ?? false;
      if (row.allowed) {
        row.open += 1;
        this.#connections.set(connection, row);
      }
      return;
    }
    if (record.event === "repeated") {
      const like = [...this.#rows.values()].filter((row) => row.host === record.host && row.reason === record.reason).at(-1);
      const row = like ?? this.#row(record.host, 0, undefined, record.reason, record.at);
      row.count += record.count;
      row.at = record.at;
      return;
    }
    const row = this.#connections.get(connection);
    if (!row) return;
    this.#connections.delete(connection);
    row.open -= 1;
    row.up += record.bytes_up;
    row.down += record.bytes_down;
    row.duration = record.duration_ms;
  }

  /** Newest first. */
  list(which: Shown): NetworkRow[] {
    const wanted = [...this.#rows.values()].filter((row) => which === "all" || row.allowed === (which === "allowed"));
    return wanted.sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0)).map((row) => ({ ...row }));
  }

  #row(host: string, port: number, rule = "", reason = "", at: string): NetworkRow {
    const key = JSON.stringify([host, port, rule, reason]);
    let row = this.#rows.get(key);
    if (!row) {
      row = { key, host, port, allowed: reason === "", rule, reason, at, first: at, count: 0, up: 0, down: 0, duration: null, open: 0, lenient: false };
      this.#rows.set(key, row);
    }
    row.at = at;
    return row;
  }
}

export type Shown = "all" | "allowed" | "denied";

/** `host:port`, the port left out where there was none. */
export function place({ host, port }: Pick<NetworkRow, "host" | "port">): string {
  if (port === 0) return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
