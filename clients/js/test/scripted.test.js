// What a server may do that the real one does only in trouble: a scripted WebSocket server stands in for it.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { happens, make, record, within } from "./support/clients.js";
import { SESSION, startScripted } from "./support/scripted.js";
import { token } from "./support/server.js";

/** A peer that answers every command with an empty object. */
function answering(peer, fields) {
  peer.onCommand = () => ({});
  peer.welcome(fields);
}

const position = (offset, epoch = "e1") => ({ joined: true, members: 1, epoch, offset });

// Malformed frames

const MALFORMED = {
  "no JSON": "{",
  "an empty frame": "",
  "a number": "1",
  null: "null",
  "a list": "[]",
  "a list of frames": '[{"event":"a"}]',
  "text of JSON": '"text"',
  "a publication whose event is a number": '{"event":1,"channel":"c"}',
  "a publication whose event is null": '{"event":null}',
  "a publication whose channel is an object": '{"event":"a","channel":{}}',
  "an error that is null": '{"error":null}',
  "an error that is a text": '{"error":"no"}',
  "an error without a code": '{"id":77,"error":{}}',
  "a binary frame of no bytes": Buffer.alloc(0),
  "a binary frame of one byte": Buffer.from([0]),
  "a binary frame whose envelope is longer than it": Buffer.from([0xff, 0xff, 1]),
  "a binary frame whose envelope is no JSON": Buffer.from([0, 1, 0x7b]),
  "a binary frame whose envelope is no UTF-8": Buffer.from([0, 2, 0xff, 0xfe]),
  "a binary frame whose envelope is null": Buffer.concat([Buffer.from([0, 4]), Buffer.from("null")]),
  "a binary frame whose envelope has no event": Buffer.concat([Buffer.from([0, 2]), Buffer.from("{}")]),
};

for (const [name, frame] of Object.entries(MALFORMED)) {
  test(`a malformed frame is an error event and nothing worse: ${name}`, async (t) => {
    const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
    const realtime = make(t, url);
    await realtime.open();
    const seen = record(realtime);
    const error = happens(realtime, "error");
    peers[0].send(frame);
    // An envelope of no object is a frame without anything in it, which is ignored.
    if (!/envelope (is null|has no event)/.test(name)) assert.equal((await error).name, "FanfareError");
    else error.catch(() => {});
    peers[0].send({ event: "good", channel: null, message: 1 });
    await seen.count(1);
    assert.equal(seen[0].event, "good");
    assert.equal(peers.length, 1, "the connection lives on");
    await realtime.ping();
  });
}

const HARMLESS = {
  "a kind of a newer server": { novelty: { of: "version 9" } },
  "an answer to no command": { id: 4711, ok: {} },
  "an answer whose id is an object": { id: {}, ok: {} },
  "a gap of null": { gap: null },
  "a gap of a text": { gap: "wide" },
  "a second welcome": { welcome: { session: "another" } },
  "a publication with an offset that is a text": { event: "a", channel: "c", offset: "12" },
  "a time to come back that is a text": { reconnect_after_ms: "soon" },
  "an object with a prototype": '{"event":"a","__proto__":{"x":1},"constructor":1,"channel":null}',
};

for (const [name, frame] of Object.entries(HARMLESS)) {
  test(`an unexpected frame does no harm: ${name}`, async (t) => {
    const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
    const realtime = make(t, url);
    await realtime.open();
    peers[0].send(frame);
    await realtime.ping();
    assert.equal(realtime.getSocketId(), SESSION);
    assert.equal({}.x, undefined);
  });
}

test("random bytes and texts never throw", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url);
  await realtime.open();
  let state = 1;
  const random = (below) => (state = (state * 48271) % 0x7fffffff) % below;
  const pieces = ['{"', "event", '":', "null", "[", "]", "}", '"channel"', '"ok"', '"id":1', ",", "1e9", '"gap"', '"$bytes"', "\\u0000"];
  for (let count = 0; count < 2000; count += 1) {
    if (count % 2) peers[0].send(Buffer.from(Array.from({ length: random(12) }, () => random(4) && random(256))));
    else peers[0].send(Array.from({ length: random(9) }, () => pieces[random(pieces.length)]).join(""));
  }
  await realtime.ping();
});

