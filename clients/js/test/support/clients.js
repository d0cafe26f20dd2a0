// Connections for tests, each closed at its end, and waiting for what they receive.

import WebSocket from "ws";
import { Realtime } from "fanfare";
import { CLIENT_KEY } from "./server.js";

export const DEADLINE_MS = 10_000;

/** A connection that is not open yet. `t` is the test. */
export function make(t, url, options = {}) {
  const realtime = new Realtime({ url, key: CLIENT_KEY, WebSocket, backoffMs: 20, backoffMaxMs: 100, ...options });
  t.after(() => realtime.close());
  return realtime;
}

/** A connection that is open. */
export async function connect(t, url, options) {
  const realtime = make(t, url, options);
  await within(realtime.open(), "open");
  return realtime;
}

/** Everything that a connection received, in order, and waiting for a number of them. */
export function record(realtime, event) {
  const seen = [];
  let wake = () => {};
  const push = (value) => {
    seen.push(value);
    wake();
  };
  if (event === undefined) realtime.onAny(push);
  else realtime.on(event, push);
  return Object.assign(seen, {
    async count(number) {
      await within(
        (async () => {
          while (seen.length < number) await new Promise((resolve) => (wake = resolve));
        })(),
        () => `${number} messages (${seen.length} came)`,
      );
      return seen;
    },
  });
}

/** The next event of the connection itself. */
export function happens(realtime, event, accept = () => true) {
  return within(
    new Promise((resolve) => {
      const stop = realtime.connection.on(event, (payload) => {
        if (!accept(payload)) return;
        stop();
        resolve(payload);
      });
    }),
    event,
  );
}

/** Waits until a condition holds that changes with a list's subscription. */
export function until(live, condition) {
  return within(
    new Promise((resolve) => {
      if (condition(live.current)) return resolve();
      const stop = live.subscribe((value) => {
        if (!condition(value)) return;
        stop();
        resolve();
      });
    }),
    () => `a list as wanted; it is ${JSON.stringify(live.current)}`,
  );
}

export function within(promise, what, ms = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    const message = () => `did not happen in time: ${typeof what === "function" ? what() : what}`;
    timer = setTimeout(() => reject(new Error(message())), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Everything that one connection was sent before this has arrived at the other, which is in the channel. */
let marks = 0;
export async function settled(from, to, channel) {
  const mark = `mark-${(marks += 1)}`;
  const arrived = within(new Promise((resolve) => to.once(mark, resolve)), mark);
  await from.send(channel, mark, null);
  await arrived;
}
