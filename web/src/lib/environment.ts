/**
 * Environments in words: levels, tiers, limits, variables, domains, and what differs between two. Pure.
 *
 * The checks repeat those of the server, so that a mistake is told while it is typed; the server has
 * the last word.
 */

import type { EnvironmentSettings, Limits, NetworkLevel, Problem, SecretBinding, Tier } from "./api-types.ts";
import type { IconName } from "./icons.ts";

export const MAX_NAME = 60;

/** Those of the server for what is left out. */
export function usualSettings(image: string): EnvironmentSettings {
  return {
    name: "",
    image,
    network: { level: "trusted" },
    rendering: "compatible",
    variables: "",
    secrets: [],
    setup_script: "",
    limits: {
      memory_bytes: 16_000_000_000,
      cpu_millis: 4000,
      pids: 4096,
      disk_bytes: 30_000_000_000,
      open_files: 65_536,
    },
    tier: { at_least: "container" },
    unenforced: "tell",
    nested_containers: false,
    cache_setup: true,
  };
}

export interface LevelWords {
  level: NetworkLevel["level"];
  word: string;
  meaning: string;
  icon: IconName;
}

export const LEVELS: readonly LevelWords[] = [
  { level: "none", word: "None", meaning: "Nothing can be reached.", icon: "blocked" },
  { level: "trusted", word: "Trusted", meaning: "Package registries and the like.", icon: "shield" },
  { level: "full", word: "Full", meaning: "Everything but private addresses.", icon: "globe" },
  { level: "custom", word: "Custom", meaning: "The domains that you list.", icon: "rules" },
];

export function levelWords(network: NetworkLevel): LevelWords {
  return LEVELS.find(({ level }) => level === network.level) ?? LEVELS[0]!;
}

export const TIERS: readonly { tier: Tier; word: string; meaning: string }[] = [
  { tier: "container", word: "Container", meaning: "Namespaces of the host’s kernel: starts fastest." },
  { tier: "gvisor", word: "gVisor", meaning: "A kernel of its own in user space: the host’s is out of reach." },
  { tier: "vm", word: "Virtual machine", meaning: "Hardware virtualisation: kept apart most strongly." },
];

export type LimitName = keyof Limits;

interface LimitWords {
  name: LimitName;
  label: string;
  hint: string;
  least: number;
  most: number;
  format: (value: number) => string;
  parse: (text: string) => number | null;
}

const MIB = 2 ** 20;

const count = (text: string) => (/^\d[\d,_ ]*$/.test(text.trim()) ? Number(text.replace(/[,_ ]/g, "")) : null);

export const LIMITS: readonly LimitWords[] = [
  {
    name: "cpu_millis",
    label: "CPUs",
    hint: "such as 4 or 0.5",
    least: 50,
    most: 1_024_000,
    format: (value) => String(value / 1000),
    parse: (text) => (/^\d+(\.\d{1,3})?$/.test(text.trim()) ? Math.round(Number(text) * 1000) : null),
  },
  { name: "memory_bytes", label: "Memory", hint: "such as 16 GB", least: 64 * MIB, most: 2 ** 44, format: formatSize, parse: parseSize },
  { name: "disk_bytes", label: "Disk", hint: "such as 30 GB", least: 64 * MIB, most: 2 ** 46, format: formatSize, parse: parseSize },
  {
    name: "pids",
    label: "Processes",
    hint: "such as 4,096; threads count too",
    least: 16,
    most: 4_194_304,
    format: (value) => value.toLocaleString("en"),
    parse: count,
  },
  {
    name: "open_files",
    label: "Open files",
    hint: "such as 65,536, per process",
    least: 64,
    most: 2 ** 30,
    format: (value) => value.toLocaleString("en"),
    parse: count,
  },
];

const UNITS: Record<string, number> = {
  "": 1e9,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: MIB,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** "16 GB", "512 MiB"; a number alone is in GB. */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = UNITS[match?.[2]?.toLowerCase() ?? "?"];
  return match && unit !== undefined ? Math.round(Number(match[1]) * unit) : null;
}

/** Exact: what is written parses to the same bytes. */
export function formatSize(bytes: number): string {
  const exact = (unit: number) => bytes >= unit && (bytes * 1000) % unit === 0;
  for (const [name, unit] of [["TB", 1e12], ["TiB", 2 ** 40], ["GB", 1e9], ["GiB", 2 ** 30], ["MB", 1e6], ["MiB", MIB]] as const) {
    if (exact(unit)) return `${bytes / unit} ${name}`;
  }
  return `${bytes} B`;
}

