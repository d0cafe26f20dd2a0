"""Section 9, the outbound queue: a client that does not read is closed or told its losses. No other client waits."""

import asyncio
import json
import re
import select
import socket
import threading
import time

import pytest

from peer import Peer, connect_many
from server_process import DEADLINE_S, App, wait_until
from wire import PING, PONG, TEXT, RawWebSocket, Wire

PADDING = "x" * 60000
# Far less than what is sent to each, but with room for several segments: a window below one segment of the loopback
# interface makes the kernel wait for its timers between bytes.
RECEIVE_BUFFER = 128 << 10
MEMORY_BOUND = 160 << 20


async def flood(publisher, readers, channel, count):
    """Publishes numbered messages, and waits for the readers after each: only those who do not read are slow."""
    kind, channel_member = ("broadcast", {}) if channel is None else ("send", {"channel": channel})
    for number in range(count):
        await publisher.ok(kind, event="flood", message=[number, PADDING], **channel_member)
        for reader in readers:
            frame = await reader.publication()
            while frame.object["event"] == "channel:leave":
                reader.left.append(frame.object["message"]["id"])
                frame = await reader.publication()
            assert (frame.object["event"], frame.object["message"][0]) == ("flood", number)
            assert frame.object.get("offset") == (None if channel is None else number + 1)


@pytest.mark.parametrize("kind", ["send", "broadcast"])
async def test_who_never_reads_is_cut_off_while_the_others_get_everything(server, channel, kind):
    sleepers = [RawWebSocket(server, "slow", receive_buffer=RECEIVE_BUFFER) for _ in range(20)]
    for sleeper in sleepers:
        assert "ok" in sleeper.command("join", channel=channel, echo=False)
    readers = await connect_many(server, 4, app="slow", echo="false")
    for number, reader in enumerate(readers):
        reader.left = []
        await reader.join(channel)
        for earlier in readers[:number]:
            await earlier.expect(event="channel:join")
    publisher = await Peer.connect(server, "slow", echo="false")
    before = server.rss_bytes()
    # 15 MB for each: more than the queue's limit and both sockets' buffers hold.
    await flood(publisher, readers, channel if kind == "send" else None, 250)
    assert server.rss_bytes() - before < MEMORY_BOUND, "the queues of those who do not read are bounded"
    for reader in readers:
        while len(reader.left) < len(sleepers):
            frame = await reader.expect(event="channel:leave")
            reader.left.append(frame.object["message"]["id"])
        assert sorted(reader.left) == sorted(sleeper.id for sleeper in sleepers), "each leaves once"
        await reader.nothing()
    for sleeper in sleepers:
        assert await asyncio.to_thread(sleeper.close_code) in (4000, None)
    for sleeper in sleepers:
        sleeper.socket.close()


class Account:
    """Counts what a slow connection received and what it was told it missed."""

    def __init__(self, peer, channel):
        self.peer = peer
        self.channel = channel
        self.received = self.missed = 0
        self.gaps = 0

    def read_until_quiet(self):
        deadline = time.monotonic() + DEADLINE_S
        while self.peer.readable(within_s=0.3):
            assert time.monotonic() < deadline, "publications keep coming"
            opcode, payload = self.peer.frame()
            if opcode == PING:
                self.peer.send_frame(PONG, payload)
                continue
            assert opcode == TEXT
            self.enter(json.loads(payload))

    def enter(self, contents):
        if "gap" in contents:
            assert contents["gap"]["channel"] == self.channel and contents["gap"]["missed"] > 0, contents
            self.missed += contents["gap"]["missed"]
            self.gaps += 1
            return
        number = contents["message"][0]
        assert number == self.received + self.missed, "the gap stands where the messages are missing"
        if self.channel is not None:
            assert contents["offset"] == number + 1
        self.received += 1


