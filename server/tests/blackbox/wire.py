"""Raw bytes over TCP: HTTP that no library would send, and WebSocket frames that no library would build."""

import json
import select
import socket
import struct
import time
import urllib.parse

from server_process import DEADLINE_S, Response, client_key

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK_KEY = b"\x37\xfa\x21\x3d"


class Wire:
    """A TCP connection to the server. Reading past the end gives `EOFError`; a reset counts as the end."""

    def __init__(self, server, receive_buffer=None, port=None, tls=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(("127.0.0.1", port or server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="one.example")
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        try:
            received = self.socket.recv(1 << 16)
        except ConnectionError:
            received = b""
        if not received:
            raise EOFError(f"the connection ended after {bytes(self.buffer[:200])!r}")
        self.buffer += received

    def take(self, count):
        while len(self.buffer) < count:
            self.receive()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def take_line(self):
        while b"\r\n" not in self.buffer:
            self.receive()
        return self.take(self.buffer.index(b"\r\n") + 2)[:-2]

    def response(self):
        """The next HTTP response."""
        version, status, *_ = self.take_line().split(b" ", 2)
        assert version in (b"HTTP/1.1", b"HTTP/1.0"), version
        headers = []
        while line := self.take_line():
            name, value = line.decode("latin-1").split(":", 1)
            headers.append((name.lower(), value.strip()))
        response = Response(int(status), headers, b"")
        if response.status not in (101, 204, 304):
            length = response.header("content-length")
            assert length is not None, f"a response without Content-Length: {headers}"
            response.body = self.take(int(length))
        return response

    def rest(self):
        """Everything until the server closes; a deadline passed is a failure."""
        deadline = time.monotonic() + DEADLINE_S
        try:
            while True:
                assert time.monotonic() < deadline, "the connection was not closed"
                self.receive()
        except EOFError:
            return bytes(self.buffer)

    def readable(self, within_s):
        return bool(self.buffer) or bool(select.select([self.socket], [], [], within_s)[0])

    def reset(self):
        """Closes with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)


def frame(opcode, payload=b"", fin=True, reserved=0, masked=True, length=None, length_form=None):
    """The bytes of one frame. `length` overrides what the header says, `length_form` (7, 16, 64) how it says it."""
    length = len(payload) if length is None else length
    form = length_form or (7 if length < 126 else 16 if length < 1 << 16 else 64)
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if form == 7:
        head += bytes([mask_bit | length])
    elif form == 16:
        head += bytes([mask_bit | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([mask_bit | 127]) + length.to_bytes(8, "big")
    return head + MASK_KEY + apply_mask(payload) if masked else head + payload


def apply_mask(payload):
    key = int.from_bytes((MASK_KEY * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")


def close_payload(code, reason=b""):
    return code.to_bytes(2, "big") + reason


class RawWebSocket(Wire):
    """A WebSocket connection made by hand, after its welcome."""

    def __init__(self, server, app="default", receive_buffer=None, also_send=b"", port=None, tls=None, **query):
        super().__init__(server, receive_buffer, port, tls)
        query = {"app": app, "key": client_key(app)} | query
        self.send(upgrade_request(urllib.parse.urlencode(query)) + also_send)
        answer = self.response()
        assert answer.status == 101, answer
        self.welcome = self.object()["welcome"]
        self.id = self.welcome["session"]

    @classmethod
    def open(cls, wire, headers=b""):
        """A WebSocket of the default app on a connection that is there already."""
        wire.send(upgrade_request(f"key={client_key()}", headers))
        answer = wire.response()
        assert answer.status == 101, (answer.status, answer.body)
        peer = cls.__new__(cls)
        peer.socket, peer.buffer = wire.socket, wire.buffer
        peer.welcome = peer.object()["welcome"]
        peer.id = peer.welcome["session"]
        return peer

    def send_frame(self, opcode, payload=b"", **options):
        self.send(frame(opcode, payload, **options))

    def send_json(self, contents):
        self.send_frame(TEXT, json.dumps(contents).encode())

    def frame(self):
        """The next frame: opcode and payload. The server does not fragment or mask what fits in a frame."""
        first, second = self.take(2)
        assert first & 0x70 == 0, "the server set a reserved bit"
        assert second & 0x80 == 0, "the server masked a frame"
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self.take(2 if length == 126 else 8), "big")
        return first & 0x0F, self.take(length)

    def object(self):
        """The contents of the next text frame; pings are answered on the way."""
        while True:
            opcode, payload = self.frame()
            if opcode == TEXT:
                return json.loads(payload)
            assert opcode == PING, (opcode, payload)
            self.send_frame(PONG, payload)

    def command(self, type, **members):
        """A command and its answer; publications on the way are passed over."""
        self.send_json({"type": type, "id": "raw"} | members)
        while (contents := self.object()).get("id") != "raw":
            pass
        return contents

    def close_code(self):
        """Passes over whatever comes before the close frame; None when the connection ends without one."""
        deadline = time.monotonic() + DEADLINE_S
        try:
            while True:
                opcode, payload = self.frame()
                assert time.monotonic() < deadline, "frames keep coming, but no close"
                if opcode == CLOSE:
                    assert len(payload) != 1, "a close frame with half a code"
                    payload[2:].decode("utf-8")
                    return int.from_bytes(payload[:2], "big") if payload else 1005
        except EOFError:
            return None


def exchange(peers, channel):
    """The peers join a channel; a message of one record of TLS, and one of several, reach each of them."""
    for peer in peers:
        assert "ok" in peer.command("join", channel=channel)
    for text in ["short", "x" * 60_000]:
        peers[0].send_json({"type": "send", "channel": channel, "event": "e", "message": text})
        for peer in peers:
            while (contents := peer.object()).get("event") != "e":
                pass
            assert contents["message"] == text


def upgrade_request(query, headers=b""):
    head = (
        f"GET /v1/ws?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    return head.encode() + headers + b"\r\n"
