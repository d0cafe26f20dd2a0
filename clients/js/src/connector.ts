// Keeps one link to the server: makes it, watches it, makes another when it breaks.
//
//   idle ──open──▶ connecting ──welcome──▶ open
//                   ▲      │                │
//                   │      └────drop────┐   │ drop
//                   └────── waiting ◀───┴───┘        close(), or a final refusal, from anywhere ──▶ closed

import { Backoff } from "./backoff.js";
import { diagnose } from "./diagnosis.js";
import { FanfareError, asFanfareError } from "./errors.js";
import { Link } from "./link.js";
import type { LinkEnd } from "./link.js";
import { Timers, within } from "./timers.js";
import type { Token } from "./token.js";
import type { ConnectionEvents, RealtimeOptions, State, WebSocketConstructor } from "./types.js";
import { watchWake } from "./wake.js";

/** Close codes after which the server does not want this client back (docs/PROTOCOL.md, section 7). */
const FINAL_CODES = [1002, 1007, 1009, 4002, 4005, 4006, 4007];
/** A connection that lasted so long starts the back-off anew. */
const LASTING_MS = 10_000;
/** How long a connection that looks dead has to show life. */
const PROBE_MS = 5_000;

export interface Welcome {
  readonly socketId: string;
  readonly user: string | null;
  /** The session is the one of the link before. */
  readonly resumed: boolean;
  /** There was a session before. */
  readonly returning: boolean;
  /** Commands that one frame may hold. */
  readonly batch: number;
}

export interface ConnectorHooks {
  emit<Name extends keyof ConnectionEvents>(event: Name, payload: ConnectionEvents[Name]): void;
  onOpen(link: Link, welcome: Welcome): void;
  onFrame(frame: Record<string, any>): void;
  /** The link is gone. With a ticket, the session may go on. */
  onEnd(hasTicket: boolean): void;
  /** There will be no other link. */
  onClosed(error: FanfareError): void;
  ping(link: Link): void;
}

interface Opening {
  readonly promise: Promise<string>;
  readonly resolve: (socketId: string) => void;
  readonly reject: (error: FanfareError) => void;
}

export class Connector {
  readonly #options: RealtimeOptions;
  readonly #url: string;
  readonly #timeoutMs: number;
  readonly #token: Token;
  readonly #hooks: ConnectorHooks;
  readonly #backoff: Backoff;
  readonly #timers = new Timers();
  #opening: Opening | undefined;
  #unwatch: (() => void) | undefined;
  /** Counts the attempts to connect: what an earlier one still awaits is of no use to a later one. */
  #attempt = 0;
  #openedAt = 0;
  #diagnosing = false;
  #ticket: string | undefined;
  /** Frames of the present session, over all of its links; welcomes are not counted. */
  #received = 0;
  /** The link before this one, which may look open still. */
  #former: Link | undefined;
  state: State = "idle";
  link: Link | undefined;
  /** The id of the present session, or of the last one. */
  socketId: string | null = null;

  constructor(options: RealtimeOptions, timeoutMs: number, token: Token, hooks: ConnectorHooks) {
    this.#options = options;
    this.#url = socketUrl(options.url);
    this.#timeoutMs = timeoutMs;
    this.#token = token;
    this.#hooks = hooks;
    this.#backoff = new Backoff(options.backoffMs ?? 1000, options.backoffMaxMs ?? 30_000);
  }

  open(): Promise<string> {
    if (!this.#opening) {
      this.#opening = newOpening();
      if (this.state === "idle" || this.state === "closed") {
        this.#unwatch = watchWake(() => this.hurry());
        void this.#connect();
      }
    }
    return this.#opening.promise;
  }

  /** Ends everything, until the next `open`. */
  close(error: FanfareError): void {
    this.#attempt += 1;
    this.state = "closed";
    this.#timers.clearAll();
    this.#unwatch?.();
    this.link?.drop();
    this.#former?.drop();
    this.link = this.#ticket = undefined;
    this.socketId = null;
    this.#backoff.reset();
    const opening = this.#opening;
    this.#opening = undefined;
    opening?.reject(error);
    this.#hooks.onClosed(error);
  }

  /** Something changed for the better: does not wait longer for the next attempt, nor trust an old connection. */
  hurry(): void {
    if (this.state === "waiting") void this.#connect();
    else if (this.state === "open") this.#probe(this.link!);
  }

  /** The server said when to come back after the close that follows. */
  comeBackAfter(ms: unknown): void {
    this.#backoff.request(ms);
  }

