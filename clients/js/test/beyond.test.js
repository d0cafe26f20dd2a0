// What goes beyond sending and listening: history, edits, audiences, live lists, and the back end's client.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { eachMessage, feed, presence } from "fanfare";
import { Backend } from "fanfare/server";
import { connect, happens, record, settled, until } from "./support/clients.js";
import { startProxy } from "./support/proxy.js";
import { SERVER_KEY, startServer, token } from "./support/server.js";

const server = await startServer(after);
const backend = new Backend({ url: server.url, key: SERVER_KEY });
const channelOf = (kind) => `${kind}-${randomBytes(6).toString("hex")}`;
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);
const numbers = (messages) => messages.map(({ message }) => message);

async function filled(t, count) {
  const channel = channelOf("kept");
  const realtime = await connect(t, server.url);
  await realtime.join(channel);
  await Promise.all(range(1, count).map((number) => realtime.send(channel, "chat", number)));
  return { channel, realtime };
}

// History

test("history gives pages backwards from the newest, and forwards from an offset", async (t) => {
  const { channel, realtime } = await filled(t, 7);
  for (const source of [realtime, backend]) {
    const newest = await source.history(channel, { limit: 3 });
    assert.deepEqual([numbers(newest.messages), newest.next], [[7, 6, 5], 5]);
    const before = await source.history(channel, { limit: 3, before: newest.next });
    assert.deepEqual(numbers(before.messages), [4, 3, 2]);
    const forwards = await source.history(channel, { limit: 3, after: 5 });
    assert.deepEqual([numbers(forwards.messages), forwards.next], [[6, 7], null]);
  }
});

test("a message in a page has its event, offset, id, time and sender", async (t) => {
  const { channel, realtime } = await filled(t, 1);
  const before = Date.now();
  const [message] = (await realtime.history(channel)).messages;
  assert.deepEqual(Object.keys(message).sort(), ["event", "id", "message", "offset", "sender", "timeMs"]);
  assert.equal(message.sender, realtime.getSocketId());
  assert.ok(Math.abs(message.timeMs - before) < 60_000);
});

test("eachMessage walks through all pages, in both directions, from a client and from a back end", async (t) => {
  const { channel, realtime } = await filled(t, 25);
  for (const source of [realtime, backend]) {
    const walk = async (options) => {
      const seen = [];
      for await (const { message } of eachMessage(source, channel, { limit: 10, ...options })) seen.push(message);
      return seen;
    };
    assert.deepEqual(await walk(), range(1, 25));
    assert.deepEqual(await walk({ after: 20 }), range(21, 25));
    assert.deepEqual(await walk({ direction: "newest first" }), range(1, 25).reverse());
    assert.deepEqual(await walk({ direction: "newest first", before: 4 }), [3, 2, 1]);
  }
});

test("bytes come back from history as bytes, whole and nested", async (t) => {
  const { channel, realtime } = await filled(t, 0);
  await realtime.send(channel, "chat", Buffer.from("whole"));
  await realtime.send(channel, "chat", { nested: Buffer.from("inside") });
  for (const source of [realtime, backend]) {
    const [nested, whole] = numbers((await source.history(channel)).messages);
    assert.deepEqual(whole, Buffer.from("whole"));
    assert.deepEqual(nested, { nested: Buffer.from("inside") });
  }
});

test("noHistory keeps a message out of history", async (t) => {
  const { channel, realtime } = await filled(t, 1);
  const { offset } = await realtime.send(channel, "typing", true, { noHistory: true });
  await backend.send(channel, "typing", true, { noHistory: true });
  assert.equal(offset, null);
  assert.deepEqual(numbers((await realtime.history(channel)).messages), [1]);
});

// Edits