/** A limit's text as its value, or what is wrong with it. */
export function readLimit(words: LimitWords, text: string): { value: number } | { wrong: string } {
  const value = words.parse(text);
  if (value === null) return { wrong: `Write a number, ${words.hint}` };
  if (value < words.least || value > words.most) {
    return { wrong: `${words.format(words.least)} to ${words.format(words.most)} are allowed` };
  }
  return { value };
}

export function checkName(name: string): string | null {
  const length = [...name.trim()].length;
  if (length === 0) return "Give it a name";
  return length > MAX_NAME ? `A name has at most ${MAX_NAME} characters; this one has ${length}` : null;
}

export interface VariablesRead {
  pairs: { name: string; value: string }[];
  errors: string[];
  warnings: string[];
}

const SET_BY_US = /^(CLAUDECODE|CLAUDE_CODE_REMOTE|CLAUDE_CODE_REMOTE_SESSION_ID|CLAUDE_CODE_SESSION_ID|CLAUDE_ENV_FILE|CLAUDE_PROJECT_DIR|GIT_TERMINAL_PROMPT|GIT_EDITOR|PATCHYARD_.*)$/;
const POWERFUL = /^(BASH_ENV|ENV|GCONV_PATH|IFS|NODE_OPTIONS|PATH|PERL5OPT|PYTHONSTARTUP|SHELLOPTS|LD_.*|GIT_CONFIG.*|BASH_FUNC_.*)$/;
const SECRET = /TOKEN|SECRET|PASSWORD|PASSWD|API_KEY|PRIVATE_KEY/;

export function isVariableName(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]{0,255}$/.test(name);
}

export function isSetByUs(name: string): boolean {
  return SET_BY_US.test(name);
}

