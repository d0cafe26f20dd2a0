// Coming back, with the real server behind a proxy that cuts, swallows, delays and refuses.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, test } from "node:test";
import { Backend } from "fanfare/server";
import { connect, happens, make, record, settled, within } from "./support/clients.js";
import { startProxy } from "./support/proxy.js";
import { APP, CLIENT_KEY, SERVER_KEY, startServer, token } from "./support/server.js";

const server = await startServer(after);
const backend = new Backend({ url: server.url, key: SERVER_KEY });
let names = 0;
const channelOf = (kind) => `${kind}-${(names += 1)}`;

/** A proxy before the server, a connection through it that is in a channel, and one that publishes directly. */
async function behindProxy(t, channel, options) {
  const proxy = await startProxy(t.after.bind(t), server.port);
  const publisher = await connect(t, server.url);
  const receiver = await connect(t, proxy.url, options);
  await receiver.join(channel);
  return { proxy, publisher, receiver, seen: record(receiver, "chat") };
}

const numbers = (seen) => seen.map(({ message }) => message);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

test("10,000 messages arrive in order", async (t) => {
  const channel = channelOf("plain");
  const [sender, receiver] = await Promise.all([connect(t, server.url), connect(t, server.url)]);
  await receiver.join(channel);
  const seen = record(receiver, "chat");
  const sent = range(1, 10_000).map((number) => sender.send(channel, "chat", number));
  const answers = await within(Promise.all(sent), "the answers", 30_000);
  await seen.count(10_000);
  assert.deepEqual(numbers(seen), range(1, 10_000));
  assert.deepEqual(seen.map(({ offset }) => offset), range(1, 10_000));
  assert.deepEqual(answers.map(({ offset }) => offset), range(1, 10_000));
});

test("after a cut, exactly what was missed arrives, once and in order, and then what comes live", async (t) => {
  const channel = channelOf("kept");
  const { proxy, publisher, receiver, seen } = await behindProxy(t, channel);
  for (const number of range(1, 3)) await publisher.send(channel, "chat", number);
  await seen.count(3);
  proxy.state.refusing = true;
  const [closed, recovered] = [happens(receiver, "close"), happens(receiver, "recovered")];
  proxy.cut();
  assert.equal((await closed).reconnect, true);
  for (const number of range(4, 50)) await publisher.send(channel, "chat", number);
  proxy.state.refusing = false;
  assert.deepEqual(await recovered, { channel, missed: 47 });
  await publisher.send(channel, "chat", 51);
  await seen.count(51);
  assert.deepEqual(numbers(seen), range(1, 51));
});

test("10,000 messages arrive in order, each once, while the connection is cut again and again", async (t) => {
  const channel = channelOf("kept");
  const { proxy, publisher, receiver, seen } = await behindProxy(t, channel);
  const gaps = [];
  receiver.connection.on("gap", (gap) => gap.channel !== null && gaps.push(gap));
  let drops = 0;
  receiver.connection.on("close", () => (drops += 1));
  // Cuts follow what was received, so that every run has them, whatever its speed.
  let cutAt = 500;
  receiver.on("chat", () => {
    if (seen.length < cutAt) return;
    cutAt += 1500;
    proxy.cut();
  });
  for (let from = 1; from <= 10_000; from += 250) {
    const results = await backend.publish(range(from, from + 249).map((number) => ({ channel, event: "chat", message: number })));
    assert.ok(results.every((result) => "ok" in result));
    // Beyond 4096 missed messages the server recovers nothing.
    await seen.count(from - 2000);
  }
  await seen.count(10_000);
  assert.deepEqual(numbers(seen), range(1, 10_000));
  assert.deepEqual(gaps, []);
  assert.ok(drops >= 2, `it was cut ${drops} times`);
});

