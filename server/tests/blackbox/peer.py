"""One asynchronous WebSocket connection, seen from outside.

A task reads all the time and sorts what arrives: answers go to whoever waits for their id, publications, gaps and
errors without id to queues, and everything to `frames` in the order of arrival with its raw text. Nothing here sleeps:
`fence` and `settle` turn "nothing more arrives" into something that can be waited for.
"""

import asyncio
import itertools
import json
import urllib.parse
import uuid
from dataclasses import dataclass

from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from server_process import DEADLINE_S, client_key

SETTLE_PREFIX = "settle:"


@dataclass
class Frame:
    """What the server sent: `text` is None for a binary frame, `payload` is None for a text frame."""

    object: dict
    text: str = None
    payload: bytes = None

    @classmethod
    def parse(cls, data):
        if isinstance(data, str):
            return cls(json.loads(data), text=data)
        length = int.from_bytes(data[:2], "big")
        assert len(data) >= 2 + length, f"the envelope's length {length} does not fit: {data!r}"
        return cls(json.loads(data[2 : 2 + length]), payload=data[2 + length :])


def binary_frame(envelope, payload):
    head = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
    return len(head).to_bytes(2, "big") + head + payload


class Peer:
    """A connection; every peer that a test opens is closed when the test ends."""

    opened = []

    def __init__(self, connection):
        self.connection = connection
        self.frames = []
        self.publications = asyncio.Queue()
        self.errors = asyncio.Queue()
        self.gaps = []
        self._answers = {}
        self._settled = {}
        self._ids = itertools.count(1)
        self._first = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())
        Peer.opened.append(self)

    @classmethod
    async def connect(cls, server, app="default", key=None, session=None, echo=None, binary=None, **options):
        """Connects and reads the welcome. `options` are those of `websockets`."""
        query = {"key": key or client_key(app), "session": session, "echo": echo, "binary": binary}
        if app != "default":
            query["app"] = app
        query = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        peer = cls(await cls.open(server, query, **options))
        peer.welcome = (await asyncio.wait_for(peer._first, DEADLINE_S)).object["welcome"]
        peer.id = peer.welcome["session"]
        return peer

    @staticmethod
    async def open(server, query, **options):
        settings = {"compression": None, "ping_interval": None, "max_size": None, "max_queue": None, "proxy": None}
        settings |= {"open_timeout": DEADLINE_S, "close_timeout": 1}
        return await open_websocket(f"ws://127.0.0.1:{server.port}/v1/ws?{query}", **(settings | options))

    async def _read(self):
        try:
            while True:
                self._sort(Frame.parse(await self.connection.recv()))
        except ConnectionClosed as reason:
            self._fail(reason)
        except Exception as reason:
            self._fail(reason)
            raise

    def _fail(self, reason):
        for waiting in [self._first, *self._answers.values(), *self._settled.values()]:
            if not waiting.done():
                waiting.set_exception(reason)
                waiting.exception()

    def _sort(self, frame):
        self.frames.append(frame)
        contents = frame.object
        if not self._first.done():
            self._first.set_result(frame)
        elif "event" in contents:
            channel = contents["channel"]
            if channel is None or not channel.startswith(SETTLE_PREFIX):
                self.publications.put_nowait(frame)
            elif contents["event"] == "settled":
                self._settled[channel].set_result(None)
        elif "gap" in contents:
            self.gaps.append(contents["gap"])
        elif "id" in contents:
            # An answer that nobody waits for is one a test reads from `frames`.
            if answer := self._answers.pop(contents["id"], None):
                answer.set_result(frame)
        elif set(contents) == {"reconnect_after_ms"}:
            self.reconnect_after_ms = contents["reconnect_after_ms"]
        else:
            assert set(contents) == {"error"}, f"a frame of no known kind: {frame}"
            self.errors.put_nowait(frame)

    # Sending

    async def send(self, data):
        """Text or bytes as they are; anything else as JSON."""
        await self.connection.send(data if isinstance(data, (str, bytes)) else json.dumps(data))

    async def tell(self, type, **members):
        """A command without id."""
        await self.send({"type": type} | members)

    async def answer_to(self, command_id, data):
        """Sends a frame that holds a command with this id, returns the frame of its answer."""
        waiting = asyncio.get_running_loop().create_future()
        self._answers[command_id] = waiting
        await self.send(data)
        return await asyncio.wait_for(waiting, DEADLINE_S)

    async def command(self, type, **members):
        """A command with an id; returns its whole answer."""
        command_id = next(self._ids)
        frame = await self.answer_to(command_id, {"type": type, "id": command_id} | members)
        assert set(frame.object) in ({"id", "ok"}, {"id", "error"}), frame
        return frame.object

    async def ok(self, type, **members):
        answer = await self.command(type, **members)
        assert "ok" in answer, answer
        return answer["ok"]

    async def refused(self, type, **members):
        """The command fails; returns the code."""
        answer = await self.command(type, **members)
        assert "error" in answer, answer
        return error_code(answer)

    async def send_payload(self, envelope, payload):
        """A binary frame; waits for its answer."""
        command_id = next(self._ids)
        return (await self.answer_to(command_id, binary_frame(envelope | {"id": command_id}, payload))).object

    async def join(self, *channels, **members):
        for channel in channels:
            await self.ok("join", channel=channel, **members)

    # Receiving

    async def publication(self):
        return await asyncio.wait_for(self.publications.get(), DEADLINE_S)

    async def expect(self, **members):
        """The next publication has these members."""
        frame = await self.publication()
        seen = {name: frame.object.get(name, "(absent)") for name in members}
        assert seen == members, f"expected {members}, received {frame}"
        return frame

    async def error(self):
        """The code of the next error that has no id."""
        frame = await asyncio.wait_for(self.errors.get(), DEADLINE_S)
        return error_code(frame.object)

    async def fence(self):
        """Everything that the server had queued for this connection has arrived."""
        return await self.ok("ping")

    def drained(self):
        """The publications that have arrived and were not yet taken."""
        taken = []
        while not self.publications.empty():
            taken.append(self.publications.get_nowait())
        return taken

    async def nothing(self):
        """No publication and no error is there, up to a fence."""
        await self.fence()
        self.assert_nothing_waits()

    def assert_nothing_waits(self):
        assert not (rest := self.drained()), f"unexpected publications: {rest}"
        assert self.errors.empty(), f"unexpected error: {self.errors.get_nowait()}"

    # Ending

    async def close_code(self):
        """Waits for the end of the connection; 1006 means without a close frame."""
        await asyncio.wait_for(self.connection.wait_closed(), DEADLINE_S)
        await asyncio.wait_for(asyncio.wait([self._reader]), DEADLINE_S)
        return self.connection.close_code

    async def close(self, code=1000):
        await asyncio.wait_for(self.connection.close(code), DEADLINE_S)

    def reset(self):
        """Ends the TCP connection without a goodbye."""
        self.connection.transport.abort()


