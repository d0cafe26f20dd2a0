// A list about a channel that keeps itself up to date: its value, listeners for its changes, and its end. The parts of
// React and of other frameworks that show changing values take it as it is.

import { Listeners } from "./listeners.js";
import type { Listener } from "./listeners.js";
import type { Realtime } from "./realtime.js";
import type { Joined, Publication } from "./types.js";

export interface Live<Value> {
  /** The value now. Another object after each change. */
  readonly current: Value;
  /** Settles when the value is complete for the first time, or the list is closed. */
  readonly ready: Promise<void>;
  /** Calls back after each change; returns what ends that. */
  subscribe(onChange: Listener<Value>): () => void;
  /** Ends the list: it changes no more. */
  close(): void;
}

/** What a kind of list does. */
export interface Behaviour {
  /** Reads the list from the server. What fails is an `error` event of the connection. */
  load(): Promise<void>;
  onPublication(publication: Publication): void;
  onJoined(answer: Joined): void;
}

export class LiveList<Value> implements Live<Value> {
  readonly #subscribers = new Listeners();
  readonly #load: () => Promise<void>;
  readonly #stops: readonly (() => void)[];
  #done!: () => void;
  #wanted = false;
  /** Whether the list is being read. */
  loading = false;
  closed = false;
  current: Value;
  readonly ready = new Promise<void>((resolve) => {
    this.#done = resolve;
  });

  /** Reads the list if the channel is joined. After a loss it is read anew; after a join, as `behaviour` says. */
  constructor(empty: Value, realtime: Realtime<any>, channel: string, behaviour: Behaviour) {
    const { load, onPublication, onJoined } = behaviour;
    const { on } = realtime.connection;
    const about = (subject: { readonly channel: string | null }) => subject.channel === channel;
    this.current = empty;
    this.#load = load;
    this.#stops = [
      on("publication", (publication) => about(publication) && onPublication(publication)),
      on("joined", (answer) => about(answer) && onJoined(answer)),
      on("gap", (gap) => about(gap) && gap.cause === "slow" && this.want()),
    ];
    if (realtime.position(channel)) queueMicrotask(() => this.want());
  }

  /** Reads the list, or once more if it is being read. */
  want(): void {
    this.#wanted = true;
    if (!this.loading) void this.#run();
  }

  show(value: Value): void {
    if (this.closed) return;
    this.current = value;
    this.#subscribers.emit("", value);
  }

  subscribe(onChange: Listener<Value>): () => void {
    return this.#subscribers.add("", onChange);
  }

  close(): void {
    this.closed = true;
    this.#done();
    for (const stop of this.#stops) stop();
  }

  async #run(): Promise<void> {
    this.loading = true;
    while (this.#wanted && !this.closed) {
      this.#wanted = false;
      await this.#load().then(this.#done, () => {});
    }
    this.loading = false;
  }
}