test("several channels are recovered by one reconnect", async (t) => {
  const channels = [channelOf("kept"), channelOf("kept"), channelOf("kept")];
  const { proxy, publisher, receiver } = await behindProxy(t, channels[0]);
  for (const channel of channels.slice(1)) await receiver.join(channel);
  const recovered = [];
  receiver.connection.on("recovered", (event) => recovered.push(event));
  const last = happens(receiver, "recovered", ({ channel }) => channel === channels[2]);
  proxy.state.refusing = true;
  proxy.cut();
  for (const [at, channel] of channels.entries()) {
    for (const number of range(1, at + 1)) await publisher.send(channel, "chat", number);
  }
  proxy.state.refusing = false;
  await last;
  assert.deepEqual(recovered, channels.map((channel, at) => ({ channel, missed: at + 1 })));
});

test("more than the channel remembers is a gap that says how much at most", async (t) => {
  const channel = channelOf("short");
  const { proxy, publisher, receiver, seen } = await behindProxy(t, channel);
  await publisher.send(channel, "chat", 1);
  await seen.count(1);
  const gap = happens(receiver, "gap", (event) => event.channel === channel);
  proxy.state.refusing = true;
  proxy.cut();
  for (const number of range(2, 9)) await publisher.send(channel, "chat", number);
  proxy.state.refusing = false;
  assert.deepEqual(await gap, { channel, missed: 8, cause: "reconnect" });
  await publisher.send(channel, "chat", 10);
  await seen.count(2);
  assert.deepEqual(numbers(seen), [1, 10], "the stream goes on");
});

test("a channel without history is a gap if anything was sent, and none if nothing was", async (t) => {
  const channel = channelOf("plain");
  const { proxy, publisher, receiver } = await behindProxy(t, channel);
  // A member that stays keeps the channel's epoch.
  await publisher.join(channel);
  const recovered = happens(receiver, "recovered");
  proxy.cut();
  assert.deepEqual(await recovered, { channel, missed: 0 });
  const gap = happens(receiver, "gap", (event) => event.channel === channel);
  proxy.state.refusing = true;
  proxy.cut();
  await publisher.send(channel, "chat", 1);
  proxy.state.refusing = false;
  assert.deepEqual(await gap, { channel, missed: 1, cause: "reconnect" });
});

test("broadcasts that may have been lost are a gap without a channel", async (t) => {
  const { proxy, receiver } = await behindProxy(t, channelOf("plain"));
  const gap = happens(receiver, "gap", ({ channel }) => channel === null);
  proxy.cut();
  assert.deepEqual(await gap, { channel: null, missed: null, cause: "reconnect" });
});

test("the profile is set again before the channels are joined again", async (t) => {
  const channel = channelOf("plain");
  const { proxy, publisher, receiver } = await behindProxy(t, channel);
  const profile = { name: "luke" };
  await receiver.update(profile);
  profile.name = "changed later, and not set";
  await publisher.join(channel);
  const told = record(publisher, "channel:join");
  const before = receiver.getSocketId();
  proxy.cut();
  await told.count(1);
  assert.deepEqual(told[0].message.data, { name: "luke" });
  assert.notEqual(told[0].message.id, before, "the session is another one");
});

test("listeners, catch-all listeners and the echo of a join outlive a reconnect", async (t) => {
  const channel = channelOf("kept");
  const { proxy, publisher, receiver, seen } = await behindProxy(t, channel);
  const quiet = await connect(t, proxy.url);
  await quiet.join(channel, { echo: false });
  const own = record(quiet, "channel:join");
  const all = record(receiver);
  const opened = Promise.all([happens(receiver, "recovered"), happens(quiet, "recovered")]);
  proxy.cut();
  await opened;
  await publisher.send(channel, "chat", 1);
  await seen.count(1);
  assert.equal(all.filter(({ event }) => event === "chat").length, 1);
  assert.ok(!own.some(({ message }) => message.id === quiet.getSocketId()), "it is not told of itself");
});

