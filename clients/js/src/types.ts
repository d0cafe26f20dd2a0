// The shapes that applications see: options, messages, answers, events.

import type { FanfareError } from "./errors.js";

/** The application's events: names and what their messages are. `Record<string, any>` allows everything. */
export type AnyEvents = Record<string, any>;

/** Who a session is in a channel. `data` is the profile that it set with `update`. */
export interface Member<Profile = any> {
  /** The session's id: what `getSocketId()` returns there. */
  readonly id: string;
  readonly user?: string;
  readonly data?: Profile;
}

/** Events that the server sends by itself; no client can send them. */
export interface Notices {
  "channel:join": Member;
  "channel:leave": Member;
  "channel:update": Member;
  "channel:user_join": { user: string };
  "channel:user_leave": { user: string };
  "message:edit": any;
  "message:delete": null;
}

export type EventName<Events> = (keyof Events | keyof Notices) & string;

export type MessageOf<Events, Name> = Name extends keyof Notices
  ? Notices[Name]
  : Name extends keyof Events
    ? Events[Name]
    : never;

/** What a listener receives. */
export interface Publication<Message = any, Name extends string = string> {
  /** The channel, or `null` if the message was broadcast. */
  readonly channel: string | null;
  readonly event: Name;
  readonly message: Message;
  /** The message's number in its channel. */
  readonly offset?: number;
  /** The message's id, if the channel remembers it; of an edit or a deletion, which message it is about. */
  readonly id?: string;
  /** The session and the user that sent it, if the app shows them. */
  readonly sender?: string;
  readonly user?: string;
  readonly editedMs?: number;
}

/** A place in a channel's stream. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
}

/** Those who would receive a message, narrowed. */
export interface Audience {
  /** Only sessions of these users. */
  readonly toUsers?: readonly string[];
  /** No session of these users. */
  readonly exceptUsers?: readonly string[];
  /** This session alone. */
  readonly toSession?: string;
}

export interface BroadcastOptions extends Audience {
  /** Whether this connection receives its own message; the connection's default if left out. */
  readonly echo?: boolean;
}

export interface SendOptions extends BroadcastOptions {
  /** Keeps the message out of the channel's history. */
  readonly noHistory?: boolean;
}

export interface JoinOptions {
  /** Whether this connection is told that it joined. */
  readonly echo?: boolean;
  /** Where an earlier membership ended: what was missed since then comes first. See `position()`. */
  readonly since?: Position;
}

export interface Joined extends Position {
  readonly channel: string;
  /** False if this session was a member already. */
  readonly joined: boolean;
  /** The number of members. */
  readonly members: number;
  /** With `since`: whether everything missed follows, and how much that is. */
  readonly recovered?: boolean;
  readonly missed?: number;
}

export interface Left {
  readonly channel: string;
  readonly left: boolean;
}

export interface Sent {
  readonly messageId: string;
  /** The message's number in the channel, `null` if it took none. */
  readonly offset: number | null;
}

export interface Broadcasted {
  readonly messageId: string;
}

export interface PageOptions {
  /** At most so many: 1 to 1000, 100 if left out. */
  readonly limit?: number;
  /** The `next` of the page before. */
  readonly after?: string;
}

export interface MemberPage {
  readonly channel: string;
  readonly total: number;
  readonly members: Member[];
  readonly next: string | null;
}

export interface UserPage {
  readonly channel: string;
  readonly total: number;
  readonly users: { readonly user: string; readonly sessions: number }[];
  readonly next: string | null;
}

export interface HistoryOptions {
  /** At most so many: 1 to 1000, 100 if left out. */
  readonly limit?: number;
  /** Messages after this offset, oldest first; 0 is the beginning. */
  readonly after?: number;
  /** Messages before this offset, newest first. With neither, from the newest backwards. */
  readonly before?: number;
}

/** A message that a channel remembers. */
export interface Remembered<Message = any> {
  readonly event: string;
  readonly message: Message;
  readonly offset: number;
  readonly id: string;
  /** When it was sent; in a `feed`, of a message that arrived live, when it arrived. */
  readonly timeMs: number;
  readonly editedMs?: number;
  readonly sender?: string;
  readonly user?: string;
}

export interface HistoryPage {
  readonly channel: string;
  readonly epoch: string | null;
  readonly offset: number;
  readonly messages: Remembered[];
  /** The offset to go on from in the same direction, or `null` at the end. */
  readonly next: number | null;
}

/** A session token, or a function that returns a fresh one (`null` for none). */
export type TokenSource = string | (() => string | null | Promise<string | null>);

/** The part of a WebSocket that this package uses. Browsers, Node 22 and newer, and npm's `ws` have it. */
export interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketConstructor = new (url: string) => WebSocketLike;

export interface RealtimeOptions {
  /** The server: `https://host`, `wss://host`, or with a path that is not `/v1/ws`. */
  readonly url: string;
  /** The app's client key. */
  readonly key: string;
  /** The app's name; the server's `default` if left out. */
  readonly app?: string;
  /** Whether this connection receives what it caused, unless a call says otherwise; the app's default if left out. */
  readonly echo?: boolean;
  /** The session token. A function is asked again whenever a token is needed. */
  readonly session?: TokenSource;
  /** The WebSocket to use where the runtime has none (Node 20 and 21): `import WebSocket from "ws"`. */
  readonly WebSocket?: WebSocketConstructor;
  /** Commands that wait for a connection at most; 1000 if left out, 0 for none. */
  readonly queueCommands?: number;
  /** Bytes that wait at most, for a connection or in one; 4 MiB if left out. */
  readonly queueBytes?: number;
  /** How long a command waits for a connection; a minute if left out. */
  readonly queueTimeoutMs?: number;
  /** How long a command that was sent waits for its answer, and a connection for its first frame; 10 s if left out. */
  readonly timeoutMs?: number;
  /** The longest wait before the first attempt to reconnect, which doubles with each one; 1 s if left out. */
  readonly backoffMs?: number;
  /** The longest wait between two attempts; 30 s if left out. */
  readonly backoffMaxMs?: number;
}

/** `idle` before `open()`, `waiting` between two attempts to connect, `closed` after `close()` or a final refusal. */
export type State = "idle" | "connecting" | "open" | "waiting" | "closed";

/** What happens to the connection, as opposed to messages: `realtime.connection.on(…)`. */
export interface ConnectionEvents {
  /** The connection is there. `resumed`: the session is the one from before, and nothing was missed. */
  open: { readonly socketId: string; readonly user: string | null; readonly resumed: boolean };
  /** The connection is gone; with `reconnect`, another one will be made. */
  close: { readonly code: number; readonly reason: string; readonly reconnect: boolean };
  /** The next attempt to connect begins in so many milliseconds. */
  reconnecting: { readonly attempt: number; readonly delayMs: number };
  /** A join was answered: one that the application called, or one after a reconnect. */
  joined: Joined;
  /** A channel was joined again, and everything that was missed has been received. */
  recovered: { readonly channel: string; readonly missed: number };
  /**
   * Messages of a channel (`null`: broadcasts) were lost, `missed` of them at most, `null` if nobody knows how many.
   * `reconnect`: while there was no connection. `slow`: this connection took its messages too slowly.
   */
  gap: { readonly channel: string | null; readonly missed: number | null; readonly cause: "reconnect" | "slow" };
  /** A session token is needed. A function given as `session` is asked next; otherwise `setSession` is to be called. */
  "stale token": { readonly expired: boolean };
  /** A command failed, a frame was malformed, or an attempt to connect failed. */
  error: FanfareError;
  /** Every publication, before the listeners of its event. */
  publication: Publication;
}
