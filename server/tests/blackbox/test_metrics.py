"""docs/OPERATIONS.md: the page lists every metric with its meaning, and each metric counts exactly."""

import asyncio
import math
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from peer import Peer, connect_many
from server_process import App, assert_problem, client_key, wait_until
from test_slow_consumers import PADDING, RECEIVE_BUFFER
from wire import RawWebSocket, Wire, upgrade_request

STAGES = ("read", "ordered", "linked", "written")
PAGE = Path(__file__).parents[3] / "docs/OPERATIONS.md"


def served_metrics(server):
    """Name, meaning, kind and labels of every metric."""
    text = server.admin("/metrics").body.decode()
    found = re.findall(r"^# HELP (\S+) (.+)\n# TYPE \1 (\S+)\n\1\w*(?:\{(.*)\})? [\d.e-]+$", text, re.M)
    assert len(found) == text.count("# HELP")
    labels = [", ".join(label for label in re.findall(r'(\w+)="', of) if label != "le") for *_, of in found]
    return [(name, meaning, kind, of) for (name, meaning, kind, _), of in zip(found, labels)]


def test_the_page_and_the_server_name_the_same_metrics(server):
    served = served_metrics(server)
    table = PAGE.read_text().split("\n## Metrics\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert [(name.strip("`"), meaning, kind, label) for name, kind, label, meaning in rows] == served


def test_metrics_that_the_page_names_exist(server):
    served = {name for name, *_ in served_metrics(server)}
    named = set(re.findall(r"`((?:fanfare|process)_\w+)`", PAGE.read_text()))
    assert named == served


def scraped(server, accept=None):
    """The answer to a reader of metrics that accepts these media types."""
    headers = {} if accept is None else {"Accept": accept}
    return server.request("GET", "/metrics", headers=headers, port=server.admin_port)


def samples(text):
    """The values by sample, without those that change from one reading to the next."""
    values = dict(re.findall(r"^(\w.*) (\S+)$", text, re.M))
    return {name: value for name, value in values.items() if not re.match("process_|fanfare_turn", name)}


def test_openmetrics_is_answered_to_those_who_ask_for_it(server):
    prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    open_metrics = scraped(server, prometheus)
    assert open_metrics.header("content-type") == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    text = open_metrics.body.decode()
    assert text.endswith("\n# EOF\n")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["fanfare_accepted"].type == "counter"
    assert families["fanfare_build"].type == "info"
    assert (families["fanfare_turn_seconds"].type, families["fanfare_turn_seconds"].unit) == ("histogram", "seconds")
    assert families["fanfare_received_bytes"].unit == "bytes"
    for accept in (None, "text/plain", "*/*", "application/json", "application/openmetrics-text;version=9.0.0"):
        plain = scraped(server, accept)
        assert plain.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        assert "# EOF" not in plain.body.decode()
    wait_until(lambda: samples(scraped(server).body.decode()) == samples(scraped(server, prometheus).body.decode()))


def test_prometheus_finds_no_fault_in_the_text(server):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed")
    done = subprocess.run([promtool, "check", "metrics"], input=scraped(server).body, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_metrics_of_the_process_are_those_of_the_process(start_server):
    before = time.time()
    server = start_server()
    value = {
        name: float(value)
        for name, value in re.findall(r"^(process_\w+) (\S+)$", scraped(server).body.decode(), re.M)
    }
    stat = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    # CPU time is counted in ticks of 10 ms there, and goes on between the two readings.
    used = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    assert value["process_cpu_seconds_total"] <= used + 0.02
    assert before - 1 < value["process_start_time_seconds"] < time.time() + 1
    assert value["process_max_fds"] >= value["process_open_fds"] > 10
    assert 1 << 20 < value["process_resident_memory_bytes"] < 1 << 30


def histogram(server, name, **labels):
    """The cumulative counts, the sum and the count of a histogram, over the labels that are not given."""
    wanted = "".join(f'(?=.*{label}="{value}")' for label, value in labels.items())
    text = scraped(server).body.decode()
    buckets = {}
    for of, le, value in re.findall(rf'^fanfare_{name}_bucket\{{(.*?),?le="(.*?)"\}} (\d+)$', text, re.M):
        if re.match(wanted, of):
            buckets[float(le)] = buckets.get(float(le), 0) + int(value)
    total = {
        part: sum(float(value) for value in re.findall(rf"^fanfare_{name}_{part}\{{{wanted}.*\}} (\S+)$", text, re.M))
        for part in ("sum", "count")
    }
    return buckets, total["sum"], int(total["count"])


async def test_turns_stages_and_handshakes_are_timed(start_server, channel):
    server = start_server()
    peers = await connect_many(server, 3)
    for peer in peers:
        await peer.join(channel)
    for _ in range(20):
        await peers[0].ok("send", channel=channel, event="e")
    counts = {stage: histogram(server, "delivery_stage_seconds", stage=stage) for stage in STAGES}
    for buckets, seconds, count in counts.values():
        assert count >= 20 and seconds > 0
        assert list(buckets.values()) == sorted(buckets.values()) and buckets[math.inf] == count
    # A turn is observed at its end, and its stages include no other turn.
    in_stages = sum(seconds for _, seconds, _ in counts.values())
    await asyncio.to_thread(wait_until, lambda: histogram(server, "turn_seconds")[2] >= counts["written"][2])
    await asyncio.to_thread(wait_until, lambda: histogram(server, "turn_seconds")[1] >= in_stages)
    assert histogram(server, "handshake_seconds", transport="tcp")[2] == 3
    assert histogram(server, "handshake_seconds", transport="tls")[2] == 0


def test_a_handshake_is_timed_from_the_beginning_of_its_connection(start_server):
    server = start_server()
    with Wire(server) as late, Wire(server) as second:
        began = time.monotonic()
        handshake = upgrade_request(f"key={client_key()}")
        # The second connection's first request is another one.
        second.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        assert second.response().status == 404
        second.send(handshake)
        assert second.response().status == 101
        assert histogram(server, "handshake_seconds")[2] == 0
        late.send(handshake[:20])
        wait_until(lambda: time.monotonic() - began > 0.3)
        late.send(handshake[20:])
        assert late.response().status == 101
        _, seconds, count = histogram(server, "handshake_seconds", transport="tcp")
        assert count == 1 and 0.25 < seconds < time.monotonic() - began + 0.1


async def test_apps_have_their_own_counts(start_server, channel):
    server = start_server(apps=[App("default"), App("limited", limits={"messages_per_second": 1}), App("idle")])
    peers = [await Peer.connect(server) for _ in range(3)]
    limited = await Peer.connect(server, app="limited")
    for peer in peers:
        await peer.join(channel, echo=False)
    for _ in range(5):
        await peers[0].ok("send", channel=channel, event="e", echo=False)
    answers = [await limited.command("send", channel=channel, event="e") for _ in range(4)]
    refused = sum("error" in answer for answer in answers)
    text = scraped(server).body.decode()
    of_app = {(name, app): int(value) for name, app, value in
              re.findall(r'^fanfare_app_(\w+)\{app="(\w+)"\} (\d+)$', text, re.M)}
    assert of_app["sessions_opened_total", "default"] == 3
    assert of_app["sessions_opened_total", "limited"] == 1
    assert of_app["publications_total", "default"] == 5
    assert of_app["publications_total", "limited"] == 4 - refused
    assert of_app["rate_limited_total", "limited"] == of_app["command_errors_total", "limited"] == refused > 0
    assert {value for (_, app), value in of_app.items() if app == "idle"} == {0}
    # The first sees two join, the second one, and two see each message.
    await asyncio.to_thread(wait_until, lambda: server.counted("app_deliveries_total") == 2 + 1 + 5 * 2)
    await asyncio.to_thread(
        wait_until, lambda: server.counted("app_deliveries_total") == server.counted("deliveries_total")
    )


def test_a_full_app_is_counted_for_each_who_is_refused(start_server):
    server = start_server(apps=[App("default", limits={"connections": 2})])
    peers = [RawWebSocket(server) for _ in range(2)]
    for _ in range(3):
        assert_problem(server.handshake(), 503, "too_many_connections")
    wait_until(lambda: server.counted("app_full_total") == 3)
    assert server.counted("handshakes_total") == 2
    assert server.counted("refused_total") == 0
    assert server.counted("app_sessions") == 2
    for peer in peers:
        peer.socket.close()
    wait_until(lambda: server.counted("app_sessions") == 0)


async def test_publications_and_deliveries_are_counted_once(start_server, channel):
    server = start_server()
    peers = await connect_many(server, 5)
    for peer in peers:
        await peer.join(channel, echo=False)
    # The first sees four join, the second three: those notices are deliveries too.
    for number, peer in enumerate(peers):
        for _ in peers[number + 1 :]:
            await peer.expect(event="channel:join")
    for number in range(7):
        await peers[0].ok("send", channel=channel, event="e", message=number, echo=False)
        for peer in peers[1:]:
            assert (await peer.publication()).object["message"] == number
    await server.api("POST", "/v1/broadcast", {"event": "e"})
    for peer in peers:
        assert (await peer.publication()).object["channel"] is None
    await asyncio.to_thread(wait_until, lambda: server.counted("deliveries_total") == 10 + 7 * 4 + 5)
    assert server.counted("publications_total") == 7 + 1
    assert server.counted("notices_total") == 5
    assert server.counted("channels") == 1


def test_sessions_that_are_disconnected_are_counted(start_server):
    server = start_server()
    peers = [RawWebSocket(server) for _ in range(3)]
    for peer in peers[:2]:
        answer = server.call("POST", "/v1/disconnect", {"session": peer.id})
        assert answer.json == {"disconnected": 1}
        assert peer.close_code() == 4002
    wait_until(lambda: server.counted("disconnected_total") == 2)
    assert "ok" in peers[2].command("ping")


def test_a_slow_consumer_is_counted_once(start_server, channel):
    """A client with slow_consumer = "drop" is not closed: its commands wait until it has read."""
    limits = {"outbound_bytes": 1 << 20}
    server = start_server(
        apps=[App("default", limits=limits), App("dropping", {"slow_consumer": "drop"}, limits)]
    )
    with RawWebSocket(server, receive_buffer=RECEIVE_BUFFER) as slow, RawWebSocket(server) as publisher:
        assert "ok" in slow.command("join", channel=channel)
        while server.counted("slow_consumers_total") == 0:
            for _ in range(20):
                assert "ok" in publisher.command("send", channel=channel, event="e", message=PADDING)
        assert server.counted("congested_total") == server.counted("missed_total") == 0
    with RawWebSocket(server, "dropping", receive_buffer=RECEIVE_BUFFER) as slow:
        slow.send_json({"type": "join", "channel": channel})
        publisher = RawWebSocket(server, "dropping")
        while server.counted("congested_total") == 0:
            for _ in range(20):
                assert "ok" in publisher.command("send", channel=channel, event="e", message=PADDING)
        for _ in range(9):
            assert "ok" in publisher.command("send", channel=channel, event="e", message=PADDING)
        slow.send_json([{"type": "members", "channel": channel, "id": str(at)} for at in range(256)])
        answers = 0
        while answers < 256:
            contents = slow.object()
            if "ok" in contents or "members" in contents:
                answers += 1
        wait_until(lambda: server.counted("missed_total") >= 9)
    assert (server.counted("congested_total"), server.counted("slow_consumers_total")) == (1, 1)


async def test_joins_that_recover_nothing_are_counted(start_server, channel):
    server = start_server(apps=[App("default", {"history_messages": 2})])
    peer = await Peer.connect(server)
    epoch = (await peer.ok("join", channel=channel))["epoch"]
    await peer.ok("leave", channel=channel)
    for number in range(5):
        await server.api("POST", "/v1/send", {"channel": channel, "event": "e", "message": number})
    for offset, recovered in [(1, False), (3, True)]:
        joined = await peer.ok("join", channel=channel, since={"epoch": epoch, "offset": offset})
        assert joined["recovered"] is recovered
        await peer.ok("leave", channel=channel)
    await asyncio.to_thread(wait_until, lambda: server.counted("unrecovered_total") == 1)
    assert server.counted("recovered_total") == 2


async def test_what_apps_remember_and_forget_is_counted_for_each(start_server, channel):
    def settings(limits):
        return {"history_messages": 1000}, limits

    server = start_server(apps=[App("default", *settings({})), App("cramped", *settings({"history_bytes": 65536}))])
    for app in ("default", "cramped"):
        for _ in range(20):
            await server.api("POST", "/v1/send", {"channel": channel, "event": "e", "message": "x" * 10000}, app=app)
    of_app = {
        (name, app): int(value)
        for name, app, value in re.findall(
            r'^fanfare_app_(\w+)\{app="(\w+)"\} (\d+)$', server.admin("/metrics").body.decode(), re.M
        )
    }
    assert of_app["history_forgotten_total", "default"] == 0
    assert of_app["history_bytes", "default"] > 200000
    assert 30000 < of_app["history_bytes", "cramped"] < 100000
    forgotten = of_app["history_forgotten_total", "cramped"]
    assert 10 < forgotten < 20
    await asyncio.to_thread(wait_until, lambda: server.counted("history_forgotten_total") == forgotten)
