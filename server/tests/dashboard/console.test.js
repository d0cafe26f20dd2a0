// Tests in Chromium of an app that serves every protocol and takes session tokens: the console joins, sends and shows
// frames as a client of each dialect does, beside a native client in the same channel, and users are found.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, test } from "node:test";
import { connectClient, grave, openPage, picture, plainRequest, skip, startBrowser, startConfigured } from "./support.js";

const CLIENT = "client-key-0123456789";
const SECRET = "a secret of the tests, long enough for HS256";
const HOSTILE = "<img src=x onerror=document.title='owned'>'\"&amp;‮";
const CONFIG = `
[server]
listen = ["127.0.0.1:0"]
admin_listen = "127.0.0.1:0"
workers = 2
[apps.default]
client_key = "${CLIENT}"
server_key = "server-key-0123456789"
[apps.default.agnost]
env_id = "env-0123456789"
[apps.default.channelstream]
secret = "${SECRET}"
[apps.default.xano]
canonical = "canonical-0123456789"
[[apps.default.xano.channels]]
pattern = "room"
history = 10
presence = true
anonymous_clients = true
client_public_messaging = true
[[apps.default.session_keys]]
algorithm = "HS256"
secret = "${SECRET}"
[apps.plain]
client_key = "${CLIENT}"
[apps.closed]
client_key = "${CLIENT}"
[apps.closed.channelstream]
secret = "${SECRET}"
allow_posting_from = ["10.0.0.1"]
`;

let server, browser;
if (!skip) {
  server = await startConfigured(after, CONFIG);
  browser = await startBrowser(after);
}
const member = (t, session) =>
  connectClient(t, `ws://${server.data}/v1/ws?key=${CLIENT}${session ? `&session=${session}` : ""}`, "room");

