// How long to wait before the next attempt to connect.

/** The longest time that a server can ask for. */
const LONGEST_REQUEST_MS = 600_000;

export class Backoff {
  readonly #firstMs: number;
  readonly #maxMs: number;
  #attempts = 0;
  #requestedMs: number | undefined;

  constructor(firstMs: number, maxMs: number) {
    this.#firstMs = firstMs;
    this.#maxMs = maxMs;
  }

  get attempts(): number {
    return this.#attempts;
  }

  /** The server said when to come back. It spreads its clients itself, so the next wait is exactly this. */
  request(ms: unknown): void {
    if (typeof ms === "number" && ms >= 0) this.#requestedMs = Math.min(ms, LONGEST_REQUEST_MS);
  }

  /** The next wait: what the server asked for, or anything up to a bound that doubles with each attempt. */
  next(): number {
    const bound = Math.min(this.#firstMs * 2 ** this.#attempts, this.#maxMs);
    const wait = this.#requestedMs ?? Math.random() * bound;
    this.#attempts += 1;
    this.#requestedMs = undefined;
    return Math.round(wait);
  }

  /** A connection proved to be a lasting one. */
  reset(): void {
    this.#attempts = 0;
  }
}
