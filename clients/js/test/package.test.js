// What is published: its types, its size, and that it works where it is installed.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const tsc = join(root, "node_modules/typescript/bin/tsc");

/** The bytes that a page loads for this code, gzipped. */
async function gzipped(code) {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: root },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: ["react"],
    write: false,
  });
  const [{ text }] = outputFiles;
  return { bytes: gzipSync(text, { level: 9 }).length, text };
}

test("everything for the browser is less than 8 kB gzipped", async () => {
  const { bytes } = await gzipped('export * from "fanfare"');
  assert.ok(bytes < 8000, `it is ${bytes} bytes`);
  assert.ok(gzipSync(readFileSync(join(root, "dist/fanfare.min.js")), { level: 9 }).length < 8000);
});

test("what is not imported is not loaded", async () => {
  const all = await gzipped('export * from "fanfare"');
  const one = await gzipped('export { Realtime } from "fanfare"');
  assert.ok(one.bytes < all.bytes - 500, `${one.bytes} of ${all.bytes}`);
  assert.ok(!one.text.includes("channel:update"), "the live list is not in it");
  const error = await gzipped('export { FanfareError } from "fanfare"');
  assert.ok(error.bytes < 250, `an error alone is ${error.bytes} bytes`);
  const nothing = await gzipped('import "fanfare"; import "fanfare/react"; import "fanfare/server";');
  assert.equal(nothing.text.trim(), "");
});

test("the back end's client does not load the realtime one", async () => {
  const { text } = await gzipped('export { Backend } from "fanfare/server"');
  assert.ok(!text.includes("binaryType"));
});

test("the types are as the usage file says, also where something must not compile", () => {
  const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", join(root, "test/types")], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});

test("npm pack, installed in a fresh folder, works as ECMAScript modules, as CommonJS, and with types", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "fanfare-pack-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const npm = (cwd, ...options) => execFileSync("npm", [...options, "--silent"], { cwd, encoding: "utf8" });
  // The build has been made; the scripts would make it anew under the tests that run beside this one.
  npm(root, "pack", "--ignore-scripts", "--pack-destination", folder);
  const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz"));
  writeFileSync(join(folder, "package.json"), '{ "private": true }');
  npm(folder, "install", "--offline", "--no-audit", "--no-fund", `./${tarball}`);

  const installed = join(folder, "node_modules/fanfare");
  assert.deepEqual(readdirSync(join(folder, "node_modules")).filter((name) => name[0] !== "."), ["fanfare"], "no dependency");
  assert.deepEqual(readdirSync(installed).sort(), ["README.md", "dist", "package.json"]);

  const uses = `
    const realtime = new Realtime({ url: "http://127.0.0.1:1", key: "k" });
    if (realtime.state !== "idle" || typeof presence !== "function") throw new Error("not it");
    new Backend({ url: "http://127.0.0.1:1", key: "k" });
    if (!(new FanfareError("a", "b") instanceof Error)) throw new Error("no error");`;
  writeFileSync(join(folder, "m.mjs"), `import { FanfareError, Realtime, presence } from "fanfare"; import { Backend } from "fanfare/server"; ${uses}`);
  writeFileSync(join(folder, "c.cjs"), `const { FanfareError, Realtime, presence } = require("fanfare"); const { Backend } = require("fanfare/server"); ${uses}`);
  for (const file of ["m.mjs", "c.cjs"]) execFileSync(process.execPath, [join(folder, file)]);

  writeFileSync(join(folder, "t.cts"), 'import { Realtime } from "fanfare"; import { Backend } from "fanfare/server"; export const all = [Realtime, Backend];');
  writeFileSync(join(folder, "t.mts"), 'import { Realtime } from "fanfare"; import { Backend } from "fanfare/server"; export const all = [Realtime, Backend];');
  const options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--types", ""];
  const { status, stdout } = spawnSync(process.execPath, [tsc, ...options, "t.cts", "t.mts"], { cwd: folder, encoding: "utf8" });
  assert.equal(status, 0, stdout);
});
