/** `localStorage` that never throws: private windows and full disks lose a convenience, not the page. */

export function load(key: string): string | null {
  try {
    return localStorage.getItem(`patchyard.${key}`);
  } catch {
    return null;
  }
}

export function save(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(`patchyard.${key}`);
    else localStorage.setItem(`patchyard.${key}`, value);
  } catch {
    // Nothing to do: the value lives as long as the tab.
  }
}
