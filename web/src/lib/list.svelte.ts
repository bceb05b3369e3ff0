/** The sessions that the page knows, kept current by the stream. */

import { api } from "./api.ts";
import type { SessionId, SessionList, SessionView } from "./api-types.ts";

const PAGE = 50;

interface Pages {
  loaded: boolean;
  next: SessionId | null;
}

class Sessions {
  #views = $state.raw<ReadonlyMap<SessionId, SessionView>>(new Map());
  #pages = $state.raw<{ active: Pages; archived: Pages }>({
    active: { loaded: false, next: null },
    archived: { loaded: false, next: null },
  });
  #changes = new Map<SessionId, SessionView | null>();
  #scheduled = false;
  /** Called for each step of a known session. */
  onChange: (before: SessionView, after: SessionView) => void = () => {};

  get(id: SessionId): SessionView | undefined {
    return this.#views.get(id);
  }

  /** Newest first: a session never changes its place because something happens in it. */
  shown(archived: boolean): SessionView[] {
    const views = [...this.#views.values()].filter((view) => view.archived === archived);
    return views.sort((a, b) => (a.id < b.id ? 1 : -1));
  }

  loaded(archived: boolean): boolean {
    return this.#pages[archived ? "archived" : "active"].loaded;
  }

  more(archived: boolean): boolean {
    return this.#pages[archived ? "archived" : "active"].next !== null;
  }

  /** The first page anew; what the server no longer has there goes. */
  async refresh(archived = false): Promise<void> {
    const before = this.shown(archived);
    const page = await api.sessions({ archived, limit: PAGE });
    const oldest = page.next === undefined ? "" : (page.sessions.at(-1)?.id ?? "");
    const present = new Set(page.sessions.map((view) => view.id));
    // Only what was known before the question: a newer session may be missing from the answer.
    for (const { id } of before) if (id >= oldest && !present.has(id)) this.#changes.set(id, null);
    this.#took(page, archived, !this.loaded(archived) || page.next === undefined);
  }

  async loadMore(archived: boolean): Promise<void> {
    const before = this.#pages[archived ? "archived" : "active"].next;
    if (before === null) return;
    this.#took(await api.sessions({ archived, limit: PAGE, before }), archived, true);
  }

  merge(view: SessionView): void {
    const known = this.#changes.get(view.id) ?? this.#views.get(view.id);
    if (known && known.last_seq > view.last_seq) return;
    if (known) this.onChange(known, view);
    this.#changes.set(view.id, view);
    this.#schedule();
  }

  remove(id: SessionId): void {
    this.#changes.set(id, null);
    this.#flush();
  }

  clear(): void {
    this.#views = new Map();
    this.#changes.clear();
    this.#pages = { active: { loaded: false, next: null }, archived: { loaded: false, next: null } };
  }

  #took(page: SessionList, archived: boolean, end: boolean): void {
    for (const view of page.sessions) this.merge(view);
    this.#flush();
    const name = archived ? "archived" : "active";
    const next = end ? (page.next ?? null) : this.#pages[name].next;
    this.#pages = { ...this.#pages, [name]: { loaded: true, next } };
  }

  /** Many sessions may change many times a second: the list is redrawn a few times. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setTimeout(() => this.#flush(), 60);
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#changes.size === 0) return;
    const views = new Map(this.#views);
    for (const [id, view] of this.#changes) {
      if (view) views.set(id, view);
      else views.delete(id);
    }
    this.#changes.clear();
    this.#views = views;
  }
}

export const sessions = new Sessions();
