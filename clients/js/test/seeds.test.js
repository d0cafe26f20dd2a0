// The API that applications know, sentence by sentence: two connections and a real server. Each test's name is the
// sentence that it proves.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Backend } from "fanfare/server";
import { connect, make, record, settled } from "./support/clients.js";
import { SERVER_KEY, startServer, token } from "./support/server.js";

const { url } = await startServer(after);
const backend = () => new Backend({ url, key: SERVER_KEY });
let names = 0;
const freshChannel = () => `technology-chat-${(names += 1)}`;

const MESSAGE = {
  username: "Luke Skywalker",
  profileImage: "",
  messageSentAt: "2021-08-16T11:03:21.406+00:00",
  message: "Let's have a Juma juice? I will be there in 10 minutes.",
};

/** Two connections, the second in a channel. */
async function pair(t, options) {
  const channel = freshChannel();
  const [luke, vader] = await Promise.all([connect(t, url, options), connect(t, url, options)]);
  await vader.join(channel);
  return { channel, luke, vader };
}

// Send message

test("You can send message to the members of a specific channel", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const seen = record(vader, "chat-message");
  const outside = record(luke, "chat-message");
  await luke.send(channel, "chat-message", MESSAGE);
  await seen.count(1);
  assert.deepEqual(seen[0].message, MESSAGE);
  assert.equal(seen[0].channel, channel);
  await luke.ping();
  assert.equal(outside.length, 0, "the sender is no member");
});

test("you can broadcast a message to all users of your app independent of the channels they have joined", async (t) => {
  const { luke, vader } = await pair(t);
  const other = await connect(t, url, { app: "quiet" });
  const inNoChannel = record(luke, "warning-message");
  const inAChannel = record(vader, "warning-message");
  const inAnotherApp = record(other, "warning-message");
  await luke.broadcast("warning-message", MESSAGE);
  await inNoChannel.count(1);
  await inAChannel.count(1);
  assert.deepEqual(inAChannel[0].message, MESSAGE);
  await other.ping();
  assert.equal(inAnotherApp.length, 0);
});

const SERIALIZABLE = {
  text: "text with \u0000, \u2028, 😀 and \"quotes\"",
  "the empty text": "",
  zero: 0,
  "a fraction": -1.5e-7,
  true: true,
  false: false,
  null: null,
  "a list": [1, [2, []], {}],
  "an object": { a: { b: { c: [null] } }, "": 1, "with.dot": 2 },
  "an own __proto__": JSON.parse('{"__proto__":{"polluted":true}}'),
};

for (const [name, value] of Object.entries(SERIALIZABLE)) {
  test(`All serializable datastructures are supported for the message: ${name}`, async (t) => {
    const { channel, luke, vader } = await pair(t);
    const seen = record(vader, "any");
    await luke.send(channel, "any", value);
    await luke.broadcast("any", value);
    await seen.count(2);
    for (const { message } of seen) assert.deepStrictEqual(JSON.stringify(message), JSON.stringify(value));
    assert.equal({}.polluted, undefined);
  });
}

test("All serializable datastructures are supported for the message: Date, undefined and objects with toJSON as JSON has them", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const seen = record(vader, "any");
  const date = new Date(0);
  await luke.send(channel, "any", { date, nothing: undefined, custom: { toJSON: () => "own" } });
  await luke.send(channel, "any", undefined);
  await seen.count(2);
  assert.deepEqual(seen[0].message, { date: date.toISOString(), custom: "own" });
  assert.equal(seen[1].message, null);
});

test("All serializable datastructures are supported for the message, including Buffer", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const seen = record(vader, "any");
  const bytes = Buffer.from([0, 1, 127, 128, 255]);
  for (const form of [bytes, new Uint8Array(bytes), new Uint8Array(bytes).buffer, new DataView(new Uint8Array(bytes).buffer)]) {
    await luke.send(channel, "any", form);
    await luke.broadcast("any", form);
  }
  await seen.count(8);
  for (const { message } of seen) {
    assert.ok(Buffer.isBuffer(message));
    assert.deepEqual(message, bytes);
  }
});

