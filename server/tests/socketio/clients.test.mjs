// npm's engine.io-client and socket.io-client against the socketio example, whose path is in SOCKETIO_EXAMPLE: over
// WebSocket, over polling, through an upgrade, and over polling through a proxy that cuts connections.
// Nothing sleeps: each wait is for an event, with a deadline.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Socket as EngineSocket } from 'engine.io-client';
import { io } from 'socket.io-client';

const DEADLINE_MS = 10_000;
const PING_INTERVAL_MS = 200;

const TRANSPORTS = {
  'WebSocket only': ['websocket'],
  'polling only': ['polling'],
  'upgrade': ['polling', 'websocket'],
};

let server;
let address;

before(async () => {
  // The time-out is long: a machine that is busy with other tests is no dead peer.
  server = spawn(process.env.SOCKETIO_EXAMPLE, ['127.0.0.1:0', `${PING_INTERVAL_MS}`, `${DEADLINE_MS}`]);
  server.stderr.pipe(process.stderr);
  const [line] = await once(server.stdout, 'data');
  address = line.toString().match(/^listening on (.*)$/m)[1];
});

after(() => server.kill());

/** Rejects after the deadline. */
function within(promise, what) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
}

/** The arguments of the next event. */
function next(emitter, event) {
  return within(new Promise((resolve) => emitter.once(event, (...args) => resolve(args))), event);
}

/** The arguments of `count` events, in order. */
function collect(emitter, event, count) {
  const all = [];
  const done = new Promise((resolve) => {
    emitter.on(event, (...args) => {
      all.push(args);
      if (all.length === count) resolve(all);
    });
  });
  return within(done, `${count} × ${event}`);
}

/** A Socket.IO client; it is closed when the test ends. */
function client(t, transports, { path = '/', host = address, ...options } = {}) {
  const socket = io(`http://${host}${path}`, { transports, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 50, ...options });
  t.after(() => socket.disconnect());
  return socket;
}

/** An Engine.IO client that has opened its session, and finished its upgrade if there is one. */
async function engine(t, transports) {
  const socket = new EngineSocket(`http://${address}`, { path: '/engine.io/', transports });
  socket.binaryType = 'nodebuffer';
  t.after(() => socket.close());
  const upgraded = transports.length > 1 ? next(socket, 'upgrade') : undefined;
  await next(socket, 'open');
  await upgraded;
  return socket;
}

for (const [name, transports] of Object.entries(TRANSPORTS)) {
  describe(`engine.io-client, ${name}`, () => {
    test('text and bytes come back in order', async (t) => {
      const socket = await engine(t, transports);
      const sent = ['hello', '€ä\u{1F600}', Buffer.from([0, 1, 30, 255]), 'x'.repeat(100_000), Buffer.alloc(70_000, 7), '.'];
      const back = collect(socket, 'message', sent.length);
      for (const message of sent) socket.send(message);
      const expected = sent.map((message) => [message]);
      assert.deepEqual(await back, expected);
      assert.equal(socket.transport.name, transports.at(-1));
    });

    test('heartbeats keep an idle session', async (t) => {
      const socket = await engine(t, transports);
      await collect(socket, 'heartbeat', 4);
      assert.equal(socket.readyState, 'open');
    });
  });

  describe(`socket.io-client, ${name}`, () => {
    test('payloads and bytes, nested too, come back as they were sent', async (t) => {
      const socket = client(t, transports, { auth: { token: '123', nested: [1, null] } });
      assert.deepEqual(await next(socket, 'auth'), [{ token: '123', nested: [1, null] }]);
      const args = [1, '2', { 3: [true, null, { deep: Buffer.from('bytes') }] }, Buffer.alloc(0), Buffer.alloc(500_000, 3)];
      const back = next(socket, 'message-back');
      socket.emit('message', ...args);
      assert.deepEqual(await back, args);
      assert.deepEqual((await within(emitAll(socket, args), 'acknowledgement')), args);
    });

    test('acknowledgements work both ways', async (t) => {
      const socket = client(t, transports);
      socket.on('question', (text, bytes, acknowledge) => acknowledge(`${text}!`, bytes));
      const answer = next(socket, 'answer');
      socket.emit('ask', 'why', Buffer.from([9]));
      assert.deepEqual(await answer, ['why!', Buffer.from([9])]);
    });

    test('bursts arrive whole and in order in both directions', async (t) => {
      const socket = client(t, transports);
      const [items, backs] = [collect(socket, 'item', 2000), collect(socket, 'message-back', 200)];
      socket.emit('burst', 2000);
      for (let number = 0; number < 200; number += 1) socket.emit('message', number, Buffer.from([number]));
      assert.deepEqual((await items).map(([number]) => number), Array.from({ length: 2000 }, (_, number) => number));
      assert.deepEqual(await backs, Array.from({ length: 200 }, (_, number) => [number, Buffer.from([number])]));
    });

    test('namespaces share a connection', async (t) => {
      const main = client(t, transports, { forceNew: false, multiplex: true });
      const custom = main.io.socket('/custom', { auth: { a: 1 } });
      const unknown = main.io.socket('/random');
      const refused = next(unknown, 'connect_error');
      assert.deepEqual(await next(custom, 'auth'), [{ a: 1 }]);
      assert.equal((await refused)[0].message, 'Invalid namespace');
      custom.disconnect();
      assert.deepEqual(await within(main.emitWithAck('message-with-ack', 'still here'), 'acknowledgement'), 'still here');
      assert.notEqual(main.id, main.io.engine.id);
    });

    test('a disconnect of the server is final, a close is not', async (t) => {
      const socket = client(t, transports);
      await next(socket, 'connect');
      const left = next(socket, 'disconnect');
      socket.emit('leave');
      assert.equal((await left)[0], 'io server disconnect');
      socket.connect();
      await next(socket, 'connect');
      const closed = next(socket, 'disconnect');
      const again = next(socket, 'connect');
      socket.emit('quit');
      assert.match((await closed)[0], /^transport (close|error)$/);
      await again;
    });
  });
}

