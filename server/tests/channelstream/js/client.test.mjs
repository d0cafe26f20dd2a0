// The original's JavaScript client, unmodified, in a page of jsdom: CHANNELSTREAM_JS is the folder of its checkout and
// FANFARE_BIN the server. The page's back end signs as the JavaScript signer does and passes answers on.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { JSDOM } from 'jsdom';

const SECRET = 'a-secret-of-the-tests';
const DEADLINE_MS = 30_000;
const SOURCE = readFileSync(join(process.env.CHANNELSTREAM_JS, 'src/channelstream.js'), 'utf8');

/** A signature as the client's own signer makes it: the signer replaces only the first occurrence of each character. */
function sign() {
  const strip = (text) => text.replace('=', '').replace('+', '-').replace('/', '_');
  const key = createHash('sha1').update(`itsdangerous.Signersigner${SECRET}`).digest();
  const time = Buffer.alloc(4);
  time.writeUInt32BE(Math.floor(Date.now() / 1000));
  const value = `channelstream.${strip(time.toString('base64'))}`;
  return `${value}.${strip(createHmac('sha1', key).update(value).digest('base64'))}`;
}

async function freePort() {
  const probe = createSocket().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

class Fanfare {
  async start() {
    this.folder = mkdtempSync(join(tmpdir(), 'fanfare-channelstream-'));
    const [port, admin] = [await freePort(), await freePort()];
    this.url = `http://127.0.0.1:${port}`;
    const file = join(this.folder, 'fanfare.toml');
    writeFileSync(file, `
[server]
listen = "127.0.0.1:${port}"
admin_listen = "127.0.0.1:${admin}"
workers = 2
[apps.default]
client_key = "client-key-0123456789"
[apps.default.channelstream]
secret = "${SECRET}"
`);
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('FANFARE_')));
    this.child = spawn(process.env.FANFARE_BIN, ['--config', file], { env, stdio: 'ignore' });
    await until(() => fetch(this.url).then(() => true, () => false), 'server');
  }

  async call(method, path, body) {
    const headers = { 'x-channelstream-secret': sign() };
    const answer = await fetch(this.url + path, { method, headers, body: JSON.stringify(body) });
    const text = await answer.text();
    assert.equal(answer.status, 200, text);
    return JSON.parse(text);
  }

  say(channel, message, more = {}) {
    return this.call('POST', '/message', [{ user: 'system', channel, message, ...more }]);
  }

  stop() {
    this.child.kill();
    rmSync(this.folder, { recursive: true });
  }
}