test("an answer that is no object fails its command", async (t) => {
  const { url } = await startScripted(t.after.bind(t), (peer) => {
    peer.onCommand = () => 7;
    peer.welcome();
  });
  await assert.rejects(make(t, url).join("room"), { code: "malformed_frame" });
});

test("answers without their members are no reason to throw anything but errors", async (t) => {
  const { url } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url);
  assert.deepEqual((await realtime.history("room")).messages, []);
  await realtime.join("room");
  await realtime.send("room", "event", 1);
});

for (const [name, first] of [["of another protocol", { hello: 1 }], ["with a session that is a number", { welcome: { session: 1 } }]]) {
  test(`a server whose first frame is ${name} is left, and tried again`, async (t) => {
    const { url } = await startScripted(t.after.bind(t), (peer, number) =>
      number === 1 ? peer.send(first) : peer.welcome(),
    );
    const realtime = make(t, url);
    const error = happens(realtime, "error");
    await within(realtime.open(), "open");
    assert.equal((await error).code, "malformed_frame");
  });
}

const VERSIONS = {
  older: { welcome: { session: SESSION }, more: {} },
  newer: {
    welcome: { session: SESSION, user: null, app: "default", protocol: 9, limits: { batch: 7, novelties: 3 }, novelty: { of: ["version 9"] } },
    more: { novelty: "version 9" },
  },
};

for (const [version, { welcome, more }] of Object.entries(VERSIONS)) {
  test(`a server of another version, which is ${version}: commands, publications and unknown members`, async (t) => {
    const { url, peers } = await startScripted(t.after.bind(t), (peer) => {
      peer.onCommand = ({ channel }) => ({ channel, ...more });
      peer.send({ welcome });
    });
    const realtime = make(t, url);
    const errors = [];
    realtime.connection.on("error", (error) => errors.push(error));
    await realtime.open();
    const seen = record(realtime);
    await realtime.join("room");
    peers[0].send({ novelty: "a kind of frame", ...more });
    peers[0].send({ event: "chat", channel: "room", message: 1, ...more });
    await seen.count(1);
    assert.deepEqual([seen[0].channel, seen[0].message], ["room", 1]);
    await realtime.send("room", "chat", 2);
    await realtime.leave("room");
    assert.deepEqual(errors, []);
  });
}

test("a server that says nothing is left after the time-out, and tried again", async (t) => {
  const { url } = await startScripted(t.after.bind(t), (peer, number) => number > 1 && peer.welcome());
  await within(make(t, url, { timeoutMs: 100 }).open(), "open");
});

test("a listener that throws is reported as uncaught, and stops neither others nor the connection", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url);
  await realtime.open();
  const thrown = new Error("of the application");
  const uncaught = new Promise((resolve) => process.setUncaughtExceptionCaptureCallback(resolve));
  t.after(() => process.setUncaughtExceptionCaptureCallback(null));
  realtime.on("event", () => {
    throw thrown;
  });
  const seen = record(realtime, "event");
  peers[0].send({ event: "event", channel: null, message: 1 });
  await seen.count(1);
  assert.equal(await uncaught, thrown);
  await realtime.ping();
});

// Coming back

test("reconnect_after_ms before a close 1012 is obeyed exactly", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url, { backoffMs: 0, backoffMaxMs: 0 });
  await realtime.open();
  const [closed, waiting] = [happens(realtime, "close"), happens(realtime, "reconnecting")];
  const begun = performance.now();
  peers[0].send({ reconnect_after_ms: 150 });
  peers[0].close(1012, "restarting");
  assert.deepEqual(await closed, { code: 1012, reason: "restarting", reconnect: true });
  assert.deepEqual(await waiting, { attempt: 1, delayMs: 150 });
  await within(realtime.open(), "open again");
  assert.ok(performance.now() - begun >= 149);
});

