// The package `fanfare`: the realtime connection of a page or a program.

export { Realtime } from "./realtime.js";
export type { AnyPublication, Connection } from "./realtime.js";
export { FanfareError } from "./errors.js";
export type { ErrorCode, LocalErrorCode, ServerErrorCode } from "./errors.js";
export type { Listener } from "./listeners.js";
export type * from "./types.js";
export { presence } from "./presence.js";
export { eachMessage, feed } from "./feed.js";
export type { Feed, FeedOptions } from "./feed.js";
export type { Live } from "./live.js";
