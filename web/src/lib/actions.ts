/** What several screens do to a session. */

import { api, problemOf } from "./api.ts";
import type { SessionView } from "./api-types.ts";
import { sessions } from "./list.svelte.ts";
import { toasts } from "./toast.svelte.ts";

/** Archives at once and offers to undo it. */
export async function archive(view: SessionView, archived: boolean): Promise<void> {
  try {
    await api.archive(view.id, archived);
  } catch (error) {
    toasts.problem(problemOf(error));
    return;
  }
  const known = sessions.get(view.id) ?? view;
  sessions.merge({ ...known, archived });
  toasts.show(archived ? `Archived “${view.title}”` : `“${view.title}” is back in the list`, {
    label: "Undo",
    run: () => void archive({ ...known, archived }, !archived),
  });
}

/** Copies text; also on plain http, where the clipboard interface is missing. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.readOnly = true;
    area.className = "offscreen";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