/** All arguments of an acknowledgement, where emitWithAck gives the first. */
function emitAll(socket, args) {
  return new Promise((resolve) => socket.emit('message-with-ack', ...args, (...back) => resolve(back)));
}

test('an upgrade under load loses, repeats and reorders nothing', async (t) => {
  const socket = new EngineSocket(`http://${address}`, { path: '/engine.io/', transports: ['polling', 'websocket'] });
  t.after(() => socket.close());
  const [numbers, IN_FLIGHT, AFTERWARDS] = [[], 30, 500];
  let [sent, last] = [0, Infinity];
  const send = () => socket.send(`${sent++}`);
  // Each message that comes back sends the next one, so that some are on their way at every step of the upgrade.
  const done = new Promise((resolve) => {
    socket.on('message', (number) => {
      numbers.push(Number(number));
      if (sent < last) send();
      if (numbers.length >= last) resolve();
    });
  });
  socket.on('upgrade', () => {
    last = sent + AFTERWARDS;
    send();
  });
  socket.on('open', () => {
    assert.equal(socket.transport.name, 'polling');
    for (let i = 0; i < IN_FLIGHT; i += 1) send();
  });
  await within(done, 'end of the messages');
  assert.deepEqual(numbers, Array.from({ length: last }, (_, number) => number));
  assert.ok(last >= AFTERWARDS + IN_FLIGHT, 'messages were on their way when the upgrade began');
  assert.equal(socket.transport.name, 'websocket');
});

test('polling through a proxy that cuts connections delivers everything that is sent again', async (t) => {
  const proxy = await cuttingProxy(t);
  const socket = client(t, ['polling'], { host: proxy.address, retries: 1000, ackTimeout: 2000 });
  const seen = [];
  socket.on('message-back', (number) => seen.push(number));
  const COUNT = 60;
  const acknowledged = [];
  for (let number = 0; number < COUNT; number += 1) {
    acknowledged.push(within(socket.emitWithAck('message-with-ack', number), `acknowledgement of ${number}`));
  }
  assert.deepEqual(await Promise.all(acknowledged), Array.from({ length: COUNT }, (_, number) => number));
  assert.ok(proxy.cut() >= 5, `${proxy.cut()} connections were cut`);
  // With an honest proxy the same client goes on.
  proxy.stop();
  const back = next(socket, 'message-back');
  socket.emit('message', 'whole', () => {});
  assert.deepEqual((await back)[0], 'whole');
});

/** A TCP proxy that destroys connections after a number of chunks that differs from connection to connection. */
async function cuttingProxy(t) {
  const [host, port] = address.split(':');
  const chunks = [7, 3, 9, 1, 12, 5, 2, 8];
  let [connections, cut, stopped] = [0, 0, false];
  const proxy = createServer((near) => {
    const far = connect(Number(port), host);
    let left = chunks[connections++ % chunks.length];
    const end = () => { near.destroy(); far.destroy(); };
    const pass = (to) => (chunk) => {
      if (!stopped && left-- === 0) {
        cut += 1;
        end();
      } else {
        to.write(chunk);
      }
    };
    near.on('data', pass(far)).on('error', end).on('close', end);
    far.on('data', pass(near)).on('error', end).on('close', end);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => proxy.close());
  return { address: `127.0.0.1:${proxy.address().port}`, cut: () => cut, stop: () => { stopped = true; } };
}