@pytest.mark.parametrize("kind", ["send", "broadcast"])
async def test_app_that_drops_tells_how_many_were_missed(server, channel, kind):
    slow = RawWebSocket(server, "dropping", receive_buffer=RECEIVE_BUFFER, echo="false")
    assert "ok" in slow.command("join", channel=channel)
    publisher, reader = await connect_many(server, 2, app="dropping", echo="false")
    where = channel if kind == "send" else None
    members = {"event": "flood"} | ({} if where is None else {"channel": where})
    await reader.join(channel)
    assert (await asyncio.to_thread(slow.object))["event"] == "channel:join"
    account = Account(slow, where)
    sent = 0

    async def publish(padding=""):
        nonlocal sent
        await publisher.ok(kind, message=[sent, padding], **members)
        frame = await reader.expect(event="flood")
        assert frame.object["message"][0] == sent, "who reads misses nothing"
        sent += 1

    before = server.rss_bytes()
    for _ in range(250):
        await publish(PADDING)
    assert server.rss_bytes() - before < MEMORY_BOUND
    deadline = time.monotonic() + DEADLINE_S
    while True:
        await asyncio.to_thread(account.read_until_quiet)
        if account.received + account.missed == sent and account.gaps:
            break
        assert time.monotonic() < deadline, f"{account.received} + {account.missed} of {sent}"
        await publish()
    assert account.missed > 0
    assert not reader.gaps
    await publish()
    await asyncio.to_thread(account.read_until_quiet)
    assert account.received + account.missed == sent
    assert "ok" in slow.command("ping"), "the connection lives on"
    slow.socket.close()


async def test_reader_that_only_pauses_loses_nothing(server, channel):
    publisher = await Peer.connect(server, "slow")
    slow = RawWebSocket(server, "slow", receive_buffer=RECEIVE_BUFFER)
    assert "ok" in slow.command("join", channel=channel, echo=False)
    for number in range(12):
        await publisher.ok("send", channel=channel, event="e", message=[number, PADDING])

    def read_all():
        for number in range(12):
            contents = slow.object()
            assert (contents["message"][0], contents["offset"]) == (number, number + 1)

    await asyncio.to_thread(read_all)
    slow.socket.close()


def test_commands_of_a_peer_that_never_reads_do_not_pile_up(server):
    """Answers take room in the outbound queue too."""
    with RawWebSocket(server, "slow", receive_buffer=RECEIVE_BUFFER) as peer:
        before = server.rss_bytes()
        peer.socket.settimeout(2.0)
        text = json.dumps([{"type": "ping", "id": "i" * 64}] * 256)
        try:
            for _ in range(1000):
                peer.send_frame(TEXT, text.encode())
        except OSError:
            pass
        assert server.rss_bytes() - before < MEMORY_BOUND
    wait_until(server.alive)


@pytest.mark.parametrize("shape", ["frames", "batch"])
def test_who_asks_for_much_at_once_gets_all_of_it(start_server, channel, shape):
    """Each command waits until the client has read more of the earlier answers."""
    limits = {"outbound_bytes": 4 << 20, "messages_per_second": 0}
    server = start_server(apps=[App("default", {"history_messages": 20}, limits)])
    pages = 200
    with RawWebSocket(server) as publisher, RawWebSocket(server, receive_buffer=RECEIVE_BUFFER) as asking:
        for number in range(20):
            assert "ok" in publisher.command("send", channel=channel, event="e", message=[number, PADDING])
        assert "ok" in asking.command("join", channel=channel, echo=False)
        before = server.rss_bytes()
        commands = [{"type": "history", "channel": channel, "id": str(at), "limit": 20} for at in range(pages)]
        for at, command in enumerate(commands):
            if shape == "frames":
                asking.send_json(command)
            elif at == 0:
                asking.send_json(commands)
        assert "ok" in publisher.command("ping")
        for at in range(pages):
            answer = asking.object()
            assert answer["id"] == str(at) and len(answer["ok"]["messages"]) > 10, "answers keep their order"
            assert server.rss_bytes() - before < 32 << 20
        assert "ok" in asking.command("ping")
    assert server.counted("slow_consumers_total") == 0


