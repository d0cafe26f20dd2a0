// What no honest client sends, against the socketio example, whose path is in SOCKETIO_EXAMPLE: each is answered as the
// protocol says, and a bystander notices nothing. Nothing sleeps: each wait is for an event, with a deadline.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';

const DEADLINE_MS = 10_000;
const UNKNOWN_SESSION = { code: 1, message: 'Session ID unknown' };
const PLACEHOLDER = '{"_placeholder":true,"num":0}';

let server;
let address;
let bystander;
let echoes = 0;

before(async () => {
  server = spawn(process.env.SOCKETIO_EXAMPLE, ['127.0.0.1:0', '300', '1000']);
  server.stderr.pipe(process.stderr);
  const [line] = await once(server.stdout, 'data');
  address = line.toString().match(/^listening on (.*)$/m)[1];
  bystander = await websocket('engine.io');
  bystander.on('message', (data) => {
    if (data.toString() === '2') bystander.send('3');
    else assert.equal(data.toString(), `4${echoes++}`);
  });
});

after(() => server.kill());

/** Whoever is connected goes on as before. */
async function undisturbed() {
  const expected = echoes + 1;
  bystander.send(`4${echoes}`);
  while (echoes < expected) await within(once(bystander, 'message'), 'an echo');
}

function within(promise, what) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
}

function url(sid, path = 'engine.io') {
  return `http://${address}/${path}/?EIO=4&transport=polling${sid ? `&sid=${sid}` : ''}`;
}

async function open(path) {
  const response = await fetch(url(undefined, path));
  return JSON.parse((await response.text()).slice(1)).sid;
}

/** A WebSocket after its open packet. */
async function websocket(path) {
  const socket = new WebSocket(`ws://${address}/${path}/?EIO=4&transport=websocket`);
  await within(once(socket, 'message'), 'an open packet');
  return socket;
}

/** A raw connection: what it is sent is collected as text. */
async function raw(text) {
  const [host, port] = address.split(':');
  const socket = connect(Number(port), host);
  let received = '';
  socket.on('data', (chunk) => { received += chunk; }).on('error', () => {});
  const ended = within(once(socket, 'close'), 'end of the connection');
  await once(socket, 'connect');
  socket.write(text);
  return { socket, ended, received: () => received };
}

async function gone(sid) {
  const response = await fetch(url(sid));
  assert.equal(response.status, 400);
  assert.deepEqual(await response.json(), UNKNOWN_SESSION);
}

test('errors have the code, message and headers of the protocol', async () => {
  for (const [method, query, status, code, message] of [
    ['GET', 'EIO=4', 400, 0, 'Transport unknown'],
    ['GET', 'EIO=4&transport=abc', 400, 0, 'Transport unknown'],
    ['GET', 'EIO=4&transport=polling&sid=guess', 400, 1, 'Session ID unknown'],
    ['PUT', 'EIO=4&transport=polling', 400, 2, 'Bad handshake method'],
    ['GET', 'EIO=4&transport=websocket', 400, 3, 'Bad request'],
    ['GET', 'EIO=3&transport=polling', 400, 5, 'Unsupported protocol version'],
  ]) {
    const response = await fetch(`http://${address}/engine.io/?${query}`, { method });
    assert.equal(response.status, status);
    assert.match(response.headers.get('content-type'), /^application\/json/);
    assert.equal(response.headers.get('access-control-allow-origin'), '*');
    assert.deepEqual(await response.json(), { code, message });
  }
});

test('a foreign or guessed sid reaches nothing', async () => {
  await gone('guess');
  const post = await fetch(url('guess'), { method: 'POST', body: '4a' });
  assert.deepEqual([post.status, await post.json()], [400, UNKNOWN_SESSION]);
  const upgrade = new WebSocket(`ws://${address}/engine.io/?EIO=4&transport=websocket&sid=guess`);
  const [error] = await within(once(upgrade, 'error'), 'a refusal');
  assert.match(error.message, /400/);
  // A session of one path is unknown on the other.
  const sid = await open('socket.io');
  await gone(sid);
  assert.equal((await fetch(url(sid, 'socket.io'), { method: 'POST', body: '40' })).status, 200);
  await undisturbed();
});