async def connect_many(server, count, **options):
    """Peers enough to be sure that several workers have some."""
    return list(await asyncio.gather(*(Peer.connect(server, **options) for _ in range(count))))


async def settle(sender, *receivers):
    """Whatever `sender` caused so far has arrived at the receivers.

    A fence between two connections: the sender publishes to a channel of its own making after all it did before, and
    each receiver waits for that.
    """
    channel = SETTLE_PREFIX + uuid.uuid4().hex[:16]
    for peer in dict.fromkeys([*receivers, sender]):
        peer._settled[channel] = asyncio.get_running_loop().create_future()
        await peer.ok("join", channel=channel, echo=False)
    await sender.ok("send", channel=channel, event="settled", echo=True)
    for peer in dict.fromkeys([*receivers, sender]):
        await asyncio.wait_for(peer._settled[channel], DEADLINE_S)
        await peer.ok("leave", channel=channel, echo=False)


async def assert_silence(sender, *receivers):
    """Nothing that `sender` caused has reached the receivers."""
    await settle(sender, *receivers)
    for peer in receivers:
        peer.assert_nothing_waits()


def error_code(contents):
    error = contents["error"]
    assert isinstance(error["message"], str) and error["message"], contents
    return error["code"]


async def close_opened_peers():
    peers, Peer.opened = Peer.opened, []
    for peer in peers:
        peer.reset()
    if peers:
        await asyncio.wait([peer._reader for peer in peers], timeout=DEADLINE_S)
    for peer in peers:
        if peer._reader.done() and not peer._reader.cancelled() and peer._reader.exception():
            raise peer._reader.exception()