test("reconnect_after_ms counts once, and at most ten minutes", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url);
  await realtime.open();
  const waiting = happens(realtime, "reconnecting");
  peers[0].send({ reconnect_after_ms: 1e12 });
  peers[0].close(1012);
  assert.equal((await waiting).delayMs, 600_000);
});

test("the back-off doubles, has jitter, and has a bound", async (t) => {
  const scripted = await startScripted(t.after.bind(t), (peer) => answering(peer));
  scripted.refusing = () => true;
  const realtime = make(t, scripted.url, { backoffMs: 2, backoffMaxMs: 16 });
  const delays = [];
  realtime.connection.on("reconnecting", ({ attempt, delayMs }) => {
    assert.equal(attempt, delays.length + 1);
    delays.push(delayMs);
  });
  realtime.open();
  await happens(realtime, "reconnecting", ({ attempt }) => attempt === 30);
  delays.forEach((delay, at) => assert.ok(delay <= Math.min(2 * 2 ** at, 16), `${delay} at ${at}`));
  assert.ok(new Set(delays.slice(4)).size > 3, `they differ: ${delays}`);
});

test("close ends the waiting for the next attempt", async (t) => {
  const scripted = await startScripted(t.after.bind(t), () => {});
  scripted.refusing = () => true;
  const realtime = make(t, scripted.url, { backoffMs: 1 });
  const opening = realtime.open();
  await happens(realtime, "reconnecting");
  realtime.close();
  await assert.rejects(opening, { code: "closed" });
  assert.equal(realtime.state, "closed");
});

for (const code of [1002, 1007, 1009, 4002, 4005, 4006, 4007]) {
  test(`close code ${code} is final`, async (t) => {
    const { url, peers } = await startScripted(t.after.bind(t), (peer) => peer.welcome());
    const realtime = make(t, url);
    await realtime.open();
    const unanswered = realtime.send("room", "event", 1);
    const closed = happens(realtime, "close");
    peers[0].close(code);
    assert.deepEqual(await closed, { code, reason: "", reconnect: false });
    await assert.rejects(unanswered, { code: "connection_lost" });
    assert.equal(realtime.state, "closed");
    assert.equal(peers.length, 1);
  });
}

for (const code of [1000, 1001, 1011, 1012, 4000, 4001, 4003, 4004]) {
  test(`close code ${code} is followed by another connection`, async (t) => {
    const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
    const realtime = make(t, url);
    await realtime.open();
    const opened = happens(realtime, "open");
    peers[0].close(code);
    await opened;
  });
}

test("a listener of close may close for good", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url);
  await realtime.open();
  realtime.connection.on("close", () => realtime.close());
  const closed = happens(realtime, "close");
  peers[0].close(1012);
  await closed;
  assert.equal(realtime.state, "closed");
});

test("a connection that shows no life is given up: a ping is asked for, and nothing comes", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer, number) => {
    if (number > 1) peer.onCommand = () => ({});
    peer.welcome({ ping_interval_ms: 30 });
  });
  const realtime = make(t, url, { timeoutMs: 60 });
  await realtime.open();
  const closed = await happens(realtime, "close");
  assert.equal(closed.code, 1006);
  assert.deepEqual(peers[0].commands.map(({ type }) => type).slice(0, 1), ["ping"]);
  await within(realtime.open(), "open again");
});

// Resuming

/** A server that resumes sessions: the second connection gets `fields` in its welcome, after `missed` frames. */
async function resuming(t, fields, onSecond = () => {}) {
  const scripted = await startScripted(t.after.bind(t), (peer, number) => {
    peer.onCommand = (command) => {
      if (command.message === "unanswered" || command.channel === "slow") return undefined;
      if (command.type !== "join") return {};
      return { channel: command.channel, ...position(5), ...(command.since && { recovered: true, missed: 0 }) };
    };
    if (number === 1) return peer.welcome({ resume: "ticket-1" });
    peer.welcome({ resume: "ticket-2", ...fields });
    onSecond(peer);
  });
  const realtime = make(t, scripted.url);
  await realtime.open();
  return { ...scripted, realtime };
}