test("a connection that swallows everything is noticed and replaced, and nothing is lost", async (t) => {
  const swift = await startServer(t.after.bind(t), { settings: "ping_interval_ms = 200" });
  const proxy = await startProxy(t.after.bind(t), swift.port);
  const channel = channelOf("kept");
  const receiver = await connect(t, proxy.url, { timeoutMs: 300 });
  const publisher = await connect(t, swift.url);
  await receiver.join(channel);
  const seen = record(receiver, "chat");
  const closed = happens(receiver, "close");
  proxy.state.swallowing = true;
  await publisher.send(channel, "chat", 1);
  assert.equal((await closed).code, 1006);
  proxy.state.swallowing = false;
  await seen.count(1);
});

test("a slow network keeps the order", async (t) => {
  const channel = channelOf("kept");
  const { proxy, receiver, seen } = await behindProxy(t, channel);
  proxy.state.delayMs = 20;
  const sent = range(1, 100).map((number) => receiver.send(channel, "chat", number, true));
  await Promise.all(sent);
  await seen.count(100);
  assert.deepEqual(numbers(seen), range(1, 100));
});

test("what is called without a connection is queued, and sent in order after the channels are joined again", async (t) => {
  const channel = channelOf("kept");
  const { proxy, publisher, receiver } = await behindProxy(t, channel);
  await publisher.join(channel);
  const seen = record(publisher, "chat");
  proxy.state.refusing = true;
  const closed = happens(receiver, "close");
  proxy.cut();
  await closed;
  assert.equal(receiver.getSocketId(), null);
  const own = record(receiver, "chat");
  const sent = range(1, 20).map((number) => receiver.send(channel, "chat", number, true));
  proxy.state.refusing = false;
  await within(Promise.all(sent), "the answers");
  await seen.count(20);
  await own.count(20);
  assert.deepEqual(numbers(seen), range(1, 20));
});

test("a send that was cut off is either received and failed, or not received and failed; never sent twice", async (t) => {
  const channel = channelOf("kept");
  const { proxy, publisher, receiver } = await behindProxy(t, channel);
  await publisher.join(channel);
  const seen = record(publisher, "chat");
  const outcomes = [];
  for (const number of range(1, 40)) {
    receiver.send(channel, "chat", number).then(
      () => outcomes.push([number, "ok"]),
      ({ code }) => outcomes.push([number, code]),
    );
    if (number % 10 === 0) {
      const opened = happens(receiver, "open");
      setImmediate(() => proxy.cut());
      await opened;
    }
  }
  await receiver.ping();
  await settled(receiver, publisher, channel);
  assert.equal(outcomes.length, 40);
  assert.equal(new Set(numbers(seen)).size, seen.length, "none came twice");
  for (const [number, outcome] of outcomes) {
    if (outcome === "ok") assert.ok(numbers(seen).includes(number), `${number} was answered`);
    else assert.equal(outcome, "connection_lost");
  }
});

test("leaving while there is no connection is leaving", async (t) => {
  const channel = channelOf("kept");
  const { proxy, publisher, receiver } = await behindProxy(t, channel);
  proxy.state.refusing = true;
  const closed = happens(receiver, "close");
  proxy.cut();
  await closed;
  const left = receiver.leave(channel);
  proxy.state.refusing = false;
  await left;
  assert.deepEqual(await publisher.getMembers(channel), []);
});

test("a position that was kept joins where an earlier connection ended", async (t) => {
  const channel = channelOf("kept");
  const publisher = await connect(t, server.url);
  const first = await connect(t, server.url);
  await first.join(channel);
  const seen = record(first, "chat");
  await publisher.send(channel, "chat", 1);
  await seen.count(1);
  const since = first.position(channel);
  first.close();
  for (const number of range(2, 4)) await publisher.send(channel, "chat", number);
  const second = await connect(t, server.url);
  const later = record(second, "chat");
  const answer = await second.join(channel, { since });
  assert.deepEqual([answer.recovered, answer.missed], [true, 3]);
  await later.count(3);
  assert.deepEqual(numbers(later), [2, 3, 4]);
  assert.deepEqual(second.position(channel), { epoch: since.epoch, offset: 4 });
  assert.equal(second.position("no such channel"), undefined);
});

