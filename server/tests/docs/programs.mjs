// Blocks in JavaScript and TypeScript with the SDK: programs run in Node, components are shown in Chromium.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { root } from "./pages.mjs";
import { CLIENT_KEY, SERVER_KEY, environment, require, run } from "./running.mjs";

const SDK = `${root}clients/js`;
const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = PLACES.find((path) => path && existsSync(path));

/** A folder inside of the package, where the package finds itself by its name. */
function inside(after) {
  const path = mkdtempSync(join(SDK, ".snippets-"));
  after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A program of the page with the address and the keys of the test's server. */
const placed = (text, server) =>
  text
    .replaceAll("http://127.0.0.1:8080", server.url)
    .replaceAll("https://example.com", server.url)
    .replaceAll("<client key>", CLIENT_KEY)
    .replaceAll("<server key>", SERVER_KEY);

/** What the README's program prints, beside the ids of sessions. */
const PRINTED = ["technology-chat Let's have a Juma juice?", "1 are here", "true"];

/** Runs a program. A program in TypeScript is checked by the compiler first. */
export async function runProgram(after, text, { server, place }, language = "js") {
  const folder = inside(after);
  const env = environment(place);
  const file = join(folder, `program.m${language}`);
  writeFileSync(file, text);
  let program = `${placed(text, server)}\nawait realtime.open();\nrealtime.close();\n`;
  if (language === "ts") {
    const options = "--ignoreConfig --noEmit --strict --module nodenext --target es2022 --lib es2022,dom --types".split(" ");
    const compiled = await run(after, process.execPath, [join(SDK, "node_modules/typescript/bin/tsc"), ...options, "", file], { cwd: folder, env });
    assert.equal(compiled.status, 0, compiled.output);
    const socket = 'import { WebSocket } from "ws";\nglobalThis.WebSocket ??= WebSocket;\n';
    program = socket + (await require("esbuild").transform(program, { loader: "ts" })).code;
  }
  writeFileSync(join(folder, "run.mjs"), program);
  const { status, output } = await run(after, process.execPath, ["run.mjs"], { cwd: folder, env });
  assert.equal(status, 0, output);
  if (language === "js") for (const line of PRINTED) assert.ok(output.split("\n").includes(line), `${line} is not in\n${output}`);
}

/** Shows the component `Room` of a block in Chromium: its members, and a message. */
export async function runComponent(after, text, { server }) {
  const entry = `${text}
import { createRoot } from "react-dom/client";
import { Realtime } from "fanfare";
const realtime = new Realtime({ url: ${JSON.stringify(server.url)}, key: ${JSON.stringify(CLIENT_KEY)} });
await realtime.update({ username: "Leia" });
createRoot(document.getElementById("root")).render(<Room realtime={realtime} channel="hall" />);
`;
  const built = await require("esbuild").build({
    stdin: { contents: entry, loader: "jsx", resolveDir: SDK },
    bundle: true, write: false, format: "esm", jsx: "automatic", define: { "process.env.NODE_ENV": '"development"' },
  });
  if (!executablePath) return "it compiles; Chromium is missing";
  const site = createServer(({ url }, response) => {
    response.setHeader("content-type", url === "/" ? "text/html" : "text/javascript");
    response.end(url === "/" ? '<!doctype html><div id="root"></div><script type="module" src="/page.js"></script>' : built.outputFiles[0].contents);
  }).listen(0, "127.0.0.1");
  await once(site, "listening");
  after(() => (site.close(), site.closeAllConnections()));
  const browser = await require("playwright-core").chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  after(() => browser.close());
  const page = await browser.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  await page.locator("p", { hasText: "Leia" }).waitFor();
  await page.getByRole("button", { name: "older" }).click();
  assert.deepEqual(faults, []);
}
