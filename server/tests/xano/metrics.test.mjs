// The metrics by dialect, with clients of three dialects at one server.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';
import { connected, native, refused, within } from './server.mjs';
import { behindTls, config, raw } from './sdk.mjs';

const CHANNELS = ['pattern = "room"\nanonymous_clients = true\nclient_public_messaging = true'];

/** Connections, messages and refusals by dialect. */
async function counts(server) {
  const text = await (await fetch(`http://${server.admin}/metrics`)).text();
  const found = text.matchAll(/^fanfare_dialect_(\w+)\{dialect="(\w+)"\} (\d+)$/gm);
  const all = {};
  for (const [, metric, dialect, value] of found) (all[dialect] ??= []).push([metric, Number(value)]);
  return Object.fromEntries(Object.entries(all).map(([dialect, values]) => [dialect, values.map(([, value]) => value)]));
}

/** Waits until the counts are the expected ones. A worker publishes its counts at the end of a turn. */
async function expect(server, expected) {
  const deadline = Date.now() + 10_000;
  let seen;
  do seen = await counts(server); while (JSON.stringify(seen) !== JSON.stringify(expected) && Date.now() < deadline);
  assert.deepEqual(seen, expected);
}

test('clients, messages and refusals are counted by dialect', async (t) => {
  const server = await behindTls(config(CHANNELS));
  t.after(() => server.stop());
  await expect(server, { native: [0, 0, 0], agnost: [0, 0, 0], channelstream: [0, 0, 0], xano: [0, 0, 0] });
  const plain = await native(t, server, 'xano');
  plain.send({ type: 'ping', id: 1 });
  plain.send({ type: 'nonsense', id: 2 });
  for (let n = 0; n < 2; n += 1) await plain.next();
  const xano = await raw(t, server);
  for (const channel of ['room', 'elsewhere']) xano.send({ action: 'join', options: { channel }, payload: {} });
  for (let n = 0; n < 2; n += 1) await xano.next();
  const agnost = await connected(t, server, { envId: 'env-xano' });
  agnost.emit('join', { channel: 'elsewhere' });
  await agnost.next();
  agnost.emit('join', 'no object');
  // CONNECT is answered before the session, and is no message of it.
  await expect(server, { native: [1, 2, 1], agnost: [1, 2, 1], channelstream: [0, 0, 0], xano: [1, 2, 1] });
  await refused(t, server, { envId: 'unknown' });
  const stranger = await raw(t, server, { path: '/rt/unknown' });
  await within(stranger.closed, 'close');
  const refusedSocket = new WebSocket(`ws://${server.address}/v1/ws?app=xano&key=wrong`);
  await once(refusedSocket, 'unexpected-response');
  await expect(server, { native: [1, 2, 2], agnost: [1, 2, 2], channelstream: [0, 0, 0], xano: [1, 2, 2] });
  plain.socket.terminate();
  xano.socket.terminate();
  agnost.disconnect();
  await expect(server, { native: [0, 2, 2], agnost: [0, 3, 2], channelstream: [0, 0, 0], xano: [0, 2, 2] });
});