test('a body that is too large is refused and its session lives on', async () => {
  const sid = await open();
  const large = 'x'.repeat(1_000_001);
  for (const body of [large, new Blob([large]).stream()]) {
    const response = await fetch(url(sid), { method: 'POST', body, duplex: 'half' }).catch((error) => error);
    // A server that stops reading may break the connection before its answer is read.
    if (response instanceof Response) assert.deepEqual([response.status, await response.text()], [413, '']);
  }
  const { ended, received } = await raw(`POST /engine.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000001\r\n\r\n`);
  await ended;
  assert.match(received(), /^HTTP\/1.1 413 .*\r\ncontent-length: 0\r\n\r\n$/s);
  assert.equal((await fetch(url(sid), { method: 'POST', body: '4still here' })).status, 200);
  assert.equal(await (await fetch(url(sid))).text(), '4still here');
  await undisturbed();
});

test('a body that never ends is cut when its session times out', async () => {
  const sid = await open();
  const { ended } = await raw(`POST /engine.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n4`);
  await undisturbed();
  await ended;
  await gone(sid);
  await undisturbed();
});

test('two posts at once end the session and cut the first', async () => {
  const sid = await open();
  const { ended, received } = await raw(`POST /engine.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n`);
  while (!received().includes('100 Continue')) await new Promise(setImmediate);
  const second = await fetch(url(sid), { method: 'POST', body: '4a' });
  assert.deepEqual([second.status, await second.text()], [400, '']);
  await ended;
  await gone(sid);
});

test('a body of octets ends the session', async () => {
  const sid = await open();
  const response = await fetch(url(sid), { method: 'POST', body: '4a', headers: { 'content-type': 'application/octet-stream' } });
  assert.deepEqual([response.status, await response.text()], [400, '']);
  await gone(sid);
});

test('a WebSocket message that is too large closes its connection', async () => {
  const socket = await websocket('engine.io');
  socket.send(`4${'x'.repeat(1_000_000)}`);
  assert.equal((await within(once(socket, 'close'), 'a close'))[0], 1009);
  await undisturbed();
});

test('malformed Socket.IO packets close their connection', async () => {
  for (const packets of [
    ['4abc'], ['42["a"]'], ['41'], ['43["a"]'], ['40[]'], ['40', '40'], ['40', '42{}'], ['40', '42[]'], ['40', '42abc["a"]'],
    ['40', '42["connect"]'], ['40', '44{"message":"no"}'], ['40', '42/other,["a"]'], ['40', '45-["a"]'],
    ['40', `4511-["a",${PLACEHOLDER}]`], ['40', '451-["a",{"_placeholder":true,"num":1}]'],
    ['40', `452-["a",${PLACEHOLDER},${PLACEHOLDER}]`], ['40', `451-["a",${PLACEHOLDER}]`, '42["b"]'], ['40', Buffer.from([1])],
  ]) {
    const socket = await websocket('socket.io');
    for (const packet of packets) socket.send(packet);
    const [code] = await within(once(socket, 'close'), `a close after ${packets}`);
    assert.equal(code, 1005, `${packets}`);
  }
  await undisturbed();
});

test('a thousand sessions that are never polled end by themselves', async () => {
  const sids = [];
  for (let i = 0; i < 1000; i += 50) sids.push(...await Promise.all(Array.from({ length: 50 }, () => open())));
  await undisturbed();
  // The last one was opened last, so the others are gone when it is. A session that is polled is told its ping.
  const watched = await open();
  const poll = await fetch(url(watched));
  assert.equal(await poll.text(), '2');
  const last = await fetch(url(watched));
  assert.equal(await last.text(), '1');
  for (const sid of sids) await gone(sid);
  await undisturbed();
});