test("a slow consumer is told how much it lost", async (t) => {
  const proxy = await startProxy(t.after.bind(t), server.port);
  const receiver = await connect(t, proxy.url, { app: "dropping" });
  await receiver.join("flood");
  const seen = record(receiver, "chat");
  const gap = happens(receiver, "gap");
  // The proxy reads no further while its own writes wait.
  proxy.pause();
  const flood = new Backend({ url: server.url, key: SERVER_KEY, app: "dropping" });
  const text = "x".repeat(4000);
  const batches = 80;
  for (let batch = 0; batch < batches; batch += 1) {
    await flood.publish(range(1, 100).map(() => ({ channel: "flood", event: "chat", message: text })));
  }
  proxy.resume();
  const { channel, missed, cause } = await gap;
  assert.deepEqual([channel, cause], ["flood", "slow"]);
  const last = within(new Promise((resolve) => receiver.once("last", resolve)), "the last");
  await flood.send("flood", "last", 1);
  await last;
  assert.ok(missed > 0 && missed < batches * 100);
  assert.ok(seen.length + missed <= batches * 100);
});

test("a server that restarts on the same port is found again, and a new epoch is a gap", async (t) => {
  const first = await startServer(t.after.bind(t));
  const channel = channelOf("kept");
  const receiver = await connect(t, first.url);
  await receiver.join(channel);
  const [closed, gap] = [happens(receiver, "close"), happens(receiver, "gap", (event) => event.channel === channel)];
  first.terminate();
  assert.deepEqual((await closed).code, 1012);
  await first.ended;
  const second = await startServer(t.after.bind(t), { listen: `127.0.0.1:${first.port}` });
  assert.deepEqual(await gap, { channel, missed: null, cause: "reconnect" });
  const seen = record(receiver, "chat");
  await new Backend({ url: second.url, key: SERVER_KEY }).send(channel, "chat", 1);
  await seen.count(1);
});

test("a user that the back end disconnects stays away, or comes back if it is asked to", async (t) => {
  const [away, back] = await Promise.all([
    connect(t, server.url, { session: token("away") }),
    connect(t, server.url, { session: token("back") }),
  ]);
  const closed = happens(away, "close");
  assert.equal(await backend.disconnect({ user: "away" }), 1);
  assert.deepEqual([(await closed).code, away.state], [4002, "closed"]);
  const reopened = happens(back, "open");
  assert.equal(await backend.disconnect({ session: back.getSocketId() }, "may reconnect"), 1);
  await reopened;
});

test("Node's own WebSocket will do where there is one", async () => {
  // Node 20 has it behind this flag, later ones without.
  const program = `
    import { Realtime } from "fanfare";
    const realtime = new Realtime({ url: ${JSON.stringify(server.url)}, key: ${JSON.stringify(CLIENT_KEY)} });
    await realtime.join("own");
    const received = new Promise((resolve) => realtime.on("chat", resolve));
    await realtime.send("own", "chat", Buffer.from("bytes"));
    console.log(String((await received).message));
    realtime.close();`;
  const child = spawn(process.execPath, ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", program], {
    cwd: new URL(".", import.meta.url),
    stdio: ["ignore", "pipe", "inherit"],
  });
  const chunks = [];
  for await (const chunk of child.stdout) chunks.push(chunk);
  assert.equal(Buffer.concat(chunks).toString(), "bytes\n");
});

// Resuming

/** A server that keeps sessions, if this one can. */
async function keeping(t) {
  const apps = [APP("default", "[apps.default.limits]\nresume_ms = 10000")];
  try {
    return await startServer(t.after.bind(t), { apps });
  } catch (error) {
    return t.skip(`this server knows no resume_ms: ${error.message}`);
  }
}

