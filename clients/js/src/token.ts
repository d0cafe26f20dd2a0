// The session token: where it comes from, and when it has to be replaced.

import type { TokenSource } from "./types.js";

export class Token {
  #source: TokenSource | undefined;
  #current: string | null = null;

  constructor(source: TokenSource | undefined) {
    this.#source = source;
    if (typeof source === "string") this.#current = source;
  }

  /** Whether a fresh token can be had without the application doing anything further. */
  get renewable(): boolean {
    return typeof this.#source === "function";
  }

  get current(): string | null {
    return this.#current;
  }

  set current(token: string | null) {
    this.#current = token;
  }

  /** Whether the token's time is over by this machine's clock. */
  get expired(): boolean {
    const { exp } = claims(this.#current);
    return exp !== undefined && exp * 1000 <= Date.now();
  }

  /** Milliseconds until the token should be replaced: at four fifths of its life. `undefined` if it has no end. */
  get renewInMs(): number | undefined {
    const { exp, iat } = claims(this.#current);
    if (exp === undefined) return undefined;
    const left = exp * 1000 - Date.now();
    // A clock that is wrong must not make a fresh token look old: its own two times tell how long it lives.
    const life = left > 0 || iat === undefined ? left : (exp - iat) * 1000;
    return Math.max(life * 0.8 || 0, 1000);
  }

  /** Asks the source for a fresh token. What the source throws is passed on. */
  async renew(): Promise<string | null> {
    if (typeof this.#source === "function") this.#current = await this.#source();
    return this.#current;
  }
}

/** The times in a JWT, in seconds. It is not verified here: that is the server's part. */
function claims(token: string | null): { exp?: number; iat?: number } {
  try {
    const part = token!.split(".")[1]!;
    const { exp, iat } = JSON.parse(atob(part.replace(/-/g, "+").replace(/_/g, "/")));
    return typeof exp === "number" ? { exp, iat } : {};
  } catch {
    return {};
  }
}