test("edit and delete change what is remembered, and members see it", async (t) => {
  const { channel, realtime } = await filled(t, 0);
  const seen = record(realtime);
  const first = await realtime.send(channel, "chat", "frist");
  const second = await realtime.send(channel, "chat", "second");
  await realtime.edit(channel, first.messageId, { text: "first", bytes: Buffer.from("b") });
  await realtime.delete(channel, second.messageId);
  await seen.count(4);
  const [, , edited, deleted] = seen;
  assert.deepEqual([edited.event, edited.id], ["message:edit", first.messageId]);
  assert.deepEqual(edited.message, { text: "first", bytes: Buffer.from("b") });
  assert.equal(typeof edited.editedMs, "number");
  assert.deepEqual([deleted.event, deleted.id, deleted.message], ["message:delete", second.messageId, null]);
  const page = await realtime.history(channel);
  assert.deepEqual(numbers(page.messages), [{ text: "first", bytes: Buffer.from("b") }]);
  assert.equal(page.messages[0].editedMs, edited.editedMs);
});

test("another's message cannot be edited by a client, and can by the back end", async (t) => {
  const { channel, realtime } = await filled(t, 0);
  const { messageId } = await backend.send(channel, "chat", 1);
  await assert.rejects(realtime.edit(channel, messageId, 2), { code: "edit_not_allowed" });
  await backend.edit(channel, messageId, 3);
  assert.deepEqual(numbers((await realtime.history(channel)).messages), [3]);
  await backend.delete(channel, messageId);
  assert.deepEqual((await realtime.history(channel)).messages, []);
  await assert.rejects(backend.delete(channel, messageId), { code: "unknown_message" });
});

// Audiences

test("toUsers, exceptUsers and toSession narrow who receives a message", async (t) => {
  const channel = channelOf("plain");
  const [luke, leia, han] = await Promise.all(
    ["luke", "leia", "han"].map((user) => connect(t, server.url, { session: token(user) })),
  );
  for (const realtime of [luke, leia, han]) await realtime.join(channel);
  const seen = [luke, leia, han].map((realtime) => record(realtime, "chat"));
  for (const source of [luke, backend]) {
    await source.send(channel, "chat", "to", { toUsers: ["leia", "han"] });
    await source.send(channel, "chat", "except", { exceptUsers: ["leia"] });
    await source.send(channel, "chat", "one", { toSession: han.getSocketId() });
    await source.broadcast("chat", "all to", { toUsers: ["luke"] });
  }
  for (const realtime of [luke, leia, han]) await settled(luke, realtime, channel);
  assert.deepEqual(seen.map(numbers), [
    ["except", "all to", "except", "all to"],
    ["to", "to"],
    ["to", "except", "one", "to", "except", "one"],
  ]);
  assert.deepEqual([seen[2][0].sender, seen[2][0].user], [luke.getSocketId(), "luke"]);
});

// Members

test("members come in pages, by session and by user", async (t) => {
  const channel = channelOf("users");
  for (const user of ["luke", "luke", "leia"]) {
    await (await connect(t, server.url, { session: token(user) })).join(channel);
  }
  const asking = await connect(t, server.url);
  for (const source of [asking, backend]) {
    const page = await source.members(channel, { limit: 2 });
    assert.deepEqual([page.members.length, page.total], [2, 3]);
    const rest = await source.members(channel, { limit: 2, after: page.next });
    assert.deepEqual([rest.members.length, rest.next], [1, null]);
    const { users } = await source.members(channel, { by: "user" });
    assert.deepEqual(users, [{ user: "leia", sessions: 1 }, { user: "luke", sessions: 2 }]);
  }
  await assert.rejects(asking.members(channel, { after: "nonsense" }), { code: "invalid_cursor" });
});

test("users are announced when their first session joins and their last leaves", async (t) => {
  const channel = channelOf("users");
  const watching = await connect(t, server.url);
  await watching.join(channel);
  const told = [];
  for (const event of ["channel:user_join", "channel:user_leave"]) {
    watching.on(event, ({ message }) => told.push(`${event} ${message.user}`));
  }
  const sessions = await Promise.all([1, 2].map(() => connect(t, server.url, { session: token("luke") })));
  for (const session of sessions) await session.join(channel);
  for (const session of sessions) await session.leave(channel);
  await watching.ping();
  assert.deepEqual(told, ["channel:user_join luke", "channel:user_leave luke"]);
});

