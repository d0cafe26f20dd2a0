// Tests of clients that poll: stock clients, and raw requests. A raw request has a connection of its own, so it may
// arrive at any of the four workers.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Socket as EngineSocket } from 'engine.io-client';
import WebSocket from 'ws';
import { CONFIG, Inbox, client, connected, counted, key, native, serverKey, start, within } from './server.mjs';

const SEPARATOR = '\x1e';
const PATH = '/realtime/realtime/';

let server;
before(async () => { server = await start(CONFIG.replace('workers = 2', 'workers = 4')); });
after(() => server.stop());

const polling = { transports: ['polling'] };
const upgrading = { transports: ['polling', 'websocket'] };

/** Sends a request on a connection of its own. `sent` resolves when the request is under way. */
function request(method, query, { body, headers = {}, on = server, agent = false } = {}) {
  const [host, port] = on.address.split(':');
  let made;
  const answer = new Promise((resolve, reject) => {
    made = http.request({ host, port, path: `${PATH}?${query}`, method, headers, agent }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (more) => { text += more; }).on('error', reject)
        .on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    made.on('error', reject).end(body);
  });
  return Object.assign(within(answer, `answer to ${method} ${query}`), { made });
}

/** A raw client that has its open packet and no session yet. */
class Hand {
  static async open(on = server) {
    const { status, headers, text } = await request('GET', 'EIO=4&transport=polling&t=abc', { on });
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/plain; charset=UTF-8');
    assert.equal(headers['access-control-allow-origin'], '*');
    assert.equal(headers['cache-control'], 'no-store');
    const hand = new Hand();
    Object.assign(hand, { on, opened: JSON.parse(text.slice(1)), packets: [] });
    assert.equal(text[0], '0');
    return hand;
  }