test("All serializable datastructures are supported for the message, including Buffer: an empty one, and one of a slice", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const seen = record(vader, "any");
  await luke.send(channel, "any", Buffer.alloc(0));
  await luke.send(channel, "any", Buffer.from("abcdef").subarray(2, 4));
  await seen.count(2);
  assert.deepEqual(seen.map(({ message }) => String(message)), ["", "cd"]);
});

test("All serializable datastructures are supported for the message, including Buffer nested in objects and lists", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const seen = record(vader, "any");
  const message = { image: Buffer.from("image"), parts: [{ sound: new Uint8Array([1, 2]) }, new ArrayBuffer(1)], plain: "text" };
  await luke.send(channel, "any", message);
  await luke.broadcast("any", message);
  await seen.count(2);
  for (const { message: got } of seen) {
    assert.deepEqual(got, { image: Buffer.from("image"), parts: [{ sound: Buffer.from([1, 2]) }, Buffer.alloc(1)], plain: "text" });
    assert.ok(Buffer.isBuffer(got.parts[0].sound));
  }
});

test("Override the echo flag of the connection to enable messages originating from this connection being echoed back", async (t) => {
  const luke = await connect(t, url, { echo: false });
  const channel = freshChannel();
  await luke.join(channel);
  const seen = record(luke);
  await luke.send(channel, "chat-message", "silent");
  await luke.broadcast("warning-message", "silent");
  await luke.send(channel, "chat-message", "echoed", true);
  await luke.broadcast("warning-message", "echoed", true);
  await luke.send(channel, "chat-message", "echoed", { echo: true });
  await seen.count(3);
  assert.deepEqual(seen.map(({ message }) => message), ["echoed", "echoed", "echoed"]);
});

test("Override the echo flag of the connection to prevent messages originating from this connection being echoed back", async (t) => {
  const luke = await connect(t, url, { echo: true });
  const channel = freshChannel();
  await luke.join(channel);
  const seen = record(luke);
  await luke.send(channel, "chat-message", "silent", false);
  await luke.broadcast("warning-message", "silent", false);
  await luke.send(channel, "chat-message", "silent", { echo: false });
  await luke.send(channel, "chat-message", "echoed");
  await luke.broadcast("warning-message", "echoed");
  await seen.count(2);
  assert.deepEqual(seen.map(({ message }) => message), ["echoed", "echoed"]);
});

test("the echo flag is specified when creating the connection; without one, the app's default holds", async (t) => {
  const channel = freshChannel();
  const quiet = await connect(t, url, { app: "quiet" });
  const loud = await connect(t, url, { app: "quiet", echo: true });
  await Promise.all([quiet.join(channel), loud.join(channel)]);
  const [atQuiet, atLoud] = [record(quiet, "chat-message"), record(loud, "chat-message")];
  await quiet.send(channel, "chat-message", "of quiet");
  await loud.send(channel, "chat-message", "of loud");
  await atLoud.count(2);
  await atQuiet.count(1);
  await quiet.ping();
  assert.deepEqual(atQuiet.map(({ message }) => message), ["of loud"]);
});

test("An echo concerns the same connection: others receive the message all the same", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const seen = record(vader, "chat-message");
  await luke.send(channel, "chat-message", MESSAGE, false);
  await luke.broadcast("chat-message", MESSAGE, false);
  await seen.count(2);
});

for (const call of ["send", "broadcast"]) {
  const publish = (realtime, channel) =>
    call === "send" ? realtime.send(channel, "chat-message", MESSAGE) : realtime.broadcast("chat-message", MESSAGE);

  test(`If the connection is set to session required, an active user session is required to call ${call}: refused without`, async (t) => {
    const channel = freshChannel();
    const anonymous = await connect(t, url, { app: "strict" });
    const member = await connect(t, url, { app: "strict" });
    await member.join(channel);
    const seen = record(member);
    await assert.rejects(publish(anonymous, channel), { name: "FanfareError", code: "session_required" });
    await member.ping();
    assert.equal(seen.length, 0, "nobody received it");
  });

  test(`If the connection is set to session required, an active user session is required to call ${call}: accepted with one`, async (t) => {
    const channel = freshChannel();
    const luke = await connect(t, url, { app: "strict", session: token("luke") });
    const member = await connect(t, url, { app: "strict" });
    await member.join(channel);
    const seen = record(member, "chat-message");
    await publish(luke, channel);
    await seen.count(1);
    assert.deepEqual(seen[0].message, MESSAGE);
  });

  test(`a user needs to be logged in to call ${call}: logging in later will do`, async (t) => {
    const luke = await connect(t, url, { app: "strict" });
    await assert.rejects(publish(luke, "room"), { code: "session_required" });
    assert.equal((await luke.setSession(token("luke"))).user, "luke");
    await publish(luke, "room");
  });
}

