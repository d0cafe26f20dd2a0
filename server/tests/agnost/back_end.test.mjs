// Tests of a back end: its connection, as Agnost's engine opens it, and the HTTP request for members, as clients send
// it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { io } from 'socket.io-client';
import { connected, counted, CONFIG, key, native, serverKey, start, token, within } from './server.mjs';

const ACCESS_TOKEN = 'access-token-of-the-whole-server';

let server;
before(async () => {
  server = await start(CONFIG.replace('[server]', `[server]\naccess_tokens = ["${ACCESS_TOKEN}"]`));
});
after(() => server.stop());

let channels = 0;
const channel = () => `back-end-room-${channels += 1}`;

/** Opens a connection as Agnost's engine does, which tries a WebSocket first. */
async function engine(t, accessToken, transports = ['websocket', 'polling']) {
  const socket = io(`http://${server.address}`, {
    path: '/realtime/',
    transports,
    forceNew: true,
    reconnectionDelay: 20,
    auth: { accessToken },
  });
  t.after(() => socket.disconnect());
  await within(new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject)), 'connect');
  /** Waits until the server has handled everything that was sent. */
  socket.members = (envId, name) => socket.timeout(5000).emitWithAck('get_members', { envId, channel: name });
  return socket;
}

/** Requests a channel's members over HTTP, as Agnost's client does. */
const ask = (path, body, headers = {}) => fetch(`http://${server.address}${path}`, {
  method: 'POST',
  headers: { Authorization: key('open'), 'X-Client': 'agnost-js', 'Content-Type': 'application/json', ...headers },
  body: typeof body === 'string' ? body : JSON.stringify(body),
});
const PATH = '/env-open/agnost/realtime/get-members';

for (const [how, transports] of [
  ['over a WebSocket', undefined],
  ['by polling', ['polling']],
  ['by polling, and with an upgrade', ['polling', 'websocket']],
]) {
  describe(`the master connection ${how}`, () => {
    test('sends to a channel and to everybody, JSON and Buffers, in order', async (t) => {
      const room = channel();
      const [one, two, other] = [await connected(t, server), await connected(t, server), await native(t, server)];
      one.emit('join', { channel: room, echo: false });
      await one.settled();
      other.send({ type: 'join', channel: room, echo: false, id: 'j' });
      await other.next();
      assert.equal((await one.next())[0], 'channel:join');
      const master = await engine(t, ACCESS_TOKEN, transports);
      for (let n = 0; n < 200; n += 1) {
        master.emit('send_message', { envId: 'env-open', channelName: room, eventName: 'n', message: { n } });
      }
      const buffer = Buffer.from([0, 1, 255]);
      master.emit('send_message', { envId: 'env-open', channelName: room, eventName: 'bytes', message: buffer });
      master.emit('broadcast_message', { envId: 'env-open', eventName: 'all', message: buffer });
      for (let n = 0; n < 200; n += 1) {
        assert.deepEqual(await one.next(), ['n', { channel: room, message: { n } }]);
        let frame = await other.next();
        while (frame.event !== 'n') frame = await other.next();
        assert.deepEqual(frame.message, { n });
      }
      assert.deepEqual(await one.next(), ['bytes', { channel: room, message: buffer }]);
      assert.deepEqual(await one.next(), ['all', { channel: null, message: buffer }]);
      assert.deepEqual(await two.next(), ['all', { channel: null, message: buffer }]);
    });

    test('lists all members, whichever worker they are on', async (t) => {
      const room = channel();
      const master = await engine(t, ACCESS_TOKEN, transports);
      assert.deepEqual(await master.members('env-open', room), []);
      const members = [];
      for (let n = 0; n < 12; n += 1) {
        const member = await connected(t, server);
        if (n) member.emit('update', { data: { n } });
        member.emit('join', { channel: room, echo: false });
        await member.settled();
        members.push(n ? { id: member.id, data: { n } } : { id: member.id });
      }
      const byId = (list) => list.sort((a, b) => a.id.localeCompare(b.id));
      assert.deepEqual(byId(await master.members('env-open', room)), byId(members));
      const response = await ask(PATH, { channel: ` ${room} ` });
      assert.equal(response.status, 200);
      assert.deepEqual(byId(await response.json()), byId(members));
      assert.deepEqual(await master.members('strict', room), []);
    });

    test('lists profiles with Buffers as Buffers, and by HTTP as JSON', async (t) => {
      const room = channel();
      const master = await engine(t, ACCESS_TOKEN, transports);
      const member = await connected(t, server);
      const data = { image: Buffer.from([1, 255]), name: 'x' };
      member.emit('update', { data, echo: false });
      member.emit('join', { channel: room, echo: false });
      await member.settled();
      assert.deepEqual(await master.members('env-open', room), [{ id: member.id, data }]);
      const byHttp = await (await ask(PATH, { channel: room })).json();
      assert.deepEqual(byHttp, JSON.parse(JSON.stringify([{ id: member.id, data }])));
      master.emit('send_message', { envId: 'env-open', channelName: room, eventName: 'mixed', message: { data } });
      assert.deepEqual(await member.next(), ['mixed', { channel: room, message: { data } }]);
    });

    test('tells a user in three arguments, whatever channels are called', async (t) => {
      const session = { userId: 'luke', token: 't', creationDtm: '2026-01-01T00:00:00.000Z', userAgent: { os: 'x' } };
      const user = token('luke');
      const [one, two] = [await connected(t, server, { session: user }), await connected(t, server, { Session: user })];
      const other = await connected(t, server);
      other.emit('join', { channel: 'luke', echo: false });
      await other.settled();
      const master = await engine(t, serverKey('open'), transports);
      const event = { envId: 'env-open', userId: 'luke', eventName: 'user:signin', session, user: null };
      master.emit('user_event', event);
      master.emit('user_event', { ...event, userId: 'nobody' });
      master.emit('user_event', { ...event, eventName: 'user:signout', session: null });
      for (const socket of [one, two]) {
        assert.deepEqual(await socket.next(), ['user:signin', 'user:signin', session, null]);
        assert.deepEqual(await socket.next(), ['user:signout', 'user:signout', null, null]);
      }
      assert.deepEqual(await other.settled(), []);
    });

    test('a server key names its own app alone, and a client that says the events does nothing', async (t) => {
      const [mine, theirs] = [await connected(t, server), await connected(t, server, { envId: 'keyless' })];
      const master = await engine(t, serverKey('open'), transports);
      const refusals = await counted(server, 'back_end_refusals_total');
      master.emit('broadcast_message', { envId: 'keyless', eventName: 'x', message: 1 });
      master.emit('broadcast_message', { envId: 'none', eventName: 'x', message: 1 });
      master.emit('broadcast_message', { eventName: 'x', message: 1 });
      await assert.rejects(master.timeout(300).emitWithAck('get_members', { envId: 'keyless', channel: 'x' }));
      assert.equal(await counted(server, 'back_end_refusals_total'), refusals + 4);
      mine.emit('broadcast_message', { envId: 'env-open', eventName: 'x', message: 1 });
      assert.deepEqual(await mine.settled(), []);
      assert.deepEqual(await theirs.settled(), []);
      for (const accessToken of ['', key('open'), `${ACCESS_TOKEN}x`]) {
        await assert.rejects(engine(t, accessToken, transports), /No Environment Found/);
      }
    });

    test('is kept alive and comes back', async (t) => {
      const master = await engine(t, ACCESS_TOKEN, transports);
      let pings = 0;
      await within(new Promise((resolve) => master.io.on('ping', () => (pings += 1) > 5 && resolve())), 'pings');
      assert.deepEqual(await master.members('env-open', 'x'), []);
      const again = new Promise((resolve) => { master.once('connect', resolve); });
      master.io.engine.close();
      await within(again, 'reconnect');
      assert.deepEqual(await master.members('env-open', 'x'), []);
    });
  });
}

