// Blocks of commands. They run in a folder with the programs of the repository, as a reader has who has built them. What
// takes long is made small.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CLIENT_KEY, SERVER_KEY, environment, freePort, require, start, startServer, within } from "./running.mjs";

/** Commands that are not run here, each with the reason. */
export const EXCUSED = [
  [/^scripts\/test$/, "scripts/test runs this test"],
  [/^cargo bench /, "takes many minutes; scripts/test builds the benches"],
  [/^cargo build /, "scripts/test has built the packages"],
  [/^npm install fanfare$/, "clients/js/test/package.test.js installs the package from a file"],
  [/^scripts\/peers /, "takes many minutes; scripts/test runs it with few servers"],
  [/^scripts\/bench-gate /, "builds two commits; scripts/test-bench-gate runs it"],
];

/** The largest value of an option of the load generator in a test. */
const LARGEST = {
  "-n": 16, "-r": 20, "-d": 0.4, "--rate": 40, "--to": 60, "--windows": 1, "--channels": 2, "--members": 6, "--movers": 2,
  "--publishers": 2, "--bystanders": 4, "--processes": 2, "--rounds": 1,
};
/** `idle` compares memory at 1,000 connections with memory at more, and connections come back from a `storm` in seconds. */
const LARGER = { idle: { "-n": 1100 }, storm: { "-d": 4 } };
/** Options that a command without them gets. */
const SHORT = { "-d": 0.4, "--windows": 1, "--warmup": 0.1, "--drain": 5 };
/** The statuses of a run of the load generator: nothing was wrong, or the generator was the limit. */
const RAN = [0, 3];
/** Words of a command with which another status is a result too: a condition was true, no load holds, a number is worse. */
const RESULTS = [["--fail-if", 4], ["--find-", 1], ["--gate", 1], ["load.toml", 4]];

/** A server of one's own: a room of all, or channels that are joined with `{"join": channel}`. */
const OWN_SERVER = `import { createServer } from "node:http";
import { createRequire } from "node:module";
const { WebSocketServer } = createRequire(process.env.SDK)("ws");
const option = process.argv.indexOf("--port");
const port = Number(option > 0 ? process.argv[option + 1] : process.env.PORT);
const http = createServer((_, response) => response.end("ok")).listen(port, "127.0.0.1", () => {
  console.log(\`listening on 127.0.0.1:\${port}\\nadmin on nothing\`);
});
const sockets = new WebSocketServer({ server: http }).on("connection", (socket) => {
  socket.on("message", (data) => {
    const { join, to, data: inside } = JSON.parse(\`\${data}\`.startsWith("{") ? data : "{}");
    if (join) {
      socket.channel = join;
      return socket.send(JSON.stringify({ joined: join }));
    }
    for (const other of sockets.clients) {
      if (other !== socket && other.channel === to) other.send(to ? JSON.stringify(inside) : \`\${data}\`);
    }
  });
});
`;

