// `fanfare/server`: an application's back end, over the HTTP API (docs/PROTOCOL.md, section 8).
//
// Requests go through `fetch`, which keeps connections open between them. Every `send` and `broadcast` carries an
// idempotency key, so that a request whose answer was lost is repeated without publishing twice.

import { FanfareError, asFanfareError } from "./errors.js";
import { parse, stringify } from "./payload.js";
import type {
  Audience, Broadcasted, HistoryOptions, HistoryPage, Member, MemberPage, PageOptions, Sent, UserPage,
} from "./types.js";
import { camel, historyPage, snake } from "./wire.js";

export { FanfareError } from "./errors.js";
export { eachMessage } from "./feed.js";
export type { ErrorCode } from "./errors.js";
export type {
  Audience, Broadcasted, HistoryOptions, HistoryPage, Member, MemberPage, PageOptions, Remembered, Sent, UserPage,
} from "./types.js";

export interface BackendOptions {
  /** The server: `https://host`. */
  readonly url: string;
  /** The app's server key. Never give it to a page. */
  readonly key: string;
  /** The app's name; the server's `default` if left out. */
  readonly app?: string;
  /** How often a request is repeated when the server cannot be reached or is overloaded; 3 if left out. */
  readonly retries?: number;
  /** How long one try may take; 10 s if left out. */
  readonly timeoutMs?: number;
  /** The longest pause before the first repetition, which doubles with each one; 200 ms if left out. */
  readonly backoffMs?: number;
  /** Another `fetch`, for one's own pool of connections. */
  readonly fetch?: typeof globalThis.fetch;
}

export interface PublishOptions extends Audience {
  /** 1 to 128 bytes: of the publications with one key, only the first is published. Made at random if left out. */
  readonly idempotencyKey?: string;
}

export interface BackendSendOptions extends PublishOptions {
  /** Keeps the message out of the channel's history. */
  readonly noHistory?: boolean;
}

/** One publication of a batch; a broadcast if it has no channel. */
export interface BatchEntry extends BackendSendOptions {
  readonly channel?: string | null;
  readonly event: string;
  readonly message?: unknown;
}

/** What became of one publication of a batch. */
export type BatchResult = { readonly ok: Sent | Broadcasted } | { readonly error: FanfareError };

export interface UserSessions {
  readonly user: string;
  readonly sessions: { readonly id: string; readonly data?: any; readonly channels: string[] }[];
  readonly next: string | null;
}

export interface ChannelPage {
  readonly channels: { readonly channel: string; readonly members: number }[];
  readonly next: string | null;
}

/** Options of a channel, as in docs/CONFIGURATION.md. */
export interface ChannelOptions {
  readonly membershipToSend?: boolean;
  readonly announce?: boolean;
  readonly presenceByUser?: boolean;
  readonly slowConsumer?: "disconnect" | "drop";
  readonly historyMessages?: number;
  readonly historyBytes?: number;
  readonly historyAgeS?: number;
}

/** Settings of a trigger, as in docs/CONFIGURATION.md: a script (`source`), or a back end that is asked (`url`). */
export interface TriggerSettings {
  readonly description?: string;
  readonly active?: boolean;
  readonly tags?: readonly string[];
  readonly channel: string;
  readonly actions?: readonly ("message" | "join")[];
  readonly scope?: readonly ("channel" | "broadcast" | "direct")[];
  readonly server?: boolean;
  readonly onError?: "refuse" | "pass";
  readonly cpuMs?: number;
  readonly memoryBytes?: number;
  readonly stateBytes?: number;
  readonly outputBytes?: number;
  readonly source?: string;
  readonly url?: string;
  readonly secret?: string;
  readonly ca?: string;
  readonly batch?: number;
  readonly timeoutMs?: number;
  readonly connections?: number;
  readonly keepAliveMs?: number;
  readonly breakerFailures?: number;
  readonly breakerMs?: number;
}

export interface Trigger extends TriggerSettings {
  readonly name: string;
  /** Whether the configuration has it, which nobody changes over HTTP. */
  readonly configured: boolean;
  /** Why every run of it fails, if it does. */
  readonly broken?: string;
}

/** Whether a request may be repeated when its answer was lost. What was refused is repeated in any case. */
type Repeat = "harmless" | "refused only";

interface Request {
  readonly method: string;
  readonly path: string;
  readonly query?: Record<string, string | number | undefined>;
  readonly body?: unknown;
  readonly repeat: Repeat;
}

/** Statuses of a server that did nothing and can be asked again. */
const BUSY = [429, 502, 503, 504];

export class Backend {
  readonly #options: BackendOptions;
  readonly #base: string;

  /** Throws a TypeError if `url` is none. */
  constructor(options: BackendOptions) {
    this.#options = options;
    this.#base = new URL("/v1/", options.url).href;
  }

  /** Sends a message to the members of a channel. */
  send(channel: string, event: string, message: unknown, options: BackendSendOptions = {}): Promise<Sent> {
    return this.#post("send", withKey({ ...options, channel, event, message }));
  }

  /** Sends a message to every connection of the app, whatever it has joined. */
  broadcast(event: string, message: unknown, options: PublishOptions = {}): Promise<Broadcasted> {
    return this.#post("broadcast", withKey({ ...options, event, message }));
  }

  /**
   * Publishes at most 256 messages in one request; in order, and each with its own outcome. Those with idempotency keys
   * are in no order among themselves, as keys are spread over the server's workers. So none are made here, and only a
   * batch in which each has its own is repeated when its answer was lost.
   */
  async publish(entries: readonly BatchEntry[]): Promise<BatchResult[]> {
    const repeat = entries.every((entry) => entry.idempotencyKey !== undefined) ? "harmless" : "refused only";
    const results: any[] = await this.#request({ method: "POST", path: "publish", body: entries.map(snake), repeat });
    return results.map(({ ok, error }) =>
      error ? { error: new FanfareError(error.code, error.message) } : { ok: camel(ok) },
    );
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
    return this.#get("members", { ...options, channel });
  }