test("resume: the ticket of the welcome is presented, and the session goes on as if nothing had happened", async (t) => {
  const { realtime, peers, upgrades } = await resuming(t, { resumed: true }, (peer) => {
    peer.send({ event: "chat", channel: "room", message: "missed", offset: 6 });
  });
  await realtime.join("room");
  await realtime.update({ name: "luke" });
  const seen = record(realtime);
  const gaps = [];
  realtime.connection.on("gap", (gap) => gaps.push(gap));
  const opened = happens(realtime, "open");
  peers[0].terminate();
  assert.deepEqual(await opened, { socketId: SESSION, user: null, resumed: true });
  await seen.count(1);
  assert.equal(upgrades[0].searchParams.get("resume"), null);
  assert.equal(upgrades[1].searchParams.get("resume"), "ticket-1");
  assert.deepEqual(seen.map(({ message }) => message), ["missed"]);
  assert.deepEqual(realtime.position("room"), { epoch: "e1", offset: 6 });
  assert.deepEqual(gaps, []);
  await realtime.ping();
  assert.deepEqual(peers[1].commands.map(({ type }) => type), ["ping"], "nothing is joined or set again");
});

test("resume: the next drop presents the next ticket", async (t) => {
  const { realtime, peers, upgrades } = await resuming(t, { resumed: true });
  for (const number of [0, 1]) {
    const opened = happens(realtime, "open");
    peers[number].terminate();
    await opened;
  }
  assert.equal(upgrades[2].searchParams.get("resume"), "ticket-2");
});

test("resume: an answer that was missed arrives, and settles its command", async (t) => {
  let id;
  const { realtime, peers } = await resuming(t, { resumed: true }, (peer) => peer.ok({ id }, { message_id: "m1", offset: 9 }));
  const sent = realtime.send("room", "chat", "unanswered");
  await within((async () => {
    while (!peers[0].commands.length) await new Promise(setImmediate);
  })(), "the command");
  id = peers[0].commands[0].id;
  peers[0].terminate();
  assert.deepEqual(await within(sent, "the answer"), { messageId: "m1", offset: 9 });
});

test("resume: a send that was not answered before the barrier did not arrive, and is repeated", async (t) => {
  const { realtime, peers } = await resuming(t, { resumed: true }, (peer) => (peer.onCommand = () => ({})));
  const sent = realtime.send("room", "chat", "unanswered");
  await realtime.ping();
  peers[0].terminate();
  await within(sent, "the answer");
  assert.deepEqual(peers[1].commands.map(({ type }) => type), ["ping", "send"]);
});

test("resume: the frames that were received in the session are counted, over all of its connections", async (t) => {
  const { realtime, peers, upgrades } = await resuming(t, { resumed: true });
  const seen = record(realtime);
  peers[0].send({ event: "chat", channel: null, message: 1 });
  peers[0].send("malformed");
  await realtime.ping();
  let opened = happens(realtime, "open");
  peers[0].terminate();
  await opened;
  peers[1].send({ event: "chat", channel: null, message: 2 });
  await seen.count(2);
  opened = happens(realtime, "open");
  peers[1].terminate();
  await opened;
  assert.deepEqual(upgrades.map(({ searchParams }) => searchParams.get("received")), [null, "3", "4"]);
});

test("resume: what is harmless is repeated before what was called later, in order", async (t) => {
  const { realtime, peers } = await resuming(t, { resumed: true }, (peer) => {
    peer.onCommand = () => ({ channel: "slow", ...position(0) });
  });
  const joined = realtime.join("slow");
  await realtime.ping();
  const closed = happens(realtime, "close");
  peers[0].terminate();
  await closed;
  const sent = realtime.send("slow", "chat", 1);
  await within(Promise.all([joined, sent]), "both");
  assert.deepEqual(peers[1].commands.map(({ type }) => type), ["ping", "join", "send"]);
});

