// What a live list has: a value, listeners for its changes, and an end. The parts of React and of other frameworks
// that show changing values take it as it is.

import { Listeners } from "./listeners.js";
import type { Listener } from "./listeners.js";

export interface Live<Value> {
  /** The value now. Another object after each change. */
  readonly current: Value;
  /** Settles when the value is complete for the first time. */
  readonly ready: Promise<void>;
  /** Calls back after each change; returns what ends that. */
  subscribe(onChange: Listener<Value>): () => void;
  /** Ends the list: it changes no more. */
  close(): void;
}

/** A value and those who are told when it changes. */
export class Cell<Value> {
  readonly #subscribers = new Listeners();
  current: Value;

  constructor(value: Value) {
    this.current = value;
  }

  set(value: Value): void {
    this.current = value;
    this.#subscribers.emit("", value);
  }

  subscribe(subscriber: Listener<Value>): () => void {
    return this.#subscribers.add("", subscriber);
  }
}

/** Loads now and again, one at a time, the newest wish last. What fails is tried again with the next wish. */
export class Loader {
  readonly #load: () => Promise<void>;
  closed = false;
  running = false;
  #wanted = false;
  #done!: () => void;
  readonly ready = new Promise<void>((resolve) => {
    this.#done = resolve;
  });

  constructor(load: () => Promise<void>) {
    this.#load = load;
  }

  want(): void {
    this.#wanted = true;
    if (!this.running && !this.closed) void this.#run();
  }

  close(): void {
    this.closed = true;
    this.#done();
  }

  async #run(): Promise<void> {
    this.running = true;
    while (this.#wanted && !this.closed) {
      this.#wanted = false;
      // The command's failure is an `error` event of the connection.
      await this.#load().then(this.#done, () => {});
    }
    this.running = false;
  }
}

/** A live list of these parts. `stops` end what feeds it. */
export function live<Value>(cell: Cell<Value>, loader: Loader, stops: readonly (() => void)[]): Live<Value> {
  return {
    get current() {
      return cell.current;
    },
    ready: loader.ready,
    subscribe: (onChange) => cell.subscribe(onChange),
    close: () => {
      loader.close();
      for (const stop of stops) stop();
    },
  };
}
