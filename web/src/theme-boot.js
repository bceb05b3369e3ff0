// Applies the stored theme before the first paint. Loaded as a classic script from the head.
try {
  const stored = localStorage.getItem("patchyard.theme");
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
} catch {
  // Storage is blocked: the system's theme applies.
}
