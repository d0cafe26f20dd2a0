// npm's stock SDK, against a server behind TLS. The SDK always connects to port 443 of its host, so its WebSocket class
// is replaced by one that resolves host names here.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import WebSocket from 'ws';
import { Inbox, start, token, within } from './server.mjs';

const require = createRequire(import.meta.url);
const SECRET = 'a session secret of more than 32 bytes';
export const KEY = 'client-key-xano-0123456789';
export const SERVER_KEY = 'server-key-xano-0123456789';

export const config = (channels, app = '', more = '') => `
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
workers = 2
drain_spread_ms = 0
[apps.xano]
client_key = "${KEY}"
server_key = "${SERVER_KEY}"
${app}
[apps.xano.agnost]
env_id = "env-xano"
key_required = false
[apps.xano.xano]
canonical = "canonical"
hash = "the-hash"
${channels.map((row) => `[[apps.xano.xano.channels]]\n${row}`).join('\n')}
[[apps.xano.session_keys]]
algorithm = "HS256"
secret = "${SECRET}"
${more}
`;

/** A new key and certificate for localhost. */
function certificate() {
  const folder = mkdtempSync(join(tmpdir(), 'fanfare-tls-'));
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => join(folder, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
    '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'],
  { stdio: 'ignore' });
  const pair = { key: readFileSync(key), cert: readFileSync(cert) };
  rmSync(folder, { recursive: true });
  return pair;
}

const PAIR = certificate();

/** The address of each host name. */
const hosts = new Map();

globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    const { hostname, pathname } = new URL(url);
    super(`wss://localhost:${hosts.get(hostname)()}${pathname}`, protocols, { ca: PAIR.cert });
    // The close event reports a refused handshake.
    this.on('error', () => {});
  }
};

/** A port that speaks TLS and forwards every connection to the server that `address` names at that time. */
async function front(address) {
  const sockets = new Set();
  const server = createServer(PAIR, (outer) => {
    const [host, port] = address().split(':');
    const inner = connect(port, host);
    for (const [from, to] of [[outer, inner], [inner, outer]]) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => { to.destroy(); sockets.delete(from); });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => { server.close(); sockets.forEach((socket) => socket.destroy()); };
  return { port: server.address().port, close };
}

let hostNames = 0;

/** A Fanfare server behind TLS. `host` is the SDK's host. */
export async function behindTls(text) {
  let fanfare = await start(text);
  const tls = await front(() => fanfare.address);
  const host = `host-${hostNames += 1}.test`;
  hosts.set(host, () => tls.port);
  return {
    host,
    port: tls.port,
    get address() { return fanfare.address; },
    get admin() { return fanfare.admin; },
    /** Ends the server as an operator does, and starts another server. */
    async restart() {
      await fanfare.stop('SIGTERM');
      fanfare = await start(text);
    },
    async stop() {
      tls.close();
      await fanfare.stop();
    },
  };
}

/** A token for a row of a table. */
export const row = (table, id, extras = {}) => token(`${table}:${id}`, { profile: extras });

/** The SDK in a copy of its code, because all clients of one copy share one socket. */
export function sdk(t, server, { token: realtimeAuthToken, ...settings } = {}) {
  for (const path of Object.keys(require.cache)) if (path.includes('@xano/js-sdk')) delete require.cache[path];
  const { XanoNodeClient, XanoObjectStorage } = require('@xano/js-sdk');
  const client = new XanoNodeClient({
    instanceBaseUrl: `https://${server.host}/`,
    realtimeConnectionCanonical: 'canonical',
    storage: new XanoObjectStorage(),
    ...(realtimeAuthToken ? { realtimeAuthToken } : {}),
    ...settings,
  });
  const { XanoRealtimeState } = require('@xano/js-sdk/lib/models/realtime-state');
  const state = XanoRealtimeState.getInstance();
  t.after(() => {
    state.reconnectSettings.reconnecting = false;
    state.triggerReconnect = () => {};
    state.getSocket()?.terminate();
  });
  return {
    client,
    state,
    /** A channel. Its received actions, including errors, are in `inbox`. */
    channel(name, options) {
      const channel = client.channel(name, options);
      const inbox = new Inbox();
      channel.on((action) => inbox.put(action), (error) => inbox.put(error));
      /** The next action with one of these names. */
      channel.next = async (...names) => {
        for (;;) {
          const action = await inbox.next(names.join(' or '));
          if (names.includes(action.action)) return action;
        }
      };
      channel.inbox = inbox;
      /** Every action that came before the client's own message came back. */
      channel.settled = async () => {
        const mark = `mark-${Math.random()}`;
        channel.message(mark);
        const seen = [];
        for (;;) {
          const action = await inbox.next('the own mark');
          if (action.payload === mark) return seen.filter(({ payload }) => !String(payload).startsWith('mark-'));
          seen.push(action);
        }
      };
      return channel;
    },
    /** A channel that the client has joined. */
    async joined(name, options) {
      const channel = this.channel(name, options);
      await channel.next('join');
      return channel;
    },
  };
}

/** A raw WebSocket. Its received frames are in `inbox`, and its end in `closed`. */
export async function raw(t, server, { path = '/rt/canonical', protocols } = {}) {
  const socket = new WebSocket(`ws://${server.address}${path}`, protocols);
  t.after(() => socket.terminate());
  const inbox = new Inbox();
  socket.on('message', (text) => inbox.put(JSON.parse(text)));
  const closed = once(socket, 'close').then(([code]) => code);
  await within(once(socket, 'open'), 'open');
  const send = (frame) => socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  return { socket, send, closed, next: () => inbox.next('frame') };
}
