// What an application works with: commands that are promises, listeners, and what survives a drop of the connection.

import { Connector, malformed } from "./connector.js";
import type { Welcome } from "./connector.js";
import { FanfareError, asFanfareError } from "./errors.js";
import type { Link } from "./link.js";
import { Listeners } from "./listeners.js";
import type { Listener } from "./listeners.js";
import { Memberships } from "./memberships.js";
import type { Outcome, Rejoin } from "./memberships.js";
import { Outbox } from "./outbox.js";
import type { Extras, Repeat } from "./outbox.js";
import { parse, stringify } from "./payload.js";
import { Timers, within } from "./timers.js";
import { Token } from "./token.js";
import { camel, historyPage, snake } from "./wire.js";
import type {
  AnyEvents, Audience, BroadcastOptions, Broadcasted, ConnectionEvents, EventName, HistoryOptions, HistoryPage,
  JoinOptions, Joined, Left, Member, MemberPage, MessageOf, PageOptions, Position, Publication, RealtimeOptions,
  SendOptions, Sent, State, UserPage,
} from "./types.js";

/** Pause before joining again what the server refused to join again. */
const REJOIN_MS = 1_000;

/** Listeners of the connection's own events, apart from those of messages, whose names are the application's. */
export interface Connection {
  /** Returns what removes the listener. */
  on<Name extends keyof ConnectionEvents>(event: Name, listener: Listener<ConnectionEvents[Name]>): () => void;
  once<Name extends keyof ConnectionEvents>(event: Name, listener: Listener<ConnectionEvents[Name]>): () => void;
  off<Name extends keyof ConnectionEvents>(event: Name, listener: Listener<ConnectionEvents[Name]>): void;
}

/** Publications of every event, told apart by `event`. */
export type AnyPublication<Events> = {
  [Name in EventName<Events>]: Publication<MessageOf<Events, Name>, Name>;
}[EventName<Events>];

export class Realtime<Events extends object = AnyEvents> {
  readonly #timeoutMs: number;
  readonly #token: Token;
  readonly #connector: Connector;
  readonly #outbox: Outbox;
  readonly #listeners = new Listeners();
  /** The catch-all listeners, all under one name. */
  readonly #catchAll = new Listeners();
  readonly #own = new Listeners();
  readonly #memberships = new Memberships();
  readonly #timers = new Timers();
  /** Reasons for which commands are held back although the connection is open. */
  readonly #holds = new Set<"resuming" | "renewing">();
  #profile: { readonly value: unknown } | undefined;

  /** The connection's own events: `open`, `close`, `reconnecting`, `recovered`, `gap`, `stale token`, `error`. */
  readonly connection: Connection;

