// Commands on their way: those that wait for a connection, and those that wait for their answer.
//
//   submit ──▶ queued ──▶ pending ──▶ answered
//                 ▲           │
//                 └───────────┘  the link broke, and the command may be repeated
//
// Both lists are in the order of `id`, which is the order of the calls. The queue is bounded in number and bytes,
// what is pending by the bytes that the link has not sent yet; each entry is bounded in time.

import { FanfareError } from "./errors.js";
import { encodeCommand, frameBytes } from "./wire.js";
import type { Frame } from "./wire.js";
import type { Link } from "./link.js";

/** Whether a command may be repeated when nobody knows if it took effect. A request belongs to its link. */
export type Repeat = "harmless" | "never" | "request";

export interface OutboxLimits {
  readonly commands: number;
  readonly bytes: number;
  readonly queueTimeoutMs: number;
  readonly timeoutMs: number;
}

/** What else there is to a command. */
export interface Extras {
  readonly message?: { readonly payload: unknown };
  /** Called with the answer as it arrives: before any frame that comes after it, which a promise may not be. */
  readonly effect?: (ok: any) => void;
}

interface Settle {
  readonly resolve: (ok: any) => void;
  readonly reject: (error: FanfareError) => void;
}

interface Command extends Settle {
  readonly id: number;
  readonly frame: Frame;
  readonly bytes: number;
  readonly repeat: Repeat;
  readonly effect: Extras["effect"];
  deadline: number;
  /** Whether a fresh session token was obtained for this command already. */
  renewed: boolean;
}

export class Outbox {
  readonly #limits: OutboxLimits;
  readonly #pending = new Map<number, Command>();
  #queued: Command[] = [];
  #queuedBytes = 0;
  #lastId = 0;
  #link: Link | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Infinity;

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  /** The id after those of the commands that are pending; 0 if there are none. */
  get barrier(): number {
    return this.#pending.size && this.#lastId + 1;
  }

  /** Sends a command as soon as there is a link, or refuses it. Settles with its answer. */
  submit(command: object, repeat: Repeat, extras: Extras = {}): Promise<any> {
    return new Promise((resolve, reject) => {
      const entry = this.#entry(command, repeat, extras, { resolve, reject });
      const waitingBytes = this.#link ? this.#link.bufferedBytes : this.#queuedBytes;
      const full = waitingBytes + entry.bytes > this.#limits.bytes;
      if (full || (!this.#link && this.#queued.length >= this.#limits.commands)) {
        throw new FanfareError("queue_full", "Too much waits to be sent.");
      }
      if (this.#link) this.#transmit(entry, this.#link);
      else this.#enqueue(entry);
    });
  }

  /** Sends commands at once, in one frame, past whatever is queued. They do not survive the link. */
  request(link: Link, commands: readonly object[], effects: readonly Extras["effect"][] = []): Promise<any>[] {
    const texts: string[] = [];
    const answers = commands.map(
      (command, at) =>
        new Promise((resolve, reject) => {
          const entry = this.#entry(command, "request", { effect: effects[at] }, { resolve, reject });
          texts.push(entry.frame as string);
          this.#await(entry);
        }),
    );
    if (texts.length) link.send(texts.length > 1 ? `[${texts}]` : texts[0]!);
    return answers;
  }

  /** The link is ready: what is queued goes out, and what is submitted from now on. */
  attach(link: Link): void {
    this.#link = link;
    const queued = this.#queued;
    this.#queued = [];
    this.#queuedBytes = 0;
    for (const entry of queued) this.#transmit(entry, link);
  }

  /** From now on, commands are queued. */
  detach(): void {
    this.#link = undefined;
  }

  /**
   * No answer will come to what is pending: what is harmless is queued again, the rest fails. With a barrier, it is known
   * that the commands before it did not reach the server: they are queued again, but for requests.
   */
  giveUp(barrier?: number): void {
    for (const entry of [...this.#pending.values()]) {
      if (barrier !== undefined && entry.id >= barrier) continue;
      this.#pending.delete(entry.id);
      if (entry.repeat === "harmless" || (barrier !== undefined && entry.repeat === "never")) this.#enqueue(entry);
      else entry.reject(new FanfareError("connection_lost", "The connection broke before the answer."));
    }
  }

  /** Fails everything. */
  clear(error: FanfareError): void {
    const entries = [...this.#pending.values(), ...this.#queued];
    this.#pending.clear();
    this.#queued = [];
    this.#queuedBytes = 0;
    clearTimeout(this.#timer);
    this.#timerAt = Infinity;
    for (const entry of entries) entry.reject(error);
  }

  /** An answer arrived. Returns whether a command was waiting for it. */
  settle(id: unknown, ok: unknown, error: FanfareError | undefined): boolean {
    const entry = this.#pending.get(id as number);
    if (!entry) return false;
    this.#pending.delete(entry.id);
    if (error) entry.reject(error);
    else {
      entry.effect?.(ok);
      entry.resolve(ok);
    }
    return true;
  }

  /** Queues a pending command that the server refused for want of a fresh token; once for each command. */
  renew(id: unknown): boolean {
    const entry = this.#pending.get(id as number);
    if (!entry || entry.renewed) return false;
    this.#pending.delete(entry.id);
    entry.renewed = true;
    this.#enqueue(entry);
    return true;
  }

  #entry(command: object, repeat: Repeat, { message, effect }: Extras, settle: Settle): Command {
    const id = ++this.#lastId;
    const frame = encodeCommand({ ...command, id }, message);
    return { id, frame, bytes: frameBytes(frame), repeat, effect, ...settle, deadline: 0, renewed: false };
  }

  #transmit(entry: Command, link: Link): void {
    if (entry.bytes > link.limitBytes) {
      entry.reject(new FanfareError("message_too_large", `The server takes ${link.limitBytes} bytes at most.`));
      return;
    }
    this.#await(entry);
    link.send(entry.frame);
  }

  #await(entry: Command): void {
    entry.deadline = Date.now() + this.#limits.timeoutMs;
    this.#pending.set(entry.id, entry);
    this.#watch(entry.deadline);
  }

  #enqueue(entry: Command): void {
    entry.deadline = Date.now() + this.#limits.queueTimeoutMs;
    let at = this.#queued.length;
    while (at > 0 && this.#queued[at - 1]!.id > entry.id) at -= 1;
    this.#queued.splice(at, 0, entry);
    this.#queuedBytes += entry.bytes;
    this.#watch(entry.deadline);
  }

  /** One timer for all: it fires at the earliest deadline or somewhat later. */
  #watch(deadline: number): void {
    if (deadline >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity;
      this.#expire(Date.now());
    }, deadline - Date.now());
  }

  #expire(now: number): void {
    let next = Infinity;
    const late: Command[] = [];
    for (const entry of [...this.#pending.values(), ...this.#queued]) {
      if (entry.deadline <= now) late.push(entry);
      else next = Math.min(next, entry.deadline);
    }
    // Deadlines that are close together are one wake-up.
    if (next < Infinity) this.#watch(Math.max(next, now + 50));
    for (const entry of late) {
      if (!this.#pending.delete(entry.id)) this.#unqueue(entry);
      entry.reject(new FanfareError("timeout", "No answer in time."));
    }
  }

  #unqueue(entry: Command): void {
    this.#queued = this.#queued.filter((other) => other !== entry);
    this.#queuedBytes -= entry.bytes;
  }
}