/** Waits until a condition holds. The condition is checked after each event, and after a short pause. */
async function until(condition, what) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `no ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The page's back end, which has users, signs requests, and passes the answers to the client. */
async function backEnd(fanfare) {
  const routes = {
    '/connect': (body) => fanfare.call('POST', '/connect', {
      username: body.username, channels: body.channels, state_public_keys: ['mood'],
      channel_configs: Object.fromEntries(body.channels.map((channel) => [channel, {
        notify_presence: true, store_history: true, notify_state: true,
      }])),
    }),
    '/subscribe': (body) => fanfare.call('POST', '/subscribe', body),
    '/unsubscribe': (body) => fanfare.call('POST', '/unsubscribe', body),
    '/user_state': (body) => fanfare.call('POST', '/user_state', { user: body.username, user_state: body.update_state }),
    '/message': (body, method) => fanfare.call(method, '/message', [body]),
  };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const route = routes[request.url];
    if (!route) return response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html>');
    const answer = await route(JSON.parse(Buffer.concat(chunks).toString()), request.method);
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** The client in a page, with everything that the client receives. */
class Page {
  constructor(fanfare, back, username, channels, noWebsocket) {
    this.dom = new JSDOM('', { url: back.url, runScripts: 'outside-only', pretendToBeVisual: true });
    const { window } = this.dom;
    window.eval(`${SOURCE.replace(/^export /gm, '')}\nwindow.ChannelStreamConnection = ChannelStreamConnection;`);
    const client = new window.ChannelStreamConnection();
    Object.assign(client, { username, channels, noWebsocket, increaseBounceIv: 100 });
    for (const name of ['connect', 'subscribe', 'unsubscribe', 'message']) client[`${name}Url`] = `${back.url}/${name}`;
    client.userStateUrl = `${back.url}/user_state`;
    client.messageEditUrl = client.messageDeleteUrl = client.messageUrl;
    client.disconnectUrl = `${fanfare.url}/disconnect`;
    client.longPollUrl = `${fanfare.url}/listen`;
    client.websocketUrl = `${fanfare.url.replace('http', 'ws')}/ws`;
    this.received = [];
    this.calls = [];
    for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(client))) {
      if (name.endsWith('Callback')) client[name] = (...given) => this.calls.push([name, ...given]);
    }
    client.listenMessageCallback = (frames) => this.received.push(...frames);
    this.client = client;
  }

  async open() {
    this.client.connect();
    await this.called('listenOpenedCallback');
    // A poll is open once it is sent: a message that is published from now on reaches it.
    return this;
  }

  called(name, count = 1) {
    const calls = () => this.calls.filter(([called]) => called === name);
    return until(() => calls().length >= count && calls().at(-1), name);
  }

  /** The first frame that a condition accepts. */
  async frame(fits, what) {
    return until(() => this.received.find(fits), what);
  }

  close() {
    this.client.shouldReconnect = false;
    this.client.closeConnection();
    this.dom.window.close();
  }
}

const fanfare = new Fanfare();
let back;
let number = 0;

before(async () => {
  await fanfare.start();
  back = await backEnd(fanfare);
});

after(() => {
  back?.close();
  fanfare.stop();
});

for (const noWebsocket of [false, true]) {
  describe(noWebsocket ? 'polling' : 'WebSocket', () => {
    const pages = [];
    const join = (username, channels) => {
      const page = new Page(fanfare, back, username, channels, noWebsocket);
      pages.push(page);
      return page;
    };
    const fresh = (word) => `${word}-${noWebsocket ? 'poll' : 'ws'}-${(number += 1)}`;
    const says = (text) => ({ message }) => message?.text === text;
    after(() => pages.forEach((page) => page.close()));

    test('connects, and knows its channels', async () => {
      const page = join(fresh('user'), ['b', 'a']);
      page.client.connect();
      const [, , data] = await page.called('connectCallback');
      await page.called('listenOpenedCallback');
      assert.deepEqual([...page.client.channels], ['a', 'b']);
      assert.equal(page.client.connectionId, data.conn_id);
    });

    test('receives what the back end says, in order', async () => {
      const channel = fresh('channel');
      const page = await join(fresh('user'), [channel]).open();
      for (const text of ['one', 'two', 'three']) await fanfare.say(channel, { text });
      await page.frame(says('three'), 'message');
      const texts = page.received.filter(({ type }) => type === 'message').map(({ message }) => message.text);
      assert.deepEqual(texts, ['one', 'two', 'three']);
    });

    test('sends through its back end, and receives its own', async () => {
      const channel = fresh('channel');
      const page = await join('sender', [channel]).open();
      page.client.message({ user: 'sender', channel, message: { text: 'mine' } });
      const frame = await page.frame(says('mine'), 'message');
      assert.deepEqual([frame.user, frame.channel, frame.edited], ['sender', channel, null]);
      await page.called('messageCallback');
    });

    test('receives what is for it alone, and nothing that is for others', async () => {
      const [channel, user] = [fresh('channel'), fresh('user')];
      const page = await join(user, [channel]).open();
      await fanfare.say(channel, { text: 'not for it' }, { exclude_users: [user] });
      await fanfare.say(channel, { text: 'for another' }, { pm_users: ['another'] });
      await fanfare.say(undefined, { text: 'private' }, { pm_users: [user] });
      const frame = await page.frame(says('private'), 'message');
      assert.equal(frame.channel, null);
      assert.equal(page.received.filter(({ type }) => type === 'message').length, 1);
    });

    test('sees others come and go', async () => {
      const [channel, other] = [fresh('channel'), fresh('other')];
      const page = await join(fresh('user'), [channel]).open();
      const second = await join(other, [channel]).open();
      const presence = (action) => (frame) =>
        frame.type === 'presence' && frame.user === other && frame.message.action === action;
      await page.frame(presence('joined'), 'joined');
      second.client.shouldReconnect = false;
      second.client.disconnect();
      await page.frame(presence('parted'), 'parted');
    });

    test('subscribes and unsubscribes', async () => {
      const [first, second] = [fresh('first'), fresh('second')];
      const page = await join(fresh('user'), [first]).open();
      page.client.subscribe([second]);
      await page.called('subscribeCallback');
      assert.deepEqual([...page.client.channels], [first, second].sort());
      await fanfare.say(second, { text: 'inside' });
      await page.frame(says('inside'), 'message');
      page.client.unsubscribe([second]);
      await page.called('unsubscribeCallback');
      await fanfare.say(second, { text: 'outside' });
      await fanfare.say(first, { text: 'still' });
      await page.frame(says('still'), 'message');
      assert.ok(!page.received.some(says('outside')));
    });

    test('changes its state, of which others see the public part', async () => {
      const [channel, user] = [fresh('channel'), fresh('user')];
      const page = await join(user, [channel]).open();
      const other = await join(fresh('other'), [channel]).open();
      page.client.updateUserState({ mood: 'fine', secret: 1 });
      for (const each of [page, other]) {
        const frame = await each.frame(({ type }) => type === 'user_state_change', 'state');
        assert.deepEqual({ ...frame.message.state }, { mood: 'fine' });
      }
    });

    test('edits and deletes', async () => {
      const channel = fresh('channel');
      const page = await join(fresh('user'), [channel]).open();
      const [{ uuid }] = await fanfare.say(channel, { text: 'old' });
      page.client.edit({ uuid, channel, message: { text: 'new' } });
      const edit = await page.frame(({ type }) => type === 'message:edit', 'edit');
      assert.deepEqual([edit.uuid, edit.message.text], [uuid, 'new']);
      page.client.delete({ uuid, channel });
      const gone = await page.frame(({ type }) => type === 'message:delete', 'deletion');
      assert.equal(gone.uuid, uuid);
      const { channels } = await fanfare.call('POST', '/info', { info: { channels: [channel] } });
      assert.deepEqual(channels[channel].history, []);
    });

    test('receives what was said before it listened', async () => {
      const channel = fresh('channel');
      const page = join(fresh('user'), [channel]);
      const listen = page.client.startListening.bind(page.client);
      page.client.startListening = async (...given) => {
        await fanfare.say(channel, { text: 'early' });
        listen(...given);
      };
      await page.open();
      const frame = await page.frame(says('early'), 'message');
      assert.equal(frame.catchup, true);
    });

    test('is of one user with its other pages', async () => {
      const [channel, user] = [fresh('channel'), fresh('user')];
      const watcher = await join(fresh('watcher'), [channel]).open();
      const both = [await join(user, [channel]).open(), await join(user, [channel]).open()];
      await fanfare.say(undefined, { text: 'to both' }, { pm_users: [user] });
      for (const page of both) await page.frame(says('to both'), 'message');
      await fanfare.say(channel, { text: 'end' });
      await watcher.frame(says('end'), 'message');
      const joined = watcher.received.filter((frame) => frame.type === 'presence' && frame.user === user);
      assert.equal(joined.length, 1);
    });

    if (noWebsocket) {
      test('polls on when nothing comes', async () => {
        const channel = fresh('channel');
        const page = await join(fresh('user'), [channel]).open();
        await page.called('listenOpenedCallback', 2);
        await fanfare.say(channel, { text: 'late' });
        await page.frame(says('late'), 'message');
        assert.equal(page.received.filter(says('late')).length, 1);
      });
    } else {
      test('comes back with another id when its connection is lost', async () => {
        const channel = fresh('channel');
        const page = await join(fresh('user'), [channel]).open();
        const first = page.client.connectionId;
        await fetch(`${fanfare.url}/disconnect?conn_id=${first}`);
        await page.called('listenOpenedCallback', 2);
        assert.notEqual(page.client.connectionId, first);
        await fanfare.say(channel, { text: 'again' });
        await page.frame(says('again'), 'message');
      });
    }
  });
}