  /** A page of what a channel remembers. */
  async history(channel: string, options: HistoryOptions = {}): Promise<HistoryPage> {
    return historyPage(await this.#get("history", { ...options, channel }));
  }

  /** Gives a message that the channel remembers another payload. */
  edit(channel: string, messageId: string, message: unknown, audience: Audience = {}): Promise<Sent> {
    return this.#change("PATCH", { ...audience, channel, messageId, message });
  }

  /** Lets the channel forget a message. */
  delete(channel: string, messageId: string, audience: Audience = {}): Promise<Sent> {
    return this.#change("DELETE", { ...audience, channel, messageId });
  }

  /** A page of channels that exist, of a common beginning if one is given. Pages may be short; `next` is the truth. */
  channels(options: PageOptions & { readonly prefix?: string } = {}): Promise<ChannelPage> {
    return this.#get("channels", { ...options });
  }

  /** A page of a user's sessions. */
  user(user: string, options: PageOptions = {}): Promise<UserSessions> {
    return this.#get(`users/${encodeURIComponent(user)}`, { ...options });
  }

  /** Disconnects a session, or all of a user. Resolves with how many there were. */
  async disconnect(
    whom: { readonly session: string } | { readonly user: string },
    then: "may reconnect" | "stay away" = "stay away",
  ): Promise<number> {
    const answer = await this.#post("disconnect", { ...whom, reconnect: then === "may reconnect" });
    return answer.disconnected;
  }

  /** The options of a channel. */
  options(channel: string): Promise<ChannelOptions & { readonly channel: string }> {
    return this.#get("options", { channel });
  }

  /** Sets a channel's options; those left out are as configured. */
  setOptions(channel: string, options: ChannelOptions): Promise<ChannelOptions & { readonly channel: string }> {
    return this.#request({ method: "PUT", path: "options", body: snake({ ...options, channel }), repeat: "harmless" });
  }

  /** The app's triggers in the order in which they run, without their scripts. */
  async triggers(): Promise<Trigger[]> {
    return (await this.#get("triggers", {})).triggers.map(camel);
  }

  /** A trigger. */
  trigger(name: string): Promise<Trigger> {
    return this.#get(triggerPath(name), {});
  }

  /** Makes or replaces a trigger. */
  setTrigger(name: string, settings: TriggerSettings): Promise<Trigger> {
    return this.#request({ method: "PUT", path: triggerPath(name), body: snake(settings), repeat: "harmless" });
  }

  /** Changes some settings of a trigger; `null` stands for the default. */
  changeTrigger(
    name: string,
    settings: { readonly [Key in keyof TriggerSettings]?: TriggerSettings[Key] | null },
  ): Promise<Trigger> {
    return this.#request({ method: "PATCH", path: triggerPath(name), body: snake(settings), repeat: "harmless" });
  }

  /** Deletes a trigger. A deletion that is repeated would not find the trigger. */
  async deleteTrigger(name: string): Promise<void> {
    await this.#request({ method: "DELETE", path: triggerPath(name), repeat: "refused only" });
  }

  #get(path: string, query: Record<string, string | number | undefined>): Promise<any> {
    return this.#request({ method: "GET", path, query, repeat: "harmless" });
  }

  #post(path: string, body: unknown): Promise<any> {
    return this.#request({ method: "POST", path, body, repeat: "harmless" });
  }

  /** An edit that is repeated would be another edit, and a deletion's repetition would not find the message. */
  #change(method: "PATCH" | "DELETE", body: object): Promise<any> {
    return this.#request({ method, path: "messages", body: snake(body), repeat: "refused only" });
  }

  async #request(request: Request): Promise<any> {
    const { retries = 3, backoffMs = 200 } = this.#options;
    for (let tried = 0; ; tried += 1) {
      const outcome = await this.#try(request);
      if ("answer" in outcome) return outcome.answer;
      if (!outcome.again || tried >= retries) throw outcome.error;
      await new Promise((resolve) => setTimeout(resolve, Math.random() * backoffMs * 2 ** tried));
    }
  }

  async #try(request: Request): Promise<{ answer: any } | { error: FanfareError; again: boolean }> {
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(request);
      text = await response.text();
    } catch (error) {
      return { error: asFanfareError(error, "unreachable"), again: request.repeat === "harmless" };
    }
    try {
      const answer = parse(text);
      if (response.ok) return { answer: Array.isArray(answer) ? answer : camel(answer) };
      const error = new FanfareError(String(answer.code), String(answer.detail));
      return { error, again: BUSY.includes(response.status) };
    } catch {
      const error = new FanfareError("unreachable", `The answer with status ${response.status} is not JSON.`);
      return { error, again: BUSY.includes(response.status) };
    }
  }

  #fetch({ method, path, query = {}, body }: Request): Promise<Response> {
    const { key, app, timeoutMs = 10_000, fetch = globalThis.fetch } = this.#options;
    const url = new URL(path, this.#base);
    for (const [name, value] of Object.entries({ app, ...query })) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = { authorization: `Bearer ${key}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    const signal = AbortSignal.timeout(timeoutMs);
    return fetch(url, { method, headers, body: body === undefined ? undefined : stringify(body), signal });
  }
}

const triggerPath = (name: string) => `triggers/${encodeURIComponent(name)}`;

/** A publication for the wire, with an idempotency key. */
function withKey(publication: BatchEntry): object {
  return snake({ ...publication, idempotencyKey: publication.idempotencyKey ?? crypto.randomUUID() });
}
