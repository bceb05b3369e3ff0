/**
 * What somebody typed and the server does not have yet.
 *
 *   typed ──edit()──► { text } ──send()──► { text: "", sending: { key, text } } ──accepted()──► gone
 *                        ▲                        │
 *                        └──failed(), a reload ───┘   the text comes back, with its key
 *
 * The key is the `Idempotency-Key`: sending the same text again after a lost answer is safe.
 */

import { load, save } from "./storage.ts";
import { ulid } from "./ulid.ts";

export interface Sending {
  key: string;
  text: string;
}

interface Stored {
  text: string;
  sending: Sending | null;
}

export class Draft {
  readonly #name: string;
  #text = "";
  #sending: Sending | null = null;
  /** A text whose sending was not confirmed, with its key. */
  #unconfirmed: Sending | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(field: string) {
    this.#name = `draft.${field}`;
    const stored = parse(load(this.#name));
    if (!stored) return;
    this.#unconfirmed = stored.sending;
    this.#text = join(stored.sending?.text, stored.text);
  }

  get text(): string {
    return this.#text;
  }

  edit(text: string): void {
    this.#text = text;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), 200);
  }

  /** Takes the text out for sending; it stays stored until `accepted`. */
  send(): Sending {
    const text = this.#text;
    const again = this.#unconfirmed?.text === text ? this.#unconfirmed.key : null;
    this.#sending = { key: again ?? ulid(), text };
    this.#unconfirmed = null;
    this.#text = "";
    this.flush();
    return this.#sending;
  }

  accepted(sending: Sending): void {
    if (this.#sending?.key === sending.key) this.#sending = null;
    this.flush();
  }

  /**
   * Puts the text back, before whatever was typed meanwhile. `uncertain`: no answer came, so the
   * same text goes with the same key next time.
   */
  failed(sending: Sending, uncertain: boolean): void {
    if (this.#sending?.key !== sending.key) return;
    this.#sending = null;
    this.#unconfirmed = uncertain ? sending : null;
    this.#text = join(sending.text, this.#text);
    this.flush();
  }

  /** The log holds a text whose answer was lost: it needs no second try. Says whether the draft changed. */
  confirm(text: string): boolean {
    if (this.#unconfirmed?.text !== text || this.#text !== text) return false;
    this.#unconfirmed = null;
    this.#text = "";
    this.flush();
    return true;
  }

  flush(): void {
    clearTimeout(this.#timer);
    const sending = this.#sending ?? this.#pending();
    if (this.#text === "" && !sending) save(this.#name, null);
    else save(this.#name, JSON.stringify({ text: sending && !this.#sending ? "" : this.#text, sending } satisfies Stored));
  }

  /** An unconfirmed text that was not edited since keeps its key over a reload. */
  #pending(): Sending | null {
    return this.#unconfirmed && this.#unconfirmed.text === this.#text ? this.#unconfirmed : null;
  }
}

function parse(text: string | null): Stored | null {
  if (text === null) return null;
  try {
    const value = JSON.parse(text) as Partial<Stored>;
    return { text: value.text ?? "", sending: value.sending ?? null };
  } catch {
    return null;
  }
}

function join(first: string | undefined, second: string): string {
  if (!first) return second;
  return second === "" ? first : `${first}\n\n${second}`;
}