function token(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256" })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

async function openConsole(options = { viewport: { width: 1280, height: 860 } }, app = "default") {
  const window = await openPage(browser, `http://${server.admin}/dashboard/#/console/${app}`, options);
  const { page } = window;
  await page.getByRole("heading", { name: "Console" }).waitFor();
  return {
    ...window,
    choose: (label) => page.getByLabel("Protocol").selectOption({ label }),
    press: (name) => page.getByRole("button", { name, exact: true }).click(),
    /** Sends an example, which `change` may change. */
    async send(example, change = (text) => text) {
      await this.press(example);
      const frame = page.getByLabel("Frame", { exact: true });
      await frame.fill(change(await frame.inputValue()));
      await this.press("Send frame");
    },
    received: (hasText) => page.locator(".frames .in", { hasText }).first().waitFor(),
    state: (name) => page.getByRole("status").getByText(name, { exact: true }).waitFor(),
    async fine(expected) {
      assert.equal(await page.locator("img").count(), 0);
      assert.deepEqual(await grave(page), []);
      assert.deepEqual(window.faults.filter((fault) => !fault.includes(`status of ${expected}`)), []);
      await window.context.close();
    },
  };
}
const hostile = (text) => text.replace('"hello"', JSON.stringify(HOSTILE));

/** What a native member of the channel sees of the console. */
async function seen(other, event) {
  await other.until((frame) => frame.event === "channel:join");
  const { message } = await other.until((frame) => frame.event === event && frame.message?.text !== undefined);
  assert.equal(message.text, HOSTILE);
}

test("the console is a client of Agnost: it joins, sends, answers pings and shows frames", { skip }, async (t) => {
  const other = await member(t);
  const view = await openConsole();
  await view.choose("Agnost");
  await view.press("Connect");
  await view.received('40{"sid":');
  await view.send("Join");
  await view.received('42["channel:join"');
  await view.send("Send", hostile);
  await view.received('42["chat"');
  await seen(other, "chat");
  await other.ask({ type: "send", channel: "room", event: "news", message: { text: "from a native client" } });
  await view.received('42["news",{"channel":"room","message":{"text":"from a native client"}}]');
  await picture(view.page, "console-agnost-wide");
  // The server pings every ten seconds.
  await view.page.locator(".frames .out", { hasText: /sent 3$/ }).waitFor();
  await view.press("Disconnect");
  await other.until((frame) => frame.event === "channel:leave");
  await view.fine();
});

test("the console is a client of Xano, with and without a token", { skip }, async (t) => {
  const other = await member(t);
  const view = await openConsole({ viewport: { width: 390, height: 844 }, hasTouch: true });
  await view.choose("Xano");
  await view.press("Connect");
  await view.state("open");
  await view.send("Join");
  await view.received('"action":"presence_full"');
  await view.send("Send", hostile);
  await view.received('"action":"message"');
  await seen(other, "message");
  await picture(view.page, "console-xano-phone");
  await view.page.getByLabel("Session token").fill(token("12:7"));
  await view.press("Connect anew");
  await view.state("open");
  await view.send("Join");
  await view.received('"row_id":7');
  await view.send("History");
  await view.received('"action":"history"');
  await view.fine();
});

test("the console is a client of Channelstream: it makes the back end's calls, and shows what the client receives", { skip }, async (t) => {
  const other = await member(t);
  const view = await openConsole({ viewport: { width: 1280, height: 860 }, colorScheme: "dark" });
  await view.choose("Channelstream");
  await view.press("Connect");
  await view.received('"conn_id":');
  await view.state("open");
  await view.send("Join");
  await view.received('"subscribed_to":["room"]');
  await view.send("Send", hostile);
  await view.received('"type":"message"');
  await seen(other, "message");
  await other.ask({ type: "send", channel: "room", event: "message", message: { text: "from a native client" } });
  await view.received("from a native client");
  await picture(view.page, "console-channelstream-dark");
  for (const [call, sentence] of [["nonsense {}", "There is nothing here."], ["hello", "A call is a name and JSON"]]) {
    await view.send("Send", () => call);
    await view.received(sentence);
  }
  await view.send("Leave");
  await other.until((frame) => frame.event === "channel:leave");
  // The browser's console has an entry for the call that does not exist, which is no fault.
  await view.fine("404");
});

test("an app's console offers the protocols that the app serves, and says why a call is refused", { skip }, async () => {
  const view = await openConsole(undefined, "plain");
  const offered = view.page.getByLabel("Protocol").locator("option");
  assert.deepEqual(await offered.allTextContents(), ["Fanfare"]);
  await view.page.locator("header select").selectOption("default");
  await offered.nth(3).waitFor({ state: "attached" });
  assert.deepEqual(await offered.allTextContents(), ["Fanfare", "Agnost", "Channelstream", "Xano"]);
  await view.page.locator("header select").selectOption("closed");
  await offered.nth(3).waitFor({ state: "detached" });
  await view.choose("Channelstream");
  await view.press("Connect");
  await view.page.locator(".frames .end", { hasText: "403" }).waitFor();
  await view.state("closed");
  await view.fine("403");
});

test("a user of any name is found, and all of the user's sessions end", { skip }, async (t) => {
  const sessions = [await member(t, token(HOSTILE)), await member(t, token(HOSTILE))];
  const other = await member(t, token("leia"));
  const { page, context, faults } = await openPage(browser, `http://${server.admin}/dashboard/#/sessions/default`);
  await page.getByLabel("User").fill(HOSTILE);
  await page.getByRole("button", { name: "Find" }).click();
  const rows = page.getByRole("table", { name: "Sessions" }).locator("tbody tr");
  await page.getByText("Sessions of <img").waitFor();
  await rows.nth(1).waitFor();
  assert.equal(await rows.count(), 2);
  const whole = page.locator("form");
  await whole.getByRole("button", { name: "Disconnect" }).click();
  await whole.getByRole("button", { name: "Yes" }).click();
  await Promise.all(sessions.map(({ closed }) => closed));
  await page.getByText("No session on this page.").waitFor();
  await other.ask({ type: "ping" });
  assert.equal(await page.locator("img").count(), 0);
  assert.deepEqual([await grave(page), faults], [[], []]);
  await context.close();
});

test("calls and dialects are those of a list, and only for the dashboard's own page", { skip }, async () => {
  const path = (call, app = "default") => `/dashboard/api/apps/${app}/channelstream/${call}`;
  const post = (to, headers) => plainRequest(server.admin, to, { method: "POST", headers, body: "{}" });
  const own = { "x-fanfare": "dashboard" };
  assert.equal((await post(path("connect"))).status, 403);
  for (const wrong of [path("admin/admin.json"), path("user_state"), path(""), path("connect%0d%0ax"), path("connect", "plain")]) {
    assert.equal((await post(wrong, own)).status, 404, wrong);
  }
  assert.equal((await plainRequest(server.admin, path("connect"), { headers: own })).status, 404);
  assert.equal((await post(path("connect"), own)).status, 422, "a body that names nobody");
  const upgrade = {
    connection: "upgrade", upgrade: "websocket", "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", origin: `http://${server.admin}`,
  };
  for (const [query, status] of [["app=plain&dialect=xano", 409], ["app=plain&dialect=agnost", 409], ["app=plain&dialect=probe", 404]]) {
    assert.equal((await plainRequest(server.admin, `/dashboard/console?${query}`, { headers: upgrade })).status, status, query);
  }
});
