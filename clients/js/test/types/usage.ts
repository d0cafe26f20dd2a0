// What the types allow, and what they do not: compiled by types.test.js, and never run.

import WebSocket from "ws";
import { FanfareError, Realtime, eachMessage, feed, presence } from "fanfare";
import type { Member, Publication, Remembered } from "fanfare";
import { Backend } from "fanfare/server";
import { useChannel, useHistory, usePresence } from "fanfare/react";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(..._: Equal<A, B> extends true ? [] : ["the types differ"]): void {}

interface Chat {
  text: string;
}
interface Events {
  "chat-message": Chat;
  typing: boolean;
  picture: Uint8Array;
}

const realtime = new Realtime<Events>({ url: "https://example.com", key: "key", WebSocket, session: async () => null });
const open: Realtime = new Realtime({ url: "https://example.com", key: "key", session: "token" });
const browser = new Realtime({ url: "https://example.com", key: "key", WebSocket: globalThis.WebSocket });

// Typed events
realtime.on("chat-message", (payload) => {
  same<typeof payload.message, Chat>();
  same<typeof payload.event, "chat-message">();
  same<typeof payload.channel, string | null>();
});
realtime.once("channel:join", ({ message }) => same<typeof message, Member>());
realtime.on("message:delete", ({ message }) => same<typeof message, null>());
realtime.onAny((payload) => {
  if (payload.event === "typing") same<typeof payload.message, boolean>();
  if (payload.event === "channel:leave") same<typeof payload.message, Member>();
});
open.on("anything", ({ message }) => message.of.any.kind);
open.on("channel:update", ({ message }) => same<typeof message, Member>());
// @ts-expect-error no such event
realtime.on("chat-mesage", () => {});
// @ts-expect-error a listener of another message
realtime.on("typing", (payload: Publication<string>) => payload);

// Sending
realtime.send("room", "chat-message", { text: "hi" });
realtime.send("room", "typing", true, { echo: false, toUsers: ["luke"], noHistory: true });
realtime.broadcast("picture", new Uint8Array(1), true);
// @ts-expect-error a message of another type
realtime.send("room", "chat-message", { txt: "hi" });
// @ts-expect-error the message is missing
realtime.send("room", "typing");
// @ts-expect-error events of the server cannot be sent
realtime.send("room", "channel:join", { id: "x" });
// @ts-expect-error broadcasts are not remembered anyway
realtime.broadcast("typing", true, { noHistory: true });
// @ts-expect-error an echo is a boolean
realtime.send("room", "typing", true, "yes");

// Answers
async function answers() {
  const joined = await realtime.join("room", { since: { epoch: "e", offset: 1 } });
  same<typeof joined.offset, number>();
  const { messageId, offset } = await realtime.send("room", "typing", true);
  same<typeof messageId, string>();
  same<typeof offset, number | null>();
  const byUser = await realtime.members("room", { by: "user" });
  same<typeof byUser.users, { readonly user: string; readonly sessions: number }[]>();
  // @ts-expect-error by session there are no users
  (await realtime.members("room")).users;
  const members = await realtime.getMembers("room");
  same<typeof members, Member<any>[]>();
  for await (const message of eachMessage(realtime, "room")) same<typeof message, Remembered<any>>();
  // @ts-expect-error offsets are numbers
  realtime.history("room", { after: "1" });
}

// The connection
const stop: () => void = realtime.connection.on("gap", ({ channel, missed, cause }) => {
  same<typeof channel, string | null>();
  same<typeof missed, number | null>();
  same<typeof cause, "reconnect" | "slow">();
});
realtime.connection.on("stale token", ({ expired }) => same<typeof expired, boolean>());
realtime.connection.on("error", (error) => {
  same<typeof error, FanfareError>();
  if (error.code === "rate_limited" || error.code === "a code of a newer server") stop();
});
// @ts-expect-error no such event of the connection
realtime.connection.on("chat-message", () => {});
// @ts-expect-error all listeners of the connection cannot be removed: some are the package's
realtime.connection.off();
// @ts-expect-error the key is missing
new Realtime({ url: "https://example.com" });
// @ts-expect-error states are read
realtime.state = "open";

// Lists and hooks
presence<{ name: string }>(realtime, "room").subscribe((members) => members[0]?.data?.name.length);
feed<Chat>(realtime, "room", { page: 10 }).current.map(({ message }) => message.text);
useChannel(realtime, "room", ({ event }) => event.length);
same<ReturnType<typeof usePresence<Chat>>, readonly Member<Chat>[]>();
useHistory<Chat>(realtime, "room").messages.map(({ message }) => message.text);

// The back end
const backend = new Backend({ url: "https://example.com", key: "key", fetch });
backend.send("room", "event", Buffer.from("x"), { idempotencyKey: "k", toSession: "s" });
backend.publish([{ event: "e" }, { channel: "c", event: "e", message: 1 }]).then((results) => {
  for (const result of results) if ("error" in result) same<typeof result.error, FanfareError>();
});
backend.disconnect({ user: "luke" }, "may reconnect");
backend.setOptions("room", { slowConsumer: "drop" });
// @ts-expect-error one of the two
backend.disconnect({});
// @ts-expect-error a word that is none
backend.setOptions("room", { slowConsumer: "wait" });

export { answers, browser };
