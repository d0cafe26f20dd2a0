// Blocks in JSON. Frames that a page sends are sent, and what it shows as an answer is what comes.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { CLIENT_KEY, SECRET, SERVER_KEY, connect, startServer } from "./running.mjs";

/** The values of a block, one after another, each on a line or on several. */
export function values(text) {
  const found = [];
  let part = "";
  for (const line of text.trimEnd().split("\n")) {
    part += line;
    try {
      found.push(JSON.parse(part));
      part = "";
    } catch {
      // The value goes on in the next line.
    }
  }
  assert.equal(part.trim(), "", `it is no JSON: ${part}`);
  return found;
}

/** Numbers with these names differ from run to run. */
const VARYING = /^(offset|time|exp|more|limit|reserved|used|connections|connection_bytes|connection_kernel_bytes)$/;
const ID = /^[\w-]{16,}$/;

/** `actual` with what differs from run to run as it is shown: ids, and numbers of VARYING. */
function masked(shown, actual, name = "") {
  if (typeof shown === "string" && typeof actual === "string") {
    return shown === "…" || (ID.test(shown) && ID.test(actual)) ? shown : actual;
  }
  if (typeof shown === "number" && typeof actual === "number") return VARYING.test(name) ? shown : actual;
  if (Array.isArray(shown) && Array.isArray(actual)) return actual.map((value, at) => masked(shown[at], value));
  if (isObject(shown) && isObject(actual)) {
    return Object.fromEntries(Object.entries(actual).map(([key, value]) => [key, masked(shown[key], value, key)]));
  }
  return actual;
}
const isObject = (value) => typeof value === "object" && value !== null;

export function same(shown, actual) {
  assert.deepEqual(masked(shown, actual), shown);
}

function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

const ask = async (url, options) => (await fetch(url, options)).json();

async function publish(server, what, body) {
  const headers = { authorization: `Bearer ${SERVER_KEY}`, "content-type": "application/json" };
  const answer = await fetch(`${server.url}/v1/${what}`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.equal(answer.status, 200, await answer.text());
}

/** What a block of each role is checked with. `page` has the page's server and its session. */
export const roles = {
  /** Frames that the page's session sends. */
  sent: async (after, shown, page) => {
    const { session } = await page();
    for (const frame of shown) session.send(frame);
  },

  /** Frames that the page's session receives after what it has sent. Answers to commands stand between them. */
  received: async (after, shown, page) => {
    const { session } = await page();
    for (const frame of shown) {
      let actual = await session.next();
      while ("ok" in actual || actual.event?.startsWith("channel:")) actual = await session.next();
      same(frame, actual);
    }
  },

  /** The first frame of a session. */
  welcome: async (after, [shown], page) => {
    const { server } = await page();
    same(shown, (await connect(after, server)).welcome);
  },

  /** The first frame of a session that is resumed. */
  "welcome resumed": async (after, [shown]) => {
    const server = await startServer(after, { more: "[apps.default.limits]\nresume_ms = 60000\n" });
    const lost = await connect(after, server);
    lost.socket.terminate();
    same(shown, (await connect(after, server, `&resume=${lost.welcome.welcome.resume}`)).welcome);
  },

  /** Publications as members receive them: of a back end, or the server's own. */
  publications: async (after, shown, page) => {
    const { server } = await page();
    for (const frame of shown) {
      const channel = frame.channel ?? "room";
      const member = await connect(after, server);
      member.send({ type: "join", channel, echo: false, id: 1 });
      while (!("ok" in (await member.next())));
      const { event, message } = frame;
      if (event === "channel:join") {
        const session = token({ sub: message.user, profile: message.data });
        const other = await connect(after, server, `&session=${session}`);
        other.send({ type: "join", channel });
      } else {
        await publish(server, frame.channel ? "send" : "broadcast", { channel: frame.channel ?? undefined, event, message });
      }
      same(frame, await member.next());
      member.socket.terminate();
    }
  },

  /** The answer to a request with another app's key. */
  problem: async (after, [shown], page) => {
    const { server } = await page();
    const headers = { authorization: "Bearer another-key-0123456789" };
    same(shown, await ask(`${server.url}/v1/members?channel=room`, { headers }));
  },

  /** The answer of the admin listener's /capacity. */
  capacity: async (after, [shown], page) => {
    const { server } = await page();
    const actual = await ask(`http://${server.admin}/capacity`);
    // What bounds the connections first, and whether their memory was measured, depends on the machine.
    assert.ok(Object.keys(actual.bounds).includes(actual.reason));
    actual.reason = shown.reason;
    actual.bounds.memory.connection_bytes_measured = shown.bounds.memory.connection_bytes_measured;
    actual.bounds.memory.source = shown.bounds.memory.source;
    same(shown, actual);
  },

  /** What a trigger is told, which replaces the payload by it. */
  input: async (after, [shown]) => {
    const trigger = '[[apps.default.triggers]]\nname = "tell"\nchannel = "*"\nsource = "export const message = (input) => ({ told: { ...input, payload: input.payload } })"\n';
    const server = await startServer(after, { more: trigger });
    const { claims, profile } = shown.client;
    const session = await connect(after, server, `&session=${token({ ...claims, exp: claims.exp + 1e9, profile })}`);
    session.send({ type: "join", channel: shown.channel, echo: false, id: 1 });
    while (!("ok" in (await session.next())));
    session.send({ type: "send", channel: shown.channel, event: shown.event, message: shown.payload });
    let frame = await session.next();
    while (frame.event !== shown.event) frame = await session.next();
    const message = frame.message.told;
    // The app of the test has another name, and its client a profile from its token.
    delete message.client.claims.profile;
    message.app = shown.app;
    same(shown, message);
  },
};

export { CLIENT_KEY };
