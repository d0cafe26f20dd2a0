// Agnost's own engine code and client, as scripts/agnost-originals has put them below `originals`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import { CONFIG, Inbox, key, native, start, within } from './server.mjs';

const ACCESS_TOKEN = 'access-token-of-the-whole-server';
const { createClient } = createRequire(import.meta.url)('./originals/client/dist/index.js');

let server;
let engine;
before(async () => {
  server = await start(CONFIG.replace('[server]', `[server]\naccess_tokens = ["${ACCESS_TOKEN}"]`));
  // What the engine's code finds in its process.
  process.env.ACCESS_TOKEN = ACCESS_TOKEN;
  let ready;
  const connection = new Promise((resolve) => { ready = resolve; });
  Object.assign(globalThis, {
    config: { get: () => ({ reconnection: true, reconnectionDelay: 20 }) },
    helper: { getRealtimeUrl: () => `http://${server.address}` },
    logger: { info: ready },
    META: { getEnvId: () => 'env-open' },
    t: (...parts) => parts.join(' '),
    AgnostError: class extends Error {},
  });
  const { initializeRealtimeServer, disconnectRealtimeClient } = await import('./originals/core/init/realtime.js');
  const { RealtimeAdapter } = await import('./originals/core/adapters/realtime/RealtimeAdapter.js');
  initializeRealtimeServer();
  await within(connection, "connection of the engine's code");
  engine = { realtime: new RealtimeAdapter(), close: disconnectRealtimeClient };
});
after(async () => {
  engine?.close();
  await server.stop();
});

let channels = 0;
const channel = () => `originals-${channels += 1}`;

/** A client of Agnost's library, connected; what it receives is in `inbox`. */
async function open(t, realtime = {}) {
  const options = { realtime: { autoJoinChannels: true, ...realtime } };
  const agnost = createClient(`http://${server.address}/env-open`, key('open'), options);
  t.after(() => agnost.realtime.close());
  agnost.inbox = new Inbox();
  agnost.realtime.onAny((...event) => agnost.inbox.put(event));
  agnost.next = () => agnost.inbox.next('event');
  await within(new Promise((resolve, reject) => {
    agnost.realtime.onConnect(resolve);
    agnost.realtime.onError(reject);
  }), 'connect');
  return agnost;
}

describe("the engine's code", () => {
  test('sends, broadcasts, a Buffer too, and lists members', async (t) => {
    const room = channel();
    const member = await open(t);
    member.realtime.join(room);
    const id = member.realtime.getSocketId();
    assert.deepEqual(await member.next(), ['channel:join', { channel: room, message: { id } }]);
    const data = { username: 'Luke Skywalker', status: 'Available' };
    member.realtime.updateProfile(data);
    assert.equal((await member.next())[0], 'channel:update');
    engine.realtime.send(room, 'chat-message', { message: 'hello' });
    assert.deepEqual(await member.next(), ['chat-message', { channel: room, message: { message: 'hello' } }]);
    engine.realtime.broadcast('warning-message', Buffer.from([0, 255]));
    const [name, { channel: none, message }] = await member.next();
    assert.deepEqual([name, none, Buffer.from(message)], ['warning-message', null, Buffer.from([0, 255])]);
    engine.realtime.send(room, 'nested', { image: Buffer.from([7]) });
    assert.deepEqual(Buffer.from((await member.next())[1].message.image), Buffer.from([7]));
    assert.deepEqual(await engine.realtime.getMembers(room), [{ id, data }]);
    assert.deepEqual(await engine.realtime.getMembers('nobody is here'), []);
  });
});

describe("the client's code", () => {
  test('joins, sends, leaves, sees members, and meets a native client', async (t) => {
    const room = channel();
    const [one, two, other] = [await open(t), await open(t, { echoMessages: false }), await native(t, server)];
    one.realtime.join(room);
    assert.equal((await one.next())[0], 'channel:join');
    two.realtime.updateProfile({ name: 'two' });
    two.realtime.join(room);
    const message = { id: two.realtime.getSocketId(), data: { name: 'two' } };
    assert.deepEqual(await one.next(), ['channel:join', { channel: room, message }]);
    other.send({ type: 'join', channel: room, echo: false, id: 'j' });
    await other.next();
    for (const client of [one, two]) assert.equal((await client.next())[1].message.id, other.welcome.session);
    for (let n = 0; n < 200; n += 1) two.realtime.send(room, 'n', { n });
    for (let n = 0; n < 200; n += 1) assert.deepEqual(await one.next(), ['n', { channel: room, message: { n } }]);
    const { data: members, errors } = await one.realtime.getMembers(room);
    assert.equal(errors, null);
    assert.deepEqual(members.map(({ id }) => id).sort(), [
      one.realtime.getSocketId(), two.realtime.getSocketId(), other.welcome.session,
    ].sort());
    two.realtime.leave(room);
    assert.deepEqual(await one.next(), ['channel:leave', { channel: room, message }]);
    const half = Buffer.alloc(500_000, 1);
    one.realtime.send(room, 'half', half);
    const [name, { message: received }] = await one.next();
    assert.deepEqual([name, half.equals(Buffer.from(received))], ['half', true]);
  });

  test('comes back with its profile and its channels', async (t) => {
    const room = channel();
    const [one, two] = [await open(t), await open(t)];
    one.realtime.join(room);
    assert.equal((await one.next())[0], 'channel:join');
    two.realtime.updateProfile({ name: 'two' });
    two.realtime.join(room);
    const { id } = (await one.next())[1].message;
    two.realtime.close();
    assert.deepEqual(await one.next(), ['channel:leave', { channel: room, message: { id, data: { name: 'two' } } }]);
    two.realtime.open();
    const [name, { message }] = await one.next();
    assert.equal(name, 'channel:join');
    assert.notEqual(message.id, id);
  });
});
