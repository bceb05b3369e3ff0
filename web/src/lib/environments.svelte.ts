/** The environments that new sessions can have, and which one this browser takes. */

import { api, problemOf } from "./api.ts";
import type { Environment, EnvironmentId, Problem } from "./api-types.ts";
import { load, save } from "./storage.ts";

class Environments {
  #list = $state.raw<Environment[] | null>(null);
  #chosen = $state(load("environment"));
  problem = $state.raw<Problem | null>(null);

  /** The default first, then by name; `null` until the server has answered. */
  get list(): Environment[] | null {
    return this.#list;
  }

  get default(): Environment | null {
    return this.#list?.find((environment) => environment.default) ?? null;
  }

  /** The chosen one where it is still there, else the default. */
  get current(): Environment | null {
    return this.#list?.find(({ id }) => id === this.#chosen) ?? this.default;
  }

  /** Whoever takes the default follows it when it changes. */
  choose(id: EnvironmentId): void {
    this.#chosen = id === this.default?.id ? null : id;
    save("environment", this.#chosen);
  }

  async refresh(): Promise<void> {
    try {
      this.#list = (await api.environments()).environments;
      this.problem = null;
    } catch (error) {
      this.problem = problemOf(error);
    }
  }

  /** For the next one who signs in. */
  clear(): void {
    this.#list = null;
    this.problem = null;
  }

  /** Takes an answer over before the list is read anew. */
  merge(changed: Environment): void {
    const others = (this.#list ?? [])
      .filter(({ id }) => id !== changed.id)
      .map((other) => (changed.default ? { ...other, default: false } : other));
    const all = changed.archived ? others : [...others, changed];
    this.#list = all.sort(
      (a, b) => Number(b.default) - Number(a.default) || a.settings.name.localeCompare(b.settings.name, "en"),
    );
  }
}

export const environments = new Environments();