test("resume: refused, the session is a new one: the profile is set and the channels are joined with since", async (t) => {
  const { realtime, peers } = await resuming(t, { resumed: false, session: "BBBBBBBBBBBBBBBBBBBB" });
  await realtime.update({ name: "luke" });
  await realtime.join("room");
  await realtime.join("hall", false);
  peers[0].send({ event: "chat", channel: "room", message: 1, offset: 8 });
  const [opened, recovered] = [happens(realtime, "open"), happens(realtime, "recovered")];
  const gap = happens(realtime, "gap");
  await realtime.ping();
  peers[0].terminate();
  assert.deepEqual(await opened, { socketId: "BBBBBBBBBBBBBBBBBBBB", user: null, resumed: false });
  assert.deepEqual(await recovered, { channel: "room", missed: 0 });
  assert.deepEqual(await gap, { channel: null, missed: null, cause: "reconnect" }, "broadcasts may be lost");
  assert.deepEqual(peers[1].commands.map(({ id, ...command }) => command), [
    { type: "update", profile: { name: "luke" } },
    { type: "join", channel: "room", since: { epoch: "e1", offset: 8 } },
    { type: "join", channel: "hall", echo: false, since: { epoch: "e1", offset: 5 } },
  ]);
});

test("resume: a welcome that claims another session is no resumed one", async (t) => {
  const { realtime, peers } = await resuming(t, { resumed: true, session: "BBBBBBBBBBBBBBBBBBBB" });
  await realtime.join("room");
  const opened = happens(realtime, "open");
  peers[0].terminate();
  assert.equal((await opened).resumed, false);
  await realtime.ping();
  assert.equal(peers[1].commands[0].type, "join");
});

test("resume: after close() and open() the old ticket is not presented", async (t) => {
  const { realtime, upgrades } = await resuming(t, {});
  realtime.close();
  await realtime.open();
  assert.equal(upgrades[1].searchParams.get("resume"), null);
});

test("a server without resume: harmless commands are repeated in the new session, a send is not", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer, number) => {
    peer.onCommand = ({ type, channel }) =>
      number === 1 && type !== "ping" ? undefined : { channel, members: [], next: null, ...position(0) };
    peer.welcome();
  });
  const realtime = make(t, url);
  const [sent, joined, members] = [realtime.send("room", "chat", 1), realtime.join("room"), realtime.members("room")];
  await realtime.ping();
  peers[0].terminate();
  await assert.rejects(sent, { code: "connection_lost" });
  await within(Promise.all([joined, members]), "both");
  assert.deepEqual(peers[1].commands.map(({ type }) => type), ["join", "members"]);
});

// Recovery

/** Two connections to a scripted server; the second answers joins with `rejoined`. */
async function rejoining(t, rejoined) {
  const scripted = await startScripted(t.after.bind(t), (peer, number) => {
    peer.onCommand = (command) => {
      if (command.type !== "join") return {};
      if (number === 1) return { channel: command.channel, ...position(5) };
      return rejoined(peer, command, number);
    };
    peer.welcome({ limits: { batch: 2 } });
  });
  const realtime = make(t, scripted.url);
  await realtime.join("room");
  return { ...scripted, realtime };
}

test("recovered comes after the last of what was missed", async (t) => {
  const { realtime, peers } = await rejoining(t, (peer, command) => {
    peer.ok(command, { channel: "room", ...position(8), recovered: true, missed: 3 });
    for (const offset of [6, 7, 8]) peer.send({ event: "chat", channel: "room", message: offset, offset });
  });
  const story = [];
  realtime.on("chat", ({ message }) => story.push(message));
  realtime.connection.on("recovered", (recovered) => story.push(recovered));
  const recovered = happens(realtime, "recovered");
  peers[0].terminate();
  await recovered;
  assert.deepEqual(story, [6, 7, 8, { channel: "room", missed: 3 }]);
});

