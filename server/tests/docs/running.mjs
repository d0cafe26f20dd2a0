// What the blocks run against: servers, and a folder with the programs that the commands name.

import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { root } from "./pages.mjs";

export const CLIENT_KEY = "client-key-0123456789";
export const SERVER_KEY = "server-key-0123456789";
export const SECRET = "a secret of the tests, long enough for HS256";
const FANFARE = resolve(process.env.FANFARE_BIN ?? `${root}target/debug/fanfare`);
const LOADGEN = resolve(process.env.LOADGEN_BIN ?? join(dirname(FANFARE), "fanfare-loadgen"));
const PATIENCE_MS = 60_000;

/** Packages of the SDK's folder: ws, esbuild, React, TypeScript, playwright-core. */
export const require = createRequire(`${root}clients/js/package.json`);
export const WebSocket = require("ws");

/** A configuration with the app `default`, which remembers the load generator's channels; `app` is more lines of the app, `more` are other sections. */
const configuration = ({ app = "", more = "" }) => `[server]
listen = ["127.0.0.1:0"]
admin_listen = "127.0.0.1:0"
[apps.default]
client_key = "${CLIENT_KEY}"
server_key = "${SERVER_KEY}"
session_leeway_seconds = 0
${app}
[[apps.default.channels]]
match = "c*"
history_messages = 10000
history_bytes = 4194304
[[apps.default.session_keys]]
algorithm = "HS256"
secret = "${SECRET}"
${more}`;

/** A folder that is removed in the end. */
export function folder(after) {
  const path = mkdtempSync(join(tmpdir(), "fanfare-docs-"));
  after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/**
 * A folder as a reader has it who has built the programs: `cargo run` starts what is built, programs are in the PATH,
 * and files of the repository are here.
 */
export function workplace(after) {
  const path = folder(after);
  for (const made of ["bin", "target/release"]) mkdirSync(join(path, made), { recursive: true });
  for (const [program, name] of [[FANFARE, "fanfare"], [LOADGEN, "fanfare-loadgen"]]) {
    symlinkSync(program, join(path, "bin", name));
    symlinkSync(program, join(path, "target/release", name));
  }
  for (const name of ["fanfare.example.toml", "scripts", "ops"]) symlinkSync(root + name, join(path, name));
  const script = (name, text) => {
    writeFileSync(join(path, "bin", name), `#!/usr/bin/env bash\n${text}`);
    chmodSync(join(path, "bin", name), 0o755);
  };
  script("cargo", `[ "$1" = run ] || { echo "cargo $1 is not for this test" >&2; exit 64; }
shift
program=fanfare
while [ $# -gt 0 ]; do
  case $1 in
    --release) ;;
    --package|-p) program=$2; shift ;;
    --) shift; break ;;
    *) echo "cargo run does not know $1" >&2; exit 64 ;;
  esac
  shift
done
exec "$program" "$@"
`);
  // An answer that is an error is a failure.
  script("curl", `exec ${JSON.stringify("/usr/bin/curl")} --fail-with-body --silent --show-error "$@"\n`);
  return path;
}

export function environment(path, more = {}) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("FANFARE_"));
  return {
    ...Object.fromEntries(own),
    PATH: [join(path, "bin"), process.env.PATH].join(delimiter),
    FANFARE_LISTEN: "127.0.0.1:0",
    FANFARE_ADMIN_LISTEN: "127.0.0.1:0",
    SERVER_KEY,
    CLIENT_KEY,
    ...more,
  };
}

/**
 * Starts a command. `started` resolves once the command has printed where it listens; `ended` resolves with its status
 * and output.
 */
export function start(after, command, options) {
  const child = spawn("bash", ["-c", command], { ...options, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let onText = () => {};
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      output += text;
      onText();
    });
  }
  let isOver = false;
  const signal = (name) => {
    if (!isOver) process.kill(-child.pid, name);
  };
  const ended = new Promise((done) => {
    child.on("close", (status, killer) => {
      isOver = true;
      onText();
      done({ status: status ?? killer, output });
    });
  });
  after(() => signal("SIGKILL"));
  const started = new Promise((done) => {
    onText = () => {
      const found = /listening on (\S+)[^]*admin on (\S+)\n/.exec(output) ?? /open http:\/\/([^/]+)\/demo/.exec(output);
      const addresses = [...output.matchAll(/listening on (\S+)/g)].map(([, address]) => address);
      if (found || isOver) done(found && { address: found[1], addresses, admin: found[2] });
    };
  });
  return { started, ended, signal };
}

/** A promise that fails in time. */
export async function within(promise, what, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A server of the app `default`. `addresses` are all addresses that it listens on. */
export async function startServer(after, settings = {}) {
  const path = folder(after);
  writeFileSync(join(path, "fanfare.toml"), configuration(settings));
  const { started, ended } = start(after, `exec ${FANFARE} --config fanfare.toml`, { cwd: path, env: environment(path) });
  const found = await within(started, "the server starts");
  if (!found) throw new Error((await ended).output);
  return { ...found, url: `http://${found.address}` };
}

/** Runs a program to its end; resolves with its status and output. */
export function run(after, program, args, options) {
  const quoted = [program, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
  return within(start(after, quoted.join(" "), options).ended, `${program} ends`);
}
export const fanfare = (after, args, options) => run(after, FANFARE, args, options);

/** A port on which nobody listens now. */
export function freePort() {
  return new Promise((done) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

/** A client of the native protocol: `next()` resolves with the frame after the last one. */
export async function connect(after, server, query = "") {
  const socket = new WebSocket(`ws://${server.address}/v1/ws?key=${CLIENT_KEY}${query}`);
  after(() => socket.terminate());
  const frames = [];
  let onFrame = () => {};
  socket.on("message", (data) => {
    frames.push(JSON.parse(data));
    onFrame();
  });
  const failed = new Promise((_, reject) => {
    socket.on("error", reject);
    socket.on("close", (code) => reject(new Error(`closed with ${code}`)));
  });
  failed.catch(() => {});
  const next = async () => {
    while (frames.length === 0) await within(Promise.race([failed, new Promise((done) => (onFrame = done))]), "a frame");
    return frames.shift();
  };
  return { socket, next, welcome: await next(), send: (frame) => socket.send(typeof frame === "string" ? frame : JSON.stringify(frame)) };
}
