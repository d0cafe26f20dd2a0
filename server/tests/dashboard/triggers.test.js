// Tests of the dashboard's triggers in Chromium: made, corrected where the error is, tried, switched and deleted.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { connectClient, grave, openPage, picture, plainRequest, skip, startBrowser, startConfigured } from "./support.js";

const CLIENT = "client-key-0123456789";
const HOSTILE = "<img src=x onerror=document.title='owned'>'\"&amp;‮";
const OWN = { "x-fanfare": "dashboard" };
const UPPER = "export const message = (input) => input.payload.toUpperCase();";

const config = `
[server]
listen = ["127.0.0.1:0"]
admin_listen = "127.0.0.1:0"
workers = 2
[apps.default]
client_key = "${CLIENT}"
[[apps.default.triggers]]
name = "fixed"
description = ${JSON.stringify(HOSTILE)}
channel = "elsewhere"
source = ${JSON.stringify(`export const message = () => undefined; // ${HOSTILE}`)}
`;

let server, browser;
if (!skip) {
  server = await startConfigured(after, config);
  browser = await startBrowser(after);
}
const url = (hash = "") => `http://${server.admin}/dashboard/${hash}`;
const plain = (path, options) => plainRequest(server.admin, `/dashboard/api/apps/default/${path}`, { headers: OWN, ...options });

/** The page has no serious violation and no markup from data. Chromium's console names refused requests. */
async function fine({ page, faults }) {
  assert.deepEqual(await grave(page), []);
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.title(), "Fanfare");
  assert.deepEqual(faults.filter((fault) => !fault.includes("status of 400")), []);
}