@pytest.mark.parametrize("shape", ["frames", "batch"])
def test_who_neither_reads_nor_pongs_is_closed(start_server, channel, shape):
    """However its commands came: those of a batch wait in the middle of it."""
    server = start_server(
        server={"ping_interval_ms": 1000},
        apps=[App("default", {"history_messages": 20}, {"outbound_bytes": 4 << 20, "messages_per_second": 0})],
    )
    with RawWebSocket(server, receive_buffer=RECEIVE_BUFFER) as peer:
        assert "ok" in peer.command("join", channel=channel)
        for number in range(20):
            assert "ok" in peer.command("send", channel=channel, event="e", message=[number, PADDING], echo=False)
        commands = [{"type": "history", "channel": channel, "id": str(at), "limit": 20} for at in range(100)]
        if shape == "frames":
            for command in commands:
                peer.send_json(command)
        else:
            peer.send_json(commands)
        wait_until(lambda: server.counted("ping_timeouts_total") == 1, within_s=30)


# HTTP: answers wait in the server only up to a bound, and beyond it no more requests are read.


REQUEST = b"GET /v1/nothing HTTP/1.1\r\nHost: a\r\n\r\n"
# Both sockets' buffers on the way there and back hold far less.
TAKEN_BOUND = 24 << 20
ANSWERS_BOUND = 16 << 20


def pipeline_until_stuck(server, wire, request=REQUEST):
    """Sends requests and reads nothing until nothing is taken any more. Returns how many bytes were."""
    before = server.rss_bytes()
    batch, taken = request * (65536 // len(request)), 0
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
    wire.socket.setblocking(False)
    while select.select([], [wire.socket], [], 0.5)[1]:
        taken += wire.socket.send(batch[taken % len(request) :])
        assert taken < TAKEN_BOUND, "the server reads on"
        assert server.rss_bytes() - before < ANSWERS_BOUND, "answers pile up"
    wire.socket.settimeout(DEADLINE_S)
    return taken


@pytest.mark.parametrize("port", ["port", "admin_port"])
def test_requests_of_a_peer_that_never_reads_are_not_read(server, port):
    request = REQUEST if port == "port" else b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    with Wire(server, receive_buffer=RECEIVE_BUFFER, port=getattr(server, port)) as wire:
        pipeline_until_stuck(server, wire, request)
    assert "ok" in RawWebSocket(server).command("ping")


def without_date(answer):
    return re.sub(rb"\r\ndate: [^\r]{29}\r\n", b"\r\n", answer)


@pytest.mark.parametrize("ends", [False, True], ids=["open", "half closed"])
def test_peer_that_reads_late_gets_all_its_answers(server, ends):
    with Wire(server, receive_buffer=RECEIVE_BUFFER) as wire:
        taken = pipeline_until_stuck(server, wire)
        whole, part = divmod(taken, len(REQUEST))
        rest = REQUEST[part:] if part else b""

        def finish():
            wire.send(rest)
            if ends:
                wire.half_close()

        # The socket takes the rest of the last request when the server reads again.
        sender = threading.Thread(target=finish)
        sender.start()
        first = wire.take_line() + b"\r\n"
        while not first.endswith(b"\r\n\r\n"):
            first += wire.take_line() + b"\r\n"
        length = int(re.search(rb"content-length: (\d+)", first)[1])
        answer = first + wire.take(length)
        for _ in range(whole + bool(rest) - 1):
            assert without_date(wire.take(len(answer))) == without_date(answer)
        sender.join()
        if ends:
            assert wire.rest() == b""
        else:
            wire.send(REQUEST)
            assert wire.response().status == 404


def test_peer_that_takes_nothing_is_closed_and_counted(start_server):
    server = start_server(server={"request_timeout_ms": 2000})
    with Wire(server, receive_buffer=RECEIVE_BUFFER) as wire, Wire(server) as other:
        pipeline_until_stuck(server, wire)
        other.send(REQUEST)
        assert other.response().status == 404
        wait_until(lambda: server.counted("stalled_total") == 1)
        wait_until(lambda: server.counted("connections") == 1)
        other.send(REQUEST)
        assert other.response().status == 404, "whoever reads is not closed"
