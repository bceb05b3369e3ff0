/** Short messages at the edge of the page, and the polite voice for screen readers. */

import type { Problem } from "./api-types.ts";

export interface Toast {
  id: number;
  text: string;
  action?: { label: string; run: () => void };
}

const SHOWN_MS = 8000;

class Toasts {
  list = $state.raw<Toast[]>([]);
  /** What the status region says. */
  voice = $state("");
  #next = 1;

  show(text: string, action?: Toast["action"]): void {
    const id = this.#next++;
    this.list = [...this.list.slice(-2), action ? { id, text, action } : { id, text }];
    setTimeout(() => this.close(id), SHOWN_MS);
  }

  problem(problem: Problem): void {
    this.show([problem.title, problem.detail, problem.next].filter(Boolean).join(". ").replaceAll("..", "."));
  }

  close(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  say(text: string): void {
    this.voice = text;
  }
}

export const toasts = new Toasts();
