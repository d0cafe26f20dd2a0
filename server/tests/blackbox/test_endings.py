"""The end of a connection: whatever the server accepted is answered before it, and every sent byte is counted once."""

import json
import socket

import pytest

from server_process import App, wait_until
from test_slow_consumers import RECEIVE_BUFFER
from wire import CLOSE, TEXT, RawWebSocket, close_payload, frame

COMMANDS = 20
ROUNDS = 60
MESSAGES = 101


def commands(channel):
    for number in range(COMMANDS):
        command = {"type": "send", "channel": channel, "event": "e", "message": number, "id": number}
        yield frame(TEXT, json.dumps(command).encode())


def end_with(peer, data):
    """Sends `data` and FIN in one segment, as far as the kernel has its way."""
    peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    peer.send(data)
    peer.half_close()


@pytest.mark.parametrize("last", ["close frame and FIN", "FIN"])
def test_commands_before_the_end_are_answered_and_then_the_close_frame_comes(server, channel, last):
    for _ in range(ROUNDS):
        with RawWebSocket(server) as peer:
            data = b"".join(commands(channel))
            if last != "FIN":
                data += frame(CLOSE, close_payload(1001))
            end_with(peer, data)
            for number in range(COMMANDS):
                opcode, payload = peer.frame()
                assert (opcode, json.loads(payload)["id"]) == (TEXT, number)
            opcode, payload = peer.frame()
            code = 1001 if last != "FIN" else 1000
            assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
            assert peer.rest() == b""


def test_one_command_in_the_same_segment_as_close_and_fin_is_answered(server, channel):
    for _ in range(ROUNDS):
        with RawWebSocket(server) as peer:
            end_with(peer, frame(TEXT, b'{"type":"ping","id":1}') + frame(CLOSE, close_payload(1000)))
            opcode, payload = peer.frame()
            assert (opcode, json.loads(payload)["id"]) == (TEXT, 1)
            assert peer.frame()[0] == CLOSE


class CountingWebSocket(RawWebSocket):
    """Counts every byte that arrives, that of the handshake's answer included."""

    received = 0

    def receive(self):
        before = len(self.buffer)
        super().receive()
        self.received += len(self.buffer) - before


def test_every_byte_sent_is_counted_once(start_server, channel):
    """At once or from the queue: 6 MB to a peer whose socket holds little."""
    server = start_server(apps=[App("default", limits={"outbound_bytes": 16 << 20})])
    with CountingWebSocket(server, receive_buffer=RECEIVE_BUFFER) as reader, CountingWebSocket(server) as sender:
        assert "ok" in reader.command("join", channel=channel, echo=False)
        for _ in range(MESSAGES):
            assert "ok" in sender.command("send", channel=channel, event="e", message="x" * 60_000)
        for _ in range(MESSAGES):
            assert reader.object()["event"] == "e"
        assert reader.received > 6_000_000
        wait_until(lambda: server.counted("sent_bytes_total") == reader.received + sender.received)
