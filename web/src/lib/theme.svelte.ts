import { load, save } from "./storage.ts";

export type Theme = "system" | "light" | "dark";

/** The chosen theme; `theme-boot.js` applies the stored one before the first paint. */
class ThemeChoice {
  choice = $state<Theme>("system");

  constructor() {
    const stored = load("theme");
    if (stored === "light" || stored === "dark") this.choice = stored;
  }

  set(choice: Theme): void {
    this.choice = choice;
    if (choice === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = choice;
    save("theme", choice === "system" ? null : choice);
  }
}

export const theme = new ThemeChoice();