test("a drop in the middle of what was missed goes on from the last message received", async (t) => {
  const asked = [];
  const { realtime, peers } = await rejoining(t, (peer, command, number) => {
    asked.push(command.since.offset);
    peer.ok(command, { channel: "room", ...position(8), recovered: true, missed: 8 - command.since.offset });
    peer.send({ event: "chat", channel: "room", message: 0, offset: command.since.offset + 1 });
    if (number < 4) setImmediate(() => peer.terminate());
  });
  const recovered = happens(realtime, "recovered");
  peers[0].terminate();
  await recovered;
  assert.deepEqual(asked, [5, 6, 7]);
  assert.deepEqual(realtime.position("room"), { epoch: "e1", offset: 8 });
});

for (const [name, answer, expected] of [
  ["of the same epoch: so many at most", { ...position(9), recovered: false }, { gap: { channel: "room", missed: 4, cause: "reconnect" } }],
  ["of another epoch: nobody knows how many", { ...position(9, "e2"), recovered: false }, { gap: { channel: "room", missed: null, cause: "reconnect" } }],
  ["at the same position: nothing was missed", { ...position(5), recovered: false }, { recovered: { channel: "room", missed: 0 } }],
  ["of an older server, which knows no since", position(5, "e3"), { gap: { channel: "room", missed: null, cause: "reconnect" } }],
]) {
  test(`a channel that cannot be recovered is a gap, ${name}`, async (t) => {
    const { realtime, peers } = await rejoining(t, () => ({ channel: "room", ...answer }));
    const told = happens(realtime, Object.keys(expected)[0], ({ channel }) => channel === "room");
    peers[0].terminate();
    assert.deepEqual(await told, Object.values(expected)[0]);
    assert.deepEqual(realtime.position("room"), { epoch: answer.epoch, offset: answer.offset });
  });
}

test("a gap that the server reports is passed on", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url);
  await realtime.open();
  for (const gap of [{ channel: "room", missed: 12 }, { channel: null, missed: 3 }]) {
    const told = happens(realtime, "gap");
    peers[0].send({ gap });
    assert.deepEqual(await told, { ...gap, cause: "slow" });
  }
  for (const gap of [null, "wide", { channel: 5, missed: "many" }]) {
    const told = happens(realtime, "gap");
    peers[0].send({ gap });
    assert.deepEqual(await told, { channel: null, missed: null, cause: "slow" });
  }
});

test("channels are joined again in frames of at most the server's batch", async (t) => {
  const { realtime, peers } = await rejoining(t, (_, { channel }) => ({ channel, ...position(5), recovered: true, missed: 0 }));
  for (const name of ["a", "b", "c", "d"]) await realtime.join(name);
  const last = happens(realtime, "recovered", ({ channel }) => channel === "d");
  peers[0].terminate();
  await last;
  assert.deepEqual(peers[1].commands.map(({ channel }) => channel), ["room", "a", "b", "c", "d"]);
});

test("a rejoin that is refused is an error event, and tried again until it succeeds", async (t) => {
  let tries = 0;
  const { realtime, peers } = await rejoining(t, (peer, command) => {
    tries += 1;
    if (tries > 1) return { channel: "room", ...position(5), recovered: true, missed: 0 };
    peer.send({ id: command.id, error: { code: "overloaded", message: "Try again." } });
  });
  const [error, recovered] = [happens(realtime, "error"), happens(realtime, "recovered")];
  peers[0].terminate();
  assert.equal((await error).code, "overloaded");
  await recovered;
});

test("a channel that was left is not joined again", async (t) => {
  const { realtime, peers } = await rejoining(t, () => assert.fail("it was joined"));
  await realtime.leave("room");
  const opened = happens(realtime, "open");
  peers[0].terminate();
  await opened;
  await realtime.ping();
  assert.deepEqual(peers[1].commands.map(({ type }) => type), ["ping"]);
});

// Session tokens

