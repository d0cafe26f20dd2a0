// The server under test: a real process on ports of its own choice.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const BINARY = process.env.FANFARE_BIN ?? fileURLToPath(new URL("../../../../target/debug/fanfare", import.meta.url));
const SECRET = "a secret of the tests, long enough for HS256";

export const CLIENT_KEY = "client-key-0123456789";
export const SERVER_KEY = "server-key-0123456789";

const SESSION_KEYS = (app) => `[[apps.${app}.session_keys]]\nalgorithm = "HS256"\nsecret = "${SECRET}"\n`;
export const APP = (app, settings) =>
  `[apps.${app}]\nclient_key = "${CLIENT_KEY}"\nserver_key = "${SERVER_KEY}"\n${settings}\n${SESSION_KEYS(app)}`;

const APPS = [
  APP("default", 'session_leeway_seconds = 0\nshow_sender = true\nsender_edits = true\n[[apps.default.channels]]\nmatch = "kept-*"\nhistory_messages = 20000\nhistory_bytes = 16777216\n[[apps.default.channels]]\nmatch = "short-*"\nhistory_messages = 3\n[[apps.default.channels]]\nmatch = "users-*"\npresence_by_user = true'),
  APP("quiet", "echo = false"),
  APP("strict", "session_required = true\nsession_leeway_seconds = 0"),
  APP("dropping", 'slow_consumer = "drop"\n[apps.dropping.limits]\noutbound_bytes = 262144'),
];

/** Starts a server; `after` is the test's or suite's hook that ends it. */
export async function startServer(after, { listen = "127.0.0.1:0", settings = "", apps = APPS } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "fanfare-js-"));
  const config = join(folder, "fanfare.toml");
  writeFileSync(config, `[server]\nlisten = ["${listen}"]\nadmin_listen = "off"\n${settings}\n${apps.join("\n")}`);
  // The server reads variables of this prefix, and the tests' own are none of its affair.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FANFARE_")));
  const child = spawn(BINARY, ["--config", config, "--log", "warn"], { stdio: ["ignore", "pipe", "inherit"], env });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  after(stop);
  const address = await new Promise((resolve, reject) => {
    child.on("error", reject);
    ended.then((code) => reject(new Error(`the server ended with ${code}`)));
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
      const found = /listening on (\S+)\n/.exec(text);
      if (found) resolve(found[1]);
    });
  });
  return {
    url: `http://${address}`,
    port: Number(address.split(":")[1]),
    stop,
    terminate: () => child.kill("SIGTERM"),
    ended,
  };
}

/** A session token for a user. */
export function token(user, { expiresInS = 3600, ...claims } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, iat: now, exp: now + expiresInS, ...claims })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}
