// Tests with the stock SDK for web pages in Debian's Chromium, which playwright-core drives. The browser resolves port
// 443 of the SDK's host to the test's TLS front, and trusts the front's certificate.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { behindTls, config, row, sdk } from './sdk.mjs';
import { CHANNELS, TRIGGERS } from './triggers.mjs';

const PLACES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = PLACES.find((path) => path && existsSync(path));
const skip = executablePath ? false : 'Chromium is missing; install it (Debian: apt-get install chromium) or set CHROMIUM';
const SDK = join(dirname(createRequire(import.meta.url).resolve('@xano/js-sdk/package.json')), 'dist/xano.min.js');
const HOST = 'realtime.test';

/** A page with the SDK. `take(...names)` returns the next action with one of these names. */
async function openPage(t, server) {
  const args = ['--no-sandbox', '--disable-gpu', '--ignore-certificate-errors',
    '--disable-features=LocalNetworkAccessChecks',
    `--host-resolver-rules=MAP ${HOST}:443 127.0.0.1:${server.port}`];
  const browser = await chromium.launch({ executablePath, args });
  t.after(() => browser.close());
  const page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  await page.route('https://page.test/', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  await page.goto('https://page.test/');
  await page.addScriptTag({ path: SDK });
  await page.evaluate(([host, token]) => {
    globalThis.client = new globalThis.XanoClient({
      instanceBaseUrl: `https://${host}/`,
      realtimeConnectionCanonical: 'canonical',
      realtimeAuthToken: token,
    });
    const seen = [];
    globalThis.join = (name, options) => {
      globalThis.channel = globalThis.client.channel(name, options);
      const see = ({ action, client, options: own, payload }) => seen.push({ action, client, own, payload });
      globalThis.channel.on(see, see);
    };
    globalThis.take = async (...names) => {
      for (const deadline = Date.now() + 20_000; ;) {
        const action = seen.shift();
        if (action && names.includes(action.action)) return action;
        if (Date.now() > deadline) throw new Error(`no ${names}`);
        if (!action) await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
  }, [HOST, row(7, 42, { name: 'Leia' })]);
  return page;
}

test('a page joins, is heard, hears, and comes back after 4000 and after a restart', { skip }, async (t) => {
  const server = await behindTls(config(['pattern = "room"\nclient_public_messaging = true\nanonymous_clients = true']));
  t.after(() => server.stop());
  const page = await openPage(t, server);
  const take = (...names) => page.evaluate((all) => globalThis.take(...all), names);
  await page.evaluate(() => globalThis.join('room'));
  await take('join');
  const node = await sdk(t, server).joined('room');
  await page.evaluate(() => globalThis.channel.message({ text: 'from a page' }));
  const heard = await node.next('message');
  assert.deepEqual([heard.payload, heard.client.extras], [{ text: 'from a page' }, { name: 'Leia' }]);
  assert.deepEqual(heard.client.permissions, { dbo_id: 7, row_id: 42 });
  assert.deepEqual((await take('message')).payload, { text: 'from a page' });
  node.message('from Node');
  assert.equal((await take('message')).payload, 'from Node');
  await page.evaluate(() => globalThis.client.realtimeReconnect());
  assert.deepEqual((await take('connection_status')).payload, { status: 'disconnected' });
  await take('join');
  await server.restart();
  assert.deepEqual((await take('connection_status')).payload, { status: 'disconnected' });
  await take('join');
  await page.evaluate(() => globalThis.channel.message('again'));
  assert.equal((await take('message')).payload, 'again');
});

test('a page\'s messages pass triggers: replaced, refused, vetoed, and a burst in order', { skip }, async (t) => {
  const server = await behindTls(config(CHANNELS, '', TRIGGERS));
  t.after(() => server.stop());
  const page = await openPage(t, server);
  const take = (...names) => page.evaluate((all) => globalThis.take(...all), names);
  await page.evaluate(() => globalThis.join('words/page'));
  await take('join');
  await page.evaluate(() => [{ text: 'darn' }, 'no text'].forEach((payload) => globalThis.channel.message(payload)));
  // An answer and a message have no order.
  const told = [await take('message', 'error'), await take('message', 'error')];
  const payloads = Object.fromEntries(told.map(({ action, payload }) => [action, payload]));
  assert.deepEqual(payloads, { message: { text: '****' }, error: { message: 'A message has a text.' } });
  await page.evaluate(() => globalThis.join('closed/page'));
  const vetoed = await take('join', 'error');
  assert.deepEqual([vetoed.action, vetoed.own], ['error', { channel: 'closed/page' }]);
  await page.evaluate(() => {
    globalThis.join('slow/page');
    for (let n = 0; n < 200; n += 1) globalThis.channel.message(n);
  });
  await take('join');
  for (let n = 0; n < 200; n += 1) assert.equal((await take('message')).payload, n);
});