test("a trigger is made, corrected where its error is, tried, switched off and deleted", { skip }, async (t) => {
  const ada = await connectClient(t, `ws://${server.data}/v1/ws?key=${CLIENT}`, "room 1");
  const sent = async (message) => {
    const before = ada.frames.length;
    await ada.ask({ type: "send", channel: "room 1", event: "chat", message });
    return ada.frames.slice(before).find((frame) => frame.event === "chat").message;
  };
  const window = await openPage(browser, url("#/triggers/default"), { viewport: { width: 1280, height: 860 } });
  const { page } = window;
  const rows = page.getByRole("table", { name: "Triggers" });
  await rows.getByText("from the configuration").waitFor();
  assert.equal(await rows.getByRole("switch", { name: "fixed is active" }).isDisabled(), true);

  await page.getByRole("link", { name: "New trigger" }).click();
  await page.getByLabel("Name").fill("loud");
  await page.getByLabel("Description").fill(HOSTILE);
  await page.getByLabel("Tags").fill(`one, ${HOSTILE.replaceAll(",", "")}`);
  await page.getByLabel("Channels").fill("room*");
  const script = page.getByLabel("Script", { exact: true });
  await script.fill(`// ${HOSTILE}\nexport const = 1;\n`);
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText(/does not compile: line 2, column \d+/).waitFor();
  assert.equal(await page.locator(".gutter .wrong").textContent(), "2");
  assert.equal(await script.getAttribute("aria-invalid"), "true");
  await page.getByText("change the direction of text, are in line 1.").waitFor();
  await picture(page, "trigger-error-wide");
  await fine(window);
  await page.getByRole("button", { name: /Go to line 2/ }).click();
  const caret = await script.evaluate((area) => [document.activeElement === area, area.value.slice(0, area.selectionStart).split("\n").length]);
  assert.deepEqual(caret, [true, 2]);

  await script.fill(`export function message(input) {\n  log(${JSON.stringify(HOSTILE)});\n  return input.payload.toUpperCase();\n}\n`);
  const trial = page.getByRole("form", { name: "Trial" });
  await trial.getByLabel("Payload").fill("7");
  await trial.getByRole("button", { name: "Try" }).click();
  await page.getByText(/The run failed: TypeError/).waitFor();
  await trial.getByLabel("Payload").fill(JSON.stringify(`a${HOSTILE}`));
  await trial.getByRole("button", { name: "Try" }).click();
  await page.locator(".verdict", { hasText: "replace" }).getByText(/"A<IMG/).waitFor();
  assert.equal(await page.locator(".gutter .wrong").count(), 0);
  await picture(page, "trigger-trial-wide");
  await fine(window);
  assert.equal(await sent("Aa"), "Aa", "a trial changes nothing");

  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "loud" }).waitFor();
  assert.equal(await sent("Aa"), "AA");
  const figure = (name) => page.locator(".figure", { hasText: name }).locator("dd");
  await figure("Replaced").getByText("1", { exact: true }).waitFor();
  await figure("Time, half").getByText("≤").waitFor();
  assert.equal(await page.getByLabel("Tags").inputValue(), `one, ${HOSTILE}`);

  await page.getByRole("link", { name: "Triggers", exact: true }).click();
  const toggle = rows.getByRole("switch", { name: "loud is active" });
  await toggle.click();
  await page.locator("[aria-label='loud is active'][aria-checked=false]").waitFor();
  assert.equal(await sent("Aa"), "Aa");
  await toggle.click();
  await page.locator("[aria-label='loud is active'][aria-checked=true]").waitFor();
  assert.equal(await sent("Aa"), "AA");
  await fine(window);

  await rows.getByRole("link", { name: "loud" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Yes" }).click();
  await rows.getByText("from the configuration").waitFor();
  assert.equal(await rows.getByRole("link", { name: "loud" }).count(), 0);
  assert.equal(await sent("Aa"), "Aa");
  await window.context.close();
});

test("triggers are shown on a phone and in the dark, and the configuration's can only be tried", { skip }, async () => {
  for (const [name, options] of Object.entries({
    phone: { viewport: { width: 390, height: 844 }, hasTouch: true },
    dark: { viewport: { width: 1280, height: 860 }, colorScheme: "dark" },
  })) {
    const window = await openPage(browser, url("#/triggers/default"), options);
    const { page } = window;
    await page.getByRole("link", { name: "fixed" }).waitFor();
    await picture(page, `triggers-${name}`);
    await fine(window);
    await page.getByRole("link", { name: "fixed" }).click();
    await page.getByText("The configuration has this trigger").waitFor();
    assert.equal(await page.getByRole("button", { name: "Save" }).count(), 0);
    assert.equal(await page.getByLabel("Description").isDisabled(), true);
    await page.getByRole("button", { name: "Try" }).click();
    await page.locator(".verdict", { hasText: "pass" }).waitFor();
    const scrolls = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(scrolls, false, `${name} does not scroll sideways`);
    await picture(page, `trigger-${name}`);
    await fine(window);
    await window.context.close();
  }
});

test("wrong requests about triggers are refused", { skip }, async () => {
  const put = (name, settings) => plain(`triggers/${name}`, { method: "PUT", body: JSON.stringify(settings) });
  const code = async (answer) => {
    const { status, text } = await answer;
    return [status, JSON.parse(text).code];
  };
  assert.deepEqual(await code(put("fixed", { channel: "a", source: UPPER })), [409, "configured"]);
  assert.deepEqual(await code(put("a", { channel: "a", source: UPPER, file: "/etc/passwd" })), [400, "invalid_trigger"]);
  assert.deepEqual(await code(put("a", { channel: "a", url: "http://127.0.0.1:1/" })), [400, "invalid_trigger"]);
  assert.deepEqual(await code(plain("triggers/nothing")), [404, "unknown_trigger"]);
  assert.deepEqual(await code(plain("triggers/..%2f..%2fmetrics")), [404, "unknown_trigger"]);
  assert.deepEqual(await code(plain("triggers", { method: "DELETE" })), [404, "not_found"]);
  for (const body of ["", "[]", "{\"action\":\"sleep\"}", JSON.stringify({ source: UPPER, payload: "{" }), JSON.stringify({ source: "x".repeat(300_000) })]) {
    assert.deepEqual(await code(plain("trial", { method: "POST", body })), [400, "invalid_trigger"], body.slice(0, 40));
  }
  assert.deepEqual(await code(plain("trial", { method: "POST", body: "x".repeat((1 << 20) + 1) })), [413, "body_too_large"]);
  const endless = { source: "export const message = () => { for (;;); }", payload: "1" };
  const { status, text } = await plain("trial", { method: "POST", body: JSON.stringify(endless) });
  assert.deepEqual([status, JSON.parse(text).verdict], [200, "failed"]);
  assert.equal((await plain("triggers", { headers: {} })).status, 403, "without the page's header");
});