for (const [name, firstToken, expired] of [
  ["one that the refusal asks for", () => "first", true],
  ["one that was being asked for already", () => token("luke", { expiresInS: 2 }), false],
]) {
  test(`commands that were refused for an expired token are repeated with a fresh one, before what was called later: ${name}`, async (t) => {
    let accepting = false;
    const { url, peers } = await startScripted(t.after.bind(t), (peer) => {
      peer.onCommand = ({ type }) => {
        if (type === "session") accepting = true;
        return type === "send" && !accepting ? undefined : {};
      };
      peer.welcome();
    });
    const refuse = ({ id }) => peers[0].send({ id, error: { code: "session_expired", message: "Its time is over." } });
    let deliver;
    const fresh = new Promise((resolve) => (deliver = resolve));
    let asked = 0;
    const realtime = make(t, url, { session: () => ((asked += 1) === 1 ? firstToken() : fresh) });
    await realtime.open();
    const stale = happens(realtime, "stale token");
    const sent = [1, 2].map((number) => realtime.send("room", "chat", number));
    await realtime.ping();
    const [first, second] = peers[0].commands;
    if (!expired) await stale;
    // What the peer sends after a refusal arrives after it.
    const marks = record(realtime, "mark");
    const passed = (count) => (peers[0].send({ event: "mark", channel: null, message: count }), marks.count(count));
    refuse(first);
    assert.deepEqual(await stale, { expired });
    await passed(1);
    sent.push(realtime.send("room", "chat", 3));
    refuse(second);
    await passed(2);
    sent.push(realtime.send("room", "chat", 4));
    deliver("second");
    await within(Promise.all(sent), "the answers");
    assert.deepEqual(peers[0].commands.slice(3).map((command) => command.message ?? command.token), ["second", 1, 2, 3, 4]);
    assert.equal(asked, 2);
  });
}

test("a command is repeated for a fresh token once, not for ever", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => {
    peer.onCommand = ({ id, type }) => {
      if (type !== "send") return {};
      peer.send({ id, error: { code: "session_expired", message: "Its time is over." } });
    };
    peer.welcome();
  });
  const realtime = make(t, url, { session: () => "token" });
  await assert.rejects(within(realtime.send("room", "chat", 1), "the refusal"), { code: "session_expired" });
  assert.equal(peers[0].commands.filter(({ type }) => type === "send").length, 2);
});

// Bounds

test("the offline queue is bounded by commands: what does not fit is refused, what fits arrives in order", async (t) => {
  const scripted = await startScripted(t.after.bind(t), (peer) => answering(peer));
  scripted.refusing = () => true;
  const realtime = make(t, scripted.url, { queueCommands: 3 });
  const calls = [1, 2, 3, 4].map((number) => realtime.send("room", "chat", number));
  await assert.rejects(calls[3], { code: "queue_full" });
  scripted.refusing = () => false;
  await within(Promise.all(calls.slice(0, 3)), "the others");
  assert.deepEqual(scripted.peers[0].commands.map(({ message }) => message), [1, 2, 3]);
});

test("the offline queue is bounded by bytes", async (t) => {
  const scripted = await startScripted(t.after.bind(t), () => {});
  scripted.refusing = () => true;
  const realtime = make(t, scripted.url, { queueBytes: 1000 });
  realtime.send("room", "chat", "x".repeat(800));
  await assert.rejects(realtime.send("room", "chat", "x".repeat(200)), { code: "queue_full" });
  realtime.close();
});

test("a queue of no commands refuses at once", async (t) => {
  const { url } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url, { queueCommands: 0 });
  await assert.rejects(realtime.send("room", "chat", 1), { code: "queue_full" });
  await realtime.open();
  await realtime.send("room", "chat", 1);
});

test("what the network does not take is bounded by bytes too", async (t) => {
  const { url } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url, { queueBytes: 100_000 });
  await realtime.open();
  const calls = Array.from({ length: 200 }, () => realtime.send("room", "chat", "x".repeat(50_000)));
  const outcomes = await Promise.allSettled(calls);
  const refused = outcomes.filter(({ reason }) => reason?.code === "queue_full").length;
  assert.ok(refused > 0 && refused < 200, `${refused} were refused`);
});