describe('members by HTTP', () => {
  const refusal = async (response) => [response.status, (await response.json()).errors?.[0].code];

  test('refusals are JSON in the words of the original', async () => {
    assert.deepEqual(await refusal(await ask(PATH, {}, { Authorization: '' })), [401, 'missing_api_key']);
    assert.deepEqual(await refusal(await ask(PATH, {}, { Authorization: 'x' })), [401, 'invalid_api_key']);
    assert.deepEqual(await refusal(await ask('/none/agnost/realtime/get-members', {})), [404, 'no_environment_found']);
    const off = await ask('/off/agnost/realtime/get-members', {}, { Authorization: key('off') });
    assert.deepEqual(await refusal(off), [400, 'realtime_not_enabled']);
    assert.deepEqual(await refusal(await ask(PATH, '{')), [400, 'invalid_request_body_syntax']);
    assert.deepEqual(await refusal(await ask(PATH, '{}', { 'Content-Type': 'text/plain' })), [415, 'unsupported_media_type']);
    const blank = await ask(PATH, { channel: '  ' });
    const { code, fields } = await blank.json();
    assert.deepEqual([blank.status, code, fields[0].param], [400, 'validation_error', 'channel']);
  });

  test("Altogic's headers and paths lead to it, and a key in the query", async () => {
    const headers = { Authorization: 'an unrelated token', 'X-Client-Key': key('open') };
    const path = '/e:env-open/_api/rest/v1/realtime/get-members';
    assert.deepEqual(await (await ask(path, { channel: 'x' }, headers)).json(), []);
    const inQuery = await ask(`${PATH}?apikey=${key('open')}`, { channel: 'x' }, { Authorization: '' });
    assert.deepEqual(await inQuery.json(), []);
  });

  test('a page may ask with credentials', async () => {
    const origin = 'https://page.example';
    const preflight = await fetch(`http://${server.address}${PATH}`, {
      method: 'OPTIONS',
      headers: {
        origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,session,x-client',
      },
    });
    const seen = (response, name) => response.headers.get(`access-control-${name}`);
    assert.equal(preflight.status, 204);
    assert.equal(seen(preflight, 'allow-headers'), 'authorization,session,x-client');
    for (const response of [preflight, await ask(PATH, { channel: 'x' }, { origin }), await ask(PATH, '{', { origin })]) {
      assert.deepEqual([seen(response, 'allow-origin'), seen(response, 'allow-credentials')], [origin, 'true']);
    }
  });
});

test('a list that is too long is refused as a whole, and counted', async (t) => {
  const small = await start(CONFIG.replace('[apps.open.agnost]', '[apps.open.limits]\nmembers_bytes = 1024\n[apps.open.agnost]'));
  t.after(() => small.stop());
  const member = await connected(t, small);
  member.emit('update', { data: 'x'.repeat(2000), echo: false });
  member.emit('join', { channel: 'room', echo: false });
  await member.settled();
  const response = await fetch(`http://${small.address}${PATH}`, {
    method: 'POST', headers: { Authorization: key('open'), 'Content-Type': 'application/json' }, body: JSON.stringify({ channel: 'room' }),
  });
  assert.deepEqual([response.status, (await response.json()).errors[0].code], [400, 'get_channel_members_error']);
  assert.equal(await counted(small, 'member_lists_refused_total'), 1);
});