// Listen to messages

test("You can listen to messages sent by other users using on, onAny and once methods", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const heard = [];
  vader.on("chat-message", () => heard.push("on"));
  vader.onAny(() => heard.push("onAny"));
  vader.once("chat-message", () => heard.push("once"));
  await luke.send(channel, "chat-message", MESSAGE);
  await settled(luke, vader, channel);
  assert.deepEqual(heard.slice(0, 3).sort(), ["on", "onAny", "once"]);
});

test("The on method registers a new listener function for the given event", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const first = record(vader, "chat-message");
  const second = record(vader, "chat-message");
  await luke.send(channel, "other-message", 1);
  await luke.send(channel, "chat-message", 2);
  await luke.send(channel, "chat-message", 3);
  await settled(luke, vader, channel);
  assert.deepEqual(first.map(({ message }) => message), [2, 3]);
  assert.deepEqual(second.map(({ message }) => message), [2, 3]);
});

test("on: a listener that is registered twice is called twice", async (t) => {
  const { channel, luke, vader } = await pair(t);
  let calls = 0;
  const listener = () => (calls += 1);
  vader.on("chat-message", listener);
  vader.on("chat-message", listener);
  await luke.send(channel, "chat-message", 1);
  await settled(luke, vader, channel);
  assert.equal(calls, 2);
});

test("The onAny method registers a new catch-all listener function", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const [first, second] = [record(vader), record(vader)];
  await luke.send(channel, "one", 1);
  await luke.send(channel, "two", 2);
  await second.count(2);
  assert.deepEqual(first.map(({ event }) => event), ["one", "two"]);
  assert.deepEqual(second.map(({ event }) => event), ["one", "two"]);
});

test("This catch-all listener function is triggered for all messages sent to this socket", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const seen = record(vader);
  await luke.send(channel, "one", 1);
  await luke.send(channel, "two", 2);
  await luke.broadcast("three", 3);
  await luke.join(channel);
  await seen.count(4);
  assert.deepEqual(seen.map(({ event }) => event), ["one", "two", "three", "channel:join"]);
});

test("The once method adds a one-time listener function for the given event", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const heard = [];
  vader.once("chat-message", ({ message }) => heard.push(message));
  await luke.send(channel, "other-message", 0);
  await luke.send(channel, "chat-message", 1);
  await luke.send(channel, "chat-message", 2);
  await settled(luke, vader, channel);
  assert.deepEqual(heard, [1]);
});

test("When the event is triggered, this listener is removed and then invoked", async (t) => {
  const { channel, luke, vader } = await pair(t);
  let registeredThen;
  vader.once("chat-message", () => (registeredThen = vader.getListeners("chat-message").length));
  assert.equal(vader.getListeners("chat-message").length, 1);
  await luke.send(channel, "chat-message", 1);
  await settled(luke, vader, channel);
  assert.equal(registeredThen, 0, "it was removed before it was invoked");
});

test("once: a listener that registers itself again while it is invoked waits for the next event", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const heard = [];
  const listener = ({ message }) => {
    heard.push(message);
    if (heard.length < 2) vader.once("chat-message", listener);
  };
  vader.once("chat-message", listener);
  for (const number of [1, 2, 3]) await luke.send(channel, "chat-message", number);
  await settled(luke, vader, channel);
  assert.deepEqual(heard, [1, 2]);
});

