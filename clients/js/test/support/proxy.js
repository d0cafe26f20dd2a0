// A TCP proxy that misbehaves on request: it cuts, swallows, delays and refuses.

import { connect, createServer } from "node:net";
import { once } from "node:events";

export async function startProxy(after, port) {
  const pairs = new Set();
  const state = { port, refusing: false, swallowing: false, delayMs: 0 };

  const forward = (from, to) => {
    // Each direction keeps its order, whatever the delay.
    let before = Promise.resolve();
    from.on("data", (chunk) => {
      if (state.swallowing) return;
      if (!state.delayMs) return void before.then(() => to.write(chunk));
      const waited = new Promise((resolve) => setTimeout(resolve, state.delayMs));
      before = Promise.all([before, waited]).then(() => void to.write(chunk));
    });
  };
  const server = createServer((inner) => {
    proxy.accepted += 1;
    if (state.refusing) return inner.destroy();
    const outer = connect(state.port, "127.0.0.1");
    const pair = { inner, outer };
    pairs.add(pair);
    forward(inner, outer);
    forward(outer, inner);
    for (const socket of [inner, outer]) {
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        pairs.delete(pair);
        // A silent network does not tell the other side either.
        if (!state.swallowing) for (const other of [inner, outer]) other.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy = {
    url: `http://127.0.0.1:${server.address().port}`,
    state,
    /** Connections accepted so far. */
    accepted: 0,
    /** Breaks every connection, without a closing handshake. */
    cut() {
      for (const { inner, outer } of pairs) {
        inner.resetAndDestroy();
        outer.destroy();
      }
      pairs.clear();
    },
    /** Takes nothing more from the server, until `resume`. */
    pause() {
      for (const { outer } of pairs) outer.pause();
    },
    resume() {
      for (const { outer } of pairs) outer.resume();
    },
  };
  after(() => {
    proxy.cut();
    server.close();
  });
  return proxy;
}
