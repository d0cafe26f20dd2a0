// Tests with stock Socket.IO clients, which act like Agnost's client, and a native client in the same channels.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { client, connected, counted, key, native, refused, serverKey, start, token, within } from './server.mjs';

let server;
before(async () => { server = await start(); });
after(() => server.stop());

let channels = 0;
const channel = () => `room-${channels += 1}`;

describe('membership', () => {
  test('others are told of a member that joins, changes its profile and leaves; the member is told if it wants', async (t) => {
    const room = channel();
    const [one, two] = [await connected(t, server), await connected(t, server)];
    one.emit('join', { channel: room });
    assert.deepEqual(await one.next(), ['channel:join', { channel: room, message: { id: one.id } }]);
    two.emit('join', { channel: room, echo: false });
    assert.deepEqual(await one.next(), ['channel:join', { channel: room, message: { id: two.id } }]);
    two.emit('update', { data: { name: 'two' } });
    const update = ['channel:update', { channel: room, message: { id: two.id, data: { name: 'two' } } }];
    assert.deepEqual([await one.next(), await two.next()], [update, update]);
    two.emit('update', { data: null, echo: false });
    assert.deepEqual(await one.next(), ['channel:update', { channel: room, message: { id: two.id, data: null } }]);
    two.emit('leave', { channel: room });
    const leave = ['channel:leave', { channel: room, message: { id: two.id, data: null } }];
    assert.deepEqual([await one.next(), await two.next()], [leave, leave]);
    assert.deepEqual(await two.settled(), []);
  });

  test('a second join, and leaving without being a member, are silent', async (t) => {
    const room = channel();
    const one = await connected(t, server);
    for (const event of ['leave', 'join', 'join']) one.emit(event, { channel: room });
    const seen = await one.settled();
    assert.deepEqual(seen.map(([name]) => name), ['channel:join']);
  });

  test('a profile that is set before joining is part of the notice, once for each channel', async (t) => {
    const [room, other] = [channel(), channel()];
    const [one, two] = [await connected(t, server), await connected(t, server)];
    for (const name of [room, other]) one.emit('join', { channel: name, echo: false });
    await one.settled();
    two.emit('update', { data: [1] });
    for (const name of [room, other]) two.emit('join', { channel: name });
    await two.settled();
    const joins = [await one.next(), await one.next()].map(([, { channel: name, message }]) => [name, message.data]);
    assert.deepEqual(joins, [[room, [1]], [other, [1]]]);
    two.emit('update', { data: 2 });
    const updates = [await one.next(), await one.next()].map(([event, { channel: name }]) => [event, name]);
    assert.deepEqual(updates.sort(), [['channel:update', room], ['channel:update', other]].sort());
  });

  for (const [how, end] of [
    ['DISCONNECT', (socket) => socket.disconnect()],
    ['a transport that closes', (socket) => socket.io.engine.close()],
  ]) {
    test(`the end by ${how} is one leave`, async (t) => {
      const room = channel();
      const one = await connected(t, server);
      const two = await connected(t, server, {}, { reconnection: false });
      one.emit('join', { channel: room, echo: false });
      await one.settled();
      two.emit('join', { channel: room });
      assert.equal((await one.next())[0], 'channel:join');
      const { id } = two;
      end(two);
      assert.deepEqual(await one.next(), ['channel:leave', { channel: room, message: { id } }]);
      assert.deepEqual(await one.settled(), []);
    });
  }
});

