// `fanfare demo`: a chat room in two browser windows, without configuration.

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, test } from "node:test";
import { grave, openPage, picture, skip, startBrowser, startServer } from "./support.js";

const PORTS = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

let url, browser, startedMs;
if (!skip) {
  const began = performance.now();
  [, url] = await startServer(after, ["demo", ...PORTS], /open (\S+) in two browser windows/);
  for (const path of ["", "demo.js", "settings.json"]) assert.equal((await fetch(url + path)).status, 200, path);
  startedMs = performance.now() - began;
  browser = await startBrowser(after);
}

test("the demo's page is served within 5 s of the command", { skip }, () => {
  console.log(`served after ${Math.round(startedMs)} ms`);
  assert.ok(startedMs < 5000, `${startedMs} ms`);
});

async function enter(name, options = {}) {
  const window = await openPage(browser, url, { viewport: { width: 720, height: 540 }, ...options });
  const { page } = window;
  await page.getByText("connected", { exact: true }).waitFor();
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel("Your name").blur();
  return window;
}

async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
  await page.locator(".messages li", { hasText: text }).waitFor();
}

test("two windows see each other, talk, edit and delete, and a third reads what was said", { skip }, async () => {
  const first = await enter("Wren");
  const second = await enter("Heron", { colorScheme: "dark" });
  for (const { page } of [first, second]) {
    await page.locator("[data-members='2']").waitFor();
    for (const name of ["Wren", "Heron"]) await page.locator("aside li", { hasText: name }).waitFor();
  }
  await say(first.page, "Is this the room with the good acoustics?");
  await second.page.getByText("good acoustics").waitFor();
  await say(second.page, "It is. Every word arrives once, and in order.");
  await say(first.page, "Then let us bring a trumpet");
  await first.page.locator("li", { hasText: "trumpet" }).getByRole("button", { name: "Edit" }).click();
  await first.page.getByLabel("Edited message").fill("Then let us bring a fanfare.");
  await first.page.keyboard.press("Enter");
  const edited = second.page.locator(".messages li", { hasText: "bring a fanfare." });
  await edited.getByText("edited").waitFor();
  await say(second.page, "this one goes");
  await second.page.locator("li", { hasText: "this one goes" }).getByRole("button", { name: "Delete" }).click();
  await first.page.getByText("this one goes").waitFor({ state: "detached" });
  assert.equal(await first.page.locator(".messages li").count(), 3);
  // A user cannot change another user's message.
  assert.equal(await edited.getByRole("button").count(), 0);
  assert.deepEqual([await grave(first.page), await grave(second.page)], [[], []]);
  await picture(first.page, "demo-light");
  await picture(second.page, "demo-dark");

  const third = await enter("Finch", { viewport: { width: 390, height: 700 } });
  await third.page.locator(".messages li").nth(2).waitFor();
  assert.equal(await third.page.locator(".messages li").count(), 3);
  await picture(third.page, "demo-phone");
  await third.context.close();
  await first.page.locator("[data-members='2']").waitFor();
  for (const { faults, context } of [first, second, third]) {
    assert.deepEqual(faults, []);
    await context.close();
  }
});

test("bad words are masked, in new messages and in edited ones", { skip }, async () => {
  const { page, faults, context } = await enter("Starling");
  await page.getByLabel("Message", { exact: true }).fill("Heck, what a darned fine echo");
  await page.keyboard.press("Enter");
  const message = page.locator(".messages li", { hasText: "fine echo" });
  await message.getByText("****, what a ****** fine echo").waitFor();
  await message.getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Edited message").fill("Darn fine echo");
  await page.keyboard.press("Enter");
  await message.getByText("**** fine echo", { exact: true }).waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test("names and messages that look like markup are shown as they are", { skip }, async () => {
  const markup = "<img src=x onerror=document.title='owned'>";
  const { page, faults, context } = await enter(markup.slice(0, 40));
  await say(page, markup);
  await page.locator(".messages .text", { hasText: markup }).waitFor();
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.title(), "Fanfare: a chat room");
  assert.deepEqual(faults, []);
  await context.close();
});

test("the page is for names of this machine alone", { skip }, async () => {
  const { hostname, port } = new URL(url);
  const status = (host) =>
    new Promise((resolve, reject) => {
      const asked = request({ hostname, port, path: "/demo/settings.json", headers: { host } }, ({ statusCode }) =>
        resolve(statusCode),
      );
      asked.on("error", reject).end();
    });
  assert.equal(await status(`127.0.0.1:${port}`), 200);
  assert.equal(await status(`localhost:${port}`), 200);
  assert.equal(await status(`rebound.example.com:${port}`), 403);
});
