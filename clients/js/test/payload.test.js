// The encoding of bytes inside messages, and the parts that have no connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesOf, decodeWhole, parse, stringify } from "../dist/esm/payload.js";
import { Listeners } from "../dist/esm/listeners.js";
import { Token } from "../dist/esm/token.js";
import { token } from "./support/server.js";

const again = (value) => parse(stringify(value));

test("bytes are written as an object with one key", () => {
  assert.equal(stringify({ a: new Uint8Array([1, 2]) }), '{"a":{"$bytes":"AQI="}}');
});

test("objects that look like bytes are told apart from them, however deep", () => {
  assert.equal(stringify({ $bytes: "AQI=" }), '{"$$bytes":"AQI="}');
  for (const value of [
    { $bytes: "AQI=" },
    { $$bytes: "AQI=" },
    { $$$bytes: { $bytes: 1 } },
    { $bytes: { $bytes: { $bytes: "" } } },
    [{ $bytes: null }, { $bytes: "AQI=", other: 1 }, { bytes: "AQI=" }, "$bytes"],
  ]) {
    assert.deepEqual(again(value), value);
  }
});

test("an object of another writer that only looks like bytes is passed on as it is", () => {
  for (const text of ['{"$bytes":1}', '{"$bytes":"no base64!"}', '{"$bytes":null}', '{"$bytes":"AQ==","x":1}']) {
    assert.deepEqual(parse(text), JSON.parse(text));
  }
});

test("an own __proto__ stays an own key", () => {
  const value = parse('{"__proto__":{"polluted":true},"$bytes":{"$bytes":"AQ=="}}');
  assert.ok(Object.hasOwn(value, "__proto__"));
  assert.equal(value.polluted, undefined);
});

test("random values come back as they were", () => {
  let state = 7;
  const random = (below) => (state = (state * 48271) % 0x7fffffff) % below;
  const keys = ["$bytes", "$$bytes", "bytes", "a", "b", "__proto", "base64"];
  const value = (depth) => {
    switch (random(depth > 4 ? 5 : 8)) {
      case 0: return null;
      case 1: return random(1000) / 7;
      case 2: return ["", "AQ==", '$bytes"', "ü😀"][random(4)];
      case 3: return random(2) === 1;
      case 4: return Buffer.from(Array.from({ length: random(9) }, () => random(256)));
      case 5: return Array.from({ length: random(4) }, () => value(depth + 1));
      default: return Object.fromEntries(Array.from({ length: random(3) }, () => [keys[random(keys.length)], value(depth + 1)]));
    }
  };
  for (let count = 0; count < 2000; count += 1) {
    const original = value(0);
    assert.deepEqual(again(original), original);
  }
});

test("large bytes, and bytes of a shared buffer's slice", () => {
  const large = Buffer.alloc(100_000, "x");
  assert.deepEqual(again(large), large);
  assert.deepEqual(bytesOf(new DataView(new Uint8Array([1, 2, 3]).buffer, 1, 1)), new Uint8Array([2]));
  assert.equal(bytesOf([1, 2]), undefined);
});

test("a whole message of base64 is bytes, anything else is not", () => {
  assert.deepEqual(decodeWhole({ base64: "AQI=" }), Buffer.from([1, 2]));
  assert.deepEqual(decodeWhole({ base64: "" }), Buffer.alloc(0));
  for (const value of [{ base64: 1 }, { base64: "no!" }, { base64: "AQ==", x: 1 }, "AQ==", null]) {
    assert.equal(decodeWhole(value), value);
  }
});

test("the function that registering returns removes this registration alone", () => {
  const listeners = new Listeners();
  const heard = [];
  const listener = (value) => heard.push(value);
  const first = listeners.add("event", listener);
  listeners.add("event", listener);
  first();
  first();
  listeners.emit("event", 1);
  assert.deepEqual(heard, [1]);
});

test("a token is renewed at four fifths of its life, whatever this machine's clock says", () => {
  const now = Date.now() / 1000;
  const near = (actual, expected) => assert.ok(Math.abs(actual - expected) < 2000, `${actual} is not near ${expected}`);
  near(new Token(token("luke", { expiresInS: 100 })).renewInMs, 80_000);
  near(new Token(token("luke", { iat: now - 7200, exp: now - 7100 })).renewInMs, 80_000);
  assert.equal(new Token(token("luke", { exp: undefined })).renewInMs, undefined);
  assert.equal(new Token(token("luke", { exp: 1e12 })).expired, false);
  assert.equal(new Token(token("luke", { exp: now - 1 })).expired, true);
  for (const text of ["", "a", "a.b.c", "a.e30.c", `a.${btoa("null")}.c`, `a.${btoa('{"exp":"soon"}')}.c`]) {
    assert.equal(new Token(text).renewInMs, undefined);
    assert.equal(new Token(text).expired, false);
  }
  assert.equal(new Token(`a.${btoa('{"exp":1,"iat":"x"}')}.c`).renewInMs, 1000);
});