test("a command waits for a connection no longer than queueTimeoutMs", async (t) => {
  const scripted = await startScripted(t.after.bind(t), () => {});
  scripted.refusing = () => true;
  const realtime = make(t, scripted.url, { queueTimeoutMs: 50 });
  await assert.rejects(realtime.send("room", "chat", 1), { code: "timeout" });
});

test("a command waits for its answer no longer than timeoutMs, and an answer after that is nobody's", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => {
    peer.onCommand = ({ type }) => (type === "ping" ? {} : undefined);
    peer.welcome();
  });
  const realtime = make(t, url, { timeoutMs: 50 });
  await assert.rejects(realtime.send("room", "chat", 1), { code: "timeout" });
  peers[0].ok(peers[0].commands[0]);
  await realtime.ping();
});

test("a frame that the server would close for is refused here", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer, { limits: { frame_bytes: 200 } }));
  const realtime = make(t, url);
  await assert.rejects(realtime.send("room", "chat", "ü".repeat(100)), { code: "message_too_large" });
  await realtime.send("room", "chat", "ü".repeat(50));
  assert.equal(peers.length, 1);
});

test("a message without a JSON form is refused before anything is sent", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url);
  const cycle = {};
  cycle.self = cycle;
  await assert.rejects(realtime.send("room", "chat", cycle), { code: "not_serializable" });
  await assert.rejects(realtime.send("room", "chat", 1n), { code: "not_serializable" });
  await assert.rejects(realtime.send("r".repeat(70_000), "chat", Buffer.from("x")), { code: "not_serializable" });
  await realtime.ping();
  assert.deepEqual(peers[0].commands.map(({ type }) => type), ["ping"]);
});

test("a call that nobody awaits is an error event when it fails, not an unhandled rejection", async (t) => {
  const { url } = await startScripted(t.after.bind(t), (peer) => {
    peer.onCommand = ({ id }) => void peer.send({ id, error: { code: "rate_limited", message: "Too fast." } });
    peer.welcome();
  });
  const unhandled = [];
  const listener = (reason) => unhandled.push(reason);
  process.on("unhandledRejection", listener);
  t.after(() => process.off("unhandledRejection", listener));
  const realtime = make(t, url);
  const error = happens(realtime, "error");
  realtime.send("room", "chat", 1);
  assert.equal((await error).code, "rate_limited");
  await new Promise(setImmediate);
  assert.deepEqual(unhandled, []);
});

test("an error without a command is an error event", async (t) => {
  const { url, peers } = await startScripted(t.after.bind(t), (peer) => answering(peer));
  const realtime = make(t, url);
  await realtime.open();
  const error = happens(realtime, "error");
  peers[0].send({ error: { code: "malformed_json", message: "It is not JSON." } });
  assert.equal((await error).code, "malformed_json");
});

// Construction

test("a url that is none, or of another scheme, is a TypeError", () => {
  for (const url of ["nonsense", "ftp://host", ""]) assert.throws(() => make({ after() {} }, url), TypeError);
});

test("a path of one's own is kept, and the address carries key, app, echo and session", async (t) => {
  const { url, upgrades } = await startScripted(t.after.bind(t), (peer) => peer.welcome());
  await make(t, `${url}/behind/a/proxy`, { app: "my app", echo: false, session: "a.b.c" }).open();
  assert.equal(upgrades[0].pathname, "/behind/a/proxy");
  assert.deepEqual(Object.fromEntries(upgrades[0].searchParams), {
    key: "client-key-0123456789", app: "my app", echo: "false", session: "a.b.c",
  });
});

test("a runtime without WebSocket says so", async (t) => {
  if (globalThis.WebSocket) return t.skip("this runtime has one");
  const realtime = make(t, "http://127.0.0.1:1", { WebSocket: undefined });
  await assert.rejects(realtime.open(), { code: "no_websocket" });
});