  /** Connects with `open()` or the first command, not before. Throws a TypeError if `url` is none. */
  constructor(options: RealtimeOptions) {
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#token = new Token(options.session);
    this.#outbox = new Outbox({
      commands: options.queueCommands ?? 1000,
      bytes: options.queueBytes ?? 4 << 20,
      queueTimeoutMs: options.queueTimeoutMs ?? 60_000,
      timeoutMs: this.#timeoutMs,
    });
    this.#connector = new Connector(options, this.#timeoutMs, this.#token, {
      emit: (event, payload) => this.#own.emit(event, payload),
      onOpen: (link, welcome) => this.#onOpen(link, welcome),
      onFrame: (frame) => this.#onFrame(frame),
      onEnd: (hasTicket) => this.#onEnd(hasTicket),
      onClosed: (error) => this.#onClosed(error),
      ping: (link) => void this.#request(link, { type: "ping" }).catch(() => {}),
    });
    this.connection = {
      on: (event, listener) => this.#own.add(event, listener),
      once: (event, listener) => this.#own.add(event, listener, "once"),
      off: (event, listener) => this.#own.remove(event, listener),
    };
  }

  get state(): State {
    return this.#connector.state;
  }

  /**
   * Connects, and stays connected until `close()`. Resolves with the socket id when the connection is there; rejects
   * only when trying again is of no use: a key that is wrong, an app that does not exist.
   */
  open(): Promise<string> {
    return this.#connector.open();
  }

  /** Ends the connection and fails what is unanswered with `closed`. The channels and the profile are given up. */
  close(): void {
    this.#connector.close(new FanfareError("closed", "The connection is closed."));
  }

  /** The id of this connection's session, as others see it in members and notices; `null` without a connection. */
  getSocketId(): string | null {
    return this.state === "open" ? this.#connector.socketId : null;
  }

  /** Becomes a member of a channel, and stays one over reconnects. `true` and `false` are `{ echo }`. */
  join(channel: string, options?: boolean | JoinOptions): Promise<Joined> {
    const { echo, since } = expand(options);
    const effect = (answer: Joined) => this.#onJoined(answer, echo, since);
    return this.#call({ type: "join", channel, echo, since }, "harmless", { effect });
  }

  /** Stops being a member of a channel. */
  leave(channel: string, echo?: boolean): Promise<Left> {
    // At once, so that a drop does not join it again; and with the answer, for a join that is on its way before this.
    const effect = () => this.#memberships.left(channel);
    effect();
    return this.#call({ type: "leave", channel, echo }, "harmless", { effect });
  }

  /** Sends a message to the members of a channel. `true` and `false` are `{ echo }`. */
  send<Name extends keyof Events & string>(
    channel: string,
    event: Name,
    message: Events[Name],
    options?: boolean | SendOptions,
  ): Promise<Sent> {
    const command = { ...snake(expand(options)), type: "send", channel, event };
    return this.#call(command, "never", { message: { payload: message } });
  }

  /** Sends a message to every connection of the app, whatever it has joined. `true` and `false` are `{ echo }`. */
  broadcast<Name extends keyof Events & string>(
    event: Name,
    message: Events[Name],
    options?: boolean | BroadcastOptions,
  ): Promise<Broadcasted> {
    const command = { ...snake(expand(options)), type: "broadcast", event };
    return this.#call(command, "never", { message: { payload: message } });
  }

  /** Gives a message that the channel remembers another payload. */
  edit(channel: string, messageId: string, message: unknown, audience: Audience = {}): Promise<Sent> {
    return this.#call({ ...snake(audience), type: "edit", channel, message_id: messageId, message }, "never");
  }

  /** Lets the channel forget a message. */
  delete(channel: string, messageId: string, audience: Audience = {}): Promise<Sent> {
    return this.#call({ ...snake(audience), type: "delete", channel, message_id: messageId }, "never");
  }

  /** Sets this session's profile, which members of its channels see; it is kept over reconnects. */
  async update(profile: unknown, echo?: boolean): Promise<void> {
    // A copy: what the application changes later it has not set.
    const command = { type: "update", profile: copyOf(profile), echo };
    await this.#call(command, "harmless", { effect: () => (this.#profile = { value: command.profile }) });
  }

  /** All members of a channel. For very large channels, see `members`. */
  async getMembers(channel: string): Promise<Member[]> {
    const members = new Map<string, Member>();
    for (let after: string | undefined; ; ) {
      const page: MemberPage = await this.members(channel, { limit: 1000, after });
      for (const member of page.members) members.set(member.id, member);
      if (page.next === null) return [...members.values()];
      after = page.next;
    }
  }

  /** A page of a channel's members, or of its users. */
  members(channel: string, options: PageOptions & { readonly by: "user" }): Promise<UserPage>;
  members(channel: string, options?: PageOptions): Promise<MemberPage>;
  members(channel: string, options: PageOptions = {}): Promise<any> {
    return this.#call({ ...options, type: "members", channel }, "harmless");
  }

  /** A page of what a channel remembers. */
  async history(channel: string, options: HistoryOptions = {}): Promise<HistoryPage> {
    return historyPage(await this.#call({ ...options, type: "history", channel }, "harmless"));
  }

  /** How far into a joined channel's stream this connection has come. A later `join` can go on from there. */
  position(channel: string): Position | undefined {
    return this.#memberships.position(channel);
  }

  /** Puts a fresh session token in the place of the present one. */
  setSession(token: string): Promise<{ user: string; expiresAt: number | null }> {
    this.#token.current = token;
    if (this.state === "waiting") this.#connector.hurry();
    return this.#call({ type: "session", token }, "harmless", { effect: () => this.#watchToken() });
  }

  /** The server's clock, in Unix milliseconds. */
  async ping(): Promise<number> {
    return (await this.#call({ type: "ping" }, "harmless")).timeMs;
  }

  /** Registers a listener for an event. Returns what removes it. */
  on<Name extends EventName<Events>>(
    event: Name,
    listener: Listener<Publication<MessageOf<Events, Name>, Name>>,
  ): () => void {
    return this.#listeners.add(event, listener);
  }

  /** Registers a listener for the next time an event occurs: it is removed, then called. */
  once<Name extends EventName<Events>>(
    event: Name,
    listener: Listener<Publication<MessageOf<Events, Name>, Name>>,
  ): () => void {
    return this.#listeners.add(event, listener, "once");
  }

  /** Registers a listener for every message. */
  onAny(listener: Listener<AnyPublication<Events>>): () => void {
    return this.#catchAll.add("", listener as Listener<any>);
  }

  /** Removes a listener of an event, all listeners of an event, or all of all events; not those of `onAny`. */
  off<Name extends EventName<Events>>(event?: Name, listener?: Listener<any>): void {
    this.#listeners.remove(event, listener);
  }

  /** Removes a catch-all listener, or all of them. */
  offAny(listener?: Listener<any>): void {
    this.#catchAll.remove("", listener);
  }

  /** The listeners of an event, or of all events; not those of `onAny`. */
  getListeners<Name extends EventName<Events>>(event?: Name): Listener<any>[] {
    return this.#listeners.of(event);
  }

  // Commands

  /** Sends a command. A failure is an `error` event as well, so that no call has to be awaited for its sake. */
  #call(command: object, repeat: Repeat, extras?: Extras): Promise<any> {
    if (this.state === "idle") this.open();
    const answer =
      this.state === "closed"
        ? Promise.reject(new FanfareError("closed", "The connection is closed."))
        : this.#outbox.submit(command, repeat, extras).then(camel);
    answer.catch((error) => this.#fail(error));
    return answer;
  }

  /** Sends a command past the queue. */
  #request(link: Link, command: object): Promise<any> {
    return this.#outbox.request(link, [command])[0]!;
  }

  #fail(error: FanfareError): void {
    if (error.code !== "closed") this.#own.emit("error", error);
  }

  #onJoined(answer: Joined, echo: boolean | undefined, since: Position | undefined): void {
    const outcome = this.#memberships.joined(answer, echo, since);
    this.#own.emit("joined", answer);
    this.#report(outcome);
  }

  #report(outcome: Outcome | undefined): void {
    if (!outcome) return;
    if ("gap" in outcome) this.#own.emit("gap", outcome.gap);
    else this.#own.emit("recovered", outcome.recovered);
  }

  // The connection comes and goes

  #onOpen(link: Link, { socketId, user, resumed, returning, batch }: Welcome): void {
    this.#watchToken();
    if (resumed) this.#settleResumed(link);
    else this.#restore(link, batch);
    this.#release(link);
    this.#own.emit("open", { socketId, user, resumed });
    // Broadcasts are remembered for nobody.
    if (returning && !resumed) this.#own.emit("gap", { channel: null, missed: null, cause: "reconnect" });
  }

  #onEnd(hasTicket: boolean): void {
    this.#timers.clearAll();
    this.#holds.clear();
    this.#outbox.detach();
    if (!hasTicket) this.#outbox.giveUp();
  }

  #onClosed(error: FanfareError): void {
    this.#timers.clearAll();
    this.#holds.clear();
    this.#outbox.detach();
    this.#outbox.clear(error);
    this.#memberships.clear();
    this.#profile = undefined;
  }

  /** Lets commands go out, unless there is a reason to hold them back. */
  #release(link: Link): void {
    if (link === this.#connector.link && this.#holds.size === 0) this.#outbox.attach(link);
  }

  /**
   * The session is the same, and the server sends again what was not received. Answers come in order: a command that is
   * not answered before a ping is did not reach the server.
   */
  #settleResumed(link: Link): void {
    const { barrier } = this.#outbox;
    if (!barrier) return;
    this.#holds.add("resuming");
    const settle = () => {
      if (link !== this.#connector.link) return;
      this.#outbox.giveUp(barrier);
      this.#holds.delete("resuming");
      this.#release(link);
    };
    this.#request(link, { type: "ping" }).then(settle, () => link.fail("silence"));
  }

  /** The session is a new one: it gets the profile and the channels of the one before. */
  #restore(link: Link, batch: number): void {
    this.#outbox.giveUp();
    if (this.#profile) {
      const update = { type: "update", profile: this.#profile.value };
      this.#request(link, update).catch((error) => this.#fail(error));
    }
    const rejoins = this.#memberships.rejoins();
    for (let at = 0; at < rejoins.length; at += batch) this.#rejoin(link, rejoins.slice(at, at + batch));
  }

  #rejoin(link: Link, rejoins: readonly Rejoin[]): void {
    const commands = rejoins.map((rejoin) => ({ type: "join", ...rejoin }));
    const effects = rejoins.map(
      ({ echo, since }) =>
        (answer: Joined) => this.#onJoined(answer, echo, since),
    );
    this.#outbox.request(link, commands, effects).forEach((answer, at) => {
      answer.catch((error) => this.#onRejoinFailed(rejoins[at]!.channel, error));
    });
  }

  /** The application believes to be a member, so this is tried until it is one, leaves, or the connection ends. */
  #onRejoinFailed(channel: string, error: FanfareError): void {
    const { link } = this.#connector;
    if (!link) return;
    this.#fail(error);
    this.#timers.set(`join ${channel}`, REJOIN_MS, () => {
      const rejoin = this.#memberships.rejoins().find((other) => other.channel === channel);
      if (rejoin) this.#rejoin(link, [rejoin]);
    });
  }

  // The session token

  #watchToken(): void {
    const ms = this.#token.renewInMs;
    if (ms === undefined) this.#timers.clear("token");
    else this.#timers.set("token", ms, () => void this.#renewToken(this.#token.expired));
  }

  async #renewToken(expired: boolean): Promise<void> {
    const { link } = this.#connector;
    if (!link || this.#holds.has("renewing")) return;
    this.#own.emit("stale token", { expired });
    if (!this.#token.renewable) return;
    this.#holds.add("renewing");
    // A token that still holds needs no pause.
    if (expired) this.#outbox.detach();
    try {
      const token = await within(this.#timeoutMs, "session()", this.#token.renew());
      if (link === this.#connector.link && token !== null) await this.#request(link, { type: "session", token });
    } catch (error) {
      this.#fail(asFanfareError(error, "invalid_session"));
    }
    if (link !== this.#connector.link) return;
    this.#holds.delete("renewing");
    this.#watchToken();
    this.#release(link);
  }

  // Frames

  #onFrame(frame: Record<string, any>): void {
    if ("event" in frame) this.#onPublication(frame);
    else if ("ok" in frame || "error" in frame) this.#onAnswer(frame);
    else if ("gap" in frame) this.#onGap(frame.gap);
    else if ("reconnect_after_ms" in frame) this.#connector.comeBackAfter(frame.reconnect_after_ms);
    // Frames of other kinds are a newer server's.
  }

  #onPublication(frame: Record<string, any>): void {
    const { event, channel = null } = frame;
    if (typeof event !== "string" || (channel !== null && typeof channel !== "string")) {
      return this.#fail(malformed("No event or channel."));
    }
    const publication: Publication = { message: null, ...camel(frame), channel };
    const outcome = this.#memberships.received(channel, frame.offset);
    this.#own.emit("publication", publication);
    this.#catchAll.emit("", publication);
    this.#listeners.emit(event, publication);
    this.#report(outcome);
  }

  #onAnswer({ id, ok, error }: Record<string, any>): void {
    if (error === undefined) {
      const usable = typeof ok === "object" && ok !== null;
      this.#outbox.settle(id, ok, usable ? undefined : malformed("No object in an answer."));
      return;
    }
    const { code = "malformed_frame", message = "No reason given." } = error ?? {};
    const failure = new FanfareError(String(code), String(message));
    if (failure.code === "session_expired" && this.#onExpired(id)) return;
    if (!this.#outbox.settle(id, undefined, failure)) this.#fail(failure);
  }

  /** A command was refused for want of a fresh token. Returns whether it is repeated with one. */
  #onExpired(id: unknown): boolean {
    const repeated = this.#token.renewable && this.#outbox.renew(id);
    // What is called from now on comes after it.
    if (repeated) this.#outbox.detach();
    void this.#renewToken(true);
    return repeated;
  }

  #onGap(gap: Record<string, any> | null): void {
    const { channel, missed } = gap ?? {};
    this.#own.emit("gap", {
      channel: typeof channel === "string" ? channel : null,
      missed: typeof missed === "number" ? missed : null,
      cause: "slow",
    });
  }
}

/** `true` and `false` in the place of options are the echo. */
function expand<Options extends object>(options: boolean | Options | undefined): Options {
  return (typeof options === "boolean" ? { echo: options } : (options ?? {})) as Options;
}

/** A copy of what can be sent; what cannot be is returned as it is, to be refused. */
function copyOf(value: unknown): unknown {
  try {
    return parse(stringify(value));
  } catch {
    return value;
  }
}
