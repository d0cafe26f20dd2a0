// docs/SDK.md names everything that an application can use. server/tests/docs runs the blocks of the pages.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

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
