// A registry of listeners by event name.

export type Listener<Payload> = (payload: Payload) => void;

interface Entry {
  readonly listener: Listener<any>;
  readonly once: boolean;
}

export class Listeners {
  /** Lists are replaced, never changed, so that one can be walked while listeners come and go. */
  readonly #byEvent = new Map<string, readonly Entry[]>();

  /** Registers a listener; one that is registered twice is called twice. Returns what removes it. */
  add(event: string, listener: Listener<any>, how?: "once"): () => void {
    const entry = { listener, once: !!how };
    this.#byEvent.set(event, [...this.#entries(event), entry]);
    return () => this.#keep(event, (other) => other !== entry);
  }

  /** Removes a listener of an event, all listeners of an event, or all of all events. */
  remove(event?: string, listener?: Listener<any>): void {
    if (event === undefined) this.#byEvent.clear();
    else this.#keep(event, (entry) => listener !== undefined && entry.listener !== listener);
  }

  /** The listeners of an event, or of all events, in the order in which they were registered. */
  of(event?: string): Listener<any>[] {
    const entries = event === undefined ? [...this.#byEvent.values()].flat() : this.#entries(event);
    return entries.map((entry) => entry.listener);
  }

  /** Calls the listeners of the event. One that is removed meanwhile is not called, one that is added neither. */
  emit(event: string, payload: unknown): void {
    for (const entry of this.#entries(event)) {
      if (!this.#entries(event).includes(entry)) continue;
      if (entry.once) this.#keep(event, (other) => other !== entry);
      call(entry.listener, payload);
    }
  }

  #entries(event: string): readonly Entry[] {
    return this.#byEvent.get(event) ?? [];
  }

  #keep(event: string, kept: (entry: Entry) => boolean): void {
    const entries = this.#entries(event).filter(kept);
    if (entries.length) this.#byEvent.set(event, entries);
    else this.#byEvent.delete(event);
  }
}

/** What a listener throws is the application's: it is reported as uncaught, and stops nobody else. */
function call<Payload>(listener: Listener<Payload>, payload: Payload): void {
  try {
    listener(payload);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