test("a session is resumed: the same id, nobody saw it leave, and every message once and in order, over many cuts", async (t) => {
  const kept = await keeping(t);
  if (!kept) return;
  const proxy = await startProxy(t.after.bind(t), kept.port);
  const [publisher, watching] = [await connect(t, kept.url), await connect(t, kept.url)];
  await watching.join("room");
  const receiver = await connect(t, proxy.url);
  await receiver.join("room");
  await receiver.update({ name: "luke" });
  await watching.ping();
  const notices = record(watching);
  const seen = record(receiver, "chat");
  const id = receiver.getSocketId();
  const lost = [];
  for (const event of ["gap", "recovered"]) receiver.connection.on(event, (payload) => lost.push(payload));
  for (const turn of range(0, 9)) {
    const opened = happens(receiver, "open");
    const sent = range(turn * 20 + 1, turn * 20 + 20).map((number) => publisher.send("room", "chat", number));
    proxy.cut();
    assert.deepEqual(await opened, { socketId: id, user: null, resumed: true });
    await Promise.all(sent);
  }
  await publisher.broadcast("chat", "to all");
  await seen.count(201);
  assert.deepEqual(numbers(seen), [...range(1, 200), "to all"]);
  assert.deepEqual(lost, []);
  await watching.ping();
  assert.deepEqual(notices.filter(({ event }) => event.startsWith("channel:")), []);
  assert.deepEqual((await watching.getMembers("room")).find((member) => member.id === id).data, { name: "luke" });
});

test("commands over a resumed session take effect once each, in order, whatever was cut off", async (t) => {
  const kept = await keeping(t);
  if (!kept) return;
  const proxy = await startProxy(t.after.bind(t), kept.port);
  const watching = await connect(t, kept.url);
  await watching.join("room");
  const seen = record(watching, "chat");
  const sender = await connect(t, proxy.url);
  const sent = [];
  for (const turn of range(0, 9)) {
    const opened = happens(sender, "open");
    for (const number of range(turn * 10 + 1, turn * 10 + 10)) sent.push(sender.send("room", "chat", number));
    setImmediate(() => proxy.cut());
    await opened;
  }
  await within(Promise.all(sent), "the answers");
  await seen.count(100);
  await watching.ping();
  assert.deepEqual(numbers(seen), range(1, 100));
});

// Refusals

for (const [name, options, code] of [
  ["a wrong key", { key: "another-key-0123456789" }, "invalid_key"],
  ["no key", { key: "" }, "missing_key"],
  ["an app that does not exist", { app: "nobody" }, "unknown_app"],
]) {
  test(`open rejects for ${name}: trying again is of no use`, async (t) => {
    const realtime = make(t, server.url, options);
    const error = happens(realtime, "error", (event) => event.code === code);
    const queued = realtime.send("room", "chat", 1);
    await assert.rejects(within(realtime.open(), "the refusal"), { code });
    await error;
    assert.equal(realtime.state, "closed");
    await assert.rejects(queued, { code });
  });
}

test("open waits for a server that is not there yet", async (t) => {
  const proxy = await startProxy(t.after.bind(t), server.port);
  proxy.state.refusing = true;
  const realtime = make(t, proxy.url);
  const opening = realtime.open();
  const error = await happens(realtime, "error");
  assert.equal(error.code, "unreachable");
  await happens(realtime, "reconnecting", ({ attempt }) => attempt >= 3);
  proxy.state.refusing = false;
  assert.equal(await within(opening, "open"), realtime.getSocketId());
});

// Session tokens

