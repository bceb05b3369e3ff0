/** Paths to screens, with the browser's own history. */

export type Route =
  | { name: "home" }
  | { name: "new"; prompt: string; repo: string; branch: string }
  | { name: "login"; code: string }
  | { name: "session"; id: string; diff: boolean; file: string | null }
  | { name: "log"; id: string; blob: string }
  | { name: "network"; id: string }
  | { name: "missing"; path: string };

/** The screen of an address. Parameter names of `/new` are those of other agents' pages. */
export function parseRoute(url: URL): Route {
  const parts = url.pathname.split("/").filter((part) => part !== "");
  const query = (...names: string[]) => {
    for (const name of names) {
      const value = url.searchParams.get(name);
      if (value) return value;
    }
    return "";
  };
  const [first, id, third, fourth] = parts;
  if (first === undefined) return { name: "home" };
  if (first === "login" && parts.length === 1) {
    return { name: "login", code: decodeURIComponent(url.hash.slice(1)) };
  }
  if (first === "new" && parts.length === 1) {
    return {
      name: "new",
      prompt: query("prompt", "q"),
      repo: query("repo", "repositories"),
      branch: query("branch"),
    };
  }
  if (first === "s" && id !== undefined) {
    if (parts.length === 2) return { name: "session", id, diff: false, file: null };
    if (parts.length === 3 && third === "diff") {
      return { name: "session", id, diff: true, file: url.searchParams.get("file") };
    }
    if (parts.length === 3 && third === "network") return { name: "network", id };
    if (parts.length === 4 && third === "log" && fourth) return { name: "log", id, blob: fourth };
  }
  return { name: "missing", path: url.pathname };
}

export function sessionPath(id: string): string {
  return `/s/${id}`;
}

export function networkPath(id: string): string {
  return `/s/${id}/network`;
}

export function diffPath(id: string, file: string | null): string {
  return file === null ? `/s/${id}/diff` : `/s/${id}/diff?file=${encodeURIComponent(file)}`;
}

class Router {
  route = $state.raw<Route>({ name: "home" });

  start(): void {
    const read = () => {
      this.route = parseRoute(new URL(location.href));
    };
    read();
    addEventListener("popstate", read);
    document.addEventListener("click", (event) => this.#click(event));
  }

  go(path: string, how: { replace?: boolean } = {}): void {
    if (how.replace) history.replaceState(null, "", path);
    else if (path !== location.pathname + location.search) history.pushState(null, "", path);
    this.route = parseRoute(new URL(location.href));
  }

  /** Plain clicks on links of the app do not load the page anew. */
  #click(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const anchor = (event.target as Element | null)?.closest("a");
    if (!anchor || anchor.target || anchor.hasAttribute("download")) return;
    const url = new URL(anchor.href, location.href);
    if (url.origin !== location.origin || url.pathname.startsWith("/api/")) return;
    event.preventDefault();
    this.go(url.pathname + url.search);
  }
}

export const router = new Router();
