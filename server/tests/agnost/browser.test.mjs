// Tests with npm's socket.io-client in a page of Debian's Chromium, which playwright-core drives: with Agnost's handshake
// over WebSocket alone, over polling alone, and with the upgrade.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { io } from 'socket.io-client';
import { CONFIG, connected, key, serverKey, start, token, within } from './server.mjs';

const PLACES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = PLACES.find((path) => path && existsSync(path));
const skip = executablePath ? false : 'Chromium is missing; install it (Debian: apt-get install chromium) or set CHROMIUM';
const CLIENT = join(dirname(createRequire(import.meta.url).resolve('socket.io-client/package.json')), 'dist/socket.io.min.js');
const DEADLINE_MS = 30_000;
const BUFFER_BYTES = 500_000;

let server;
let browser;
before(async () => {
  if (skip) return;
  server = await start(CONFIG);
  browser = await chromium.launch({
    executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-features=LocalNetworkAccessChecks'],
  });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A page with a client that joins its channels again after each connect, as Agnost's client does. */
async function openPage(t, transports, auth = {}) {
  const page = await browser.newPage();
  t.after(() => page.close());
  page.setDefaultTimeout(DEADLINE_MS);
  await page.route('http://page.test/', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  await page.goto('http://page.test/');
  await page.addScriptTag({ path: CLIENT });
  await page.evaluate(([address, transports, auth, deadlineMs]) => {
    const socket = globalThis.io(`http://${address}`, {
      path: '/realtime/realtime/', transports, auth, reconnectionDelay: 20, reconnectionDelayMax: 50,
    });
    const seen = [];
    const joined = [];
    let profile;
    const plain = (value) => {
      if (value instanceof ArrayBuffer) return { bytes: value.byteLength, sum: new Uint8Array(value).reduce((a, b) => a + b, 0) };
      if (Array.isArray(value)) return value.map(plain);
      if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
      return value;
    };
    // Marks of other clients are ignored.
    socket.onAny((...event) => { if (!event[0].startsWith('mark-')) seen.push(plain(event)); });
    socket.on('connect', () => {
      seen.push(['connect']);
      if (profile) socket.emit('update', { data: profile, echo: false });
      joined.forEach((channel) => socket.emit('join', { channel, echo: false }));
    });
    globalThis.socket = socket;
    globalThis.join = (channel) => { joined.push(channel); socket.emit('join', { channel }); };
    globalThis.update = (data) => { profile = data; socket.emit('update', { data }); };
    globalThis.bytes = (length, every) => new Uint8Array(length).fill(every).buffer;
    globalThis.take = async (name) => {
      for (const deadline = Date.now() + deadlineMs; ;) {
        const event = seen.shift();
        if (event && (!name || event[0] === name)) return event;
        if (Date.now() > deadline) throw new Error(`no ${name ?? 'event'}`);
        if (!event) await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
  }, [server.address, transports, { envId: 'env-open', apiKey: key('open'), echoMessages: true, ...auth }, DEADLINE_MS]);
  const take = (name) => page.evaluate((wanted) => globalThis.take(wanted), name);
  await take('connect');
  const id = await page.evaluate(() => globalThis.socket.id);
  return { page, take, id };
}

let rooms = 0;

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(`a page over ${transports.join(', then ')}`, { skip }, () => {
    test('joins, sends, hears, sets a profile, sees members and leaves', async (t) => {
      const room = `page-${rooms += 1}`;
      const { page, take, id } = await openPage(t, transports);
      const other = await connected(t, server);
      other.emit('join', { channel: room, echo: false });
      await other.settled();
      await page.evaluate((channel) => globalThis.join(channel), room);
      assert.deepEqual(await take(), ['channel:join', { channel: room, message: { id } }]);
      assert.deepEqual(await other.next(), ['channel:join', { channel: room, message: { id } }]);
      await page.evaluate(() => globalThis.update({ name: 'page', face: globalThis.bytes(3, 1) }));
      assert.deepEqual((await take())[1].message.data, { name: 'page', face: { bytes: 3, sum: 3 } });
      assert.deepEqual((await other.next())[1].message.data, { name: 'page', face: Buffer.from([1, 1, 1]) });
      const send = (message, echo) => page.evaluate(([channel, text, own]) => {
        globalThis.socket.emit('message', { channel, eventName: 'say', message: text, ...(own === null ? {} : { echo: own }) });
      }, [room, message, echo]);
      await send('with echo', null);
      await send('without', false);
      assert.deepEqual(await take(), ['say', { channel: room, message: 'with echo' }]);
      for (const message of ['with echo', 'without']) assert.deepEqual(await other.next(), ['say', { channel: room, message }]);
      await page.evaluate(() => globalThis.socket.emit('message', { eventName: 'all', message: [1] }));
      const all = ['all', { channel: null, message: [1] }];
      assert.deepEqual([await take(), await other.next()], [all, all]);
      const members = await page.evaluate(async ([address, channel, apiKey]) => {
        const response = await fetch(`http://${address}/env-open/agnost/realtime/get-members`, {
          method: 'POST', credentials: 'include', body: JSON.stringify({ channel }),
          headers: { Authorization: apiKey, 'X-Client': 'agnost-js', 'Content-Type': 'application/json' },
        });
        return response.json();
      }, [server.address, room, key('open')]);
      assert.deepEqual(members.map((member) => member.id).sort(), [id, other.id].sort());
      await page.evaluate((channel) => globalThis.socket.emit('leave', { channel }), room);
      for (const event of [await take(), await other.next()]) assert.equal(event[0], 'channel:leave');
    });

    test('takes Buffers of 500 kB and bursts of 200 in order, both ways', async (t) => {
      const room = `page-${rooms += 1}`;
      const { page, take } = await openPage(t, transports);
      const other = await connected(t, server, { echoMessages: false });
      other.emit('join', { channel: room });
      await page.evaluate((channel) => globalThis.join(channel), room);
      await take('channel:join');
      await other.next();
      await page.evaluate(([channel, length]) => {
        const emit = (message) => globalThis.socket.emit('message', { channel, eventName: 'n', message, echo: false });
        emit(globalThis.bytes(length, 7));
        for (let n = 0; n < 200; n += 1) emit(n);
      }, [room, BUFFER_BYTES]);
      const [, { message }] = await other.next();
      assert.ok(Buffer.isBuffer(message) && message.equals(Buffer.alloc(BUFFER_BYTES, 7)));
      for (let n = 0; n < 200; n += 1) assert.deepEqual(await other.next(), ['n', { channel: room, message: n }]);
      other.emit('message', { channel: room, eventName: 'n', message: Buffer.alloc(BUFFER_BYTES, 3) });
      for (let n = 0; n < 200; n += 1) other.emit('message', { channel: room, eventName: 'n', message: n });
      assert.deepEqual((await take('n'))[1].message, { bytes: BUFFER_BYTES, sum: 3 * BUFFER_BYTES });
      for (let n = 0; n < 200; n += 1) assert.equal((await take('n'))[1].message, n);
    });

    test('comes back to its channels with its profile, and hears of sign-ins', async (t) => {
      const room = `page-${rooms += 1}`;
      const user = `user-${rooms}`;
      const { page, take, id } = await openPage(t, transports, { session: token(user) });
      const other = await connected(t, server);
      other.emit('join', { channel: room, echo: false });
      await other.settled();
      await page.evaluate(([channel]) => { globalThis.update('me'); globalThis.join(channel); }, [room]);
      await take('channel:join');
      assert.deepEqual((await other.next())[1].message, { id, data: 'me' });
      const response = await fetch(`http://${server.address}/v1/disconnect?app=open`, {
        method: 'POST',
        headers: { authorization: `Bearer ${serverKey('open')}`, 'content-type': 'application/json' },
        body: JSON.stringify({ user, reconnect: true }),
      });
      assert.equal(response.status, 200);
      await take('connect');
      assert.equal((await other.next())[0], 'channel:leave');
      const [name, { message }] = await other.next();
      assert.deepEqual([name, message.data], ['channel:join', 'me']);
      assert.notEqual(message.id, id);
      const master = io(`http://${server.address}`, {
        path: '/realtime/', transports: ['websocket'], forceNew: true, auth: { accessToken: serverKey('open') },
      });
      t.after(() => master.disconnect());
      await within(new Promise((resolve) => { master.on('connect', resolve); }), 'connect');
      const session = { userId: user, token: 't', creationDtm: '2026-01-01T00:00:00.000Z', userAgent: { name: 'x' } };
      master.emit('user_event', { envId: 'env-open', userId: user, eventName: 'user:signin', session, user: null });
      assert.deepEqual(await take('user:signin'), ['user:signin', 'user:signin', session, null]);
    });
  });
}
