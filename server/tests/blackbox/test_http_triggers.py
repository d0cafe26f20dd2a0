"""Triggers that ask an app's back end: docs/TRIGGERS.md, "Triggers that ask the back end"."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tokens
from back_end import PASS, BackEnd
from peer import Peer, assert_silence
from server_process import App, Server, config_text, wait_until
from test_tls import certificate

SECRET = "a-secret-of-the-back-end"
FAILED = "trigger_failed"


@pytest.fixture
def back_end():
    """Makes back ends, which end with the test."""
    made = []

    def make(*arguments, **settings):
        made.append(BackEnd(*arguments, **settings))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def trigger(url, name="asks", channel="room*", **settings):
    return {"name": name, "channel": channel, "url": url, "secret": SECRET} | settings


def app(*triggers, limits=None, **settings):
    settings = {"sender_edits": True, "history_messages": 10, "announce": False} | settings
    return App("default", settings, limits or {}, triggers=list(triggers))


@pytest.fixture
def start(start_server):
    """Starts a server whose only app has these triggers."""

    def start(*triggers, server=None, **settings):
        return start_server(apps=[app(*triggers, **settings)], server=server)

    return start


async def chat(peer, message, channel="room"):
    """Sends a message; returns `ok` or the error."""
    answer = await peer.command("send", channel=channel, event="chat", message=message)
    return answer.get("error", "ok")


async def member(server, channel="room", **options):
    peer = await Peer.connect(server, **options)
    await peer.join(channel)
    return peer


# Verdicts


async def test_a_verdict_passes_replaces_or_refuses(start, back_end):
    def decide(event):
        return {
            "keep": PASS,
            "change": {"verdict": "replace", "payload": {"was": event["payload"]}},
            "nothing": {"verdict": "replace", "payload": None},
            "bytes": {"verdict": "replace", "base64": base64.b64encode(b"\0\xff").decode()},
            "stop": {"verdict": "refuse", "why": "No."},
        }[event["payload"]]

    server = start(trigger(back_end(decide).url()))
    reader, writer = await member(server), await Peer.connect(server)
    for message in ["keep", "change", "nothing", "bytes"]:
        assert await chat(writer, message) == "ok"
    assert await chat(writer, "stop") == {"code": "refused", "message": "No."}
    await reader.expect(message="keep")
    await reader.expect(message={"was": "change"})
    await reader.expect(message=None)
    assert (await reader.publication()).payload == b"\0\xff"
    await assert_silence(writer, reader)


async def test_the_request_tells_what_a_script_is_told(start, back_end):
    back = back_end()
    server = start(trigger(back.url(), actions=["message", "join"], scope=["channel", "broadcast"]))
    leia = await Peer.connect(server, session=tokens.token("leia"))
    await leia.join("room")
    await leia.ok("send", channel="room", event="chat", message={"a": [1.0, "é"]}, to_users=["leia"])
    await leia.send_payload({"type": "send", "channel": "room", "event": "raw"}, b"\0\xff")
    await leia.ok("broadcast", event="all", message=1)
    join, chat, raw, broadcast = back.events
    assert (join["action"], join["kind"], join["payload"], join["app"]) == ("join", "join", None, "default")
    assert join["client"]["id"] == leia.id and join["client"]["user"] == "leia"
    assert abs(join["time"] / 1000 - time.time()) < 60
    assert chat | {"action": "message", "kind": "message", "channel": "room", "event": "chat"} == chat
    assert chat["payload"] == {"a": [1.0, "é"]} and chat["options"]["to_users"] == ["leia"]
    assert (raw["payload"], base64.b64decode(raw["base64"])) == (None, b"\0\xff")
    assert (broadcast["channel"], broadcast["event"]) == (None, "all")
    assert "base64" not in chat
    assert {request.path for request in back.requests} == {"/fanfare?x=1"}
    headers = back.requests[0].headers
    assert headers["host"] == f"127.0.0.1:{back.port}"
    assert headers["content-type"] == headers["accept"] == "application/json"


async def test_a_join_is_admitted_or_refused(start, back_end):
    def decide(event):
        words = {"room-open": "replace", "room-closed": "refuse"}
        return {"verdict": words[event["channel"]], "payload": 1, "why": "Closed."}

    server = start(trigger(back_end(decide).url(), actions=["join"]))
    peer = await Peer.connect(server)
    await peer.join("room-open")
    answer = await peer.command("join", channel="room-closed")
    assert answer["error"] == {"code": "refused", "message": "Closed."}


async def test_a_verdict_answers_the_sender_and_publishes(start, back_end):
    def decide(event):
        said = {"answer": [{"event": "hint", "message": [1]}], "publish": [{"channel": "log", "event": "told"}]}
        return {"verdict": "refuse"} | said

    server = start(trigger(back_end(decide).url()))
    log, peer = await member(server, "log"), await member(server)
    assert (await chat(peer, 1))["code"] == "refused"
    await peer.expect(event="hint", channel="room", message=[1])
    await log.expect(event="told", channel="log", message=None)


async def test_a_script_and_a_back_end_follow_each_other(start, back_end):
    back = back_end(lambda event: {"verdict": "replace", "payload": event["payload"] + "b"})
    script = {"channel": "room*", "source": "export const message = (input) => input.payload + 's'"}
    server = start({"name": "first"} | script, trigger(back.url()), {"name": "last"} | script)
    peer = await member(server)
    assert await chat(peer, "x") == "ok"
    await peer.expect(message="xsbs")
    assert back.events[0]["payload"] == "xs"


# The signature


async def test_another_implementation_verifies_the_signature(start, back_end):
    back = back_end()
    server = start(trigger(back.url()))
    peer = await Peer.connect(server)
    assert await chat(peer, {"text": "é\n"}) == "ok"
    request = back.requests[0]
    parts = dict(part.split("=", 1) for part in request.headers["fanfare-signature"].split(","))
    assert set(parts) == {"t", "v1"} and abs(int(parts["t"]) - time.time()) < 60
    signed = parts["t"].encode() + b"." + request.body
    assert parts["v1"] == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    # OpenSSL has an implementation of its own.
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"key:{SECRET}", "-hex"]
    done = subprocess.run(command, input=signed, capture_output=True, timeout=30, check=True)
    assert parts["v1"] in done.stdout.decode()


# Failures


def raw(*parts, close=True):
    """A reply of these bytes, after which the back end closes the connection, or keeps it."""

    def reply(handler, request):
        for part in parts:
            handler.wfile.write(part)
        handler.close_connection = close

    return reply


def answering(*arguments, **settings):
    return lambda handler, request: handler.answer(*arguments, **settings)


def head(*lines, status="200 OK"):
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *lines, "", ""]
    return "\r\n".join(lines).encode()


GOOD = json.dumps(PASS).encode()
LENGTH = f"Content-Length: {len(GOOD)}"

WRONG = {
    "status 500": answering(PASS, 500),
    "status 204": answering(b"", 204),
    "status 201": answering(PASS, 201),
    "a redirect": answering(PASS, 307, Location="/elsewhere"),
    "no JSON": answering(b'{"verdict":'),
    "HTML": answering(b"<html>", content_type="text/html"),
    "JSON with another type": answering(PASS, content_type="text/plain"),
    "no type": raw(f"HTTP/1.1 200 OK\r\n{LENGTH}\r\n\r\n".encode(), GOOD),
    "an encoded body": answering(PASS, Content_Encoding="gzip"),
    "no verdict": answering({}),
    "another word": answering({"verdict": "maybe"}),
    "a list for one event": answering({"verdicts": [PASS]}),
    "no replacement": answering({"verdict": "replace"}),
    "nothing": raw(),
    "half a head": raw(head(LENGTH)[:-2]),
    "half a body": raw(head(LENGTH), GOOD[:-1]),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "a large head": raw(head(*[f"X-{n}: {'x' * 8000}" for n in range(10)], LENGTH), GOOD),
    "many headers": raw(head(*[f"X-{n}: 1" for n in range(200)], LENGTH), GOOD),
    "a large body": answering({"verdict": "replace", "payload": "x" * 5000}),
    "a large body in chunks": raw(head("Transfer-Encoding: chunked"), *[b"400\r\n" + b" " * 1024 + b"\r\n"] * 20),
    "a huge length": raw(head("Content-Length: 1000000000000"), GOOD),
    "two lengths": raw(head(LENGTH, "Content-Length: 1"), GOOD),
    "a wrong chunk": raw(head("Transfer-Encoding: chunked"), b"zz\r\n"),
    "a deep replacement": answering(b'{"verdict":"replace","payload":' + b"[" * 200 + b"]" * 200 + b"}"),
    "an upgrade": raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_an_answer_that_is_no_verdict_is_a_failure(start, back_end, kind):
    back = back_end(reply=WRONG[kind])
    settings = {"output_bytes": 4096, "timeout_ms": 30000, "breaker_failures": 1000}
    server = start(
        trigger(back.url(), "refuses", "refuses", **settings),
        trigger(back.url(), "passes", "passes", on_error="pass", **settings),
    )
    peer = await member(server, "passes")
    assert (await chat(peer, 1, "refuses"))["code"] == FAILED
    assert await chat(peer, 2, "passes") == "ok"
    await peer.expect(message=2)
    assert [event["payload"] for event in back.events] == [1, 2], "no request is sent twice"
    back.reply = None
    assert await chat(peer, 3, "refuses") == "ok", "the next request succeeds"


# The second chunk and the end.
REST = [b"\r\n", f"{len(GOOD) - 8:x}\r\n".encode(), GOOD[8:], b"\r\n0\r\n\r\n"]

RIGHT = {
    "chunks": raw(head("Transfer-Encoding: chunked"), b"8;x=y\r\n", GOOD[:8], *REST, close=False),
    "an early hint": raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", head(LENGTH), GOOD, close=False),
    "a body up to the end": raw(head("Connection: close"), GOOD),
    "a parameter of the type": answering(PASS, content_type="Application/JSON; charset=utf-8"),
}


@pytest.mark.parametrize("kind", RIGHT)
async def test_other_ways_to_answer(start, back_end, kind):
    back = back_end(reply=RIGHT[kind])
    server = start(trigger(back.url(), timeout_ms=30000))
    peer = await Peer.connect(server)
    assert [await chat(peer, n) for n in range(3)] == ["ok"] * 3


@pytest.mark.parametrize("kind", ["silent", "dripping"])
async def test_a_slow_back_end_fails_at_its_deadline(start, back_end, kind):
    end = threading.Event()

    def reply(handler, request):
        if kind == "dripping":
            handler.wfile.write(head("Content-Length: 1000000"))
        # A back end that drips has never more than a moment's pause.
        while not end.wait(0.02):
            if kind == "dripping":
                handler.wfile.write(b" ")

    back = back_end(reply=reply)
    server = start(trigger(back.url(), timeout_ms=300, output_bytes=2000000))
    peer = await Peer.connect(server)
    began = time.monotonic()
    assert (await chat(peer, 1))["code"] == FAILED
    assert time.monotonic() - began >= 0.3
    end.set()


async def test_a_back_end_that_is_not_there_is_a_failure(start, back_end):
    back = back_end()
    back.stop()
    server = start(trigger(back.url()), trigger("http://no.such.name.invalid/", "lost", "lost"))
    peer = await Peer.connect(server)
    assert (await chat(peer, 1))["code"] == FAILED
    assert (await chat(peer, 1, "lost"))["code"] == FAILED


# Connections


async def test_a_connection_is_kept_and_one_closed_while_idle_is_replaced(start, back_end):
    back = back_end()
    server = start(trigger(back.url(), keep_alive_ms=600000))
    peer = await Peer.connect(server)
    assert [await chat(peer, n) for n in range(20)] == ["ok"] * 20
    assert back.connections == 1
    back.close_after_reply = True
    for n in range(5):
        back.closed.clear()
        assert await chat(peer, n) == "ok"
        assert await asyncio.to_thread(back.closed.wait, 30)
    assert [event["payload"] for event in back.events] == [*range(20), *range(5)], "each message came once"


async def test_a_connection_that_is_idle_too_long_is_closed(start, back_end):
    back = back_end()
    server = start(trigger(back.url(), keep_alive_ms=1))
    peer = await Peer.connect(server)
    assert await chat(peer, 1) == "ok"
    assert await asyncio.to_thread(back.closed.wait, 30)


class Gate:
    """Back ends wait at it; `entered` tells how many."""

    def __init__(self):
        self.open = threading.Event()
        self.entered = 0

    def __call__(self, event):
        self.entered += 1
        assert self.open.wait(30)
        return PASS


async def test_connections_are_bounded_and_events_wait_for_them(start, back_end):
    gate = Gate()
    back = back_end(gate)
    server = start(trigger(back.url(), connections=3, timeout_ms=60000))
    reader = await member(server)
    peers = [await Peer.connect(server) for _ in range(8)]
    sent = [asyncio.create_task(chat(peer, n)) for n, peer in enumerate(peers)]
    await asyncio.to_thread(wait_until, lambda: gate.entered == 3, 30)
    await reader.fence()
    assert (gate.entered, back.connections) == (3, 3)
    gate.open.set()
    assert await asyncio.gather(*sent) == ["ok"] * 8
    assert back.connections == 3
    assert sorted([(await reader.publication()).object["message"] for _ in peers]) == [*range(8)]


async def test_what_waits_is_bounded_and_more_is_overloaded(start, back_end):
    gate = Gate()
    back = back_end(gate)
    limits = {"trigger_calls": 4}
    server = start(trigger(back.url(), connections=1, timeout_ms=60000), limits=limits)
    peers = [await Peer.connect(server) for _ in range(8)]
    sent = [asyncio.create_task(chat(peer, n)) for n, peer in enumerate(peers)]
    done = []
    for next_done in asyncio.as_completed(sent):
        done.append(await next_done)
        if len(done) == 4:
            gate.open.set()
    assert [answer["code"] for answer in done[:4]] == ["overloaded"] * 4
    assert done[4:] == ["ok"] * 4
    assert await chat(peers[0], "again") == "ok"


# Order and batches


async def test_a_session_keeps_its_order_behind_a_slow_back_end(start, back_end):
    first = threading.Event()

    def decide(event):
        if event["payload"] == [0, 0]:
            assert first.wait(30)
        return PASS

    back = back_end(decide)
    server = start(trigger(back.url(), connections=8, timeout_ms=60000))
    reader, slow, quick = await member(server), await Peer.connect(server), await Peer.connect(server)
    for n in range(50):
        await slow.tell("send", channel="room", event="chat", message=[0, n])
    assert [await chat(quick, [1, n]) for n in range(5)] == ["ok"] * 5, "other sessions go on"
    assert [event["payload"] for event in back.events if event["payload"][0] == 0] == [[0, 0]]
    first.set()
    seen = [(await reader.publication()).object["message"] for _ in range(55)]
    assert seen == [[1, n] for n in range(5)] + [[0, n] for n in range(50)]
    told = [event["payload"] for event in back.events if event["payload"][0] == 0]
    assert told == [[0, n] for n in range(50)], "the back end has them in their order"


async def test_a_join_and_the_messages_behind_it_keep_their_order(start, back_end):
    back = back_end()
    server = start(trigger(back.url(), actions=["join", "message"], batch=16))
    peer = await Peer.connect(server)
    await peer.tell("join", channel="room")
    for n in range(200):
        await peer.tell("send", channel="room", event="chat", message=n)
    assert [(await peer.publication()).object["message"] for _ in range(200)] == [*range(200)]
    assert [event["kind"] for event in back.events] == ["join"] + ["message"] * 200


async def test_events_that_wait_travel_together_and_each_has_its_verdict(start, back_end):
    first = threading.Event()

    def decide(event):
        n = event["payload"]
        if n == "first":
            assert first.wait(30)
        # The verdicts of a request differ, and one in four is none.
        if n in ("first", 0):
            return PASS
        return [{"verdict": "replace", "payload": n * 10}, {"verdict": "refuse", "why": str(n)}, None, PASS][n % 4]

    back = back_end(decide)
    server = start(trigger(back.url(), connections=1, batch=7, timeout_ms=60000))
    reader, blocker = await member(server), await Peer.connect(server)
    blocked = asyncio.create_task(chat(blocker, "first"))
    await asyncio.to_thread(wait_until, lambda: back.requests, 30)
    peers = [await Peer.connect(server) for _ in range(4)]
    before = server.counted("commands_total")
    sent = [asyncio.create_task(chat(peers[n % 4], n)) for n in range(40)]
    await asyncio.to_thread(wait_until, lambda: server.counted("commands_total") == before + 40, 30)
    first.set()
    assert await blocked == "ok"
    for n, answer in enumerate(await asyncio.gather(*sent)):
        if n % 4 == 1:
            assert answer == {"code": "refused", "message": str(n)}
        elif n % 4 == 2:
            assert answer["code"] == FAILED, "a verdict that is none fails its own event"
        else:
            assert answer == "ok"
    assert [len(request.events) for request in back.requests] == [1, 7, 7, 7, 7, 7, 5]
    seen = [(await reader.publication()).object["message"] for _ in range(21)]
    seen.remove("first")
    assert sorted(seen) == sorted([n * 10 if n % 4 == 0 else n for n in range(40) if n % 4 in (0, 3)])


@pytest.mark.parametrize("verdicts", [[], [PASS, PASS], None])
async def test_another_number_of_verdicts_fails_every_event_of_the_request(start, back_end, verdicts):
    back = back_end(reply=answering({"verdicts": verdicts}))
    server = start(trigger(back.url(), batch=10))
    peer = await Peer.connect(server)
    assert (await chat(peer, 1))["code"] == FAILED


# The breaker


@pytest.mark.parametrize("on_error", ["refuse", "pass"])
async def test_the_breaker_opens_and_an_open_one_asks_nobody(start, back_end, on_error):
    back = back_end(reply=answering(PASS, 503))
    server = start(trigger(back.url(), breaker_failures=3, breaker_ms=600000, on_error=on_error))
    peer = await member(server)
    for n in range(10):
        answer = await chat(peer, n)
        if on_error == "pass":
            assert answer == "ok"
            await peer.expect(message=n)
        else:
            assert answer["code"] == FAILED
    assert len(back.requests) == 3


async def test_the_breaker_closes_after_a_request_that_succeeds(start, back_end):
    back = back_end(reply=answering(PASS, 503))
    server = start(trigger(back.url(), breaker_failures=2, breaker_ms=50))
    peer = await Peer.connect(server)
    for n in range(2):
        assert (await chat(peer, n))["code"] == FAILED
    back.reply = None
    deadline = time.monotonic() + 30
    while await chat(peer, "again") != "ok":
        assert time.monotonic() < deadline
    assert [await chat(peer, n) for n in range(20)] == ["ok"] * 20


async def test_a_failure_between_successes_does_not_open_the_breaker(start, back_end):
    def reply(handler, request):
        handler.answer(PASS, 500 if request.events[0]["payload"] % 2 else 200)

    back = back_end(reply=reply)
    server = start(trigger(back.url(), breaker_failures=2, breaker_ms=600000))
    peer = await Peer.connect(server)
    answers = [await chat(peer, n) for n in range(20)]
    assert [answer == "ok" for answer in answers] == [n % 2 == 0 for n in range(20)]
    assert len(back.requests) == 20


# TLS


@pytest.fixture(scope="session")
def authorities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authorities")
    certificate(folder, "root")
    certificate(folder, "stranger")
    certificate(folder, "right", "localhost", ca="root")
    certificate(folder, "other-name", "elsewhere.example", ca="root")
    certificate(folder, "other-root", "localhost", ca="stranger")
    certificate(folder, "expired", "localhost", ca="root", days=-1)
    return folder


def tls(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


async def test_the_certificate_of_the_back_end_is_verified(start, back_end, authorities):
    names = ["right", "other-name", "other-root", "expired"]
    backs = {name: back_end(tls=tls(authorities, name)) for name in names}
    ca = {"ca_file": str(authorities / "root.crt")}
    plain = back_end()
    triggers = [trigger(back.url("https", "localhost"), name, name, **ca) for name, back in backs.items()]
    triggers += [
        trigger(backs["right"].url("https", "localhost"), "public", "public"),
        trigger(backs["right"].url("https", "127.0.0.1"), "address", "address", **ca),
        trigger(plain.url("https", "localhost"), "plain", "plain", **ca),
        trigger(backs["right"].url("http", "localhost"), "unsafe", "unsafe"),
    ]
    server = start(*triggers)
    peer = await Peer.connect(server)
    assert [await chat(peer, n, "right") for n in range(3)] == ["ok"] * 3
    assert backs["right"].connections == 1
    for name in ["other-name", "other-root", "expired", "public", "address", "plain", "unsafe"]:
        answer = await chat(peer, 1, name)
        assert answer != "ok" and answer["code"] == FAILED, name
    assert [len(back.requests) for back in backs.values()] == [3, 0, 0, 0]


async def test_without_a_file_the_trust_store_of_the_system_vouches(start, back_end, authorities, monkeypatch):
    right, other = (back_end(tls=tls(authorities, name)) for name in ("right", "other-root"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities / "root.crt"))
    url = right.url("https", "localhost")
    triggers = [trigger(url), trigger(other.url("https", "localhost"), "other", "other")]
    triggers.append(trigger(url, "own", "own", ca_file=str(authorities / "stranger.crt")))
    peer = await Peer.connect(start(*triggers))
    assert await chat(peer, 1) == "ok"
    for name in ("other", "own"):
        answer = await chat(peer, 1, name)
        assert answer != "ok" and answer["code"] == FAILED, name
    assert (len(right.requests), other.requests) == (1, [])


# Starting and ending


async def test_a_server_ends_while_a_request_is_under_way(start, back_end):
    gate = Gate()
    back = back_end(gate)
    server = start(trigger(back.url(), timeout_ms=60000), server={"drain_ms": 1000})
    peer = await Peer.connect(server)
    await peer.tell("send", channel="room", event="chat", message=1)
    await asyncio.to_thread(wait_until, lambda: gate.entered == 1, 30)
    server.terminate()
    assert await asyncio.to_thread(server.process.wait, 30) == 0
    gate.open.set()


# Changes while the server runs


def put(server, method="PUT", name="asks", **settings):
    return server.call(method, f"/v1/triggers/{name}", settings or None)


@pytest.mark.parametrize("change", ["request", "reload", "removal"])
async def test_a_change_loses_nothing_that_is_under_way(start, back_end, workers, change):
    gate = Gate()

    def decide(event):
        gate(event)
        return {"verdict": "replace", "payload": event["payload"] + " old"}

    old, new = back_end(decide), back_end(lambda event: {"verdict": "replace", "payload": event["payload"] + " new"})
    settings = {"connections": 1, "timeout_ms": 60000}
    if change == "reload":
        server = start(trigger(old.url(), **settings))
    else:
        server = start()
        assert put(server, channel="room*", url=old.url(), secret=SECRET, **settings).status == 200
    reader, writer, other = await member(server), await Peer.connect(server), await Peer.connect(server)
    sent = [asyncio.create_task(chat(writer, f"{n}")) for n in range(3)]
    await asyncio.to_thread(wait_until, lambda: gate.entered == 1, 30)
    match change:
        case "request":
            assert put(server, "PATCH", url=new.url()).status == 200
        case "removal":
            assert put(server, "DELETE").status == 200
        case "reload":
            text = server.config_path.read_text().replace(old.url(), new.url())
            server.config_path.write_text(text)
            assert server.request("POST", "/reload", b"", port=server.admin_port).status == 200
    word = "" if change == "removal" else " new"
    assert await chat(other, "next") == "ok"
    await reader.expect(message=f"next{word}")
    sent.append(asyncio.create_task(chat(writer, "3")))
    gate.open.set()
    assert await asyncio.gather(*sent) == ["ok"] * 4
    seen = [(await reader.publication()).object["message"] for _ in range(4)]
    assert seen == ["0 old", "1 old", "2 old", f"3{word}"], "in the order of sending"


async def test_a_secret_is_kept_and_never_shown(start, back_end):
    back = back_end()
    server = start(trigger(back.url(), "fixed", "fixed"))
    assert put(server, channel="room*", url=back.url(), secret=SECRET).status == 200
    assert put(server, "PATCH", timeout_ms=5000).status == 200
    answers = [put(server, "GET", name).body for name in ("asks", "fixed")]
    answers.append(server.call("GET", "/v1/triggers").body)
    for answer in answers:
        assert SECRET.encode() not in answer and back.url().encode() in answer
    peer = await Peer.connect(server)
    assert await chat(peer, 1) == "ok"
    request = back.requests[0]
    time_s, signature = (part.split("=")[1] for part in request.headers["fanfare-signature"].split(","))
    assert signature == hmac.new(SECRET.encode(), f"{time_s}.".encode() + request.body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "ftp://a"},
        {"url": "http://user:password@a"},
        {"url": "http://a", "secret": "short"},
        {"url": "http://a", "secret": None},
        {"url": "http://a", "secret": None, "secret_env": "HOME"},
        {"url": "https://a", "ca_file": "/etc/hostname"},
        {"url": "https://a", "ca": "none"},
        {"url": "http://a", "ca": "none"},
        {"url": "http://a", "source": "export const message = () => {}"},
        {"url": "http://a", "cpu_ms": 1},
        {"url": "http://a", "batch": 101},
        {"source": "export const message = () => {}"},
    ],
)
def test_settings_that_are_wrong_are_refused(shared_server, settings):
    settings = {name: value for name, value in ({"secret": SECRET} | settings).items() if value is not None}
    answer = put(shared_server, channel="never", **settings)
    assert (answer.status, answer.json["code"]) == (400, "invalid_trigger"), answer.body
    assert put(shared_server, "GET").status == 404


# The recipe


def recipe(title, *replaced):
    """The blocks of code below a heading of docs/TRIGGERS.md."""
    page = (Path(__file__).parents[3] / "docs" / "TRIGGERS.md").read_text()
    section = page.split(f"\n### {title}\n")[1].split("\n#")[0]
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", section, re.S))
    for old, new in replaced:
        assert all(old in text for text in blocks.values())
        blocks = {name: text.replace(old, new) for name, text in blocks.items()}
    return blocks


@pytest.fixture
def persisting(tmp_path, monkeypatch, workers):
    """A server and the back end of the recipe, as the page has them but for the port."""
    monkeypatch.setenv("TRIGGER_SECRET", SECRET)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = recipe("Recipe: persist by http", ("9000", str(port)))
    (tmp_path / "persist.py").write_text(blocks["python"])
    back_end = subprocess.Popen([sys.executable, "persist.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)

    def answers():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True

    wait_until(answers, 30)
    server = Server(config_text(workers, apps=[App("chat", {"announce": False})]) + blocks["toml"])
    yield server, port, tmp_path / "messages.db"
    server.stop()
    back_end.kill()
    back_end.wait()


async def test_the_recipe_persists_messages_before_they_are_published(persisting):
    server, port, database = persisting
    reader = await member(server, "room:1", app="chat")
    leia = await Peer.connect(server, app="chat", session=tokens.token("leia", "chat"))
    for n in range(30):
        await leia.tell("send", channel="room:1", event="chat", message={"text": f"é {n}"})
    for n in range(30):
        await reader.expect(message={"text": f"é {n}", "number": n + 1})
    refused = await leia.command("send", channel="room:1", event="chat", message="no object")
    assert refused["error"]["message"] == "A message is an object."
    rows = sqlite3.connect(database).execute("SELECT channel, user, event, payload FROM messages ORDER BY id")
    expected = [("room:1", "leia", "chat", {"text": f"é {n}"}) for n in range(30)]
    assert [(*row[:3], json.loads(row[3])) for row in rows] == expected
    for header in [None, "", "t=1,v1=00", f"t={int(time.time())},v1={'0' * 64}", "x", "t=x,v1=é"]:
        headers = {"Fanfare-Signature": header.encode()} if header is not None else {}
        answer = server.request("POST", "/messages", b'{"events":[]}', headers, port=port)
        assert answer.status == 401, header


# Metrics


async def test_requests_failures_and_the_breaker_are_counted(start, back_end):
    back = back_end(reply=lambda handler, request: handler.answer(PASS, request.events[0]["payload"]))
    server = start(trigger(back.url(), breaker_failures=2, breaker_ms=600000))
    peer = await Peer.connect(server)
    for status in [200, 200, 500, 200, 500, 500, 200]:
        await chat(peer, status)
    counted = {name: server.counted(f"trigger_{name}") for name in [
        "requests_total", "request_failures_total", "connects_total", "breaker_opened_total", "breaker_open",
    ]}
    assert counted == {
        "requests_total": 6,
        "request_failures_total": 3,
        # A connection is not used again after a failure.
        "connects_total": 3,
        "breaker_opened_total": 1,
        "breaker_open": 1,
    }
    metrics = server.admin("/metrics").body.decode()
    values = re.findall(r'^fanfare_trigger_(?:errors|verdicts)_total\{.*(?:why|verdict)="(\w+)"\} (\d+)$', metrics, re.M)
    assert {name: int(value) for name, value in values if value != "0"} == {"pass": 3, "back_end": 3, "breaker": 1}