for (const method of ["on", "once", "onAny"]) {
  const listen = (realtime) =>
    new Promise((resolve) => {
      if (method === "onAny") realtime.onAny((payload) => payload.event === "chat-message" && resolve(payload));
      else realtime[method]("chat-message", resolve);
    });

  test(`${method}: The payload includes channel and message parts`, async (t) => {
    const { channel, luke, vader } = await pair(t);
    const payload = listen(vader);
    await luke.send(channel, "chat-message", MESSAGE);
    const { channel: where, message } = await payload;
    assert.deepEqual({ where, message }, { where: channel, message: MESSAGE });
  });

  test(`${method}: The channel is the name of the channel if the message is sent to a channel otherwise it is null`, async (t) => {
    const { luke, vader } = await pair(t);
    const payload = listen(vader);
    await luke.broadcast("chat-message", MESSAGE);
    assert.strictEqual((await payload).channel, null);
  });

  test(`${method}: the message is the contents of the message that is sent using the send or broadcast methods`, async (t) => {
    const { channel, luke, vader } = await pair(t);
    const sent = listen(vader);
    await luke.send(channel, "chat-message", { by: "send" });
    assert.deepEqual((await sent).message, { by: "send" });
    const broadcast = listen(vader);
    await luke.broadcast("chat-message", { by: "broadcast" });
    const last = await broadcast;
    assert.ok(["send", "broadcast"].includes(last.message.by));
    assert.deepEqual(last.message, { by: "broadcast" });
  });
}

// Unregister message listeners

/** A connection with listeners a and b for one event, c for another, and d, e for all; `hears()` is who is called. */
async function fiveListeners(t) {
  const { channel, luke, vader } = await pair(t);
  let heard = new Set();
  const listeners = Object.fromEntries(["a", "b", "c", "d", "e"].map((name) => [name, () => heard.add(name)]));
  vader.on("chat-message", listeners.a);
  vader.on("chat-message", listeners.b);
  vader.on("other-message", listeners.c);
  vader.onAny(listeners.d);
  vader.onAny(listeners.e);
  const hears = async () => {
    heard = new Set();
    await luke.send(channel, "chat-message", 1);
    await luke.send(channel, "other-message", 1);
    // A listener of the connection itself: those of messages are what is looked at.
    const arrived = new Promise((resolve) => {
      const stop = vader.connection.on("publication", ({ event }) => {
        if (event !== "mark") return;
        stop();
        resolve();
      });
    });
    await luke.send(channel, "mark", 1);
    await arrived;
    return [...heard].sort().join("");
  };
  return { vader, hears, ...listeners };
}

test("You can stop listening to specific events or all events using the off and offAny methods", async (t) => {
  const { vader, hears } = await fiveListeners(t);
  assert.equal(await hears(), "abcde");
  vader.off("chat-message");
  assert.equal(await hears(), "cde");
  vader.off();
  vader.offAny();
  assert.equal(await hears(), "");
});

test("The off method removes the specified listener function from the listener array for the given event name", async (t) => {
  const { vader, hears, a } = await fiveListeners(t);
  vader.off("chat-message", a);
  assert.equal(await hears(), "bcde");
});

test("off: a listener of another event, or of none, stays", async (t) => {
  const { vader, hears, a } = await fiveListeners(t);
  vader.off("other-message", a);
  vader.off("no-such-event", a);
  vader.off("no-such-event");
  assert.equal(await hears(), "abcde");
});

test("off: a listener of once is removed like others", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const heard = [];
  const listener = () => heard.push(1);
  vader.once("chat-message", listener);
  vader.off("chat-message", listener);
  await luke.send(channel, "chat-message", 1);
  await settled(luke, vader, channel);
  assert.deepEqual(heard, []);
});

test("off: a listener that another listener removes during an event is not called for it", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const heard = [];
  const second = () => heard.push("second");
  vader.on("chat-message", () => vader.off("chat-message", second));
  vader.on("chat-message", second);
  await luke.send(channel, "chat-message", 1);
  await settled(luke, vader, channel);
  assert.deepEqual(heard, []);
});

test("If listener is not specified, off removes all listeners for the event named eventName", async (t) => {
  const { vader, hears } = await fiveListeners(t);
  vader.off("chat-message");
  assert.equal(await hears(), "cde");
});

