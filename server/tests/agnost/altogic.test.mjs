// Tests with npm's unmodified `altogic`. The client derives the server's address from its base address, so the tests
// resolve these host names.

import assert from 'node:assert/strict';
import dns from 'node:dns';
import { after, before, test } from 'node:test';
import altogic from 'altogic';
import { Inbox, connected, key, serverKey, start, within } from './server.mjs';

let server;
before(async () => {
  server = await start();
  const lookup = dns.lookup;
  dns.lookup = (name, options, done) => lookup(name.endsWith('.fanfare.test') ? '127.0.0.1' : name, options, done);
});
after(() => server.stop());

/** A connected client of the environment at `host`. Its received events are in `inbox`. */
async function open(t, host, options = {}) {
  const port = server.address.split(':')[1];
  const { realtime } = altogic.createClient(`http://${host}:${port}`, key('open'), { realtime: options });
  t.after(() => realtime.close());
  realtime.inbox = new Inbox();
  realtime.onAny((...event) => realtime.inbox.put(event));
  await within(new Promise((resolve, reject) => {
    realtime.onConnect(resolve);
    realtime.onError(reject);
  }), 'connect');
  return realtime;
}

test('two clients of Altogic and one of Agnost meet in a channel', async (t) => {
  const one = await open(t, 'acme.c1.fanfare.test');
  const two = await open(t, 'acme.c1.fanfare.test', { echoMessages: false, bufferMessages: false });
  one.join('lobby');
  assert.deepEqual(await one.inbox.next(), ['channel:join', { channel: 'lobby', message: { id: one.getSocketId() } }]);
  two.updateProfile({ name: 'two' });
  two.join('lobby');
  const joined = ['channel:join', { channel: 'lobby', message: { id: two.getSocketId(), data: { name: 'two' } } }];
  assert.deepEqual(await one.inbox.next(), joined);
  const three = await connected(t, server);
  three.emit('join', { channel: 'lobby', echo: false });
  for (const client of [one, two]) assert.equal((await client.inbox.next())[1].message.id, three.id);
  const chat = (message) => ['chat', { channel: 'lobby', message }];
  const others = [() => one.inbox.next(), () => three.next()];
  // The client buffers nothing and drops what it cannot send at once, so the second message waits for the first.
  two.send('lobby', 'chat', 'without echo');
  for (const next of others) assert.deepEqual(await next(), chat('without echo'));
  two.send('lobby', 'chat', 'with echo', true);
  for (const next of [...others, () => two.inbox.next()]) assert.deepEqual(await next(), chat('with echo'));
  one.broadcast('news', { to: 'all' });
  for (const next of [() => one.inbox.next(), () => two.inbox.next(), () => three.next()]) {
    assert.deepEqual(await next(), ['news', { channel: null, message: { to: 'all' } }]);
  }
  two.leave('lobby');
  assert.deepEqual((await one.inbox.next())[1].message, { id: joined[1].message.id, data: { name: 'two' } });
});

test('calls before the connection is there are sent once it is, and repeated joins are silent', async (t) => {
  const port = server.address.split(':')[1];
  const { realtime } = altogic.createClient(`http://acme.c1.fanfare.test:${port}`, key('open'));
  t.after(() => realtime.close());
  const inbox = new Inbox();
  realtime.onAny((...event) => inbox.put(event));
  realtime.updateProfile('early');
  realtime.join('early');
  realtime.send('early', 'chat', 1);
  const events = [await inbox.next(), await inbox.next()];
  assert.deepEqual(events.map(([name]) => name), ['channel:join', 'chat']);
  assert.equal(events[0][1].message.data, 'early');
  // The client repeats its profile and its joins when it has connected.
  assert.equal((await inbox.next())[0], 'channel:update');
  realtime.send('early', 'chat', 2);
  assert.deepEqual(await inbox.next(), ['chat', { channel: 'early', message: 2 }]);
});

test('a connection that is lost comes back to its channels under a new id', async (t) => {
  const one = await open(t, 'acme.c1.fanfare.test', { reconnectionDelay: 20 });
  const watcher = await connected(t, server);
  watcher.emit('join', { channel: 'again', echo: false });
  await watcher.settled();
  one.updateProfile('kept');
  one.join('again');
  const [, joined] = await watcher.next();
  const { id } = joined.message;
  assert.deepEqual(joined.message, { id, data: 'kept' });
  const answer = await fetch(`http://${server.address}/v1/disconnect?app=open`, {
    method: 'POST',
    headers: { authorization: `Bearer ${serverKey('open')}`, 'content-type': 'application/json' },
    body: JSON.stringify({ session: id, reconnect: true }),
  });
  assert.equal(answer.status, 200);
  assert.deepEqual(await watcher.next(), ['channel:leave', { channel: 'again', message: { id, data: 'kept' } }]);
  const [event, { message }] = await watcher.next();
  assert.deepEqual([event, message.data], ['channel:join', 'kept']);
  assert.notEqual(message.id, id);
});
