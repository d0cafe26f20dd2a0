"""Pings and timeouts, drain, and the administration listener."""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import re
import resource
import socket
import time

import pytest

from peer import Peer, connect_many
from server_process import DEADLINE_S, assert_problem, client_key, server_key, wait_until
from wire import CLOSE, PING, PONG, TEXT, RawWebSocket, Wire, close_payload, frame, upgrade_request

INTERVAL_S = 0.3


@pytest.fixture
def pinging(start_server):
    return start_server(server={"ping_interval_ms": int(INTERVAL_S * 1000)})


def test_idle_peer_is_pinged_and_lives_as_long_as_it_answers(pinging):
    with RawWebSocket(pinging) as peer:
        assert peer.welcome["ping_interval_ms"] == 300
        times = []
        for _ in range(5):
            opcode, payload = peer.frame()
            assert opcode == PING
            times.append(time.monotonic())
            peer.send_frame(PONG, payload)
        for earlier, later in itertools.pairwise(times):
            assert later - earlier > INTERVAL_S / 2, "pings come at intervals"
        assert "ok" in peer.command("ping")


def test_peer_that_talks_is_not_pinged(pinging):
    with RawWebSocket(pinging) as peer:
        started = time.monotonic()
        while time.monotonic() - started < 4 * INTERVAL_S:
            peer.send_frame(TEXT, b'{"type":"ping","id":1}')
            opcode, _ = peer.frame()
            assert opcode == TEXT
            assert not peer.readable(within_s=INTERVAL_S / 10)


@pytest.mark.parametrize(
    "talk", [b"", frame(TEXT, b'{"type":"ping","id":1}')], ids=["from the start", "after a command"]
)
def test_silent_peer_is_closed_after_two_intervals(pinging, talk):
    with RawWebSocket(pinging) as peer:
        peer.send(talk)
        started = time.monotonic()
        assert peer.close_code() == 4001
        assert 1.5 * INTERVAL_S < time.monotonic() - started < 2 * INTERVAL_S + 2


def test_reading_without_answering_is_silence(pinging):
    """Receiving publications does not keep a connection alive."""
    with RawWebSocket(pinging) as talker, RawWebSocket(pinging) as peer:
        assert "ok" in peer.command("join", channel="c")
        deadline = time.monotonic() + DEADLINE_S
        while True:
            assert time.monotonic() < deadline
            assert "ok" in talker.command("send", channel="c", event="e")
            if peer.readable(within_s=INTERVAL_S / 10):
                opcode, payload = peer.frame()
                if opcode == CLOSE:
                    assert payload[:2] == close_payload(4001)
                    break


async def test_peer_with_a_library_survives_many_intervals(pinging):
    peer = await Peer.connect(pinging)
    started = time.monotonic()
    while time.monotonic() - started < 5 * INTERVAL_S:
        await asyncio.sleep(INTERVAL_S * 0.9)
    await peer.fence()


# Drain


async def test_sigterm_closes_everyone_with_1012_and_ends_with_0(start_server, channel):
    server = start_server()
    peers = await connect_many(server, 40)
    for peer in peers[:10]:
        await peer.join(channel, echo=False)
    server.terminate()
    assert [await peer.close_code() for peer in peers] == [1012] * 40
    assert await asyncio.to_thread(server.process.wait, DEADLINE_S) == 0


async def test_sigterm_without_connections_ends_with_0(start_server):
    server = start_server()
    server.terminate()
    assert await asyncio.to_thread(server.process.wait, DEADLINE_S) == 0


def test_drain_spreads_the_closes_and_tells_each_client_once_when_to_come_back(start_server, workers):
    server = start_server(server={"drain_spread_ms": 100})
    peers = [RawWebSocket(server) for _ in range(300 * workers)]
    server.terminate()
    ends = []
    for peer in peers:
        opcode, payload = peer.frame()
        assert opcode == TEXT and set(json.loads(payload)) == {"reconnect_after_ms"}
        assert peer.close_code() == 1012
        peer.socket.close()
        ends.append(json.loads(payload)["reconnect_after_ms"])
    # A worker's clients leave within 100 ms, and return over a millisecond for each.
    assert 500 <= min(ends) and max(ends) < 500 + len(peers)
    assert len(set(ends)) > 50
    assert server.process.wait(DEADLINE_S) == 0


