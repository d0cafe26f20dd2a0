// A running server, whose binary FANFARE_BIN names, and clients that keep what they receive. Nothing sleeps: each wait
// is for something that arrives, with a deadline.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { io } from 'socket.io-client';
import WebSocket from 'ws';

const DEADLINE_MS = 10_000;
const SECRET = 'a session secret of more than 32 bytes';

export const key = (app) => `client-key-${app}-0123456789`;
export const serverKey = (app) => `server-key-${app}-0123456789`;

const app = (name, agnost = '', settings = '') => `
[apps.${name}]
client_key = "${key(name)}"
server_key = "${serverKey(name)}"
${settings}
[apps.${name}.agnost]
${agnost}
[[apps.${name}.session_keys]]
algorithm = "HS256"
secret = "${SECRET}"
`;

export const CONFIG = `
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
workers = 2
ping_interval_ms = 300
${app('open', 'env_id = "env-open"\nsubdomain = "acme"')}
${app('strict', 'session_required = true')}
${app('keyless', 'key_required = false')}
${app('off', 'enabled = false')}
${app('fenced', '', 'origins = ["https://allowed.example"]')}
`;

/** Rejects after the deadline. */
export function within(promise, what) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
}

/** Starts a server; `address` and `admin` are where it listens. */
export async function start(config = CONFIG) {
  const folder = mkdtempSync(join(tmpdir(), 'fanfare-agnost-'));
  writeFileSync(join(folder, 'fanfare.toml'), config);
  // The server reads variables of this prefix, and the tests' own are none of its affair.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('FANFARE_')));
  const child = spawn(process.env.FANFARE_BIN, ['--config', join(folder, 'fanfare.toml')], { env });
  let log = '';
  child.stderr.on('data', (text) => { log += text; });
  const announced = new Promise((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (more) => {
      text += more;
      const address = text.match(/^listening on (\S+)$/m);
      const admin = text.match(/^admin on (\S+)$/m);
      if (address && admin) resolve([address[1], admin[1]].map((url) => url.replace(/^https?:\/\//, '')));
    });
    child.on('exit', () => reject(new Error(`the server ended:\n${log}`)));
  });
  const [address, admin] = await within(announced, 'announcement');
  const stop = async (signal = 'SIGKILL') => {
    child.kill(signal);
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    rmSync(folder, { recursive: true, force: true });
  };
  return { address, admin, stop, child };
}

/** A counter of the server, over all workers. */
export async function counted(server, metric) {
  const text = await (await fetch(`http://${server.admin}/metrics`)).text();
  const values = [...text.matchAll(new RegExp(`^fanfare_${metric}(?:\\{.*\\})? (\\d+)$`, 'gm'))];
  assert.ok(values.length, `there is no metric ${metric}`);
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
}

/** A session token. */
export function token(user, claims = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256' })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** What somebody has received and nobody has taken yet. */
export class Inbox {
  #items = [];
  #waiting = [];

  put(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#items.push(item);
  }

  next(what = 'message') {
    if (this.#items.length) return Promise.resolve(this.#items.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), what);
  }
}

/** A stock Socket.IO client with Agnost's handshake. Its events are in `inbox`. */
export function client(t, server, auth = {}, { path = '/realtime/realtime/', ...options } = {}) {
  const socket = io(`http://${server.address}`, {
    path,
    transports: ['websocket'],
    forceNew: true,
    reconnectionDelay: 20,
    reconnectionDelayMax: 50,
    auth: { echoMessages: true, envId: 'env-open', apiKey: key('open'), ...auth },
    ...options,
  });
  t.after(() => socket.disconnect());
  socket.inbox = new Inbox();
  let mark;
  // Marks of others are none of this client's affair.
  socket.onAny((...event) => { if (event[0] === mark || !event[0].startsWith('mark-')) socket.inbox.put(event); });
  socket.next = () => socket.inbox.next('event');
  /** Everything sent so far was handled: its own broadcast comes back behind it. */
  socket.settled = async () => {
    mark = `mark-${Math.random()}`;
    socket.emit('message', { eventName: mark, echo: true });
    const seen = [];
    for (;;) {
      const event = await socket.next();
      if (event[0] === mark) return seen;
      seen.push(event);
    }
  };
  return socket;
}

/** The same, connected. */
export async function connected(t, server, auth, options) {
  const socket = client(t, server, auth, options);
  await within(once(socket, 'connect'), 'connect');
  return socket;
}

/** The error with which a client is refused. */
export async function refused(t, server, auth, options) {
  const [error] = await within(once(client(t, server, auth, options), 'connect_error'), 'refusal');
  return error;
}

/** A native client. Its frames but the welcome are in `inbox`. */
export async function native(t, server, app = 'open') {
  const socket = new WebSocket(`ws://${server.address}/v1/ws?app=${app}&key=${key(app)}`);
  t.after(() => socket.terminate());
  const inbox = new Inbox();
  socket.on('message', (data, binary) => inbox.put(binary ? data : JSON.parse(data)));
  const { welcome } = await inbox.next('welcome');
  const send = (command) => socket.send(JSON.stringify(command));
  return { socket, welcome, send, next: () => inbox.next('frame') };
}
