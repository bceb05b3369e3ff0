/**
 * An environment as it is edited: every field as its text.
 *
 *   settings ──► fields ──read()──► settings      wrong: what stands in the way, by field
 */

import type { EnvironmentSettings, NetworkLevel, Rendering, Tier, TierRequest, Unenforced } from "./api-types.ts";
import { checkName, type Field, type LimitName, LIMITS, readDomains, readLimit, readVariables, wrongDomains } from "./environment.ts";
import { bindingOf, rowOf, type SecretRow, valuesOf, wrongSecrets } from "./secrets.ts";

export type Wrong = Partial<Record<Field, string[]>>;

export class EnvironmentForm {
  name = $state("");
  level = $state<NetworkLevel["level"]>("trusted");
  domains = $state("");
  includeDefault = $state(true);
  rendering = $state<Rendering>("compatible");
  variables = $state("");
  script = $state("");
  image = $state("");
  limits = $state<Record<LimitName, string>>({ cpu_millis: "", memory_bytes: "", disk_bytes: "", pids: "", open_files: "" });
  strictness = $state<"at_least" | "exactly">("at_least");
  tier = $state<Tier>("container");
  unenforced = $state<Unenforced>("tell");
  nested = $state(false);
  cache = $state(true);
  secrets = $state<SecretRow[]>([]);
  readonly #before: string;

  constructor(settings: EnvironmentSettings) {
    this.name = settings.name;
    this.level = settings.network.level;
    if (settings.network.level === "custom") {
      this.domains = settings.network.domains.join("\n");
      this.includeDefault = settings.network.include_default;
    }
    this.rendering = settings.rendering;
    this.variables = settings.variables;
    this.script = settings.setup_script;
    this.image = settings.image;
    for (const { name, format } of LIMITS) this.limits[name] = format(settings.limits[name]);
    this.strictness = "exactly" in settings.tier ? "exactly" : "at_least";
    this.tier = "exactly" in settings.tier ? settings.tier.exactly : settings.tier.at_least;
    this.unenforced = settings.unenforced;
    this.nested = settings.nested_containers;
    this.cache = settings.cache_setup;
    this.secrets = settings.secrets.map(rowOf);
    this.#before = JSON.stringify(this.#fields());
  }

  get dirty(): boolean {
    return JSON.stringify(this.#fields()) !== this.#before;
  }

  get wrong(): Wrong {
    const wrong: Wrong = {};
    const name = checkName(this.name);
    if (name) wrong.name = [name];
    const domains = this.level === "custom" ? wrongDomains(this.domains) : [];
    if (domains.length > 0) wrong.network = domains;
    const { errors } = readVariables(this.variables);
    if (errors.length > 0) wrong.variables = errors;
    const secrets = wrongSecrets(this.secrets, this.variables);
    if (secrets.length > 0) wrong.secrets = secrets;
    for (const limit of LIMITS) {
      const read = readLimit(limit, this.limits[limit.name]);
      if ("wrong" in read) wrong[limit.name] = [read.wrong];
    }
    return wrong;
  }

  get network(): NetworkLevel {
    return this.level === "custom"
      ? { level: "custom", domains: readDomains(this.domains), include_default: this.includeDefault }
      : { level: this.level };
  }

  /** Values of secrets that were typed; they are sent on their own. */
  get values(): { name: string; value: string }[] {
    return valuesOf(this.secrets);
  }

  /** Only where nothing is wrong. */
  read(): EnvironmentSettings {
    const limits = {} as EnvironmentSettings["limits"];
    for (const limit of LIMITS) limits[limit.name] = limit.parse(this.limits[limit.name]) ?? 0;
    const tier: TierRequest = this.strictness === "exactly" ? { exactly: this.tier } : { at_least: this.tier };
    return {
      name: this.name.trim(),
      image: this.image,
      network: this.network,
      rendering: this.rendering,
      variables: this.variables,
      secrets: this.secrets.map(bindingOf),
      setup_script: this.script,
      limits,
      tier,
      unenforced: this.unenforced,
      nested_containers: this.nested,
      cache_setup: this.cache,
    };
  }

  #fields(): unknown[] {
    const { name, level, domains, includeDefault, variables, script, image, limits, strictness, tier } = this;
    const network = level === "custom" ? [domains, includeDefault] : [];
    const secrets = [this.secrets.map(bindingOf), this.values];
    return [name, level, network, this.rendering, variables, secrets, script, image, limits, strictness, tier, this.unenforced, this.nested, this.cache];
  }
}