def test_sessions_work_until_their_turn_to_leave(start_server):
    server = start_server(server={"drain_spread_ms": 2000})
    with contextlib.ExitStack() as open_sockets:
        peers = [open_sockets.enter_context(RawWebSocket(server)) for _ in range(1500)]
        server.terminate()
        wait_until(lambda: server.admin("/readyz").status == 503)
        answered = 0
        for peer in peers:
            try:
                peer.send_json({"type": "ping", "id": 1})
            except ConnectionError:
                continue
            answered += json.loads(peer.frame()[1]).get("id") == 1
        assert answered > 100, "all had left at once"
        assert server.process.wait(DEADLINE_S) == 0


def test_draining_server_takes_no_new_connections(start_server):
    server = start_server(server={"drain_ms": 1000})
    with RawWebSocket(server) as stubborn:
        server.terminate()
        assert stubborn.close_code() == 1012
        try:
            answer = server.handshake()
            assert answer.status == 503
        except OSError:
            pass
    assert server.process.wait(DEADLINE_S) == 0


def test_peer_that_ignores_the_close_does_not_hold_up_the_end(start_server):
    server = start_server(server={"drain_ms": 500})
    with RawWebSocket(server) as silent, Wire(server) as unfinished, Wire(server):
        unfinished.send(b"POST /v1/send HTTP/1.1\r\nContent-Length: 5\r\n")
        server.terminate()
        assert server.process.wait(DEADLINE_S) == 0
        assert silent.close_code() == 1012


@pytest.mark.parametrize("rest", [b"\r\nab", b""], ids=["half a body", "half a head"])
def test_request_that_is_half_sent_at_the_end_is_told_so(start_server, rest):
    server = start_server()
    with Wire(server) as unfinished:
        # The answer to what is before it says that it has arrived.
        first = b"GET /v1/nothing HTTP/1.1\r\nHost: a\r\n\r\n"
        key = f"Authorization: Bearer {server_key()}\r\n".encode()
        unfinished.send(first + b"POST /v1/send HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n" + key[:-2] + rest)
        assert unfinished.response().status == 404
        server.terminate()
        assert_problem(unfinished.response(), 503, "restarting")
        assert unfinished.rest() == b""
    assert server.process.wait(DEADLINE_S) == 0


def test_peer_that_never_reads_does_not_hold_up_the_end(start_server):
    server = start_server(server={"drain_ms": 500})
    with RawWebSocket(server, receive_buffer=128 << 10) as sleeper, RawWebSocket(server) as sender:
        assert "ok" in sleeper.command("join", channel="c")
        for _ in range(150):
            assert "ok" in sender.command("send", channel="c", event="e", message="x" * 60000)
        server.terminate()
        assert server.process.wait(DEADLINE_S) == 0


def test_publications_before_the_drain_are_delivered(start_server):
    server = start_server()
    with RawWebSocket(server) as peer, RawWebSocket(server) as sender:
        assert "ok" in peer.command("join", channel="c", echo=False)
        for number in range(100):
            assert "ok" in sender.command("send", channel="c", event="e", message=number)
        server.terminate()
        assert [peer.object()["message"] for _ in range(100)] == list(range(100))
        assert peer.close_code() == 1012
    assert server.process.wait(DEADLINE_S) == 0


# The log


def test_the_log_tells_who_comes_goes_and_is_refused_but_nothing_of_messages(start_server):
    server = start_server(log={"level": "fanfare_server=debug", "format": "json"})

    def lines():
        text = server.log(limit=1 << 20)
        return [json.loads(line)["fields"] for line in text.splitlines() if line.startswith("{")]

    def ends():
        return [(line["app"], line["session"], line["code"]) for line in lines() if line["message"] == "a session ends"]

    with RawWebSocket(server) as first, RawWebSocket(server, "small") as second, RawWebSocket(server) as third:
        begun = [(line["app"], line["session"]) for line in lines() if line["message"] == "a session begins"]
        assert begun == [("default", first.id), ("small", second.id), ("default", third.id)]
        before = len(lines())
        for _ in range(50):
            for peer in (first, second):
                assert "ok" in peer.command("send", channel="c", event="e", message="secret")
            assert "error" in first.command("send", channel="c")
        assert len(lines()) == before
        server.call("POST", "/v1/disconnect", {"session": first.id})
        assert first.close_code() == 4002
        second.send_frame(CLOSE, close_payload(1000))
        assert second.close_code() == 1000
        third.reset()
        expected = [("default", first.id, 4002), ("small", second.id, 1000), ("default", third.id, 1006)]
        wait_until(lambda: sorted(ends()) == sorted(expected))
    assert_problem(server.handshake({"key": "a-key-nobody-knows", "app": "small"}), 401, "invalid_key")
    assert_problem(server.request("GET", "/v1/channels?app=nobodys"), 401, "unknown_app")
    refused = [(line["app"], line["code"]) for line in lines() if "was refused" in line["message"]]
    assert refused == [("small", "invalid_key"), ("nobodys", "unknown_app")]
    log = server.log(limit=1 << 20)
    assert "secret" not in log and client_key() not in log and "a-key-nobody-knows" not in log


