// Writes server/assets/vendor/, the libraries of the admin listener's pages. With --check the script writes nothing,
// and fails if a file differs from the one that it would write.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const vendor = fileURLToPath(new URL("../../assets/vendor/", import.meta.url));
const sdk = fileURLToPath(new URL("../../../clients/js/dist/fanfare.min.js", import.meta.url));

const PREACT = `
  import { h } from "preact";
  import htm from "htm";
  export { render } from "preact";
  export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
  export const html = htm.bind(h);
`;
const UPLOT = `export { default } from "uplot";`;

async function bundle(contents) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: here },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    legalComments: "none",
    logLevel: "warning",
  });
  return outputFiles[0].text;
}

const of = (path) => readFileSync(`${here}node_modules/${path}`, "utf8");
const license = (name, file) => `${name}\n${"=".repeat(name.length)}\n\n${of(file).trim()}\n`;
const files = {
  "preact.js": await bundle(PREACT),
  "uplot.js": await bundle(UPLOT),
  "uplot.css": of("uplot/dist/uPlot.min.css"),
  "fanfare.js": readFileSync(sdk, "utf8"),
  "LICENSES.txt": [
    license("preact.js contains Preact", "preact/LICENSE"),
    license("preact.js contains htm", "htm/LICENSE"),
    license("uplot.js and uplot.css are uPlot", "uplot/LICENSE"),
  ].join("\n"),
};

const differs = (name) =>
  !existsSync(vendor + name) || readFileSync(vendor + name, "utf8") !== files[name];
if (process.argv.includes("--check")) {
  const stale = Object.keys(files).filter(differs);
  if (stale.length > 0) {
    console.error(`server/assets/vendor is stale (${stale.join(", ")}): run scripts/assets`);
    process.exit(1);
  }
} else {
  mkdirSync(vendor, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(vendor + name, text);
}
