// Channels on Socket.IO, with Agnost's events. Usage: node socketio.mjs PORT. With ANNOUNCE=1 members are told who joins
// and leaves.
import { createServer } from "node:http";
import { Server } from "socket.io";

const announces = process.env.ANNOUNCE === "1";
const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  allowUpgrades: false,
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  pingInterval: 25_000,
});

io.on("connection", (socket) => {
  const notify = (event, channel, echo) => {
    const notice = { channel, message: { id: socket.id } };
    if (announces) socket.to(channel).emit(event, notice);
    if (echo ?? socket.handshake.auth.echoMessages) socket.emit(event, notice);
  };
  socket.on("join", ({ channel, echo }) => {
    if (socket.rooms.has(channel)) return;
    socket.join(channel);
    notify("channel:join", channel, echo);
  });
  socket.on("leave", ({ channel, echo }) => {
    if (!socket.rooms.has(channel)) return;
    socket.leave(channel);
    notify("channel:leave", channel, echo);
  });
  socket.on("message", ({ channel, eventName, message, echo }) => {
    const all = echo ?? socket.handshake.auth.echoMessages;
    const to = all ? io : socket.broadcast;
    if (channel) to.to(channel).emit(eventName, { channel, message });
    else to.emit(eventName, { channel: null, message });
  });
  socket.on("disconnecting", () => {
    if (announces) socket.rooms.forEach((channel) => channel === socket.id || notify("channel:leave", channel, false));
  });
});

http.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
