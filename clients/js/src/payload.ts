// Messages as JSON that may hold bytes, and back.
//
// JSON has no bytes. Inside a message they are written as {"$bytes":"<base64>"}. An object of the application that
// looks like this gains a "$" in front of its only key, which reading takes away again:
//
//   Uint8Array [1, 2]     <->  {"$bytes":"AQI="}
//   { $bytes: "AQI=" }    <->  {"$$bytes":"AQI="}

const RESERVED_KEY = /^\$+bytes$/;

/** The bytes of a Buffer, typed array, DataView or ArrayBuffer, without a copy; of anything else `undefined`. */
export function bytesOf(value: unknown): Uint8Array<ArrayBuffer> | undefined {
  if (ArrayBuffer.isView(value)) {
    return new Uint8Array(value.buffer as ArrayBuffer, value.byteOffset, value.byteLength);
  }
  // An ArrayBuffer of another realm (a frame, a test's sandbox) is no instance of this one's.
  return Object.prototype.toString.call(value) === "[object ArrayBuffer]"
    ? new Uint8Array(value as ArrayBuffer)
    : undefined;
}

interface BufferLike {
  from(buffer: ArrayBuffer, byteOffset: number, length: number): Uint8Array<ArrayBuffer>;
}

/** Bytes as an application receives them: a Buffer where there is such a thing, which is a Uint8Array too. */
export function received(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const { Buffer } = globalThis as { Buffer?: BufferLike };
  return Buffer ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) : bytes;
}

/** JSON text of a value, with the bytes in it encoded. What has no JSON form (`undefined`) is null; a cycle throws. */
export function stringify(value: unknown): string {
  return JSON.stringify(value, encodeBytes) ?? "null";
}

/** The value of a JSON text, with the bytes in it decoded. Throws a SyntaxError. */
export function parse(text: string): any {
  return text.includes('bytes"') ? JSON.parse(text, decodeBytes) : JSON.parse(text);
}

/** A whole message that the server wrote as {"base64":"…"}, as bytes; anything else as it is. */
export function decodeWhole(message: unknown): unknown {
  const text = onlyKey(message) === "base64" ? (message as { base64: unknown }).base64 : undefined;
  return (typeof text === "string" && decodeBase64(text)) || message;
}

function encodeBytes(this: any, key: string, value: unknown): unknown {
  // `value` went through toJSON, with which a Buffer describes itself at length.
  const bytes = bytesOf(this[key]) ?? bytesOf(value);
  if (bytes) return { $bytes: encodeBase64(bytes) };
  const only = onlyKey(value);
  return only !== undefined && RESERVED_KEY.test(only) ? { ["$" + only]: (value as any)[only] } : value;
}

function decodeBytes(_key: string, value: unknown): unknown {
  const only = onlyKey(value);
  if (only === undefined || !RESERVED_KEY.test(only)) return value;
  const inner = (value as any)[only];
  if (only !== "$bytes") return { [only.slice(1)]: inner };
  return (typeof inner === "string" && decodeBase64(inner)) || value;
}

function onlyKey(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const keys = Object.keys(value);
  return keys.length === 1 ? keys[0] : undefined;
}

function encodeBase64(bytes: Uint8Array): string {
  let characters = "";
  // A call has room for so many arguments only.
  for (let at = 0; at < bytes.length; at += 0x2000) {
    characters += String.fromCharCode(...bytes.subarray(at, at + 0x2000));
  }
  return btoa(characters);
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return received(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
  } catch {
    return undefined;
  }
}
