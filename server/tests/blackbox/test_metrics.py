"""docs/OPERATIONS.md: every metric there is, what it means, and that it counts exactly."""

import asyncio
import re
from pathlib import Path

from peer import Peer, connect_many
from server_process import App, assert_problem, wait_until
from test_slow_consumers import PADDING, RECEIVE_BUFFER
from wire import RawWebSocket

PAGE = Path(__file__).parents[3] / "docs/OPERATIONS.md"


def test_the_page_and_the_server_name_the_same_metrics(server):
    text = server.admin("/metrics").body.decode()
    served = re.findall(r"^# HELP (\S+) (.+)\n# TYPE \1 (\S+)\n\1(?:\{(\w+)=.*\})? \d+$", text, re.M)
    assert len(served) == text.count("# HELP")
    table = PAGE.read_text().split("\n## Metrics\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert [(name.strip("`"), meaning, kind, label) for name, kind, label, meaning in rows] == served


def test_metrics_that_the_page_names_exist(server):
    served = set(re.findall(r"^# TYPE (\S+)", server.admin("/metrics").body.decode(), re.M))
    named = set(re.findall(r"`((?:fanfare|process)_\w+)`", PAGE.read_text()))
    assert named == served


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
    """One that would rather lose publications is none: its commands wait until it has read."""
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
