// What a refused or lost command is rejected with.

/** Codes of the server (docs/PROTOCOL.md, section 6) that an application most often tells apart. */
export type ServerErrorCode =
  | "invalid_command" | "invalid_channel" | "invalid_event" | "reserved_event" | "message_too_large"
  | "profile_too_large" | "session_required" | "session_expired" | "invalid_session" | "membership_required"
  | "too_many_channels" | "rate_limited" | "invalid_cursor" | "unknown_message" | "edit_not_allowed" | "overloaded"
  | "unknown_app" | "missing_key" | "invalid_key" | "origin_not_allowed";

/**
 * Codes that arise on this side of the wire.
 *
 * - `closed`: `close()` was called, or the server ended the connection for good.
 * - `connection_lost`: the connection broke after the command was sent; whether it took effect is unknown.
 * - `timeout`: no answer came in time; whether the command took effect is unknown, unless it was still queued.
 * - `queue_full`: the bound of the offline queue is reached; the command was not sent.
 * - `not_serializable`: the message has no JSON form; nothing was sent.
 * - `malformed_frame`: the server sent what is not a frame of this protocol; the frame was dropped.
 * - `no_websocket`: this runtime has no WebSocket, and none was given.
 * - `unreachable`: the server did not answer, or not as a Fanfare server does.
 */
export type LocalErrorCode =
  | "closed" | "connection_lost" | "timeout" | "queue_full" | "not_serializable" | "malformed_frame"
  | "no_websocket" | "unreachable";

/** Every code this version knows; a newer server may have others. */
export type ErrorCode = ServerErrorCode | LocalErrorCode | (string & {});

export class FanfareError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = "FanfareError";
    this.code = code;
  }
}

/** An error of any origin as a `FanfareError`, which is returned as it is. */
export function asFanfareError(error: unknown, code: ErrorCode): FanfareError {
  if (error instanceof FanfareError) return error;
  return new FanfareError(code, error instanceof Error ? error.message : String(error));
}
