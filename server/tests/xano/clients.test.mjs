// Tests with Xano's stock SDK and clients of other dialects in the same channels.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { connected, native, within } from './server.mjs';
import { KEY, SERVER_KEY, behindTls, config, raw, row, sdk } from './sdk.mjs';

const OPEN = 'anonymous_clients = true\nclient_public_messaging = true\nclient_private_messaging = true';
const CHANNELS = [
  `pattern = "room/*"\n${OPEN}`,
  `pattern = "past/*"\nhistory = 25\n${OPEN}`,
  `pattern = "here/*"\npresence = true\nhistory = 25\n${OPEN}`,
  'pattern = "members/*"\nclient_public_messaging = true\npresence = true',
  'pattern = "split/*"\nanonymous_clients = true\nclient_authenticated_messaging = true',
  `pattern = "nested"\nwildcard = true\n${OPEN}`,
  'pattern = "off"\nenabled = false',
];

let server;
before(async () => { server = await behindTls(config(CHANNELS)); });
after(() => server.stop());

let channels = 0;
const room = () => `room/${channels += 1}`;

/** A native client in a channel. */
async function nativeIn(t, channel) {
  const client = await native(t, server, 'xano');
  client.send({ type: 'join', id: 1, channel });
  await client.next();
  return client;
}

describe('messages', () => {
  test('a public message reaches every member, its sender too, with who sent it', async (t) => {
    const name = room();
    const one = await sdk(t, server, { token: row(7, 42, { name: 'Leia' }) }).joined(name);
    const two = await sdk(t, server).joined(name);
    one.message({ text: 'hello' });
    for (const channel of [one, two]) {
      const { client, options, payload } = await channel.next('message');
      assert.deepEqual(client.extras, { name: 'Leia' });
      assert.deepEqual(client.permissions, { dbo_id: 7, row_id: 42 });
      assert.deepEqual(options, { channel: name, authenticated: false, socketId: null });
      assert.deepEqual(payload, { text: 'hello' });
    }
    two.message('back');
    const { client } = await one.next('message');
    assert.deepEqual({ ...client, socketId: '' }, { socketId: '', extras: {}, permissions: { dbo_id: 0, row_id: 0 } });
  });

  test('members of other dialects receive it, and are heard', async (t) => {
    const name = room();
    const xano = await sdk(t, server).joined(name);
    const plain = await nativeIn(t, name);
    const agnost = await connected(t, server, { envId: 'env-xano' });
    agnost.emit('join', { channel: name });
    agnost.emit('message', { channel: name, eventName: 'say', message: 'from Agnost' });
    assert.deepEqual((await agnost.next())[0], 'say', 'without presence there is no notice');
    assert.deepEqual((await xano.next('message')).payload, { event: 'say', message: 'from Agnost' });
    xano.message([1, 2]);
    let frame;
    do frame = await plain.next(); while (frame.event !== 'message');
    assert.deepEqual([frame.channel, frame.message], [name, [1, 2]]);
    assert.deepEqual(await agnost.next(), ['message', { channel: name, message: [1, 2] }]);
    assert.deepEqual((await xano.next('message')).payload, [1, 2]);
    plain.send({ type: 'send', channel: name, event: 'message', message: 'from native' });
    assert.equal((await xano.next('message')).payload, 'from native');
  });

  test('a channel that is left sends no more, and leaving twice is harmless', async (t) => {
    const name = room();
    const own = sdk(t, server);
    const [gone, kept] = [await own.joined(name), await own.joined(room())];
    const other = await sdk(t, server).joined(name);
    gone.destroy();
    await kept.settled();
    other.message('unheard');
    await other.next('message');
    assert.deepEqual(await kept.settled(), []);
  });

  test('what is sent before the answer to a join is in order behind it', async (t) => {
    const own = sdk(t, server);
    const channel = own.channel(room(), { queueOfflineActions: true });
    for (let n = 0; n < 200; n += 1) channel.message(n);
    for (let n = 0; n < 200; n += 1) assert.equal((await channel.next('message')).payload, n);
  });
});