  static async connected(on = server, app = 'open', echoMessages = true) {
    const hand = await Hand.open(on);
    await hand.say(`40${JSON.stringify({ envId: app === 'open' ? 'env-open' : app, apiKey: key(app), echoMessages })}`);
    const packet = await hand.next();
    assert.match(packet, /^40\{"sid":"/);
    hand.id = JSON.parse(packet.slice(2)).sid;
    return hand;
  }

  get query() { return `EIO=4&transport=polling&sid=${this.opened.sid}`; }

  poll(options) { return request('GET', this.query, { on: this.on, ...options }); }

  post(body, headers, options) { return request('POST', this.query, { body, headers, on: this.on, ...options }); }

  /** Posts packets, and checks that the server accepts them. */
  async say(...packets) {
    const { status, text, headers } = await this.post(packets.join(SEPARATOR));
    assert.deepEqual([status, text, headers['content-type']], [200, 'ok', 'text/html']);
  }

  /** The next packet other than a ping. Pings are answered. */
  async next() {
    for (;;) {
      while (!this.packets.length) {
        const { status, text } = await this.poll();
        assert.equal(status, 200, text);
        this.packets.push(...text.split(SEPARATOR));
      }
      const packet = this.packets.shift();
      if (packet === '2') await this.say('3');
      else if (packet !== '6') return packet;
    }
  }

  /** Polls until the server does not know the client any more. */
  async gone() {
    const { status, text } = await this.poll();
    assert.deepEqual([status, JSON.parse(text).code], [400, 1]);
  }

  probe() {
    const socket = new WebSocket(`ws://${this.on.address}${PATH}?EIO=4&transport=websocket&sid=${this.opened.sid}`);
    const inbox = new Inbox();
    socket.on('message', (data, binary) => inbox.put(binary ? data : data.toString()));
    socket.on('close', (code) => inbox.put({ code }));
    return Object.assign(socket, { next: () => inbox.next('frame') });
  }
}

const event = (name, message, channel = 'room') => `42${JSON.stringify([name, { channel, message }])}`;
const message = (eventName, body, channel = 'room') => `42${JSON.stringify(['message', { channel, eventName, message: body }])}`;
const join = (channel = 'room', echo = false) => `42${JSON.stringify(['join', { channel, echo }])}`;

describe('stock clients', () => {
  for (const [name, options] of [['that poll', polling], ['that upgrade', upgrading]]) {
    test(`${name} meet one over WebSocket and a native one in a channel`, async (t) => {
      const channel = `meet-${name}`;
      const one = await connected(t, server, { echoMessages: false }, options);
      const two = await connected(t, server, { echoMessages: false });
      one.emit('join', { channel });
      assert.deepEqual(await one.settled(), []);
      const third = await native(t, server);
      two.emit('join', { channel });
      assert.deepEqual(await one.next(), ['channel:join', { channel, message: { id: two.id } }]);
      third.send({ id: 1, type: 'join', channel });
      await third.next();
      for (const socket of [one, two]) assert.equal((await socket.next())[1].message.id, third.welcome.session);
      const bytes = Buffer.from([0, 30, 255, 1]);
      one.emit('message', { channel, eventName: 'text', message: { a: 'ü' } });
      one.emit('message', { channel, eventName: 'bytes', message: bytes });
      assert.deepEqual(await two.next(), ['text', { channel, message: { a: 'ü' } }]);
      assert.deepEqual(await two.next(), ['bytes', { channel, message: bytes }]);
      third.send({ type: 'send', channel, event: 'native', message: [1], echo: false });
      for (const socket of [one, two]) assert.deepEqual(await socket.next(), ['native', { channel, message: [1] }]);
      two.emit('message', { channel, eventName: 'bytes', message: bytes });
      assert.deepEqual(await one.next(), ['bytes', { channel, message: bytes }]);
      one.disconnect();
      assert.equal((await two.next())[0], 'channel:leave');
    });
  }

  test('lose and repeat nothing while they upgrade', async (t) => {
    const channel = 'upgrade';
    const sender = await connected(t, server, { echoMessages: false });
    const upgrades = await counted(server, 'upgrades_total');
    const total = 400;
    for (let round = 0; round < 5; round += 1) {
      const socket = await connected(t, server, { echoMessages: false }, upgrading);
      socket.emit('join', { channel });
      assert.deepEqual(await socket.settled(), []);
      for (let n = 0; n < total; n += 1) {
        sender.emit('message', { channel, eventName: 'down', message: n });
        socket.emit('message', { channel: 'up', eventName: 'up', message: n });
        if (n % 20 === 0) await new Promise(setImmediate);
      }
      for (let n = 0; n < total; n += 1) assert.deepEqual(await socket.next(), ['down', { channel, message: n }]);
      if (socket.io.engine.transport.name !== 'websocket') await within(once(socket.io.engine, 'upgrade'), 'upgrade');
      assert.deepEqual(await socket.settled(), []);
      socket.disconnect();
    }
    assert.equal(await counted(server, 'upgrades_total'), upgrades + 5);
  });

  test('keep an idle poll for many intervals', async (t) => {
    const socket = await connected(t, server, {}, polling);
    let polls = 0;
    socket.io.engine.on('packet', ({ type }) => { polls += type === 'ping'; });
    while (polls < 5) await within(once(socket.io.engine, 'packet'), 'ping');
    assert.deepEqual(await socket.settled(), []);
  });

  test('come back through a proxy that cuts connections', async (t) => {
    const [host, port] = server.address.split(':');
    const cut = new Set();
    let made = 0;
    // Cuts some connections after the answer's beginning or in the middle of the request.
    const proxy = net.createServer((near) => {
      const far = net.connect({ host, port });
      const end = () => { near.destroy(); far.destroy(); };
      cut.add(near);
      made += 1;
      const [early, late] = [made % 60 === 27, made % 20 === 11];
      near.on('data', (data) => (early ? end() : far.write(data))).on('error', end).on('close', end);
      far.on('data', (data) => (late ? end() : near.write(data))).on('error', end).on('close', end);
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    t.after(() => { proxy.close(); cut.forEach((socket) => socket.destroy()); });
    const through = { address: `127.0.0.1:${proxy.address().port}` };
    const channel = 'cut';
    const sender = await connected(t, server, { echoMessages: false });
    const socket = client(t, through, { echoMessages: false }, polling);
    const ids = new Set();
    socket.on('connect', () => {
      ids.add(socket.id);
      socket.emit('join', { channel });
    });
    let n = 0;
    const seen = [];
    let ended = false;
    const feed = setInterval(() => sender.emit('message', { channel, eventName: 'n', message: n++ }), 2);
    socket.on('n', (data) => {
      seen.push(data.message);
      ended = ids.size > 5;
    });
    await within((async () => { while (!ended) await once(socket, 'n'); })(), 'reconnections').finally(() => clearInterval(feed));
    const rising = seen.every((value, at) => at === 0 || seen[at - 1] < value);
    assert.ok(rising, 'nothing is repeated and the order holds');
    assert.ok(seen.length > 50);
  });

  test('of Engine.IO alone see the original packets', async (t) => {
    const socket = new EngineSocket(`http://${server.address}`, { path: PATH, transports: ['polling'] });
    t.after(() => socket.close());
    await within(once(socket, 'open'), 'open');
    socket.send(`0${JSON.stringify({ envId: 'env-open', apiKey: key('open') })}`);
    const [packet] = await within(once(socket, 'message'), 'CONNECT');
    assert.match(packet, /^0\{"sid":"[\w-]{20,}"\}$/);
    assert.notEqual(JSON.parse(packet.slice(1)).sid, socket.id, 'the secret is not the id');
  });

  test('are refused as over WebSocket', async (t) => {
    const socket = client(t, server, { envId: 'nobody' }, polling);
    const [error] = await within(once(socket, 'connect_error'), 'refusal');
    assert.equal(error.data.code, 'no_environment_found');
  });
});

describe('by hand', () => {
  test('a session of one worker is found from all', async () => {
    const hands = await Promise.all(Array.from({ length: 8 }, () => Hand.connected()));
    await Promise.all(hands.map((hand) => hand.say(join())));
    const sender = hands[0];
    // The joins of the other clients come first.
    await sender.say(...Array.from({ length: 20 }, (_, n) => message('n', n)));
    for (const hand of hands) {
      const got = [];
      while (got.length < 20) {
        const packet = await hand.next();
        if (packet.startsWith('42["n"')) got.push(packet);
      }
      assert.deepEqual(got, Array.from({ length: 20 }, (_, n) => event('n', n)));
    }
    await Promise.all(hands.map((hand) => hand.say('1')));
  });

  test('packets of one body are handled in order, and answers of one turn come together', async () => {
    const hand = await Hand.connected();
    await hand.say(join('own', true), message('a', 1, 'own'), message('b', [2], 'own'), '3');
    const { text } = await hand.poll();
    const [joined, ...rest] = text.split(SEPARATOR).filter((packet) => packet !== '2');
    assert.match(joined, /^42\["channel:join"/);
    assert.deepEqual(rest, [event('a', 1, 'own'), event('b', [2], 'own')]);
  });

  test('bytes travel as base64', async () => {
    const hand = await Hand.connected();
    await hand.say(join('bin'), '451-["message",{"channel":"bin","eventName":"x","message":{"_placeholder":true,"num":0}}]', 'bAQIDBA==');
    assert.equal(await hand.next(), '451-["x",{"channel":"bin","message":{"_placeholder":true,"num":0}}]');
    assert.equal(await hand.next(), 'bAQIDBA==');
  });

  test('a request that does not fit is refused in the words of Engine.IO', async () => {
    const hand = await Hand.open();
    const sid = `sid=${hand.opened.sid}`;
    for (const [method, query, code] of [
      ['GET', '', 0],
      ['GET', `EIO=4&transport=abc&${sid}`, 0],
      ['GET', 'EIO=4&transport=polling&sid=nobody', 1],
      ['POST', 'EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAA', 1],
      ['POST', 'EIO=4&transport=polling', 2],
      ['PUT', 'EIO=4&transport=polling', 2],
      ['PUT', `EIO=4&transport=polling&${sid}`, 3],
      ['GET', `EIO=4&transport=websocket&${sid}`, 3],
      ['GET', 'EIO=4&transport=polling&j=0', 3],
      ['GET', `EIO=3&transport=polling&${sid}`, 3],
      ['GET', 'EIO=3&transport=polling', 5],
    ]) {
      const { status, text, headers } = await request(method, query, { body: method === 'GET' ? undefined : '4x' });
      assert.deepEqual([status, JSON.parse(text).code], [400, code], `${method} ${query}`);
      assert.equal(headers['access-control-allow-origin'], '*');
      assert.equal(headers['content-type'], 'application/json');
    }
    const socket = new WebSocket(`ws://${server.address}${PATH}?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAAAA`);
    const [, refusal] = await within(once(socket.on('error', () => {}), 'unexpected-response'), 'refusal');
    assert.equal(refusal.statusCode, 400);
    await hand.say('1');
  });

  test('a preflight allows what it asks for', async () => {
    const headers = { origin: 'https://a.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-a, content-type' };
    const answer = await request('OPTIONS', 'EIO=4&transport=polling', { headers });
    assert.equal(answer.status, 204);
    assert.equal(answer.headers['access-control-allow-origin'], '*');
    assert.equal(answer.headers['access-control-allow-methods'], 'GET,HEAD,PUT,PATCH,POST,DELETE');
    assert.equal(answer.headers['access-control-allow-headers'], 'x-a, content-type');
  });

  test('a second poll ends the session, and the first one is told', async () => {
    const watcher = await Hand.connected();
    await watcher.say(join('two-polls'));
    const hand = await Hand.connected();
    await hand.say(join('two-polls'));
    assert.match(await watcher.next(), /^42\["channel:join"/);
    const first = hand.poll();
    // The poll is held once the server has handled the packets that were sent after it.
    await hand.say('3');
    let second = await hand.poll();
    // The first poll may have been answered with a ping meanwhile.
    if (second.status === 200) second = await hand.poll();
    assert.deepEqual([second.status, second.text], [400, '']);
    assert.match((await first).text, /(^|\x1e)[12]$/);
    assert.match(await watcher.next(), /^42\["channel:leave"/);
    await hand.gone();
  });

  test('a second POST amid the first ends the session, and the first is cut', async () => {
    const hand = await Hand.connected();
    const [host, port] = server.address.split(':');
    const socket = net.connect({ host, port });
    socket.write(`POST ${PATH}?${hand.query} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n`);
    assert.match(String((await within(once(socket, 'data'), '100'))[0]), /^HTTP\/1.1 100/);
    const second = await hand.post('3');
    assert.deepEqual([second.status, second.text], [400, '']);
    await within(once(socket.on('error', () => {}), 'close'), 'cut');
    await hand.gone();
  });

  test('a body that is no text of packets is taken, and ends the session', async () => {
    for (const body of ['', 'x', '4\x1e\x1e4', 'b*', Buffer.from([0x34, 0xff])]) {
      const hand = await Hand.connected();
      const { status, text } = await hand.post(body);
      assert.deepEqual([status, text], [200, 'ok'], String(body));
      await hand.gone();
    }
  });

  test('a body of octets ends the session', async () => {
    const hand = await Hand.connected();
    const { status, text } = await hand.post('4x', { 'content-type': 'application/octet-stream' });
    assert.deepEqual([status, text], [400, '']);
    await hand.gone();
  });

  test('a body that is too long is refused, and the session lives on', async () => {
    const hand = await Hand.connected();
    const body = 'x'.repeat(hand.opened.maxPayload + 1);
    for (const headers of [{}, { 'transfer-encoding': 'chunked' }]) {
      const { status, text } = await hand.post(body, headers);
      assert.deepEqual([status, text], [413, '']);
    }
    await hand.say(join('alive', true));
    assert.match(await hand.next(), /^42\["channel:join"/);
  });

  test('a connection that is cut amid a poll or a body ends the session', async () => {
    const watcher = await Hand.connected();
    await watcher.say(join('cut-by-hand'));
    for (const what of ['poll', 'body']) {
      const hand = await Hand.connected();
      await hand.say(join('cut-by-hand'));
      assert.match(await watcher.next(), /^42\["channel:join"/);
      const [host, port] = server.address.split(':');
      const socket = net.connect({ host, port });
      if (what === 'poll') {
        socket.write(`GET ${PATH}?${hand.query} HTTP/1.1\r\nhost: x\r\n\r\n`);
      } else {
        socket.write(`POST ${PATH}?${hand.query} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n`);
        await within(once(socket, 'data'), '100');
      }
      socket.destroy();
      assert.match(await watcher.next(), /^42\["channel:leave"/);
      await hand.gone();
    }
    await watcher.say('1');
  });

  test('the client ends it', async () => {
    const hand = await Hand.connected();
    const poll = hand.poll();
    await hand.say('3');
    await hand.say('1');
    assert.match((await poll).text, /[62]$/);
    await hand.gone();
  });

  test('packets before CONNECT, a second CONNECT and wrong placeholders end it', async () => {
    for (const packets of [
      [join()],
      ['40{"envId":"env-open"}x'],
      ['51-["x",{"_placeholder":true,"num":5}]', 'bAQID'],
      ['451-["message",{"_placeholder":true,"num":0}]', join()],
    ]) {
      const hand = packets[0].startsWith('4') && !packets[0].startsWith('40') && packets.length > 1
        ? await Hand.connected() : await Hand.open();
      await hand.say(...packets);
      const { status, text } = await hand.poll();
      assert.ok(status === 400 || /(^|\x1e)1$/.test(text), `${packets}: ${status} ${text}`);
    }
  });

  test('an upgrade takes what was queued with it, and the polls end', async () => {
    const hand = await Hand.connected();
    await hand.say(join('up', true));
    const socket = hand.probe();
    await within(once(socket, 'open'), 'handshake');
    const poll = hand.poll();
    await hand.say('3');
    socket.send('2probe');
    assert.equal(await socket.next(), '3probe');
    const { text } = await poll;
    assert.match(text, /42\["channel:join"|^2/);
    await hand.say(message('before', 1, 'up'));
    socket.send('5');
    socket.send(message('after', 2, 'up'));
    const frames = [];
    while (frames.length < 2) {
      const frame = await socket.next();
      if (frame.startsWith('42["before"') || frame.startsWith('42["after"')) frames.push(frame);
    }
    assert.deepEqual(frames, [event('before', 1, 'up'), event('after', 2, 'up')]);
    for (const late of [await hand.poll(), await hand.post('3')]) {
      assert.deepEqual([late.status, JSON.parse(late.text).code], [400, 3]);
    }
    const second = hand.probe();
    assert.deepEqual(await second.next(), { code: 1005 });
    socket.close();
    await within(once(socket, 'close'), 'close');
    await hand.gone();
  });

  test('a probe that is none is closed, and polling goes on', async () => {
    const hand = await Hand.connected();
    for (const packet of ['5', '3', 'x', '2']) {
      const socket = hand.probe();
      await within(once(socket, 'open'), 'handshake');
      socket.send(packet);
      assert.deepEqual(await socket.next(), { code: 1005 });
    }
    await hand.say(join('still', true));
    assert.match(await hand.next(), /^42\["channel:join"/);
  });

  test('a client that is disconnected for good is told so, and one that may return is not', async () => {
    for (const [reconnect, last] of [[false, /^41\x1e1$/], [true, /^1$/]]) {
      const hand = await Hand.connected();
      const answer = await fetch(`http://${server.address}/v1/disconnect?app=open`, {
        method: 'POST',
        headers: { authorization: `Bearer ${serverKey('open')}`, 'content-type': 'application/json' },
        body: JSON.stringify({ session: hand.id, reconnect }),
      });
      assert.equal(answer.status, 200);
      let { text } = await hand.poll();
      text = text.replace(/^2\x1e/, '');
      assert.match(text, last);
      await hand.gone();
    }
  });

  test('a client that stops polling leaves its channels after the time-out', async (t) => {
    const watcher = await native(t, server);
    watcher.send({ id: 1, type: 'join', channel: 'silent' });
    await watcher.next();
    const hand = await Hand.connected();
    await hand.say(join('silent'));
    for (const name of ['channel:join', 'channel:join', 'channel:leave']) assert.equal((await watcher.next()).event, name);
    await hand.gone();
  });

  test('clients that are opened by the thousand and never polled are bounded and go', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
    const opened = await Promise.all(Array.from({ length: 6000 }, () => request('GET', 'EIO=4&transport=polling', { agent })));
    agent.destroy();
    const refusals = opened.filter(({ status }) => status === 403);
    assert.ok(refusals.length > 0, 'some find no room');
    assert.ok(await counted(server, 'polling') <= 4 * 1024 + 20);
    assert.deepEqual(JSON.parse(refusals[0].text), { code: 4, message: 'Forbidden' });
    assert.equal(await counted(server, 'polling_refused_total'), refusals.length);
    await within((async () => { while (await counted(server, 'polling') > 20); })(), 'end of the idle clients');
    const hand = await Hand.connected();
    await hand.say('1');
  });
});

test('a restart closes the transport of clients that poll, and never sends DISCONNECT', async (t) => {
  const other = await start(CONFIG);
  const socket = await connected(t, other, {}, polling);
  const packets = [];
  socket.io.engine.on('packet', ({ type, data }) => packets.push([type, data]));
  const closed = once(socket, 'disconnect');
  other.child.kill('SIGTERM');
  const [reason] = await within(closed, 'disconnect');
  assert.notEqual(reason, 'io server disconnect');
  assert.ok(socket.active, 'it comes back by itself');
  assert.ok(!packets.some(([type, data]) => type === 'message' && data === '1'));
  socket.disconnect();
  await other.stop();
});

describe('a back end that polls', () => {
  const members = (number, channel) => `42${number}${JSON.stringify(['get_members', { envId: 'env-open', channel }])}`;
  const broadcast = (eventName, message) => `42${JSON.stringify(['broadcast_message', { envId: 'env-open', eventName, message }])}`;

  async function backEnd() {
    const hand = await Hand.open();
    await hand.say(`40${JSON.stringify({ accessToken: serverKey('open') })}`);
    assert.match(await hand.next(), /^40\{"sid":"/);
    return hand;
  }

  test('gets its answers in order, however few polls it makes', async (t) => {
    const channel = 'large-profiles';
    const member = await connected(t, server);
    const data = 'x'.repeat(60_000);
    member.emit('update', { data, echo: false });
    member.emit('join', { channel, echo: false });
    await member.settled();
    const hand = await backEnd();
    // More than 64 KiB of answers wait after the second command, so the body waits for polls.
    const numbers = [0, 1, 2, 3, 4, 5];
    const posted = hand.post(numbers.map((number) => members(number, channel)).join(SEPARATOR));
    for (const number of numbers) {
      assert.equal(await hand.next(), `43${number}${JSON.stringify([[{ id: member.id, data }]])}`);
    }
    assert.deepEqual([(await posted).status, (await posted).text], [200, 'ok']);
  });

  test('keeps the order of its commands while it changes to a WebSocket', async (t) => {
    const member = await connected(t, server);
    const hand = await backEnd();
    const poll = hand.poll();
    const probe = hand.probe();
    await within(once(probe, 'open'), 'WebSocket');
    probe.send('2probe');
    assert.equal(await probe.next(), '3probe');
    assert.equal((await poll).text, '6');
    await hand.say(broadcast('n', 1), members(7, 'nobody-is-here'));
    probe.send('5');
    probe.send(broadcast('n', 2));
    probe.send(members(8, 'nobody-is-here'));
    for (const expected of ['437[[]]', '438[[]]']) {
      let packet = await probe.next();
      while (packet === '2') {
        probe.send('3');
        packet = await probe.next();
      }
      assert.equal(packet, expected);
    }
    for (const n of [1, 2]) assert.deepEqual(await member.next(), ['n', { channel: null, message: n }]);
    probe.close();
  });

  test('ends when it breaks the protocol', async () => {
    const hand = await backEnd();
    await hand.say('42[');
    assert.equal((await hand.poll()).text, '1');
    await hand.gone();
  });

  test('may do no more than over a WebSocket', async (t) => {
    const member = await connected(t, server);
    const hand = await backEnd();
    const refusals = await counted(server, 'back_end_refusals_total');
    await hand.say(`42${JSON.stringify(['broadcast_message', { envId: 'keyless', eventName: 'n', message: 1 }])}`);
    assert.equal(await counted(server, 'back_end_refusals_total'), refusals + 1);
    await hand.say('41');
    await hand.poll();
    await hand.gone();
    assert.deepEqual(await member.settled(), []);
  });
});
