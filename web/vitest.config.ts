import { defineConfig } from "vitest/config";

// "Today" is a matter of the time zone; so is a clock time.
process.env["TZ"] = "UTC";

export default defineConfig({ test: { include: ["tests/**/*.test.ts"], environment: "node" } });
