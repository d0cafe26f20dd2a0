// A WebSocket server that says what a test tells it to, for what the real one does not do on request.

import { once } from "node:events";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

export const SESSION = "AAAAAAAB3kXv9QpZs0aY";

/**
 * Every connection is given to `script(peer, number)`. A peer sends objects, text or bytes, and hears commands:
 * `answers` maps their types to `ok`.
 */
export async function startScripted(after, script) {
  const http = createServer((request, response) => {
    scripted.requests.push(request.url);
    response.writeHead(403, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ code: "server_key_required", detail: "This needs the app's server key." }));
  });
  const sockets = new WebSocketServer({ noServer: true });
  http.on("upgrade", (request, socket, head) => {
    scripted.upgrades.push(new URL(request.url, "http://scripted"));
    if (scripted.refusing(request)) return socket.end("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.on("error", () => {});
      scripted.peers.push(peerOf(webSocket));
      script(scripted.peers.at(-1), scripted.peers.length, scripted.upgrades.at(-1));
    });
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const scripted = {
    url: `http://127.0.0.1:${http.address().port}`,
    peers: [],
    upgrades: [],
    requests: [],
    refusing: () => false,
  };
  after(() => {
    for (const client of sockets.clients) client.terminate();
    http.close();
    http.closeAllConnections();
  });
  return scripted;
}

function peerOf(webSocket) {
  const peer = {
    commands: [],
    /** Called with each command; answers it by itself if it returns something. */
    onCommand: () => undefined,
    send: (frame) => webSocket.send(typeof frame === "string" || Buffer.isBuffer(frame) ? frame : JSON.stringify(frame)),
    welcome: (fields = {}) => peer.send({ welcome: { session: SESSION, user: null, app: "default", ...fields } }),
    ok: (command, ok = {}) => peer.send({ id: command.id, ok }),
    close: (code, reason) => webSocket.close(code, reason),
    terminate: () => webSocket.terminate(),
  };
  webSocket.on("message", (data, binary) => {
    const frame = binary ? JSON.parse(data.subarray(2, 2 + data.readUInt16BE(0))) : JSON.parse(data);
    for (const command of [frame].flat()) {
      peer.commands.push(command);
      const ok = peer.onCommand(command);
      if (ok !== undefined) peer.ok(command, ok);
    }
  });
  return peer;
}