describe('events of a back end', () => {
  const post = (body, key = SERVER_KEY) => fetch(`http://${server.address}/v1/xano/event?app=xano`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

  test('an event reaches every member, or those of one row', async (t) => {
    const name = room();
    const leia = await sdk(t, server, { token: row(7, 42) }).joined(name);
    const luke = await sdk(t, server, { token: row(7, 43) }).joined(name);
    assert.equal((await post({ channel: name, data: { n: 1 }, dbo_id: 7, row_id: 42 })).status, 200);
    assert.equal((await post({ channel: name, data: '{"n":2}' })).status, 200);
    const own = await leia.next('event');
    assert.equal(own.client, undefined);
    assert.deepEqual(own.options, { channel: name });
    assert.deepEqual(own.payload, { data: { n: 1 }, dbo_id: 7, row_id: 42 });
    for (const channel of [leia, luke]) {
      assert.deepEqual((await channel.next('event')).payload, { data: '{"n":2}', dbo_id: 0, row_id: 0 });
    }
  });

  test('an event is of no client, and asks for the server key', async () => {
    assert.equal((await post({ channel: 'room/x', data: 1 }, KEY)).status, 403);
    for (const body of [{ data: 1 }, { channel: 'room/x', dbo_id: 1 }, { channel: 'room/x', dbo_id: 'x', row_id: 1 }]) {
      assert.equal((await post(body)).status, 400);
    }
    assert.equal((await fetch(`http://${server.address}/v1/xano/event?app=xano`)).status, 405);
  });
});

describe('history', () => {
  test('messages are remembered with who sent them, up to a number, and private ones are not', async (t) => {
    const name = `past/${room()}`;
    const own = sdk(t, server, { token: row(1, 2, { name: 'Leia' }) });
    const channel = await own.joined(name);
    for (let n = 0; n < 30; n += 1) channel.message(n);
    for (let n = 0; n < 30; n += 1) await channel.next('message');
    channel.message('private', { socketId: 'AAAAAAAAAAAAAAAAAAAA' });
    channel.history();
    const { client, payload } = await channel.next('history');
    assert.equal(client, undefined);
    assert.deepEqual(payload.history.map((frame) => frame.payload), Array.from({ length: 25 }, (_, n) => n + 5));
    assert.deepEqual(payload.history[0].client.extras, { name: 'Leia' });
    assert.equal(payload.history[0].action, 'message');
    const none = await own.joined(room());
    none.message(1);
    none.history();
    assert.deepEqual((await none.next('history')).payload, { history: [] });
  });
});

describe('presence', () => {
  const ids = (clients) => clients.map(({ socketId }) => socketId).sort();

  test('members that ask are shown who is there, and then who comes and goes', async (t) => {
    const name = `here/${room()}`;
    const leia = await sdk(t, server, { token: row(7, 42, { name: 'Leia' }) }).joined(name, { presence: true });
    const { payload: first } = await leia.next('presence_full');
    assert.deepEqual(first.presence.map(({ extras, permissions }) => [extras, permissions]),
      [[{ name: 'Leia' }, { dbo_id: 7, row_id: 42 }]]);
    const own = sdk(t, server);
    const luke = await own.joined(name, { presence: true });
    const { payload: second } = await luke.next('presence_full');
    assert.equal(second.presence.length, 2);
    const { payload: joined } = await leia.next('presence_update');
    assert.equal(joined.action, 'join');
    assert.deepEqual(ids(leia.getPresence()), ids(luke.getPresence()));
    // A client that does not ask for presence is seen by others and sees nobody.
    const quiet = sdk(t, server);
    const deaf = await quiet.joined(name);
    assert.equal((await leia.next('presence_update')).payload.action, 'join');
    const plain = await nativeIn(t, name);
    assert.equal((await luke.next('presence_update')).payload.action, 'join');
    assert.equal((await luke.next('presence_update')).payload.presence.socketId, plain.welcome.session);
    luke.destroy();
    assert.equal((await leia.next('presence_update')).payload.action, 'join');
    assert.equal((await leia.next('presence_update')).payload.action, 'leave');
    quiet.state.getSocket().terminate();
    assert.equal((await leia.next('presence_update')).payload.action, 'leave');
    assert.equal(leia.getPresence().length, 2);
    assert.deepEqual(deaf.getPresence(), []);
  });

  test('an entry of the list can be written to, and nobody else receives it', async (t) => {
    const name = `here/${room()}`;
    const one = await sdk(t, server).joined(name, { presence: true });
    const two = await sdk(t, server).joined(name, { presence: true });
    const three = await sdk(t, server).joined(name);
    const joined = (await one.next('presence_update')).payload.presence.socketId;
    await two.next('presence_full');
    const other = one.getPresence().find(({ socketId }) => socketId === joined);
    other.message({ secret: 1 });
    const { options, payload } = await two.next('message');
    assert.deepEqual([options.socketId, payload], [other.socketId, { secret: 1 }]);
    assert.deepEqual((await three.settled()).filter(({ action }) => action === 'message'), []);
    assert.deepEqual((await one.settled()).filter(({ action }) => action === 'message'), []);
  });

  test('a second channel object of the same name joins no second time and has its own list and history', async (t) => {
    const name = `here/${room()}`;
    const own = sdk(t, server);
    const first = await own.joined(name, { presence: true });
    await first.next('presence_full');
    const other = await sdk(t, server).joined(name, { presence: true });
    const second = own.channel(name, { presence: true, history: true });
    assert.equal((await second.next('presence_full')).payload.presence.length, 2);
    await second.next('history');
    await other.next('presence_full');
    other.message('mark');
    const seen = [];
    for (let action; action !== 'message'; seen.push(action)) ({ action } = await other.inbox.next('mark'));
    assert.ok(!seen.includes('presence_update'), 'nobody joined again');
  });

  test('a list and history are asked for by joining, and no message is missing behind them', async (t) => {
    const name = `here/${room()}`;
    const speaker = await sdk(t, server).joined(name);
    for (let n = 0; n < 5; n += 1) speaker.message(n);
    await speaker.settled();
    for (let n = 5; n < 100; n += 1) speaker.message(n);
    const own = sdk(t, server);
    const listener = await own.joined(name, { presence: true, history: true });
    const actions = [];
    const seen = new Set();
    while (!seen.has(99) || !actions.includes('history')) {
      const { action, payload } = await listener.inbox.next('action');
      actions.push(action);
      const messages = action === 'history' ? payload.history.map((frame) => frame.payload) : [payload];
      if (['history', 'message'].includes(action)) messages.filter(Number.isInteger).forEach((n) => seen.add(n));
    }
    assert.ok(actions.indexOf('presence_full') < actions.indexOf('history'));
    const first = Math.min(...seen);
    assert.deepEqual([...seen].sort((a, b) => a - b), Array.from({ length: 100 - first }, (_, n) => n + first));
  });
});

describe('settings', () => {
  test('a channel for clients with a token refuses others in the original\'s words', async (t) => {
    const name = `members/${room()}`;
    const channel = sdk(t, server, { token: 'of-another-data-source' }).channel(name);
    const { options, payload } = await channel.next('error');
    assert.deepEqual([options.channel, payload.message], [name, 'Anonymous clients cannot join this channel.']);
    const member = await sdk(t, server, { token: row(1, 1) }).joined(name);
    member.message('hello');
    assert.equal((await member.next('message')).payload, 'hello');
    member.message('one', { socketId: 'AAAAAAAAAAAAAAAAAAAA' });
    assert.equal((await member.next('error')).payload.message, 'This channel\'s settings do not allow this.');
    const stranger = await native(t, server, 'xano');
    stranger.send({ type: 'send', id: 1, channel: name, event: 'message', message: 'past the rules' });
    assert.equal((await stranger.next()).error.code, 'membership_required');
    stranger.send({ type: 'join', id: 2, channel: name });
    assert.equal((await stranger.next()).error.code, 'session_required');
    for (const type of ['history', 'members']) {
      stranger.send({ type, id: 3, channel: name });
      assert.equal((await stranger.next()).error.code, 'session_required');
    }
  });

  test('messages among clients with a token reach no others, whichever dialect they come from', async (t) => {
    const name = `split/${room()}`;
    const [one, two] = [row(1, 1), row(1, 2)].map((token) => sdk(t, server, { token }));
    const [leia, luke] = [await one.joined(name), await two.joined(name)];
    const anonymous = await sdk(t, server).joined(name);
    leia.message('for members');
    for (const channel of [leia, luke]) {
      const { options, payload } = await channel.next('message');
      assert.deepEqual([options.authenticated, payload], [true, 'for members']);
    }
    anonymous.message('from nobody');
    assert.equal((await anonymous.next('message', 'error')).action, 'error');
    anonymous.message('from nobody', { authenticated: true });
    assert.equal((await anonymous.next('message', 'error')).payload.message, 'Anonymous clients cannot do this.');
  });
});

describe('who may come in', () => {
  test('a token is echoed as the subprotocol, whether or not it verifies', async (t) => {
    for (const [offered, ids] of [
      [row(1, 2), { dbo_id: 1, row_id: 2 }],
      ['not-a-token', { dbo_id: 0, row_id: 0 }],
      [undefined, { dbo_id: 0, row_id: 0 }],
    ]) {
      const name = room();
      const client = await raw(t, server, { protocols: offered && [offered] });
      assert.equal(client.socket.protocol, offered ?? '');
      client.send({ action: 'join', options: { channel: name }, payload: {} });
      client.send({ action: 'message', options: { channel: name }, payload: 1 });
      assert.equal((await client.next()).action, 'join');
      assert.deepEqual((await client.next()).client.permissions, ids);
    }
  });

  test('a client of no app is told so and stays away', async (t) => {
    const client = await raw(t, server, { path: '/rt/unknown', protocols: ['a-token'] });
    const { action, payload } = await client.next();
    assert.deepEqual([action, payload.message], ['error', 'Unknown connection hash']);
    assert.equal(await within(client.closed, 'close'), 4401);
    const stock = sdk(t, server, { realtimeConnectionCanonical: 'unknown' });
    const channel = stock.channel(room());
    assert.equal((await channel.next('error')).payload.message, 'Unknown connection hash');
    const { payload: status } = await channel.next('connection_status');
    assert.equal(status.status, 'disconnected');
    assert.equal(stock.state.reconnectSettings.reconnecting, false);
  });

  test('the hash is another name of the app, and what is no handshake is HTTP', async (t) => {
    const client = await raw(t, server, { path: '/rt/the-hash' });
    client.send({ action: 'join', options: { channel: room() }, payload: {} });
    assert.equal((await client.next()).action, 'join');
    const response = await fetch(`http://${server.address}/rt/canonical`);
    assert.equal(response.status, 426);
  });

  test('a channel that no settings are about is refused', async (t) => {
    const own = sdk(t, server);
    for (const name of ['elsewhere', 'off', 'nestedish']) {
      const channel = own.channel(name);
      const error = await channel.next('error');
      assert.deepEqual(error.options, { channel: name });
      assert.equal(error.payload.message, 'There is no channel of this name.');
    }
    for (const name of ['nested', 'nested/1', 'nested/1/2']) await own.joined(name);
  });
});

describe('the end of a connection', () => {
  test('4000 is answered with 4000, and the SDK comes back by itself', async (t) => {
    const own = sdk(t, server);
    const channel = await own.joined(room());
    own.client.realtimeReconnect();
    await channel.next('connection_status');
    await channel.next('join');
    channel.message('again');
    assert.equal((await channel.next('message')).payload, 'again');
  });

  test('after the last channel the SDK closes with 1000 and stays away', async (t) => {
    const own = sdk(t, server);
    const channel = await own.joined(room());
    const socket = own.state.getSocket();
    const closed = once(socket, 'close');
    channel.destroy();
    assert.equal((await within(closed, 'close'))[0], 1000);
    assert.equal(own.state.getSocket(), null);
  });

  test('a restart ends connections with 1012, and the SDK is a member again afterwards', async (t) => {
    const own = await behindTls(config(CHANNELS));
    t.after(() => own.stop());
    const client = sdk(t, own);
    const channel = await client.joined(room());
    const closed = once(client.state.getSocket(), 'close');
    await own.restart();
    assert.equal((await within(closed, 'close'))[0], 1012);
    await channel.next('join');
    channel.message('again');
    assert.equal((await channel.next('message')).payload, 'again');
  });
});

describe('bad input', () => {
  test('frames that make no sense leave the connection as it is', async (t) => {
    const client = await raw(t, server);
    const name = room();
    for (const text of ['', 'x', '[]', '{}', 'null', '{"action":""}', '{"action":"join"}', `[${'['.repeat(500)}`]) {
      client.send(text);
    }
    client.socket.send(Buffer.from([1, 2, 3]));
    client.send({ action: 'connection_status', options: { channel: name }, payload: { status: 'connected' } });
    assert.deepEqual(await client.next(), {
      action: 'error', client: null, options: { channel: name }, payload: { message: 'There is no such action.' },
    });
    client.send({ action: 'message', options: { channel: name }, payload: 1 });
    const { payload: { message } } = await client.next();
    assert.equal(message, 'Only clients that have joined the channel can do this.');
    client.send({ action: 'leave', options: { channel: name }, payload: null });
    assert.equal((await client.next()).action, 'leave');
  });

  test('pings are answered', async (t) => {
    const client = await raw(t, server);
    const pong = once(client.socket, 'pong');
    client.socket.ping('x');
    assert.equal((await within(pong, 'pong'))[0].toString(), 'x');
  });

  test('Xano\'s path is no way into the native dialect', async (t) => {
    const client = await raw(t, server, { path: `/rt/canonical?app=xano&key=${KEY}&join=native` });
    client.send({ type: 'join', id: 1, channel: 'native' });
    client.send({ action: 'join', options: { channel: room() }, payload: {} });
    assert.equal((await client.next()).action, 'join');
    const refused = new WebSocket(`ws://${server.address}/rtx`);
    const [, response] = await once(refused, 'unexpected-response');
    assert.equal(response.statusCode, 404);
  });
});