// Live lists

test("presence is a list that follows joins, updates and leaves", async (t) => {
  const channel = channelOf("plain");
  const [luke, vader] = await Promise.all([connect(t, server.url), connect(t, server.url)]);
  await vader.join(channel);
  const live = presence(vader, channel);
  t.after(() => live.close());
  await live.ready;
  assert.deepEqual(live.current.map(({ id }) => id), [vader.getSocketId()]);
  await luke.join(channel);
  await until(live, (members) => members.length === 2);
  await luke.update({ status: "Available" });
  await until(live, (members) => members.some(({ data }) => data?.status === "Available"));
  const before = live.current;
  await luke.leave(channel);
  await until(live, (members) => members.length === 1);
  assert.equal(before.length, 2, "a value that was shown does not change");
});

test("presence outlives a reconnect: who came and went meanwhile is in it and not", async (t) => {
  const channel = channelOf("plain");
  const proxy = await startProxy(t.after.bind(t), server.port);
  const watching = await connect(t, proxy.url);
  const [leaving, staying, coming] = await Promise.all([1, 2, 3].map(() => connect(t, server.url)));
  for (const realtime of [watching, leaving, staying]) await realtime.join(channel);
  const live = presence(watching, channel);
  t.after(() => live.close());
  await until(live, (members) => members.length === 3);
  // The lists of messages' listeners are the application's, and none of a live list's business.
  watching.off();
  watching.offAny();
  proxy.state.refusing = true;
  const closed = happens(watching, "close");
  proxy.cut();
  await closed;
  await leaving.leave(channel);
  await coming.join(channel);
  proxy.state.refusing = false;
  const expected = () => [watching, staying, coming].map((realtime) => realtime.getSocketId()).sort();
  await until(live, (members) => JSON.stringify(members.map(({ id }) => id).sort()) === JSON.stringify(expected()));
});

test("presence agrees with the server after many have come and gone while it was read", async (t) => {
  const channel = channelOf("plain");
  const watching = await connect(t, server.url);
  await watching.join(channel);
  const others = await Promise.all(range(1, 20).map(() => connect(t, server.url)));
  const live = presence(watching, channel);
  t.after(() => live.close());
  await Promise.all(others.map(async (realtime, at) => {
    for (let turn = 0; turn <= at % 4; turn += 1) await (turn % 2 ? realtime.leave(channel) : realtime.join(channel));
  }));
  await live.ready;
  await settled(others[0], watching, channel);
  const listed = (await watching.getMembers(channel)).map(({ id }) => id).sort();
  assert.deepEqual(live.current.map(({ id }) => id).sort(), listed);
});

test("presence of two who leave and join again at once lists both: notices of an earlier membership do not count", async (t) => {
  for (let round = 0; round < 30; round += 1) {
    const channel = channelOf("plain");
    const people = await Promise.all([connect(t, server.url), connect(t, server.url)]);
    const first = people.map((realtime) => (realtime.join(channel), presence(realtime, channel)));
    for (const realtime of people) realtime.leave(channel);
    for (const live of first) live.close();
    const lists = people.map((realtime) => (realtime.join(channel), presence(realtime, channel)));
    const expected = people.map((realtime) => realtime.getSocketId()).sort();
    for (const live of lists) {
      await until(live, (members) => String(members.map(({ id }) => id).sort()) === String(expected));
      live.close();
    }
    for (const realtime of people) realtime.close();
  }
});

