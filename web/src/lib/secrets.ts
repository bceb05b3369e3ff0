/**
 * Secrets of an environment as they are edited. Pure.
 *
 *   binding ──rowOf()──► row: every field as its text ──bindingOf()──► binding
 *                         └ value: what was typed, sent on its own and never read again
 *
 * The checks repeat those of the server, which has the last word.
 */

import type { SecretBinding } from "./api-types.ts";
import { checkDomain, isSetByUs, isVariableName, readDomains, readVariables } from "./environment.ts";

export const MAX_SECRETS = 32;

export interface SecretRow {
  /** What it is known by on the page, whatever its name becomes. */
  key: number;
  name: string;
  hosts: string;
  methods: string;
  paths: string;
  source: "sealed" | "operator";
  /** The operator's entry. */
  operator: string;
  /** Empty: as it is. */
  value: string;
  /** Whether the server knew it when it was read. */
  known: boolean;
}

let last = 0;

export function newRow(): SecretRow {
  return { key: ++last, name: "", hosts: "", methods: "", paths: "", source: "sealed", operator: "", value: "", known: false };
}

export function rowOf({ name, hosts, methods = [], paths = [], source }: SecretBinding): SecretRow {
  return {
    ...newRow(),
    name,
    hosts: hosts.join("\n"),
    methods: methods.join(" "),
    paths: paths.join("\n"),
    source: source === "sealed" ? "sealed" : "operator",
    operator: source === "sealed" ? "" : source.operator,
    known: true,
  };
}

const words = (text: string) => text.split(/[\s,]+/).filter(Boolean);

export function bindingOf(row: SecretRow): SecretBinding {
  const methods = words(row.methods).map((method) => method.toUpperCase());
  const paths = words(row.paths);
  return {
    name: row.name.trim(),
    hosts: readDomains(row.hosts),
    // Left out where empty, as the server does: what is sent back unchanged has no differences.
    ...(methods.length > 0 && { methods }),
    ...(paths.length > 0 && { paths }),
    source: row.source === "sealed" ? "sealed" : { operator: row.operator.trim() },
  };
}

/** What has to be told to the server on its own. */
export function valuesOf(rows: readonly SecretRow[]): { name: string; value: string }[] {
  return rows.filter(({ source, value }) => source === "sealed" && value !== "").map(({ name, value }) => ({ name: name.trim(), value }));
}

/** What stands in the way, each with the name of its secret. */
export function wrongSecrets(rows: readonly SecretRow[], variables: string): string[] {
  const taken = new Set(readVariables(variables).pairs.map(({ name }) => name));
  const wrong = rows.flatMap((row) => {
    const name = row.name.trim();
    const first = !taken.has(name);
    taken.add(name);
    const why = wrongRow(row, name, first);
    return why === null ? [] : [`${name === "" ? "A secret without a name" : name.slice(0, 40)}: ${why}`];
  });
  return rows.length > MAX_SECRETS ? [...wrong, `${rows.length} secrets are too many; ${MAX_SECRETS} are allowed`] : wrong;
}

function wrongRow(row: SecretRow, name: string, first: boolean): string | null {
  if (name === "") return "give it the name of a variable";
  if (!isVariableName(name) || isSetByUs(name)) return "use a name that a variable can have, and that is not one of patchyard’s";
  if (!first) return "another secret or variable has this name";
  const { hosts, methods = [], paths = [] } = bindingOf(row);
  if (hosts.length === 0) return "name each host that may get it";
  for (const host of hosts) {
    const why = host.includes("*") ? "it has to be one host, without “*”" : checkDomain(host);
    if (why !== null) return `“${host.slice(0, 80)}”: ${why}`;
  }
  const method = methods.find((one) => !/^[A-Z]+$/.test(one));
  if (method !== undefined) return `“${method.slice(0, 40)}” is no method; write GET, POST, …`;
  const path = paths.find((one) => !isPlainPath(one));
  if (path !== undefined) return `“${path.slice(0, 80)}” is no plain path; begin with / and write no “..”, query or escape`;
  if (row.source === "operator") return row.operator.trim() === "" ? "name the operator’s entry" : null;
  return row.value === "" ? null : wrongValue(row.value);
}

function isPlainPath(path: string): boolean {
  return /^\/[\x21-\x7e]*$/.test(path) && !/[%\\;?#]/.test(path) && !path.split("/").some((part) => part === "." || part === "..");
}

function wrongValue(value: string): string | null {
  const bytes = new TextEncoder().encode(value).length;
  if (/[\x00-\x1f\x7f]/.test(value)) return "its value has a line end or another control character";
  return bytes < 8 || bytes > 16_384 ? `its value has 8 to 16,384 bytes; this one has ${bytes}` : null;
}
