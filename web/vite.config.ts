import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

/**
 * Puts `src/theme-boot.js` into the head as a classic, hashed, same-origin script: it has to run
 * before the first paint, and the content policy forbids inline scripts.
 */
function themeBoot(): Plugin {
  const source = "src/theme-boot.js";
  let building = false;
  return {
    name: "patchyard-theme-boot",
    configResolved: (config) => {
      building = config.command === "build";
    },
    buildStart() {
      if (!building) return;
      this.emitFile({ type: "asset", name: "theme.js", originalFileName: source, source: readFileSync(source) });
    },
    transformIndexHtml: {
      order: "post",
      handler(_html, context) {
        const built = Object.values(context.bundle ?? {}).find((file) => file.name === "theme.js");
        const src = built ? `/${built.fileName}` : `/${source}`;
        return [{ tag: "script", attrs: { src }, injectTo: "head-prepend" }];
      },
    },
  };
}

/** Leaves each text file as `.br` too: the server embeds both and compresses nothing while it runs. */
function brotli(): Plugin {
  let folder = "dist";
  return {
    name: "patchyard-brotli",
    apply: "build",
    configResolved: (config) => {
      folder = config.build.outDir;
    },
    writeBundle(_options, bundle) {
      for (const name of Object.keys(bundle).filter((file) => /\.(js|css|html|svg)$/.test(file))) {
        const plain = readFileSync(`${folder}/${name}`);
        const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length };
        writeFileSync(`${folder}/${name}.br`, brotliCompressSync(plain, { params }));
      }
    },
  };
}

const server = process.env["PATCHYARD_SERVER"] ?? "http://127.0.0.1:7878";

export default defineConfig({
  plugins: [themeBoot(), svelte(), brotli()],
  build: {
    target: ["chrome123", "firefox120", "safari17.5"],
    // Everything is its own hashed file: the content policy allows no inline data but images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { "/api": { target: server, changeOrigin: true } } },
});