test("presence and feed are read anew when the channel was left and is joined again", async (t) => {
  const channel = channelOf("kept");
  const [luke, vader] = await Promise.all([connect(t, server.url), connect(t, server.url)]);
  await luke.join(channel);
  const [members, messages] = [presence(luke, channel), feed(luke, channel)];
  t.after(() => (members.close(), messages.close()));
  await Promise.all([members.ready, messages.ready]);
  await luke.leave(channel);
  await vader.join(channel);
  await vader.send(channel, "chat", "unseen");
  await luke.join(channel);
  await until(members, (list) => list.some(({ id }) => id === vader.getSocketId()));
  await until(messages, (list) => list.length === 1);
});

test("a live list that is closed changes no more", async (t) => {
  const channel = channelOf("plain");
  const [luke, vader] = await Promise.all([connect(t, server.url), connect(t, server.url)]);
  await vader.join(channel);
  const live = presence(vader, channel);
  await live.ready;
  live.close();
  await luke.join(channel);
  await vader.ping();
  assert.equal(live.current.length, 1);
});

test("a feed holds the newest messages and follows new ones, edits and deletions", async (t) => {
  const { channel, realtime } = await filled(t, 10);
  const live = feed(realtime, channel, { page: 4 });
  t.after(() => live.close());
  await live.ready;
  assert.deepEqual(numbers(live.current), [7, 8, 9, 10]);
  await realtime.send(channel, "chat", 11);
  await realtime.edit(channel, live.current[1].id, "eight");
  await realtime.delete(channel, live.current[0].id);
  await until(live, (messages) => messages.length === 4 && messages.at(-1).message === 11 && messages[0].message !== 7);
  assert.deepEqual(numbers(live.current), ["eight", 9, 10, 11]);
  assert.equal(await live.older(), true);
  assert.deepEqual(numbers(live.current), [3, 4, 5, 6, "eight", 9, 10, 11]);
  while (await live.older());
  assert.deepEqual(numbers(live.current), [1, 2, 3, 4, 5, 6, "eight", 9, 10, 11]);
});

test("a feed keeps no more than it should, besides pages that were asked for", async (t) => {
  const { channel, realtime } = await filled(t, 10);
  const live = feed(realtime, channel, { page: 3, keep: 5 });
  t.after(() => live.close());
  await live.ready;
  for (const number of range(11, 14)) await realtime.send(channel, "chat", number);
  await until(live, (messages) => messages.at(-1).message === 14);
  assert.deepEqual(numbers(live.current), range(10, 14));
  await live.older();
  assert.deepEqual(numbers(live.current), range(7, 14));
});

test("a feed that is read while messages arrive has each once and in order", async (t) => {
  const { channel, realtime } = await filled(t, 5);
  const sender = await connect(t, server.url);
  const sent = range(6, 40).map((number) => sender.send(channel, "chat", number));
  const live = feed(realtime, channel, { page: 50 });
  t.after(() => live.close());
  await Promise.all([live.ready, ...sent]);
  await until(live, (messages) => messages.length === 40);
  assert.deepEqual(numbers(live.current), range(1, 40));
});

test("a feed over a drop has what was missed; over a gap it is read anew", async (t) => {
  for (const kind of ["kept", "short"]) {
    const channel = channelOf(kind);
    const proxy = await startProxy(t.after.bind(t), server.port);
    const realtime = await connect(t, proxy.url);
    await realtime.join(channel);
    await backend.send(channel, "chat", 1);
    const live = feed(realtime, channel);
    t.after(() => live.close());
    await until(live, (messages) => messages.length === 1);
    proxy.state.refusing = true;
    const closed = happens(realtime, "close");
    proxy.cut();
    await closed;
    for (const number of range(2, 8)) await backend.send(channel, "chat", number);
    proxy.state.refusing = false;
    await until(live, (messages) => messages.at(-1).message === 8 && messages.length === (kind === "kept" ? 8 : 3));
    assert.deepEqual(numbers(live.current), kind === "kept" ? range(1, 8) : range(6, 8));
  }
});

// The back end's client