# Administration


def test_health_and_readiness_are_told(server):
    assert server.admin("/healthz").status == 200
    assert server.admin("/readyz").status == 200
    assert server.admin("/nothing").status == 404


SAMPLE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_]\w*="(\\.|[^"\\\n])*",?)*\})? (-?[0-9.eE+-]+|NaN|[+-]Inf)( \d+)?'
)


def test_metrics_are_prometheus_text(server):
    server.call("POST", "/v1/send", {"channel": "c", "event": "e"})
    response = server.admin("/metrics")
    assert response.status == 200
    assert response.header("content-type").startswith("text/plain")
    text = response.body.decode("utf-8")
    assert text.endswith("\n") and "# TYPE " in text
    for line in text.splitlines():
        assert not line or line.startswith("#") or SAMPLE.fullmatch(line), line
    samples = [line.rsplit(" ", 1)[0] for line in text.splitlines() if line and not line.startswith("#")]
    assert len(samples) == len(set(samples)), "a series appears twice"


def test_metrics_change_with_connections(start_server):
    """Some gauge counts connections; its name is the server's affair."""
    server = start_server()

    def counted(number):
        lines = server.admin("/metrics").body.decode().splitlines()
        totals = {}
        for line in lines:
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{")[0]
                totals[name] = totals.get(name, 0) + float(value)
        return any(value == number for name, value in totals.items() if "connection" in name)

    peers = [RawWebSocket(server) for _ in range(17)]
    wait_until(lambda: counted(17))
    for peer in peers:
        peer.socket.close()
    wait_until(lambda: counted(0))


def test_administration_is_not_served_to_the_public(server):
    for path in ("/metrics", "/healthz", "/readyz"):
        assert server.request("GET", path).status == 404


def test_public_api_is_not_served_to_administration(server):
    assert server.request("GET", "/v1/channels", port=server.admin_port).status == 404


def test_port_is_free_again_after_the_end(start_server):
    server = start_server()
    server.terminate()
    assert server.process.wait(DEADLINE_S) == 0
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S)


def test_running_out_of_descriptors_pauses_accepting_and_disturbs_nobody(start_server, workers):
    server = start_server()
    peers = [RawWebSocket(server) for _ in range(4)]
    # The admin plane needs a descriptor for each connection too, so this one is opened while there are some.
    admin = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=5)

    def pauses():
        admin.request("GET", "/metrics")
        text = admin.getresponse().read().decode()
        return sum(int(count) for count in re.findall(r"^fanfare_accept_pauses_total\{.*\} (\d+)$", text, re.M))

    assert pauses() == 0
    highest = max(int(name) for name in os.listdir(f"/proc/{server.process.pid}/fd"))
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    waiting = []
    while pauses() == 0:
        waiting.append(Wire(server))
        waiting[-1].send(upgrade_request("key=" + client_key()))
    before, started = pauses(), time.monotonic()
    for _ in range(100):
        # Each arrival wakes a worker that pauses, and each answer says that it has looked.
        waiting.append(Wire(server))
        waiting[-1].send(upgrade_request("key=" + client_key()))
        for peer in peers:
            assert "ok" in peer.command("ping")
    paused = pauses() - before
    # A pause is 100 ms.
    assert paused <= workers * ((time.monotonic() - started) / 0.1 + 1)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
    for wire in waiting:
        assert wire.response().status == 101, "whoever waited is served when there are descriptors again"
        wire.socket.close()
    log = server.log(limit=1 << 20)
    starved = log.count("accepting pauses")
    assert 1 <= starved <= workers, "a worker says it once"
    wait_until(lambda: server.log(limit=1 << 20).count("accepting goes on") == starved)