describe('messages', () => {
  test('a channel receives what members and others send; the sender as echo says', async (t) => {
    const room = channel();
    const [one, two] = [await connected(t, server), await connected(t, server, { echoMessages: false })];
    for (const socket of [one, two]) socket.emit('join', { channel: room, echo: false });
    await Promise.all([one.settled(), two.settled()]);
    const say = (socket, message, more) => socket.emit('message', { channel: room, eventName: 'chat', message, ...more });
    // The client `one` receives its own messages 1, 3 and 5, and `two` its own message 7.
    say(one, 1);
    say(one, 2, { echo: false });
    say(one, 3, { echo: 'false' });
    say(one, 4, { echo: 0 });
    say(one, 5, { echo: null });
    const own = (events) => events.filter(([name]) => name === 'chat').map(([, { message }]) => message);
    assert.deepEqual(own(await one.settled()), [1, 3, 5]);
    assert.deepEqual(own(await two.settled()), [1, 2, 3, 4, 5]);
    say(two, 6);
    say(two, 7, { echo: 1 });
    assert.deepEqual(own(await two.settled()), [7]);
    assert.deepEqual(own(await one.settled()), [6, 7]);
    const three = await connected(t, server);
    say(three, { from: 'outside' });
    assert.deepEqual(await one.next(), ['chat', { channel: room, message: { from: 'outside' } }]);
    assert.deepEqual(own(await three.settled()), [], 'who is no member receives nothing, whatever it sends');
  });

  for (const [what, value] of [['no', undefined], ['an empty', ''], ['a null', null]]) {
    test(`a message to ${what} channel reaches everybody with channel null`, async (t) => {
      const [one, two] = [await connected(t, server, { envId: 'keyless' }), await connected(t, server, { envId: 'keyless' })];
      one.emit('message', { channel: value, eventName: 'all', message: 'hi', echo: false });
      assert.deepEqual(await two.next(), ['all', { channel: null, message: 'hi' }]);
      assert.deepEqual(await one.settled(), []);
    });
  }

  test('messages of one sender arrive in order, also beyond what is published at once', async (t) => {
    const room = channel();
    const [one, two] = [await connected(t, server), await connected(t, server)];
    two.emit('join', { channel: room, echo: false });
    await two.settled();
    const numbers = Array.from({ length: 500 }, (_, n) => n);
    for (const message of numbers) one.emit('message', { channel: room, eventName: 'n', message });
    const seen = [];
    for (const _ of numbers) seen.push((await two.next())[1].message);
    assert.deepEqual(seen, numbers);
  });

  test('what the original leaves unanswered is silent here, and counted', async (t) => {
    const one = await connected(t, server);
    const before = await counted(server, 'command_errors_total');
    const nonsense = [
      ['join'],
      ['join', {}],
      ['join', { channel: 7 }],
      ['message', { channel: 'x' }],
      ['message', { eventName: 'user:signin' }],
      ['message', { eventName: 'channel:join' }],
      ['send_message', { envId: 'env-open', channelName: 'x', eventName: 'y', message: 1 }],
      ['nothing', 1],
    ];
    for (const event of nonsense) one.emit(...event);
    assert.deepEqual(await one.settled(), []);
    assert.equal(await counted(server, 'command_errors_total') - before, nonsense.length);
  });
});

describe('a native client in the same channel', () => {
  test('sees what the others do, and they see it', async (t) => {
    const room = channel();
    const one = await connected(t, server);
    one.emit('update', { data: { name: 'one' } });
    one.emit('join', { channel: room, echo: false });
    await one.settled();
    const other = await native(t, server);
    other.send({ id: 1, type: 'join', channel: room, echo: false });
    assert.equal((await other.next()).id, 1);
    assert.deepEqual(await one.next(), ['channel:join', { channel: room, message: { id: other.welcome.session } }]);
    other.send({ type: 'send', channel: room, event: 'chat', message: { a: [1] }, echo: false });
    assert.deepEqual(await one.next(), ['chat', { channel: room, message: { a: [1] } }]);
    one.emit('message', { channel: room, eventName: 'chat', message: 'hi', echo: false });
    const frame = await other.next();
    assert.deepEqual([frame.channel, frame.event, frame.message], [room, 'chat', 'hi']);
    other.send({ type: 'send', channel: room, event: 'connect', message: 'not for stock clients', echo: false });
    other.send({ type: 'send', channel: room, event: 'chat', message: 'for all', echo: false });
    assert.deepEqual(await one.next(), ['chat', { channel: room, message: 'for all' }]);
    other.send({ id: 2, type: 'members', channel: room });
    const { ok } = await other.next();
    const member = ok.members.find(({ data }) => data?.name === 'one');
    assert.equal(member?.id, one.id, JSON.stringify(ok));
    one.disconnect();
    assert.equal((await other.next()).event, 'channel:leave');
  });

  test('bytes that it sends arrive as a Buffer', async (t) => {
    const room = channel();
    const one = await connected(t, server);
    one.emit('join', { channel: room, echo: false });
    await one.settled();
    const other = await native(t, server);
    const head = Buffer.from(JSON.stringify({ type: 'send', channel: room, event: 'bytes' }));
    const length = Buffer.alloc(2);
    length.writeUInt16BE(head.length);
    other.socket.send(Buffer.concat([length, head, Buffer.from([1, 0, 255])]));
    const [event, { channel: name, message }] = await one.next();
    assert.deepEqual([event, name, [...message]], ['bytes', room, [1, 0, 255]]);
  });
});

