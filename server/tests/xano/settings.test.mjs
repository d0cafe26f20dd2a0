// Settings of channels that a back end changes while clients of both workers are connected.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { KEY, SERVER_KEY, behindTls, config, raw, row, sdk } from './sdk.mjs';

const OPEN = 'anonymous_clients = true\nclient_public_messaging = true';
const CHANNELS = [`pattern = "room/*"\n${OPEN}`, `pattern = "gone"\n${OPEN}\npresence = true`];

let server;
before(async () => { server = await behindTls(config(CHANNELS)); });
after(() => server.stop());

async function request(method, body, key = SERVER_KEY) {
  const response = await fetch(`http://${server.address}/v1/xano/settings?app=xano`, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

/** Clients that the kernel spreads over the workers, all in a channel. */
const crowd = (t, name, options) => Promise.all(Array.from({ length: 8 }, () => sdk(t, server).joined(name, options)));

const open = (pattern, more = {}) => ({ pattern, anonymous_clients: true, client_public_messaging: true, ...more });

describe('settings over HTTP', { concurrency: 1 }, () => {
  test('have the names of the original, and numbers', async () => {
    const { status, body } = await request('GET');
    assert.equal(status, 200);
    assert.deepEqual([body.enabled, body.canonical, body.hash], [true, 'canonical', 'the-hash']);
    assert.deepEqual(body.channels[0], {
      id: 1, pattern: 'room/*', description: '', enabled: true, wildcard: false, anonymous_clients: true,
      presence: false, history: 0, client_public_messaging: true, client_public_messaging_authenticated_only: false,
      client_authenticated_messaging: false, client_private_messaging: false,
      client_private_messaging_authenticated_only: false,
    });
    assert.equal((await request('GET', undefined, KEY)).status, 403);
    assert.equal((await request('POST', {})).status, 405);
  });

  test('change what members of every worker may do, as soon as the request is answered', async (t) => {
    const members = await crowd(t, 'room/1');
    const quiet = open('room/*', { client_public_messaging: false, history: 25 });
    assert.equal((await request('PATCH', { channels: [quiet, open('gone', { presence: true })] })).status, 200);
    for (const member of members) {
      member.message('unheard');
      assert.equal((await member.next('error', 'message')).payload.message, 'This channel\'s settings do not allow this.');
    }
    await request('PATCH', { channels: [open('room/*', { history: 25 }), open('gone', { presence: true })] });
    members.forEach((member, n) => member.message(n));
    for (const member of members) {
      const heard = new Set();
      while (heard.size < members.length) heard.add((await member.next('message', 'error')).payload);
    }
    members[0].history();
    assert.equal((await members[0].next('history')).payload.history.length, members.length);
  });

  test('open channels to clients that are connected already', async (t) => {
    const own = sdk(t, server);
    await own.joined('room/2');
    assert.equal((await own.channel('new/1').next('error', 'join')).action, 'error');
    const { body: { channels } } = await request('GET');
    await request('PATCH', { channels: [...channels, open('new', { wildcard: true })] });
    for (const name of ['new', 'new/1', 'new/1/2']) {
      const client = await raw(t, server);
      client.send({ action: 'join', options: { channel: name }, payload: {} });
      assert.equal((await client.next()).action, 'join');
    }
    own.channel('new/3');
    await own.joined('new/4');
  });

  test('that are removed or switched off end memberships, and not connections', async (t) => {
    const members = await crowd(t, 'gone', { presence: true });
    const channels = (await request('GET')).body.channels.map((entry) => ({ ...entry, enabled: entry.pattern !== 'gone' }));
    await request('PATCH', { channels });
    for (const member of members) {
      const { options, payload } = await member.next('error');
      assert.deepEqual([options, payload], [{ channel: 'gone' }, { message: 'This channel was closed.' }]);
      member.message('unheard');
      assert.equal((await member.next('error')).payload.message, 'There is no channel of this name.');
    }
  });

  test('outlive a reload, and name the app', async (t) => {
    const before = (await request('GET')).body;
    assert.equal((await fetch(`http://${server.admin}/reload`, { method: 'POST' })).status, 200);
    assert.deepEqual((await request('GET')).body, before);
    await request('PATCH', { hash: 'another-hash' });
    const client = await raw(t, server, { path: '/rt/another-hash' });
    client.send({ action: 'join', options: { channel: 'room/9' }, payload: {} });
    assert.equal((await client.next()).action, 'join');
    const stranger = await raw(t, server, { path: '/rt/the-hash' });
    assert.equal((await stranger.next()).payload.message, 'Unknown connection hash');
    await request('PATCH', { enabled: false });
    const refused = await raw(t, server, { protocols: [row(1, 2)] });
    assert.equal((await refused.next()).payload.message, 'Realtime is disabled');
    assert.equal((await client.next()).payload.message, 'This channel was closed.');
    await request('PATCH', { enabled: true, hash: null });
  });

  test('that make no sense change nothing', async () => {
    const before = (await request('GET')).body;
    for (const body of [
      [], 'x', { unknown: 1 }, { enabled: 'yes' }, { hash: 'a/b' }, { hash: 'canonical' }, { channels: {} },
      { channels: [{ pattern: '' }] }, { channels: [{ pattern: 'a*b' }] }, { channels: [{ pattern: 'a', history: 1001 }] },
      { channels: [open('a'), open('a')] }, { channels: [open('a', { unknown: 1 })] },
      { channels: Array.from({ length: 257 }, (_, n) => open(`c${n}`)) },
    ]) {
      const { status, body: { detail } } = await request('PATCH', body);
      assert.ok(status === 400 && detail, JSON.stringify(body));
    }
    assert.deepEqual((await request('GET')).body, before);
  });
});