/** The commands of a block, without comments, each on one line. */
export function commands(text) {
  const lines = text.replaceAll(/ *\\\n\s*/g, " ").split("\n");
  return lines.map((line) => line.replace(/(^|\s)#\s.*$/, "").trim()).filter((line) => line !== "");
}

/** Why a command is not run, if it is not. */
export const excuse = (command) => EXCUSED.find(([pattern]) => pattern.test(command))?.[1];

/** Runs the commands of a block one after another, and returns what they print. */
export async function runCommands(after, all, { place, server }) {
  const env = environment(place, {
    SDK: require.resolve("./package.json"),
    PORT: String(await freePort()),
    FANFARE_KEY: CLIENT_KEY,
    FANFARE_SECRET: SERVER_KEY,
  });
  const of = { after, place, env, address: server.address, exported: "" };
  writeFileSync(join(place, "server.mjs"), OWN_SERVER);
  let output = "";
  for (const command of all) output += await runCommand(of, command);
  return output;
}

async function runCommand(of, command) {
  if (command.startsWith("export ")) {
    of.exported += `${command}; `;
    return "";
  }
  const isGenerator = /fanfare-loadgen/.test(command) && !command.includes("--help");
  if (isGenerator) await prepare(of, command);
  const text = isGenerator ? small(command, of) : command.replaceAll("127.0.0.1:8080", of.address);
  const env = { ...of.env, FANFARE_URL: `ws://${of.address}` };
  const isBehind = text.endsWith(" &");
  const running = start(of.after, of.exported + text.replace(/ &$/, ""), { cwd: of.place, env });
  const found = await within(Promise.race([running.started, running.ended.then(() => null)]), command);
  if (isBehind) {
    assert.ok(found, `${command} does not start: ${isBehind && !found ? (await running.ended).output : ""}`);
    of.address = found.address;
    return "";
  }
  if (found) running.signal("SIGTERM");
  const { status, output } = await within(running.ended, command);
  const results = RESULTS.filter(([word]) => text.includes(word)).map(([, result]) => result);
  assert.ok((isGenerator ? [...RAN, ...results] : [0]).includes(status), `${text} ends with ${status}:\n${output}`);
  assert.ok(output !== "", `${command} prints nothing`);
  return output;
}

/** What a command of the load generator needs beside it. */
async function prepare(of, command) {
  if (command.includes("wss://")) of.address = await startSecure(of);
  if (command.includes("--resume ")) {
    of.address = (await startServer(of.after, { more: "[apps.default.limits]\nresume_ms = 60000\n" })).address;
  }
  const own = async () => {
    const running = start(of.after, "exec node server.mjs", { cwd: of.place, env: of.env });
    return (await within(running.started, "a server of one's own")).address;
  };
  if (command.includes("ws://127.0.0.1:9000") && !command.includes(" ab ")) of.address = await own();
  if (command.includes(" ab ")) {
    of.address = `127.0.0.1:${await freePort()}`;
    for (const name of ["server-old", "server-new"]) {
      writeFileSync(join(of.place, name), '#!/bin/sh\nexec node server.mjs "$@"\n');
      chmodSync(join(of.place, name), 0o755);
    }
    writeFileSync(join(of.place, "plan.toml"), PLAN);
  }
  for (const [name] of command.matchAll(/(before|after)-\d\.json/g)) {
    const { status, output } = await start(of.after, `${small("fanfare-loadgen fanout", of)} --lower-bound --json ${name}`, {
      cwd: of.place,
      env: { ...of.env, FANFARE_URL: `ws://${of.address}` },
    }).ended;
    assert.equal(status, 0, output);
  }
}

/** A plan for a server of one room. */
const PLAN = `warmup = 0.1
duration = 0.4
windows = 1
driver = "plain"
path = "/"
[[phase]]
name = "steady"
part = [{ scenario = "fanout", subscribers = 4, publishers = 1, rate = 20 }]
`;

/** A server with a certificate of `authority.pem`. */
async function startSecure({ after, place }) {
  const openssl = (...args) => execFileSync("openssl", args, { cwd: place, stdio: "ignore" });
  const subject = ["-subj", "/CN=localhost", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
  openssl("req", "-x509", ...subject, "-keyout", "authority.key", "-out", "authority.pem");
  openssl("req", "-x509", ...subject, "-keyout", "server.key", "-out", "server.pem", "-CA", "authority.pem", "-CAkey", "authority.key", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE");
  const file = (name) => JSON.stringify(join(place, name));
  const listener = `listen = "127.0.0.1:0"\ncertificate_file = ${file("server.pem")}\nkey_file = ${file("server.key")}\n`;
  const server = await startServer(after, { more: `[[server.listeners]]\n${listener}` });
  return server.addresses[1];
}

/** A command of the load generator with small numbers, for the server at the block's address. */
function small(command, { address }) {
  const [, job] = /fanfare-loadgen (\w+)/.exec(command);
  const largest = { ...LARGEST, ...LARGER[job] };
  const numbers = / (-\w|--[\w-]+) (\d+)(?= |$)/g;
  let text = command.replaceAll(numbers, (all, option, value) => (option in largest ? ` ${option} ${Math.min(value, largest[option])}` : all));
  text = text.replaceAll(/127\.0\.0\.1:(8080|8443|9000)/g, address).replaceAll(/--port 9000/g, `--port ${address.split(":")[1]}`);
  text = text.replaceAll("SERVER-KEY", SERVER_KEY).replaceAll(/\bKEY\b/g, CLIENT_KEY);
  // A search ends soon if nothing holds.
  if (text.includes("--find-connections")) text = text.replace("p99<50ms", "p99<20us");
  if (["compare", "ab"].includes(job)) return text;
  for (const [option, value] of Object.entries(SHORT)) if (!text.includes(` ${option} `)) text += ` ${option} ${value}`;
  return text;
}
