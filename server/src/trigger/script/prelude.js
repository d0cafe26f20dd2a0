// The prelude of every script: the sandbox's functions, and the call of handlers. The prelude first takes the built-in
// functions that the script could change later.
(host, seed) => {
  'use strict';
  const { parse, stringify } = JSON;
  const { defineProperty, freeze } = Object;
  const { apply, construct } = Reflect;
  const { imul } = Math;
  const Text = String, RealDate = Date, RealPromise = Promise, Bytes = Uint8Array, Buffer = ArrayBuffer;
  const { slice, toWellFormed } = String.prototype;
  const { then } = Promise.prototype;
  const { push } = Array.prototype;
  const cut = (text, length) => apply(toWellFormed, apply(slice, Text(text), [0, length]), []);

  let now = 0;
  function SandboxDate(...parts) {
    if (!new.target) return Text(new RealDate(now));
    return construct(RealDate, parts.length ? parts : [now], new.target);
  }
  SandboxDate.prototype = RealDate.prototype;
  SandboxDate.now = () => now;
  SandboxDate.parse = RealDate.parse;
  SandboxDate.UTC = RealDate.UTC;
  RealDate.prototype.constructor = SandboxDate;
  globalThis.Date = SandboxDate;
  delete globalThis.performance;

  // Mulberry32.
  let random = seed | 0;
  Math.random = () => {
    random = (random + 0x6d2b79f5) | 0;
    let mixed = imul(random ^ (random >>> 15), 1 | random);
    mixed = (mixed + imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };

  const { names: NAME, refusal: REFUSAL, said: SAID, lines: LINES, line: LINE } = host.limits;
  let refusal, answers, publications, lines, bytes, isStateRead, state, isRead, payload, pending, settled;

  const text = (value) => {
    const json = stringify(value === undefined ? null : value);
    if (json === undefined) throw new TypeError('a message must be JSON');
    return json;
  };
  const say = (list, parts) => {
    if (list.length >= SAID * parts.length) throw new RangeError(`at most ${SAID} of these in one run`);
    for (let at = 0; at < parts.length; at += 1) apply(push, list, [parts[at]]);
  };
  const define = (name, value) => defineProperty(globalThis, name, { value, enumerable: true });
  define('refuse', (why) => {
    if (refusal === undefined) refusal = cut(why === undefined ? 'A trigger refused this.' : why, REFUSAL);
    throw freeze(new Error('refused'));
  });
  define('answer', (event, message) => say(answers, [cut(event, NAME), text(message)]));
  define('publish', (channel, event, message) =>
    say(publications, [cut(channel, NAME), cut(event, NAME), text(message)]));
  define('log', (...values) => {
    if (lines.length >= LINES) return;
    let line = '';
    for (let at = 0; at < values.length; at += 1) {
      const value = values[at];
      line += (at ? ' ' : '') + (typeof value === 'string' ? value : stringify(value) ?? Text(value));
    }
    apply(push, lines, [cut(line, LINE)]);
  });
  defineProperty(globalThis, 'state', {
    get() {
      if (!isStateRead) {
        const kept = host.state();
        isStateRead = true;
        state = kept === undefined ? {} : parse(kept);
      }
      return state;
    },
    set(value) {
      isStateRead = true;
      state = value;
    },
  });

  const finish = (isJoin, input, result) => {
    const kept = isStateRead ? text(state) : undefined;
    let kind = 'pass', decided;
    if (refusal !== undefined) {
      kind = 'refuse';
      decided = refusal;
    } else if (isJoin) {
      if (result === false) {
        kind = 'refuse';
        decided = 'A trigger refused this.';
      }
    } else if (result !== undefined && isRead) {
      const value = result === input ? payload : result;
      if (value instanceof Bytes || value instanceof Buffer) {
        kind = 'bytes';
        decided = value instanceof Bytes ? value : new Bytes(value);
      } else {
        decided = stringify(value);
        if (decided === undefined) throw new TypeError('a payload must be JSON or bytes');
        kind = 'json';
      }
    } else if (result !== undefined && result !== input) {
      kind = 'ignored';
    }
    return [kind, decided, answers, publications, lines, kept];
  };

  const run = (handler, isJoin, head, raw) => {
    refusal = undefined;
    [answers, publications, lines] = [[], [], []];
    isStateRead = isRead = false;
    state = payload = pending = undefined;
    const input = parse(head);
    now = input.time;
    defineProperty(input, 'payload', {
      enumerable: true,
      get() {
        if (!isRead) {
          isRead = true;
          payload = typeof raw === 'string' ? parse(raw) : raw;
        }
        return payload;
      },
      set(value) {
        isRead = true;
        payload = value;
      },
    });
    let result;
    try {
      result = handler(input);
      if (result instanceof RealPromise) {
        settled = 0;
        apply(then, result, [
          (value) => { settled = 1; result = value; },
          (error) => { settled = 2; result = error; },
        ]);
        pending = () => {
          if (refusal === undefined) {
            if (settled === 0) throw new Error('the promise that the handler returned never settles');
            if (settled === 2) throw result;
          }
          return finish(isJoin, input, result);
        };
        return undefined;
      }
    } catch (error) {
      if (refusal === undefined) throw error;
    }
    return finish(isJoin, input, result);
  };
  return [run, () => pending()];
}