test("a function is asked for a token, and asked for a fresh one before the first one's time is over", async (t) => {
  const asked = [];
  const realtime = await connect(t, server.url, {
    app: "strict",
    session: async () => {
      asked.push(Date.now());
      return token("luke", { expiresInS: asked.length === 1 ? 2 : 3600 });
    },
  });
  assert.equal(asked.length, 1);
  const stale = await happens(realtime, "stale token");
  assert.deepEqual(stale, { expired: false });
  await realtime.send("room", "chat", 1);
  assert.equal(asked.length, 2);
});

test("a token that expires while a fresh one is awaited: commands are held back, repeated, and keep their order", async (t) => {
  const channel = channelOf("kept");
  const observer = await connect(t, server.url, { app: "strict" });
  await observer.join(channel);
  const seen = record(observer, "chat");
  let deliver;
  const fresh = new Promise((resolve) => (deliver = resolve));
  let asked = 0;
  const expiresAt = (Math.floor(Date.now() / 1000) + 2) * 1000;
  const realtime = await connect(t, server.url, {
    app: "strict",
    session: () => ((asked += 1) === 1 ? token("luke", { exp: expiresAt / 1000 }) : fresh),
  });
  await realtime.send(channel, "chat", 1);
  await happens(realtime, "stale token");
  while (Date.now() <= expiresAt) await new Promise((resolve) => setTimeout(resolve, expiresAt - Date.now() + 1));
  const early = range(2, 4).map((number) => realtime.send(channel, "chat", number));
  const late = range(5, 6).map((number) => realtime.send(channel, "chat", number));
  deliver(token("luke"));
  await within(Promise.all([...early, ...late]), "the answers");
  await seen.count(6);
  assert.deepEqual(numbers(seen), range(1, 6));
  assert.equal(asked, 2);
});

test("without a function the application is told, and gives a fresh token itself", async (t) => {
  const realtime = await connect(t, server.url, { app: "strict", session: token("luke", { expiresInS: 1 }) });
  const stale = await happens(realtime, "stale token");
  assert.equal(typeof stale.expired, "boolean");
  const expired = happens(realtime, "stale token", (event) => event.expired);
  await assert.rejects(
    (async () => {
      for (;;) await realtime.send("room", "chat", 1);
    })(),
    { code: "session_expired" },
  );
  await expired;
  const { user, expiresAt } = await realtime.setSession(token("luke"));
  assert.equal(user, "luke");
  assert.ok(expiresAt * 1000 > Date.now());
  await realtime.send("room", "chat", 1);
});

test("a reconnect with a token whose time is over asks for a fresh one first", async (t) => {
  const proxy = await startProxy(t.after.bind(t), server.port);
  let asked = 0;
  const realtime = await connect(t, proxy.url, { session: () => token("luke", { expiresInS: (asked += 1) === 1 ? 1 : 3600 }) });
  proxy.state.refusing = true;
  proxy.cut();
  await happens(realtime, "stale token", ({ expired }) => expired);
  proxy.state.refusing = false;
  await within(realtime.open(), "open");
  assert.equal(realtime.state, "open");
  assert.ok(asked >= 2);
});

test("a token that the handshake refuses is replaced by a fresh one", async (t) => {
  let asked = 0;
  const realtime = make(t, server.url, { session: () => ((asked += 1) === 1 ? "not.a.token" : token("luke")) });
  const opened = happens(realtime, "open");
  await within(realtime.open(), "open");
  assert.equal((await opened).user, "luke");
  assert.equal(asked, 2);
});

test("a function that fails is an error event, and asked again with the next attempt", async (t) => {
  let asked = 0;
  const realtime = make(t, server.url, {
    session: async () => {
      if ((asked += 1) === 1) throw new Error("the login service is down");
      return token("luke");
    },
  });
  const error = happens(realtime, "error");
  await within(realtime.open(), "open");
  assert.match((await error).message, /login service/);
});

test("a fresh token of another user is refused", async (t) => {
  const realtime = await connect(t, server.url, { session: token("luke") });
  await assert.rejects(realtime.setSession(token("vader")), { code: "invalid_session" });
});
