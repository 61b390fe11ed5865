import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** GraphiQL titles a tab by the operation chosen last; ours keep the title in their first line, `# 1 of 5 · Create a dataset`. */
function titled(): Plugin {
  const own = "operationName || ";
  return {
    name: "titled",
    apply: "build",
    transform(code, id) {
      if (!id.endsWith("@graphiql/react/dist/utility/tabs.js")) return null;
      const changed = code
        .replaceAll(`title: ${own}DEFAULT_TITLE`, `title: titleOf(query) || ${own}DEFAULT_TITLE`)
        .replace(`title: newTab.${own}`, `title: titleOf(newTab.query) || newTab.${own}`)
        .concat(`\nfunction titleOf(query) { return /^# \\d of \\d · (.+)/.exec(query ?? "")?.[1]; }\n`);
      if (changed.split("titleOf(").length !== 5) this.error("GraphiQL makes the titles of its tabs elsewhere than before.");
      return changed;
    },
  };
}

/** A .gz twin beside each asset, so that the server never spends its event loop on compressing 6 MB. */
function packed(): Plugin {
  return {
    name: "packed",
    apply: "build",
    async writeBundle({ dir }) {
      const assets = join(dir ?? "dist", "assets");
      for (const name of await readdir(assets)) {
        const path = join(assets, name);
        await writeFile(`${path}.gz`, await promisify(gzip)(await readFile(path), { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  // Where server/console/page.py serves what is built here.
  base: "/console/",
  plugins: [react(), titled(), packed()],
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2022",
    // Every asset is a file of our own origin: the Content-Security-Policy allows no data: URL but small pictures in style sheets.
    assetsInlineLimit: 0,
    // The polyfill would be the only code that fetches scripts by itself; browsers that run Monaco preload natively.
    modulePreload: { polyfill: false },
    // Monaco is one large part by nature; it is loaded after the page stands.
    chunkSizeWarningLimit: 4000,
    reportCompressedSize: false,
    rolldownOptions: {
      input: ["index.html", "account.html"],
      // "use client" and the like mean nothing in a bundle; a line for each module would hide real warnings.
      onLog(level, log, report) {
        if (log.code !== "MODULE_LEVEL_DIRECTIVE") report(level, log);
      },
    },
  },
  worker: { format: "es" },
});