test("publish sends batches in order, each with its own outcome", async (t) => {
  const { channel, realtime } = await filled(t, 0);
  const seen = record(realtime, "chat");
  const entries = range(1, 200).map((message) => ({ channel, event: "chat", message }));
  const results = await backend.publish([...entries, { event: "channel:join" }, { event: "all", message: 1 }]);
  await seen.count(200);
  assert.deepEqual(numbers(seen), range(1, 200));
  assert.deepEqual(results.slice(0, 200).map(({ ok }) => ok.offset), range(1, 200));
  assert.equal(results[200].error.code, "reserved_event");
  assert.equal(typeof results[201].ok.messageId, "string");
});

test("an idempotency key publishes once", async (t) => {
  const { channel, realtime } = await filled(t, 0);
  const idempotencyKey = "order-4711";
  const first = await backend.send(channel, "chat", 1, { idempotencyKey });
  assert.deepEqual(await backend.send(channel, "chat", 2, { idempotencyKey }), first);
  const [third] = await backend.publish([{ channel, event: "chat", message: 3, idempotencyKey }]);
  assert.deepEqual(third.ok, first);
  assert.deepEqual(numbers((await realtime.history(channel)).messages), [1]);
});

/** A back end behind an HTTP server that treats each request as `misbehave(number)` says, and counts connections. */
async function behind(t, misbehave, options) {
  const seen = { connections: 0, requests: [] };
  const relay = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    seen.requests.push({ method: request.method, url: request.url, body: Buffer.concat(chunks).toString() });
    const fault = misbehave(seen.requests.length);
    if (fault === "busy") return response.writeHead(503).end('{"code":"overloaded","detail":"Later."}');
    if (fault === "nonsense") return response.end("<html>");
    const headers = { authorization: request.headers.authorization, "content-type": "application/json" };
    const body = chunks.length ? seen.requests.at(-1).body : undefined;
    const answer = await fetch(server.url + request.url, { method: request.method, headers, body });
    const text = await answer.text();
    if (fault === "lost") return response.destroy();
    response.writeHead(answer.status, { "content-type": "application/json" }).end(text);
  });
  relay.on("connection", () => (seen.connections += 1));
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  t.after(() => (relay.close(), relay.closeAllConnections()));
  const url = `http://127.0.0.1:${relay.address().port}`;
  return { seen, backend: new Backend({ url, key: SERVER_KEY, backoffMs: 1, ...options }) };
}

test("a hundred requests in a row share their connections", async (t) => {
  const { seen, backend: kept } = await behind(t, () => "none");
  for (let count = 0; count < 100; count += 1) await kept.send("plain", "chat", count);
  assert.equal(seen.requests.length, 100);
  // The pool may open a second one before the first is free again.
  assert.ok(seen.connections <= 3, `there were ${seen.connections}`);
});

test("a send whose answer was lost is repeated, and published once", async (t) => {
  const { channel, realtime } = await filled(t, 0);
  const { seen, backend: lossy } = await behind(t, (number) => (number <= 2 ? "lost" : "none"));
  await lossy.send(channel, "chat", "once");
  assert.equal(seen.requests.length, 3);
  assert.equal(new Set(seen.requests.map(({ body }) => body)).size, 1, "with one and the same key");
  assert.deepEqual(numbers((await realtime.history(channel)).messages), ["once"]);
});

test("an edit, a deletion and a batch without keys whose answers were lost are not repeated", async (t) => {
  const { channel } = await filled(t, 0);
  const { messageId } = await backend.send(channel, "chat", 1);
  const { seen, backend: lossy } = await behind(t, () => "lost");
  await assert.rejects(lossy.edit(channel, messageId, 2), { code: "unreachable" });
  await assert.rejects(lossy.delete(channel, messageId), { code: "unreachable" });
  await assert.rejects(lossy.publish([{ channel, event: "chat" }]), { code: "unreachable" });
  assert.equal(seen.requests.length, 3);
});

