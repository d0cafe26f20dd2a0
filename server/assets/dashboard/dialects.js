// The protocols that the console speaks. Each has examples of frames, by the names of their buttons; `answer` is the
// frame that a client of the protocol sends by itself after a frame of the server.

import { askApp } from "./api.js";

const text = JSON.stringify;
const event = (name, payload) => `42${text([name, payload])}`;
const action = (name, payload = null) => text({ action: name, options: { channel: "room" }, payload });

/** A call of a back end: its name and its body. */
const CALL = /^\s*(\w+)\s+([^]*)$/;

export const DIALECTS = {
  native: {
    label: "Fanfare",
    note: "A session like any other: members see it join, and receive what it sends.",
    examples: () => ({
      Join: text({ id: 1, type: "join", channel: "room" }),
      Send: text({ id: 2, type: "send", channel: "room", event: "chat", message: { text: "hello" } }),
      Members: text({ id: 3, type: "members", channel: "room" }),
      History: text({ id: 4, type: "history", channel: "room" }),
      Leave: text({ id: 5, type: "leave", channel: "room" }),
    }),
  },
  agnost: {
    label: "Agnost",
    note: "A client of Agnost, over Socket.IO. The server connects it to the app's environment with the app's client key.",
    examples: () => ({
      Join: event("join", { channel: "room" }),
      Send: event("message", { channel: "room", eventName: "chat", message: { text: "hello" } }),
      Broadcast: event("message", { eventName: "chat", message: { text: "hello" } }),
      Update: event("update", { data: { name: "Console" } }),
      Leave: event("leave", { channel: "room" }),
    }),
    answer: (frame) => (frame === "2" ? "3" : null),
  },
  channelstream: {
    label: "Channelstream",
    note: "A client of Channelstream only receives. What is typed is a call of the app's back end: its name and its JSON.",
    examples: (id) => ({
      Join: `subscribe ${text({ conn_id: id, channels: ["room"] })}`,
      Send: `message ${text([{ type: "message", user: "console", channel: "room", message: { text: "hello" } }])}`,
      Leave: `unsubscribe ${text({ conn_id: id, channels: ["room"] })}`,
    }),
    /** Makes the connection, which the WebSocket then takes. */
    begin: (app, id) => call(app, "connect", text({ username: "console", conn_id: id, channels: [], state_public_keys: [] })),
    /** Makes the call that was typed. Resolves with the answer. */
    send: async (app, typed) => {
      const [, name, body] = CALL.exec(typed) ?? [];
      if (!name) throw new Error("A call is a name and JSON, such as: subscribe {\u2026}");
      return text(await call(app, name, body));
    },
  },
  xano: {
    label: "Xano",
    note: "A client of Xano. The app's settings say which channels it may join, and whether it may send.",
    // A token is the subprotocol.
    offersToken: true,
    examples: () => ({
      Join: action("join", { history: true, presence: true }),
      Send: action("message", { text: "hello" }),
      History: action("history"),
      Leave: action("leave"),
    }),
  },
};

const call = (app, name, body) => askApp(app, `channelstream/${encodeURIComponent(name)}`, {}, { method: "POST", body });
