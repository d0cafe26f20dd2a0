// The usual loop over everyone with the ws package. Usage: node ws.mjs PORT. A connection to /c is a member of channel c,
// one to /publish/c only publishes to it, and one to /lobby is in none.
import { WebSocketServer } from "ws";

const channels = new Map();
const server = new WebSocketServer({
  port: Number(process.argv[2]),
  host: "127.0.0.1",
  backlog: 4096,
  perMessageDeflate: false,
});

server.on("connection", (connection, request) => {
  const channel = request.url.replace(/^\/(publish\/)?/, "");
  if (!channels.has(channel)) channels.set(channel, new Set());
  const members = channels.get(channel);
  if (request.url !== "/lobby" && !request.url.startsWith("/publish/")) members.add(connection);
  connection.on("message", (message, binary) => {
    for (const member of members) if (member !== connection) member.send(message, { binary });
  });
  connection.on("close", () => {
    members.delete(connection);
    if (members.size === 0) channels.delete(channel);
  });
});