test('a Buffer arrives as one, and as bytes at a native client', async (t) => {
  const room = channel();
  const [one, two] = [await connected(t, server), await connected(t, server)];
  one.emit('join', { channel: room, echo: false });
  await one.settled();
  const other = await native(t, server);
  other.send({ id: 1, type: 'join', channel: room, echo: false });
  await other.next();
  await one.next();
  const bytes = Buffer.alloc(60_000, 'fanfare');
  two.emit('message', { channel: room, eventName: 'bytes', message: bytes });
  const [event, { channel: name, message }] = await one.next();
  assert.deepEqual([event, name], ['bytes', room]);
  assert.ok(bytes.equals(message));
  const frame = await other.next();
  assert.ok(bytes.equals(frame.subarray(frame.length - bytes.length)));
});

test('Buffers inside of messages and profiles arrive as Buffers, and as JSON at a native client', async (t) => {
  const room = channel();
  const [one, two, other] = [await connected(t, server), await connected(t, server), await native(t, server)];
  one.emit('join', { channel: room, echo: false });
  await one.settled();
  other.send({ type: 'join', channel: room, echo: false, id: 'j' });
  let frame = await other.next();
  while (frame.id !== 'j') frame = await other.next();
  assert.equal((await one.next())[0], 'channel:join');
  const [small, large] = [Buffer.from([0, 255]), Buffer.alloc(100_000, 7)];
  const message = { list: [small, { deep: large }], text: 'x' };
  two.emit('message', { channel: room, eventName: 'mixed', message });
  assert.deepEqual(await one.next(), ['mixed', { channel: room, message }]);
  frame = await other.next();
  assert.deepEqual(frame.message, JSON.parse(JSON.stringify(message)));
  two.emit('update', { data: { image: small } });
  two.emit('join', { channel: room, echo: false });
  const data = { image: small };
  assert.deepEqual(await one.next(), ['channel:join', { channel: room, message: { id: two.id, data } }]);
  two.emit('update', { data: small, echo: false });
  assert.deepEqual(await one.next(), ['channel:update', { channel: room, message: { id: two.id, data: small } }]);
  const { id } = two;
  two.disconnect();
  assert.deepEqual(await one.next(), ['channel:leave', { channel: room, message: { id, data: small } }]);
  // Half a megabyte, as applications send it.
  const half = Buffer.alloc(500_000, 1);
  one.emit('message', { eventName: 'half', message: half });
  const [name, { message: received }] = await one.next();
  assert.deepEqual([name, half.equals(received)], ['half', true]);
});

describe('who may come in', () => {
  const codes = [
    ['an unknown environment', { envId: 'nowhere' }, 'no_environment_found', 'No Environment Found'],
    ['no environment', { envId: undefined }, 'no_environment_found', 'No Environment Found'],
    ['an environment that is no text', { envId: 7 }, 'no_environment_found', 'No Environment Found'],
    ['realtime that is off', { envId: 'off', apiKey: key('off') }, 'realtime_not_allowed', 'Realtime Disabled'],
    ['no key', { apiKey: undefined }, 'missing_api_key', 'Missing API Key'],
    ['a key that is no text', { apiKey: {} }, 'missing_api_key', 'Missing API Key'],
    ['another app\'s key', { apiKey: key('strict') }, 'invalid_api_key', 'Invalid API Key'],
    ['a server key', { apiKey: serverKey('open') }, 'unauthorizez_api_key', 'Unauthorized API Key'],
    ['no session', { envId: 'strict', apiKey: key('strict') }, 'missing_session_token', 'Missing Session Token'],
    ['a bad session', { envId: 'strict', apiKey: key('strict'), session: 'x.y.z' }, 'invalid_session_token', 'Invalid Session Token'],
  ];
  for (const [what, auth, code, title] of codes) {
    test(`${what} is ${code}`, async (t) => {
      const error = await refused(t, server, auth);
      assert.equal(error.message, `Realtime Connection Error - ${title}`);
      assert.deepEqual([error.data.origin, error.data.code, typeof error.data.message], ['client_error', code, 'string']);
    });
  }

  test('a foreign origin is domain_not_authorized', async (t) => {
    const auth = { envId: 'fenced', apiKey: key('fenced') };
    const from = (origin) => ({ extraHeaders: { origin } });
    const error = await refused(t, server, auth, from('https://evil.example'));
    assert.equal(error.data.code, 'domain_not_authorized');
    await connected(t, server, auth, from('https://allowed.example'));
  });

  test('a session, Altogic\'s names and both paths do', async (t) => {
    await connected(t, server, { envId: 'strict', apiKey: key('strict'), session: token('leia') });
    await connected(t, server, { envId: 'keyless', apiKey: undefined, session: 'ignored' });
    const altogic = { envId: undefined, apiKey: undefined, subdomain: 'acme', clientKey: key('open'), Session: token('luke') };
    await connected(t, server, altogic, { path: '/socket.io/' });
  });

  test('a namespace that does not exist is refused before and after the session begins', async (t) => {
    const socket = await connected(t, server);
    const other = socket.io.socket('/admin');
    const [error] = await within(once(other, 'connect_error'), 'refusal');
    assert.equal(error.message, 'Invalid namespace');
    assert.deepEqual(await socket.settled(), []);
  });
});