test("If neither eventName nor listener is specified, off removes all listeners for all events", async (t) => {
  const { vader, hears } = await fiveListeners(t);
  vader.off();
  assert.equal(await hears(), "de", "catch-all listeners are those of offAny");
});

test("The offAny method removes the previously registered listener function", async (t) => {
  const { vader, hears, d } = await fiveListeners(t);
  vader.offAny(d);
  assert.equal(await hears(), "abce");
});

test("If no listener is provided, offAny removes all catch-all listener functions", async (t) => {
  const { vader, hears } = await fiveListeners(t);
  vader.offAny();
  assert.equal(await hears(), "abc");
});

// Get event listeners

test("You can get the list of listener functions registered for a given event name", (t) => {
  const realtime = make(t, url);
  const [a, b, c] = [() => {}, () => {}, () => {}];
  realtime.on("chat-message", a);
  realtime.once("chat-message", b);
  realtime.on("other-message", c);
  assert.deepEqual(realtime.getListeners("chat-message"), [a, b]);
  assert.deepEqual(realtime.getListeners("no-such-event"), []);
});

test("getListeners: the name is not required, and without one the listeners of all events are returned", (t) => {
  const realtime = make(t, url);
  const [a, b, any] = [() => {}, () => {}, () => {}];
  realtime.on("chat-message", a);
  realtime.on("other-message", b);
  realtime.onAny(any);
  assert.deepEqual(realtime.getListeners(), [a, b]);
});

test("getListeners: changing the list that was returned changes nothing", (t) => {
  const realtime = make(t, url);
  realtime.on("chat-message", () => {});
  realtime.getListeners("chat-message").pop();
  assert.equal(realtime.getListeners("chat-message").length, 1);
});

// Open, close, socket id, join, leave, update

test("getSocketId returns the unique id of the connection, and null without one", async (t) => {
  const luke = make(t, url);
  assert.equal(luke.getSocketId(), null);
  assert.equal(await luke.open(), luke.getSocketId());
  const vader = await connect(t, url);
  assert.match(luke.getSocketId(), /^[\w-]{20}$/);
  assert.notEqual(luke.getSocketId(), vader.getSocketId());
  luke.close();
  assert.equal(luke.getSocketId(), null);
});

test("open connects, close disconnects, and open connects again", async (t) => {
  const luke = make(t, url);
  assert.equal(luke.state, "idle");
  const first = await luke.open();
  assert.equal(luke.state, "open");
  luke.close();
  assert.equal(luke.state, "closed");
  await assert.rejects(luke.send("room", "event", 1), { code: "closed" });
  assert.notEqual(await luke.open(), first);
  await luke.send("room", "event", 1);
});

test("the first command opens the connection by itself", async (t) => {
  const luke = make(t, url);
  await luke.join("room");
  assert.equal(luke.state, "open");
});

test("join makes a member, and the others are told with the profile", async (t) => {
  const { channel, luke, vader } = await pair(t);
  await luke.update({ username: "Luke" });
  const told = record(vader, "channel:join");
  const answer = await luke.join(channel);
  assert.deepEqual({ joined: answer.joined, members: answer.members }, { joined: true, members: 2 });
  await told.count(1);
  assert.deepEqual(told[0].message, { id: luke.getSocketId(), data: { username: "Luke" } });
  assert.equal((await luke.join(channel)).joined, false, "joining twice is harmless");
});

test("join tells the joiner too unless echo is off", async (t) => {
  const luke = await connect(t, url);
  const told = record(luke, "channel:join");
  await luke.join(freshChannel(), false);
  await luke.join(freshChannel(), true);
  await luke.join(freshChannel(), { echo: false });
  await luke.ping();
  assert.equal(told.length, 1);
});

test("leave ends the membership, and the others are told", async (t) => {
  const { channel, luke, vader } = await pair(t);
  await luke.join(channel);
  const told = record(vader, "channel:leave");
  const seen = record(luke, "chat-message");
  assert.equal((await luke.leave(channel)).left, true);
  await told.count(1);
  assert.equal(told[0].message.id, luke.getSocketId());
  await vader.send(channel, "chat-message", 1);
  await luke.ping();
  assert.equal(seen.length, 0);
  assert.equal((await luke.leave(channel)).left, false, "leaving twice is harmless");
});

