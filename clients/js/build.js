// Builds dist/: ECMAScript modules with their types, the same as CommonJS, and one minified file for pages without a
// bundler.

import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const tsc = fileURLToPath(new URL("node_modules/typescript/bin/tsc", import.meta.url));

rmSync(`${here}dist`, { recursive: true, force: true });
const compile = (...options) => execFileSync(process.execPath, [tsc, ...options], { cwd: here, stdio: "inherit" });
compile();
compile("--module", "commonjs", "--outDir", "dist/cjs");
writeFileSync(`${here}dist/cjs/package.json`, '{ "type": "commonjs" }\n');
await build({
  entryPoints: [`${here}dist/esm/index.js`],
  outfile: `${here}dist/fanfare.min.js`,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  logLevel: "warning",
});