/** A raw WebSocket with the messages that it receives, and the code with which it ends. */
async function raw(t, query = 'EIO=4&transport=websocket') {
  const socket = new WebSocket(`ws://${server.address}/socket.io/?${query}`);
  t.after(() => socket.terminate());
  const frames = [];
  socket.on('message', (data) => frames.push(data.toString()));
  const closed = new Promise((resolve) => socket.on('close', resolve));
  await within(once(socket, 'message'), 'open packet');
  return { socket, frames, closed: within(closed, 'close') };
}

const CONNECT = JSON.stringify({ envId: 'env-open', apiKey: key('open') });

describe('the protocol', () => {
  test('the open packet names times and limits', async (t) => {
    const { frames } = await raw(t);
    const { sid, ...open } = JSON.parse(frames[0].slice(1));
    assert.equal(frames[0][0], '0');
    assert.ok(sid.length >= 20);
    assert.deepEqual(open, { upgrades: [], pingInterval: 300, pingTimeout: 900, maxPayload: 1048576 });
  });

  test('the server pings at every interval, and a peer that never answers is gone', async (t) => {
    const { socket, frames, closed } = await raw(t);
    socket.send(`40${CONNECT}`);
    assert.equal(await closed, 1005);
    assert.deepEqual(frames.filter((frame) => frame === '2'), ['2']);
  });

  test('a peer that never answers is gone, too, if it has no session', async (t) => {
    const { frames, closed } = await raw(t);
    assert.equal(await closed, 1005);
    assert.ok(frames.includes('2'));
  });

  test('a stock client stays for many intervals', async (t) => {
    const one = await connected(t, server, {}, { reconnection: false });
    let pings = 0;
    const enough = new Promise((resolve) => one.io.engine.on('ping', () => { if ((pings += 1) === 5) resolve(); }));
    await within(enough, 'five pings');
    assert.deepEqual(await one.settled(), []);
  });

  for (const [what, packets] of [
    ['an event before CONNECT', ['42["join",{"channel":"x"}]']],
    ['no packet', ['4']],
    ['a packet of an unknown type', ['9']],
    ['a ping of the client\'s', ['2']],
    ['a second CONNECT', [`40${CONNECT}`, `40${CONNECT}`]],
    ['a CONNECT behind a refusal', ['40{}', `40${CONNECT}`]],
    ['JSON that is none', [`40${CONNECT}`, '42["join",{]']],
    ['a packet amid attachments', [`40${CONNECT}`, '451-["update",{"data":{"_placeholder":true,"num":0}}]', '42["x"]']],
    ['eleven attachments', [`40${CONNECT}`, '4511-["update",{}]']],
  ]) {
    test(`${what} closes the connection without a code`, async (t) => {
      const { socket, closed } = await raw(t);
      for (const packet of packets) socket.send(packet);
      assert.equal(await closed, 1005);
    });
  }

  test('other requests are refused in the words of Engine.IO', async () => {
    for (const [query, code] of [['transport=polling', 5], ['EIO=4&transport=x', 0], ['EIO=4&transport=websocket', 3],
      ['EIO=4&transport=polling&sid=guessed', 1]]) {
      const answer = await fetch(`http://${server.address}/realtime/?${query}`);
      assert.equal(answer.status, 400, query);
      assert.equal((await answer.json()).code, code, query);
      assert.equal(answer.headers.get('access-control-allow-origin'), '*');
    }
    assert.equal((await fetch(`http://${server.address}/realtime?EIO=4&transport=polling`)).status, 404);
  });
});

test('a server that restarts closes the transport, so that stock clients come back', async (t) => {
  const own = await start();
  t.after(() => own.stop());
  const one = client(t, own);
  await within(once(one, 'connect'), 'connect');
  const ended = once(one, 'disconnect');
  own.child.kill('SIGTERM');
  const [reason] = await within(ended, 'disconnect');
  assert.equal(reason, 'transport close');
  assert.ok(one.active, 'the client tries again by itself');
});