test("update sets the profile, and the members of the joined channels are told", async (t) => {
  const { channel, luke, vader } = await pair(t);
  await luke.join(channel);
  const told = record(vader, "channel:update");
  await luke.update({ status: "Available", badge: Buffer.from("gold") });
  await told.count(1);
  assert.deepEqual(told[0].message, {
    id: luke.getSocketId(),
    data: { status: "Available", badge: Buffer.from("gold") },
  });
});

// From the back end

test("The server library allows you to send realtime messages to specific channels", async (t) => {
  const { channel, luke, vader } = await pair(t);
  const [inside, outside] = [record(vader, "chat-message"), record(luke, "chat-message")];
  const { messageId, offset } = await backend().send(channel, "chat-message", MESSAGE);
  await inside.count(1);
  assert.deepEqual([inside[0].channel, inside[0].message, inside[0].offset], [channel, MESSAGE, offset]);
  assert.equal(typeof messageId, "string");
  await luke.ping();
  assert.equal(outside.length, 0);
});

test("The server library allows you to broadcast to all connected clients independent of the channels they have joined", async (t) => {
  const { luke, vader } = await pair(t);
  const [first, second] = [record(luke, "warning-message"), record(vader, "warning-message")];
  await backend().broadcast("warning-message", MESSAGE);
  await first.count(1);
  await second.count(1);
  assert.deepEqual([first[0].channel, first[0].message], [null, MESSAGE]);
});

for (const call of ["send", "broadcast"]) {
  test(`The server library's ${call} supports all serializable datastructures for the message, including Buffer`, async (t) => {
    const { channel, vader } = await pair(t);
    const seen = record(vader, "any");
    const publish = (message) =>
      call === "send" ? backend().send(channel, "any", message) : backend().broadcast("any", message);
    const values = [...Object.values(SERIALIZABLE), Buffer.from("top"), { nested: [Buffer.from("deep")] }];
    for (const value of values) await publish(value);
    await seen.count(values.length);
    values.forEach((value, at) => {
      assert.equal(JSON.stringify(seen[at].message), JSON.stringify(value));
      assert.equal(Buffer.isBuffer(seen[at].message), Buffer.isBuffer(value));
    });
    assert.ok(Buffer.isBuffer(seen.at(-1).message.nested[0]));
  });
}

for (const [who, members] of [
  ["The client's", (realtime, channel) => realtime.getMembers(channel)],
  ["The server library's", (_, channel) => backend().getMembers(channel)],
]) {
  test(`${who} getMembers method gets the list of people already in a channel`, async (t) => {
    const { channel, luke, vader } = await pair(t);
    assert.deepEqual(await members(luke, channel), [{ id: vader.getSocketId() }]);
    await luke.join(channel);
    const ids = (await members(luke, channel)).map(({ id }) => id);
    assert.deepEqual(ids.sort(), [luke.getSocketId(), vader.getSocketId()].sort());
    await vader.leave(channel);
    assert.deepEqual((await members(luke, channel)).map(({ id }) => id), [luke.getSocketId()]);
    assert.deepEqual(await members(luke, freshChannel()), [], "a channel without members has an empty list");
  });

  test(`${who} getMembers: the profile data for each member is the profile data set using the update method`, async (t) => {
    const { channel, luke, vader } = await pair(t);
    const profile = { username: "Darth Vader", profileImage: "", status: "Talking to Darth Sidious" };
    await vader.update(profile);
    assert.deepEqual((await members(luke, channel))[0].data, profile);
    await vader.update({ status: "gone" });
    assert.deepEqual((await members(luke, channel))[0].data, { status: "gone" });
  });

  test(`${who} getMembers: the id value provided in the response is the unique socket id of the channel member`, async (t) => {
    const { channel, luke, vader } = await pair(t);
    assert.equal((await members(luke, channel))[0].id, vader.getSocketId());
  });
}
