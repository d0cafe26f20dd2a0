// Triggers with Xano's stock SDK: the input is Xano's, and a trigger vetoes, replaces, and takes its time.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { behindTls, config, row, sdk } from './sdk.mjs';
import { CHANNELS, TRIGGERS } from './triggers.mjs';

let server;
before(async () => { server = await behindTls(config(CHANNELS, '', TRIGGERS)); });
after(() => server.stop());

let names = 0;
const name = (kind) => `${kind}/${names += 1}`;

describe('the input of a trigger', () => {
  test('of a message, from a client with a token and from one without', async (t) => {
    for (const [token, client] of [
      [row(7, 42, { name: 'Leia' }), { extras: { name: 'Leia' }, permissions: { dbo_id: 7, row_id: '42' } }],
      [undefined, { extras: {}, permissions: { dbo_id: 0, row_id: '0' } }],
    ]) {
      const channel = name('show');
      const own = await sdk(t, server, { token }).joined(channel);
      own.message({ n: 1 });
      const { client: sender, payload } = await own.next('message');
      const options = { authenticated: false, channel };
      assert.deepEqual(payload, {
        action: 'message', command: 'message', channel, client: { ...client, socketId: sender.socketId },
        options, commandOptions: options, payload: { n: 1 },
      });
    }
  });

  test('of a message for clients with a token, and of one for a single client', async (t) => {
    const channel = name('show');
    const own = await sdk(t, server, { token: row(1, 2) }).joined(channel);
    own.message(1, { authenticated: true });
    assert.deepEqual((await own.next('message')).payload.options, { authenticated: true, channel });
    const other = await sdk(t, server).joined(channel);
    other.message(2);
    const { client: { socketId } } = await own.next('message');
    own.message(3, { socketId });
    await other.next('message');
    const { payload } = await other.next('message');
    assert.equal(payload.payload, 3);
    assert.deepEqual(payload.options, { authenticated: false, channel, socketId });
  });

  test('of a join, which runs before the channel\'s rules are checked', async (t) => {
    const listener = await sdk(t, server).joined('log');
    const channel = name('members');
    const own = sdk(t, server).channel(channel, { presence: true });
    const { payload: { data } } = await listener.next('event');
    const options = { authenticated: false, channel };
    assert.deepEqual({ ...data, client: { ...data.client, socketId: '' } }, {
      action: 'join', command: 'join', channel, options, commandOptions: options,
      client: { extras: {}, permissions: { dbo_id: 0, row_id: '0' }, socketId: '' },
      payload: { history: false, presence: true },
    });
    assert.equal((await own.next('error', 'join')).payload.message, 'Anonymous clients cannot join this channel.');
  });
});

describe('the verdict of a trigger', () => {
  test('replaces a payload for every member, with null too', async (t) => {
    const channel = name('words');
    const [one, two] = [await sdk(t, server).joined(channel), await sdk(t, server).joined(channel)];
    one.message({ text: 'oh darn it' });
    one.message({ clear: true });
    for (const member of [one, two]) {
      assert.deepEqual((await member.next('message')).payload, { text: 'oh **** it' });
      assert.equal((await member.next('message')).payload, null);
    }
  });

  test('refuses a message, and tells its sender alone', async (t) => {
    const channel = name('words');
    const [one, two] = [await sdk(t, server).joined(channel), await sdk(t, server).joined(channel)];
    one.message('no text');
    one.message({ text: 'mark' });
    const error = await one.next('error');
    assert.deepEqual([error.options, error.payload], [{ channel }, { message: 'A message has a text.' }]);
    assert.deepEqual((await two.next('message', 'error')).payload, { text: 'mark' });
  });

  test('vetoes a join, after which the client is no member', async (t) => {
    const own = sdk(t, server).channel(name('closed'), { presence: true, history: true });
    const first = await own.next('error', 'join', 'presence_full', 'history');
    assert.equal(first.action, 'error');
    own.message(1);
    const { payload } = await own.next('error', 'message', 'presence_full', 'history');
    assert.equal(payload.message, 'Only clients that have joined the channel can do this.');
  });
});

test('a join and 200 messages behind a slow trigger keep their order', async (t) => {
  const own = sdk(t, server);
  const channel = own.channel(name('slow'), { queueOfflineActions: true, presence: true });
  for (let n = 0; n < 200; n += 1) channel.message(n);
  const actions = [];
  while (actions.at(-1) !== 199) {
    const { action, payload } = await channel.inbox.next('action');
    if (action === 'message') actions.push(payload);
    else if (action !== 'connection_status') actions.push(action);
  }
  assert.deepEqual(actions.filter((action) => action !== 'presence_full'), ['join', ...Array(200).keys()]);
  assert.equal(actions[1], 'presence_full');
});

test('a message to a client that is no member is refused, whatever worker serves the client', async (t) => {
  const channel = name('words');
  const own = await sdk(t, server).joined(channel, { presence: true });
  for (let n = 0; n < 8; n += 1) {
    const elsewhere = await sdk(t, server).joined(name('show'));
    elsewhere.message(1);
    const { client: { socketId } } = await elsewhere.next('message');
    own.message({ text: 'private' }, { socketId });
    const { payload } = await own.next('error');
    assert.equal(payload.message, 'The receiver has not joined the channel.');
  }
  const left = await sdk(t, server).joined(channel);
  left.message({ text: 'hello' });
  const { client: { socketId } } = await own.next('message');
  left.destroy();
  while ((await own.next('presence_update')).payload.action !== 'leave');
  own.message({ text: 'private' }, { socketId });
  assert.equal((await own.next('error')).payload.message, 'The receiver has not joined the channel.');
});