/** `.env` lines: the value is everything after the first `=`, literally; the last of a name counts. */
export function readVariables(text: string): VariablesRead {
  const pairs = new Map<string, string>();
  const errors: string[] = [];
  const warnings: string[] = [];
  text.split("\n").forEach((raw, index) => {
    const line = raw.replace(/\r$/, "");
    const at = `Line ${index + 1}`;
    if (line.trim() === "" || line.trimStart().startsWith("#")) return;
    const equals = line.indexOf("=");
    if (equals < 0) return errors.push(`${at} has no “=”: write KEY=value`);
    const name = line.slice(0, equals).trim();
    const value = line.slice(equals + 1);
    if (!isVariableName(name)) {
      return errors.push(
        /^export\s/.test(name)
          ? `${at} begins with “export”: leave the word out`
          : `${at}: “${name.slice(0, 40)}” is no name; use letters, digits and “_”, not a digit first`,
      );
    }
    const trimmed = value.trim();
    if (/^["']|["']$/.test(trimmed)) warnings.push(`${at}: the quotes are part of the value of ${name}`);
    if (trimmed.length !== value.length) warnings.push(`${at}: the spaces around it are part of the value of ${name}`);
    if (isSetByUs(name)) warnings.push(`${at}: ${name} is set by patchyard, and this value is not used`);
    else if (POWERFUL.test(name)) warnings.push(`${at}: ${name} changes what every program of the sandbox does`);
    if (SECRET.test(name.toUpperCase())) {
      warnings.push(
        `${at}: ${name} looks like a secret; it is visible to whoever can edit the environment, and to everything that runs in the sandbox`,
      );
    }
    if (pairs.has(name)) warnings.push(`${at}: ${name} stands there twice; the last one counts`);
    pairs.delete(name);
    pairs.set(name, value);
  });
  return { pairs: [...pairs].map(([name, value]) => ({ name, value })), errors, warnings };
}

/** The patterns of a text, one per line or divided by commas. */
export function readDomains(text: string): string[] {
  return text.split(/[\n,]/).map((line) => line.trim()).filter(Boolean);
}

/** What is wrong with a domain pattern. */
export function checkDomain(pattern: string): string | null {
  if (/[/@\\?#]/.test(pattern)) return "leave the scheme and the path out";
  if (pattern === "*" || pattern.startsWith("*:")) return "everything is what the level Full is for";
  const v6 = /^\[[0-9a-f:.]+\](?::(.*))?$/i.exec(pattern);
  const [, wide, name = "", port] = /^(\*\.)?([^:]*)(?::(.*))?$/s.exec(pattern) ?? [];
  const given = v6 ? v6[1] : port;
  if (!v6 && given?.includes(":")) return "an IPv6 address stands in brackets";
  if (given !== undefined && !(/^[1-9]\d{0,4}$/.test(given) && Number(given) <= 65_535)) {
    return "a port is a plain number from 1 to 65535";
  }
  return v6 ? null : checkHost(name, wide !== undefined);
}

function checkHost(host: string, wide: boolean): string | null {
  const name = host.replace(/\.$/, "");
  const labels = name.split(".");
  if (name.includes("*")) return "a “*” may only stand alone before the first dot";
  if (/[^\x21-\x7e]/.test(name)) return "write names outside of ASCII as xn--…";
  if (name.length > 253) return "a name has at most 253 characters";
  if (!labels.every((part) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(part))) {
    return "each part has 1 to 63 of a-z, 0-9, “_” and “-”, which is not at its ends";
  }
  if (/^(\d+|0x[0-9a-f]*)$/i.test(labels.at(-1) ?? "")) {
    const plain = labels.length === 4 && labels.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
    if (!plain || host !== name) return "it ends in a number and is no address of four plain numbers";
    return wide ? "a “*” may only stand alone before the first dot" : null;
  }
  return wide && labels.length < 2 ? "that would be a whole top-level domain" : null;
}

/** Each wrong pattern with its reason. */
export function wrongDomains(text: string): string[] {
  const domains = readDomains(text);
  const wrong = domains.flatMap((pattern) => {
    const why = checkDomain(pattern);
    return why === null ? [] : [`“${pattern.slice(0, 80)}”: ${why}`];
  });
  return domains.length > 1000 ? [...wrong, `${domains.length} domains are too many; 1,000 are allowed`] : wrong;
}

export type Field = "name" | "network" | "variables" | "secrets" | "setup_script" | "image" | "tier" | LimitName;

/** Which field a refusal is about, where it says so. */
export function fieldOf({ code, title }: Problem): Field | null {
  if (code === "name_taken") return "name";
  if (code === "image_not_found") return "image";
  if (code === "tier_not_available") return "tier";
  if (code === "bad_secret" || code === "secret_not_bound") return "secrets";
  if (code !== "bad_environment") return null;
  const limit = LIMITS.find(({ name }) => title.includes(`\`${name}\``));
  if (limit) return limit.name;
  if (/^the secret |secrets are too many/.test(title)) return "secrets";
  if (/variables/.test(title)) return "variables";
  if (/setup script/.test(title)) return "setup_script";
  if (/domain/.test(title)) return "network";
  return /name/.test(title) ? "name" : null;
}

export interface Difference {
  label: string;
  theirs: string;
  mine: string;
}

/** What two settings say differently, setting by setting. */
export function differences(theirs: EnvironmentSettings, mine: EnvironmentSettings): Difference[] {
  const there = described(theirs);
  const here = described(mine);
  return there.flatMap(([label, text], index) => {
    const other = here[index]?.[1] ?? "";
    return text === other ? [] : [{ label, theirs: text, mine: other }];
  });
}

/** Where a secret may be used: `TOKEN for api.example.org, only GET, below /v1`. */
export function secretWords(secret: SecretBinding): string {
  const methods = secret.methods?.length ? `, only ${secret.methods.join(" ")}` : "";
  const paths = secret.paths?.length ? `, below ${secret.paths.join(" ")}` : "";
  return `${secret.name} for ${secret.hosts.join(", ")}${methods}${paths}`;
}

function described(settings: EnvironmentSettings): [string, string][] {
  const { network, tier } = settings;
  const domains = network.level === "custom" ? network.domains.join("\n") : "";
  const kind = "exactly" in tier ? `exactly ${tier.exactly}` : `at least ${tier.at_least}`;
  return [
    ["Name", settings.name],
    ["Network", levelWords(network).word + (network.level === "custom" && network.include_default ? ", with the default list" : "")],
    ["Domains", domains],
    ["Default list", settings.rendering],
    ["Variables", settings.variables],
    ["Secrets", settings.secrets.map(secretWords).join("\n")],
    ["Setup script", settings.setup_script],
    ["Image", settings.image],
    ...LIMITS.map(({ label, name, format }): [string, string] => [label, format(settings.limits[name])]),
    ["Isolation", kind],
    ["When a limit does not hold", settings.unenforced],
    ["Containers inside", settings.nested_containers ? "on" : "off"],
    ["Keep the setup", settings.cache_setup ? "on" : "off"],
  ];
}
