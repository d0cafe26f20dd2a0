// Named timers: setting one again replaces it, and all can be stopped together.

export class Timers {
  readonly #handles = new Map<string, ReturnType<typeof setTimeout>>();

  set(name: string, ms: number, run: () => void): void {
    this.clear(name);
    const fire = () => {
      this.#handles.delete(name);
      run();
    };
    // Longer times than 31 bits hold would fire at once.
    this.#handles.set(name, setTimeout(fire, Math.min(ms, 2 ** 31 - 1)));
  }

  has(name: string): boolean {
    return this.#handles.has(name);
  }

  clear(...names: string[]): void {
    for (const name of names) {
      clearTimeout(this.#handles.get(name));
      this.#handles.delete(name);
    }
  }

  clearAll(): void {
    this.clear(...this.#handles.keys());
  }
}

/** The outcome of a promise, or a failure when it takes too long. */
export function within<Value>(ms: number, what: string, promise: Promise<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what} took longer than ${ms} ms.`)), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
