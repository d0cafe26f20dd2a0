// Frames of the protocol (docs/PROTOCOL.md, sections 3 and 5): commands to text or bytes, text or bytes to objects.

import { FanfareError, asFanfareError } from "./errors.js";
import { bytesOf, decodeWhole, parse, received, stringify } from "./payload.js";
import type { HistoryPage } from "./types.js";

export type Frame = string | Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A command as a frame: of bytes if its message is bytes, of text otherwise. Throws a `FanfareError`. */
export function encodeCommand(command: object, message?: { readonly payload: unknown }): Frame {
  const bytes = message && bytesOf(message.payload);
  try {
    if (!bytes) return stringify(message ? { ...command, message: message.payload } : command);
  } catch (error) {
    throw asFanfareError(error, "not_serializable");
  }
  const envelope = encoder.encode(stringify(command));
  if (envelope.length > 0xffff) {
    throw new FanfareError("not_serializable", "The names of a binary message exceed 65535 bytes.");
  }
  const frame = new Uint8Array(2 + envelope.length + bytes.length);
  frame.set([envelope.length >> 8, envelope.length & 0xff]);
  frame.set(envelope, 2);
  frame.set(bytes, 2 + envelope.length);
  return frame;
}

/** The object that a frame of the server holds, or `undefined` if it holds none. Never throws. */
export function decodeFrame(data: unknown): Record<string, any> | undefined {
  try {
    const frame = typeof data === "string" ? parse(data) : decodeBinary(bytesOf(data));
    return typeof frame === "object" && frame !== null && !Array.isArray(frame) ? frame : undefined;
  } catch {
    return undefined;
  }
}

function decodeBinary(bytes: Uint8Array<ArrayBuffer> | undefined): unknown {
  if (!bytes || bytes.length < 2) return undefined;
  const end = 2 + bytes[0]! * 256 + bytes[1]!;
  if (end > bytes.length) return undefined;
  const envelope = JSON.parse(decoder.decode(bytes.subarray(2, end)));
  return { ...envelope, message: received(bytes.subarray(end)) };
}

/** The bytes that a frame takes on the wire. */
export function frameBytes(frame: Frame): number {
  return typeof frame === "string" ? encoder.encode(frame).length : frame.length;
}

/** An object of the wire with its own keys in this language's style: `message_id` is `messageId`. */
export function camel(wire: object): any {
  return renamed(wire, /_\w/g, (match) => match[1]!.toUpperCase());
}

/** An object for the wire: the reverse of `camel`. Keys that are `undefined` are left out by JSON. */
export function snake(options: object): any {
  return renamed(options, /[A-Z]/g, (match) => "_" + match.toLowerCase());
}

function renamed(object: object, pattern: RegExp, replace: (match: string) => string): any {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key.replace(pattern, replace), value]));
}

/** A page of history in this language's style; also what the HTTP API answers. */
export function historyPage(page: any): HistoryPage {
  const messages = Array.isArray(page.messages) ? page.messages : [];
  return {
    ...page,
    messages: messages.map((wire: any) => ({ ...camel(wire), message: decodeWhole(wire.message) })),
  };
}
