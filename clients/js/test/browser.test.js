// In a real Chromium: Debian's, driven by playwright-core.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { Backend } from "fanfare/server";
import { startProxy } from "./support/proxy.js";
import { CLIENT_KEY, SERVER_KEY, startServer } from "./support/server.js";

const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = PLACES.find((path) => path && existsSync(path));
const skip = executablePath ? false : "Chromium is missing; install it (Debian: apt-get install chromium) or set CHROMIUM";
const file = (path) => fileURLToPath(new URL(path, import.meta.url));

let server, browser, site;
if (!skip) {
  server = await startServer(after, { settings: "ping_interval_ms = 60000" });
  const hooks = await build({
    entryPoints: [file("browser/hooks.jsx")],
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"development"' },
  });
  const files = {
    "/": ["text/html", "<!doctype html><meta charset=utf-8><title>fanfare</title><body>"],
    "/fanfare.js": ["text/javascript", readFileSync(file("../dist/fanfare.min.js"))],
    "/hooks.js": ["text/javascript", hooks.outputFiles[0].contents],
  };
  const http = createServer(({ url }, response) => {
    const [type, body] = files[url] ?? ["text/plain", ""];
    response.writeHead(200, { "content-type": type, "content-security-policy": "default-src 'self'; connect-src *" });
    response.end(body);
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  site = `http://127.0.0.1:${http.address().port}/`;
  after(() => (http.close(), http.closeAllConnections()));
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  after(() => browser.close());
}

/** A page with the package in it, its errors, and a connection that the page calls `realtime`. */
async function openPage(t, url, options = {}) {
  const page = await browser.newPage();
  t.after(() => page.close());
  page.setDefaultTimeout(10_000);
  const errors = [];
  page.on("pageerror", (error) => errors.push(error));
  await page.goto(site);
  await page.evaluate(
    async ([settings]) => {
      const { Realtime } = await import("/fanfare.js");
      globalThis.realtime = new Realtime(settings);
      globalThis.story = [];
      for (const event of ["open", "close", "recovered", "gap", "error"]) {
        realtime.connection.on(event, (payload) => story.push([event, payload.code ?? payload.missed ?? null]));
      }
    },
    [{ url, key: CLIENT_KEY, backoffMs: 20, backoffMaxMs: 100, ...options }],
  );
  return { page, errors };
}

test("a page connects, sends and receives", { skip }, async (t) => {
  const { page, errors } = await openPage(t, server.url);
  const received = await page.evaluate(async () => {
    const id = await realtime.open();
    await realtime.join("page", false);
    const messages = [];
    const done = new Promise((resolve) => realtime.on("chat", ({ message }) => messages.push(message) === 3 && resolve()));
    await realtime.send("page", "chat", { text: "hi" });
    await realtime.send("page", "chat", new Uint8Array([1, 2, 255]));
    await realtime.send("page", "chat", { nested: new Uint8Array([3]).buffer });
    await done;
    const plain = (bytes) => [bytes.constructor.name, ...bytes];
    return { id, messages: [messages[0], plain(messages[1]), plain(messages[2].nested)], socketId: realtime.getSocketId() };
  });
  assert.equal(received.id, received.socketId);
  assert.deepEqual(received.messages, [{ text: "hi" }, ["Uint8Array", 1, 2, 255], ["Uint8Array", 3]]);
  assert.deepEqual(errors, []);
});

test("a page receives 10,000 messages in order", { skip }, async (t) => {
  const { page } = await openPage(t, server.url);
  const inOrder = await page.evaluate(async () => {
    await realtime.join("page", false);
    let next = 0;
    let inOrder = true;
    const done = new Promise((resolve) =>
      realtime.on("chat", ({ message }) => {
        inOrder &&= message === next;
        next += 1;
        if (next === 10_000) resolve();
      }),
    );
    for (let number = 0; number < 10_000; number += 1) realtime.send("page", "chat", number);
    await done;
    return inOrder;
  });
  assert.equal(inOrder, true);
});

test("a page reconnects after a cut, and has missed nothing", { skip }, async (t) => {
  const proxy = await startProxy(t.after.bind(t), server.port);
  const { page } = await openPage(t, proxy.url);
  await page.evaluate(async () => {
    await realtime.join("kept-page");
    globalThis.seen = [];
    realtime.on("chat", ({ message }) => seen.push(message));
  });
  proxy.state.refusing = true;
  proxy.cut();
  await page.waitForFunction(() => realtime.state !== "open");
  const backend = new Backend({ url: server.url, key: SERVER_KEY });
  for (const number of [1, 2, 3]) await backend.send("kept-page", "chat", number);
  proxy.state.refusing = false;
  await page.waitForFunction(() => story.some(([event]) => event === "recovered"));
  assert.deepEqual(await page.evaluate(() => seen), [1, 2, 3]);
});

test("a page that slept while its connection broke comes back when it wakes", { skip }, async (t) => {
  const proxy = await startProxy(t.after.bind(t), server.port);
  const { page } = await openPage(t, proxy.url);
  await page.evaluate(() => realtime.join("kept-sleep"));
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
  proxy.cut();
  const backend = new Backend({ url: server.url, key: SERVER_KEY });
  await backend.send("kept-sleep", "chat", "while it slept");
  await devtools.send("Page.setWebLifecycleState", { state: "active" });
  await page.waitForFunction(() => story.some(([event, missed]) => event === "recovered" && missed === 1));
});

test("a page that wakes looks whether its connection is alive, long before the server's ping", { skip }, async (t) => {
  for (const wake of ["online", "pageshow"]) {
    const proxy = await startProxy(t.after.bind(t), server.port);
    const { page } = await openPage(t, proxy.url, { timeoutMs: 300 });
    await page.evaluate(() => realtime.open());
    // The old connection is dead without a word; new ones would live.
    proxy.state.swallowing = true;
    await page.evaluate((name) => dispatchEvent(new Event(name)), wake);
    await page.waitForFunction(() => story.some(([event, code]) => event === "close" && code === 1006));
    proxy.state.swallowing = false;
    await page.waitForFunction(() => realtime.state === "open");
  }
});

test("a page that comes online does not wait for the back-off", { skip }, async (t) => {
  const proxy = await startProxy(t.after.bind(t), server.port);
  const { page } = await openPage(t, proxy.url, { backoffMs: 1e9, backoffMaxMs: 1e9 });
  await page.evaluate(() => realtime.open());
  proxy.cut();
  await page.waitForFunction(() => realtime.state === "waiting");
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await page.waitForFunction(() => realtime.state === "open");
});

test("a page with a wrong key is told so, although WebSocket does not say it", { skip }, async (t) => {
  const { page } = await openPage(t, server.url, { key: "another-key-0123456789" });
  const code = await page.evaluate(() => realtime.open().catch((error) => error.code));
  assert.equal(code, "invalid_key");
});

test("the hooks join, list members, show history and listen, in strict mode, and leave with their component", { skip }, async (t) => {
  const channel = "kept-hooks";
  const backend = new Backend({ url: server.url, key: SERVER_KEY });
  for (const number of [1, 2, 3, 4, 5]) await backend.send(channel, "chat", number);
  const { page, errors } = await openPage(t, server.url);
  const text = (name, part, expected) =>
    page.waitForFunction(
      ([selector, wanted]) => document.querySelector(selector)?.textContent === wanted,
      [`#${name} .${part}`, expected],
    );
  await page.evaluate(
    async ([options, where]) => {
      await import("/hooks.js");
      await show(options, where, ["leia", "luke"]);
    },
    [{ url: server.url, key: CLIENT_KEY }, channel],
  );
  for (const name of ["leia", "luke"]) {
    await text(name, "members", "leia luke");
    await text(name, "messages", "3 4 5");
  }
  await backend.send(channel, "chat", 6);
  for (const name of ["leia", "luke"]) {
    // In strict mode a component joins twice, and a page of three is read anew after the second time: perhaps with 6 in it.
    await page.waitForFunction(
      (selector) => /^(3 )?4 5 6$/.test(document.querySelector(selector)?.textContent),
      `#${name} .messages`,
    );
    await text(name, "heard", "1");
  }
  await page.click("#luke button");
  await text("luke", "messages", "1 2 3 4 5 6");
  await page.evaluate(() => remove("luke"));
  await text("leia", "members", "leia");
  assert.equal((await backend.getMembers(channel)).length, 1);
  assert.deepEqual(errors, []);
});
