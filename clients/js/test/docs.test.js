// The snippets of the README are run: those in JavaScript, in turn and as one program, against a server; those in JSX and
// TypeScript are compiled.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { transform } from "esbuild";
import { CLIENT_KEY, SERVER_KEY, startServer } from "./support/server.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(join(root, "README.md"), "utf8");
const snippets = (language) => [...readme.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter((found) => found[1] === language).map((found) => found[2]);

// Inside the package, so that it finds itself by its name.
const folder = join(root, ".snippets");
mkdirSync(folder, { recursive: true });
after(() => rmSync(folder, { recursive: true, force: true }));

test("the README's program runs", async () => {
  const server = await startServer(after);
  const program = snippets("js")
    .join("\n")
    .replaceAll("http://127.0.0.1:8080", server.url)
    .replaceAll("<client key>", CLIENT_KEY)
    .replaceAll("<server key>", SERVER_KEY);
  assert.ok(program.includes(CLIENT_KEY) && program.includes(SERVER_KEY) && program.includes(server.url));
  writeFileSync(join(folder, "readme.mjs"), `${program}\nrealtime.close();\n`);
  const output = execFileSync(process.execPath, [join(folder, "readme.mjs")], { encoding: "utf8", timeout: 20_000 });
  for (const line of ["technology-chat Let's have a Juma juice?", "1 are here", "true"]) {
    assert.ok(output.split("\n").includes(line), `${line} is not in\n${output}`);
  }
});

test("the README's component compiles", async () => {
  assert.equal(snippets("jsx").length, 1);
  await transform(snippets("jsx")[0], { loader: "jsx" });
});

test("the README's TypeScript compiles", () => {
  writeFileSync(join(folder, "readme.mts"), snippets("ts").join("\n"));
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const options = ["--ignoreConfig", "--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--types", ""];
  const { status, stdout } = spawnSync(process.execPath, [tsc, ...options, join(folder, "readme.mts")], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});

/** The public methods of a class, as its declaration has them. */
const methods = (name, file) => {
  const text = readFileSync(join(root, "dist/esm", file), "utf8");
  const body = text.slice(text.indexOf(`export declare class ${name}`));
  return [...body.slice(0, body.indexOf("\n}")).matchAll(/^ {4}(\w+)[<(]/gm)].map((found) => found[1]).filter((found) => found !== "constructor");
};

test("docs/SDK.md names every public method, option, event and local error code", () => {
  const page = readFileSync(join(root, "../../docs/SDK.md"), "utf8");
  const types = readFileSync(join(root, "dist/esm/types.d.ts"), "utf8");
  const errors = readFileSync(join(root, "src/errors.ts"), "utf8");
  const keys = (name) => {
    const body = types.slice(types.indexOf(`interface ${name} {`));
    return [...body.slice(0, body.indexOf("\n}")).matchAll(/^ {4}(?:readonly )?"?(\w[\w ]*)"?\??:/gm)].map((found) => found[1]);
  };
  const codes = [...errors.slice(errors.indexOf("LocalErrorCode =")).split(";")[0].matchAll(/"(\w+)"/g)].map((found) => found[1]);
  const names = [...methods("Realtime", "realtime.d.ts"), ...methods("Backend", "server.d.ts"), ...keys("RealtimeOptions"), ...keys("ConnectionEvents"), ...codes];
  assert.ok(names.length > 50, `only ${names.length} were found`);
  const missing = names.filter((name) => !new RegExp(`\`[^\`]*\\b${name}\\b`).test(page));
  assert.deepEqual(missing, []);
});
