// One WebSocket from its opening to its end. It knows frames, not commands.

import { decodeFrame } from "./wire.js";
import type { Frame } from "./wire.js";
import type { WebSocketConstructor, WebSocketLike } from "./types.js";

export interface LinkHandlers {
  /** A frame arrived; `undefined` for one that holds no object. */
  onFrame(frame: Record<string, any> | undefined): void;
  /** The link ended; not called after `drop`. */
  onEnd(end: LinkEnd): void;
}

export interface LinkEnd {
  readonly code: number;
  readonly reason: string;
}

export class Link {
  readonly #socket: WebSocketLike;
  readonly #handlers: LinkHandlers;
  #ended = false;
  /** The largest frame that the server takes; its welcome says it. */
  limitBytes = Infinity;
  /** When the last frame arrived. */
  heardAt = Date.now();

  constructor(WebSocket: WebSocketConstructor, url: string, handlers: LinkHandlers) {
    this.#handlers = handlers;
    this.#socket = new WebSocket(url);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onmessage = ({ data }) => {
      if (this.#ended) return;
      this.heardAt = Date.now();
      handlers.onFrame(decodeFrame(data));
    };
    this.#socket.onclose = ({ code, reason }) => this.#end({ code, reason: String(reason ?? "") });
    // What went wrong comes with the close event. Without a listener, `ws` would throw.
    this.#socket.onerror = () => {};
  }

  /** Bytes that were given to `send` and have not left yet. */
  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  send(frame: Frame): void {
    // A socket that is closing drops what it is given; one that is not open yet never gets here.
    if (this.#socket.readyState === 1) this.#socket.send(frame);
  }

  /**
   * Ends the link from here, at once: the closing handshake of a dead connection would take its time. The socket is
   * left as it is until `drop`: a close frame that still arrives would end the session, which is to be resumed.
   */
  fail(reason: string): void {
    this.#end({ code: 1006, reason });
  }

  /** Ends the link without telling the handlers, and closes the socket. */
  drop(): void {
    this.#ended = true;
    try {
      this.#socket.close(1000);
    } catch {
      // It is closed already.
    }
  }

  #end(end: LinkEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#handlers.onEnd(end);
  }
}
