// Scenarios with npm's `ws`, run by test_node.py against a server whose address and keys are in the environment.
// Nothing sleeps: each wait is for a frame, with a deadline.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import WebSocket from 'ws';

const { FANFARE_ADDRESS: address, FANFARE_CLIENT_KEY: clientKey, FANFARE_SERVER_KEY: serverKey } = process.env;
const DEADLINE_MS = 5000;

/** A connection whose frames are taken one at a time, in order. */
class Peer {
  #frames = [];
  #waiting = [];

  static async connect(query = {}, options = {}) {
    const peer = new Peer();
    peer.socket = new WebSocket(`ws://${address}/v1/ws?${new URLSearchParams({ key: clientKey, ...query })}`, options);
    peer.closed = new Promise((resolve) => peer.socket.on('close', (code) => resolve(code)));
    peer.socket.on('error', () => {});
    peer.socket.on('message', (data, binary) => {
      const frame = binary ? splitBinary(data) : JSON.parse(data.toString());
      const waiting = peer.#waiting.shift();
      if (waiting) waiting(frame);
      else peer.#frames.push(frame);
    });
    peer.welcome = (await peer.next()).welcome;
    return peer;
  }

  next() {
    if (this.#frames.length) return Promise.resolve(this.#frames.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), 'a frame');
  }

  send(command) {
    this.socket.send(JSON.stringify(command));
  }

  /** Sends a command; its answer must be the next frame. */
  async ok(command) {
    const id = randomUUID();
    this.send({ ...command, id });
    const answer = await this.next();
    assert.equal(answer.id, id, JSON.stringify(answer));
    assert.ok('ok' in answer, JSON.stringify(answer));
    return answer.ok;
  }
}

function splitBinary(data) {
  const end = 2 + data.readUInt16BE(0);
  return { ...JSON.parse(data.subarray(2, end).toString()), payload: data.subarray(end) };
}

function joinBinary(envelope, payload) {
  const head = Buffer.from(JSON.stringify(envelope));
  const length = Buffer.alloc(2);
  length.writeUInt16BE(head.length);
  return Buffer.concat([length, head, payload]);
}

function within(promise, what) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come in time`)), DEADLINE_MS);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
}

test('members of a channel talk and see each other come and go', async () => {
  const channel = randomUUID();
  const luke = await Peer.connect({ echo: 'false' });
  const leia = await Peer.connect({ echo: 'false' }, { protocol: 'fanfare.v1' });
  await luke.ok({ type: 'join', channel });
  await leia.ok({ type: 'update', profile: { name: 'Leia' } });
  assert.equal((await leia.ok({ type: 'join', channel })).members, 2);
  const member = { id: leia.welcome.session, data: { name: 'Leia' } };
  assert.deepEqual(await luke.next(), { channel, event: 'channel:join', message: member });
  await leia.ok({ type: 'send', channel, event: 'chat', message: { text: 'hi' } });
  assert.deepEqual(await luke.next(), { channel, event: 'chat', message: { text: 'hi' }, offset: 1 });
  leia.socket.close(1000);
  assert.equal(await within(leia.closed, 'the close'), 1000);
  assert.deepEqual(await luke.next(), { channel, event: 'channel:leave', message: member });
  luke.socket.terminate();
});

test('binary payloads arrive in both forms', async () => {
  const channel = randomUUID();
  const payload = Buffer.from([0, 255, 1, 254]);
  const sender = await Peer.connect();
  const frames = await Peer.connect();
  const base64 = await Peer.connect({ binary: 'base64' });
  await base64.ok({ type: 'join', channel, echo: false });
  await frames.ok({ type: 'join', channel, echo: false });
  assert.equal((await base64.next()).event, 'channel:join');
  sender.socket.send(joinBinary({ type: 'send', channel, event: 'bytes' }, payload));
  assert.deepEqual(await frames.next(), { channel, event: 'bytes', offset: 1, payload });
  const message = { base64: payload.toString('base64') };
  assert.deepEqual(await base64.next(), { channel, event: 'bytes', message, offset: 1 });
  for (const peer of [sender, frames, base64]) peer.socket.terminate();
});

test('subprotocol is selected and compression is not', async () => {
  const peer = await Peer.connect({}, { perMessageDeflate: true });
  assert.equal(peer.socket.extensions, '');
  peer.socket.terminate();
  const socket = new WebSocket(`ws://${address}/v1/ws?key=${clientKey}`, ['other.v9', 'fanfare.v1']);
  await within(new Promise((resolve) => socket.on('open', resolve)), 'the connection');
  assert.equal(socket.protocol, 'fanfare.v1');
  socket.terminate();
});

test('refusal is a problem document', async () => {
  const socket = new WebSocket(`ws://${address}/v1/ws?key=wrong`);
  const refusal = new Promise((resolve) => socket.on('unexpected-response', (_, response) => resolve(response)));
  const response = await within(refusal, 'a refusal');
  const { socket: tcp } = response;
  assert.equal(response.statusCode, 401);
  assert.equal(response.headers['content-type'], 'application/problem+json');
  let body = '';
  for await (const part of response) body += part;
  assert.equal(JSON.parse(body).code, 'invalid_key');
  tcp.destroy();
});

test('the back end publishes and disconnects', async () => {
  const channel = randomUUID();
  const peer = await Peer.connect();
  await peer.ok({ type: 'join', channel, echo: false });
  const call = (path, body) =>
    fetch(`http://${address}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${serverKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(DEADLINE_MS),
    }).then((response) => response.json());
  assert.equal((await call('/v1/send', { channel, event: 'news', message: 'hi' })).offset, 1);
  assert.deepEqual(await peer.next(), { channel, event: 'news', message: 'hi', offset: 1 });
  assert.deepEqual(await call('/v1/disconnect', { session: peer.welcome.session, reconnect: true }), { disconnected: 1 });
  assert.equal(await within(peer.closed, 'the close'), 4003);
});
