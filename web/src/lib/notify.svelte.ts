/**
 * Tells the person that a session needs them or is done.
 *
 *   a session's view changes ──newsOf()──► turn ended | question ──► not visible and focused?
 *                                                                     ├─ count in the tab's title
 *                                                                     └─ browser notification, if on
 */

import type { SessionId, SessionView } from "./api-types.ts";
import { sentence } from "./transcript.ts";
import { statusOf } from "./phrases.ts";
import { router, sessionPath } from "./router.svelte.ts";
import { load, save } from "./storage.ts";

export type News = "question" | "ended";

/** What the person should know about the step from one view to the next. */
export function newsOf(before: SessionView, after: SessionView): News | null {
  if (after.question && after.question.question !== before.question?.question) return "question";
  if (after.last_turn && after.last_turn.turn !== before.last_turn?.turn) return "ended";
  if (after.status === "failed" && before.status !== "failed") return "ended";
  return null;
}

class Notifier {
  /** The person's choice; without the browser's permission it has no effect. */
  on = $state(load("notify") === "on");
  permission = $state<NotificationPermission | "unavailable">(
    "Notification" in globalThis ? Notification.permission : "unavailable",
  );
  #unseen = $state.raw<ReadonlySet<SessionId>>(new Set());

  get count(): number {
    return this.#unseen.size;
  }

  has(id: SessionId): boolean {
    return this.#unseen.has(id);
  }

  /** Asks for the permission only here, when the person switches it on. */
  async set(on: boolean): Promise<void> {
    if (on && this.permission === "default") this.permission = await Notification.requestPermission();
    this.on = on && this.permission === "granted";
    save("notify", this.on ? "on" : null);
  }

  changed(before: SessionView, after: SessionView): void {
    const news = newsOf(before, after);
    if (!news || this.#watching(after.id)) return;
    this.#unseen = new Set(this.#unseen).add(after.id);
    if (!this.on || this.permission !== "granted") return;
    const status = statusOf(after, Date.now()).text;
    const body = news === "question" ? (after.question?.text ?? "") : sentence(status);
    // The tag makes one notification of those that several tabs show.
    const shown = new Notification(after.title, { body, tag: after.id });
    shown.onclick = () => {
      window.focus();
      router.go(sessionPath(after.id));
      shown.close();
    };
  }

  /** The person looks at this session now. */
  seen(id: SessionId): void {
    if (!this.#unseen.has(id)) return;
    const rest = new Set(this.#unseen);
    rest.delete(id);
    this.#unseen = rest;
  }

  #watching(id: SessionId): boolean {
    const route = router.route;
    const open = (route.name === "session" || route.name === "log") && route.id === id;
    return open && document.visibilityState === "visible" && document.hasFocus();
  }
}

export const notifier = new Notifier();