test("an overloaded server is asked again, so many times", async (t) => {
  const twice = await behind(t, (number) => (number <= 2 ? "busy" : "none"));
  await twice.backend.publish([{ event: "chat" }]);
  assert.equal(twice.seen.requests.length, 3);
  const always = await behind(t, () => "busy", { retries: 1 });
  await assert.rejects(always.backend.broadcast("chat", 1), { code: "overloaded" });
  assert.equal(always.seen.requests.length, 2);
});

test("an answer that is not JSON is an error, not an exception of another kind", async (t) => {
  const { backend: odd } = await behind(t, () => "nonsense");
  await assert.rejects(odd.history("room"), { name: "FanfareError", code: "unreachable" });
});

test("a server that is not there, and one that takes too long, are unreachable", async (t) => {
  await assert.rejects(new Backend({ url: "http://127.0.0.1:1", key: "x", retries: 0 }).getMembers("room"), { code: "unreachable" });
  const hanging = createServer(() => {}).listen(0, "127.0.0.1");
  await once(hanging, "listening");
  t.after(() => (hanging.close(), hanging.closeAllConnections()));
  const url = `http://127.0.0.1:${hanging.address().port}`;
  const late = new Backend({ url, key: "x", retries: 0, timeoutMs: 50 });
  await assert.rejects(late.getMembers("room"), { code: "unreachable" });
});

test("a client key is not enough for a back end", async () => {
  const wrong = new Backend({ url: server.url, key: "client-key-0123456789" });
  await assert.rejects(wrong.getMembers("room"), { code: "server_key_required" });
});

test("channels, a user's sessions and a channel's options", async (t) => {
  const channel = channelOf("listed");
  const luke = await connect(t, server.url, { session: token("luke / skywalker") });
  await luke.join(channel);
  await luke.update({ name: "Luke" });
  assert.deepEqual(await backend.channels({ prefix: channel }), { channels: [{ channel, members: 1 }], next: null });
  const { sessions } = await backend.user("luke / skywalker");
  assert.deepEqual(sessions, [{ id: luke.getSocketId(), data: { name: "Luke" }, channels: [channel] }]);
  assert.equal((await backend.options(channel)).historyMessages, 0);
  assert.equal((await backend.setOptions(channel, { historyMessages: 5 })).historyMessages, 5);
  await luke.send(channel, "chat", 1);
  assert.equal((await luke.history(channel)).messages.length, 1);
});

test("triggers are made, listed, switched off and on, replaced and deleted", async (t) => {
  const channel = channelOf("moderated");
  const realtime = await connect(t, server.url);
  await realtime.join(channel);
  const seen = record(realtime, "chat");
  const source = "export const message = (input) => input.payload.toUpperCase();";
  const made = await backend.setTrigger("loud", { channel, source, stateBytes: 100, onError: "pass" });
  assert.deepEqual([made.name, made.channel, made.source, made.stateBytes, made.onError, made.configured], ["loud", channel, source, 100, "pass", false]);
  const [listed] = await backend.triggers();
  assert.deepEqual([listed.name, listed.source, listed.stateBytes], ["loud", undefined, 100]);
  await realtime.send(channel, "chat", "one");
  assert.equal((await backend.changeTrigger("loud", { active: false })).active, false);
  await realtime.send(channel, "chat", "two");
  assert.equal((await backend.changeTrigger("loud", { active: null })).active, true);
  await backend.setTrigger("loud", { channel, source: "export const message = () => refuse('Quiet, please.');" });
  assert.equal((await backend.trigger("loud")).stateBytes, undefined, "replaced");
  await assert.rejects(realtime.send(channel, "chat", "three"), { code: "refused", message: "Quiet, please." });
  await backend.deleteTrigger("loud");
  await realtime.send(channel, "chat", "four");
  await seen.count(3);
  assert.deepEqual(seen.map(({ message }) => message), ["ONE", "two", "four"]);
  await assert.rejects(backend.trigger("loud"), { code: "unknown_trigger" });
  await assert.rejects(backend.setTrigger("loud", { channel, source: "export const" }), { code: "invalid_trigger" });
});