  async #connect(): Promise<void> {
    const attempt = ++this.#attempt;
    this.state = "connecting";
    this.#timers.clear("retry");
    try {
      await this.#obtainToken();
      if (attempt === this.#attempt) this.#start();
    } catch (error) {
      if (attempt === this.#attempt) this.#wait(asFanfareError(error, "unreachable"));
    }
  }

  async #obtainToken(): Promise<void> {
    const { current, expired, renewable } = this.#token;
    if (expired) this.#hooks.emit("stale token", { expired });
    if (renewable && (expired || current === null)) {
      await within(this.#timeoutMs, "session()", this.#token.renew());
    }
  }

  #start(): void {
    const WebSocket = this.#options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
    if (!WebSocket) {
      const hint = "No WebSocket here: pass one, as npm's ws.";
      return this.close(new FanfareError("no_websocket", hint));
    }
    const link: Link = new Link(WebSocket, this.#address(), {
      onFrame: (frame) => this.#onFrame(link, frame),
      onEnd: (end) => this.#onEnd(link, end),
    });
    this.link = link;
    this.#timers.set("welcome", this.#timeoutMs, () => link.fail("no welcome"));
  }

  #address(): string {
    const { key, app, echo } = this.#options;
    const address = new URL(this.#url);
    const resume = this.#ticket;
    const received = resume && this.#received;
    const parameters = { key, app, echo, session: this.#token.current, resume, received };
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== undefined && value !== null) address.searchParams.set(name, String(value));
    }
    return address.href;
  }

  #onFrame(link: Link, frame: Record<string, any> | undefined): void {
    if (this.state === "open") this.#received += 1;
    if (!frame) return this.#hooks.emit("error", malformed("No object in a frame."));
    if (this.state === "open") return this.#hooks.onFrame(frame);
    if (typeof frame.welcome?.session === "string") return this.#onWelcome(link, frame.welcome);
    this.#hooks.emit("error", malformed("No welcome."));
    link.fail("no welcome");
  }

  #onWelcome(link: Link, wire: Record<string, any>): void {
    const returning = this.socketId !== null;
    const resumed = wire.resumed === true && wire.session === this.socketId;
    if (!resumed) this.#received = 0;
    this.#former?.drop();
    this.socketId = wire.session as string;
    this.#ticket = typeof wire.resume === "string" ? wire.resume : undefined;
    this.state = "open";
    this.#openedAt = Date.now();
    link.limitBytes = positive(wire.limits?.frame_bytes) ?? Infinity;
    this.#timers.clear("welcome");
    this.#beat(link, positive(wire.ping_interval_ms) ?? 25_000);
    const welcome = {
      socketId: this.socketId,
      user: typeof wire.user === "string" ? wire.user : null,
      resumed,
      returning,
      batch: Math.floor(positive(wire.limits?.batch) ?? 256) || 1,
    };
    this.#opening ??= newOpening();
    this.#opening.resolve(this.socketId);
    this.#hooks.onOpen(link, welcome);
  }

  #onEnd(link: Link, { code, reason }: LinkEnd): void {
    const wasOpen = this.state === "open";
    const reconnect = !FINAL_CODES.includes(code);
    this.link = undefined;
    this.#former?.drop();
    this.#former = link;
    this.#timers.clearAll();
    if (!wasOpen) return void this.#onRefused();
    this.#opening = undefined;
    this.state = "waiting";
    if (Date.now() - this.#openedAt >= LASTING_MS) this.#backoff.reset();
    this.#hooks.onEnd(reconnect && this.#ticket !== undefined);
    this.#hooks.emit("close", { code, reason, reconnect });
    // A listener may have closed or opened by now.
    if (this.state !== "waiting") return;
    if (reconnect) this.#wait();
    else this.close(new FanfareError("closed", `Closed for good: ${code} ${reason}`));
  }

  /** The link ended before its welcome. What is found out while the next attempt is waited for may spare it. */
  async #onRefused(): Promise<void> {
    this.#wait(new FanfareError("unreachable", "The server was not reached, or refused."));
    if (this.#diagnosing) return;
    this.#diagnosing = true;
    const { app, key } = this.#options;
    const refused = this.#token.current;
    const verdict = await diagnose(this.#url, app, key);
    this.#diagnosing = false;
    if (this.state === "open" || this.state === "closed") return;
    // The token may be what is wrong; the next attempt asks for another.
    const same = refused === this.#token.current;
    if (verdict === "accepted" && this.#token.renewable && same) this.#token.current = null;
    if (!(verdict instanceof FanfareError)) return;
    this.#hooks.emit("error", verdict);
    this.close(verdict);
  }

  #wait(error?: FanfareError): void {
    this.state = "waiting";
    const delayMs = this.#backoff.next();
    this.#timers.set("retry", delayMs, () => void this.#connect());
    if (error) this.#hooks.emit("error", error);
    if (this.state === "waiting") this.#hooks.emit("reconnecting", { attempt: this.#backoff.attempts, delayMs });
  }

  /** Looks at the link from time to time. Browsers do not show the server's pings, so silence proves nothing yet. */
  #beat(link: Link, intervalMs: number): void {
    this.#timers.set("beat", intervalMs, () => {
      if (Date.now() - link.heardAt >= intervalMs) this.#probe(link);
      this.#beat(link, intervalMs);
    });
  }

  #probe(link: Link): void {
    // Asking again must not put off the end of a dead connection.
    if (this.#timers.has("probe")) return;
    const askedAt = Date.now();
    this.#timers.set("probe", Math.min(PROBE_MS, this.#timeoutMs), () => {
      if (link.heardAt < askedAt) link.fail("silence");
    });
    this.#hooks.ping(link);
  }
}

export function malformed(what: string): FanfareError {
  return new FanfareError("malformed_frame", what);
}

function newOpening(): Opening {
  let resolve!: Opening["resolve"];
  let reject!: Opening["reject"];
  const promise = new Promise<string>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  // A refusal is an `error` event as well; nobody has to wait for this promise.
  promise.catch(() => {});
  return { promise, resolve, reject };
}

/** `https://host` is `wss://host/v1/ws`. A path that is given is kept. Throws a TypeError. */
function socketUrl(url: string): string {
  const address = new URL(url);
  address.protocol = address.protocol.replace("http", "ws");
  if (!/^wss?:$/.test(address.protocol)) throw new TypeError(`The url has to be of http, https, ws or wss: ${url}`);
  if (address.pathname === "/") address.pathname = "/v1/ws";
  address.hash = "";
  return address.href;
}

function positive(value: unknown): number | undefined {
  return typeof value === "number" && value > 0 ? value : undefined;
}
