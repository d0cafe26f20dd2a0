"""docs/OPERATIONS.md, "Memory and capacity": the ledger of memory, and how many more connections there is room for."""

import re
import resource

import pytest

from server_process import App, config_text, wait_until
from test_tls import certificate, context, listener
from wire import RawWebSocket

SESSIONS = 1000
CHANNELS = 80
APPS = [App("default", {"history_messages": 65536, "announce": False}, {"history_bytes": 1 << 30})]


@pytest.fixture
def many_files():
    """This process holds a socket for each client."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def ledger(server):
    text = server.admin("/metrics").body.decode()
    return {kind: int(value) for kind, value in re.findall(r'^fanfare_memory_bytes\{kind="(\w+)"\} (\d+)$', text, re.M)}


def capacity(server):
    answer = server.admin("/capacity")
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    return answer.json


def known(memory):
    return sum(bytes for kind, bytes in memory.items() if kind != "other")


def fill(server):
    """Sessions with a profile in one channel, channels with history, and their members."""
    peers = [RawWebSocket(server) for _ in range(SESSIONS)]
    for peer in peers:
        assert "ok" in peer.command("update", profile={"name": "n" * 300})
        assert "ok" in peer.command("join", channel="all")
    for number, peer in enumerate(peers[:100]):
        for channel in range(CHANNELS):
            assert "ok" in peer.command("join", channel=f"channel {number} {channel}")
    for number in range(100):
        entries = [{"channel": f"channel {number} {at % CHANNELS}", "event": "e", "message": "x" * 200} for at in range(250)]
        assert server.call("POST", "/v1/publish", entries).status == 200
    return peers


def test_the_ledger_explains_the_growth_of_memory_and_forgets_what_is_gone(start_server, workers, many_files):
    server = start_server(apps=APPS)
    before, resident = ledger(server), server.rss_bytes()
    peers = fill(server)
    wait_until(lambda: server.counted("deliveries_total") >= 25_000)
    full, grown = ledger(server), server.rss_bytes() - resident
    assert known(full) - known(before) >= 0.8 * grown, (before, full, grown)
    assert full["other"] < before["other"] + 0.3 * grown
    least = {
        "connections": 56 * SESSIONS,
        "sessions": (158 + 300) * SESSIONS,
        # A list of one member has room for four.
        "memberships": (48 + 16) * 100 * CHANNELS,
        "channels": 350 * 100 * CHANNELS,
        "history": 25_000 * 200,
    }
    for kind, bytes in least.items():
        assert bytes <= full[kind] - before[kind] <= 5 * bytes, (kind, full)
    for peer in peers:
        peer.socket.close()
    wait_until(lambda: server.counted("connections") == 0)
    # The history goes when its app may remember less and a channel's next message makes the app look.
    server.config_path.write_text(config_text(workers, [App("default", APPS[0].settings, {"history_bytes": 65536})]))
    assert server.request("POST", "/reload", b"", port=server.admin_port).status == 200

    def is_forgotten():
        assert server.call("POST", "/v1/send", {"channel": "channel 0 0", "event": "e"}).status == 200
        return known(ledger(server)) - known(before) < 0.1 * (known(full) - known(before))

    wait_until(is_forgotten)
    empty = ledger(server)
    assert empty["memberships"] == before["memberships"]


def test_the_ledger_knows_connections_with_tls(start_server, tmp_path):
    certificate(tmp_path, "root")
    certificate(tmp_path, "one", "one.example", ca="root")
    server = start_server(listeners=[listener(tmp_path)])
    before = ledger(server)["connections"]
    peers = [RawWebSocket(server, port=server.tls_ports[0], tls=context(tmp_path)) for _ in range(20)]

    def grown():
        return ledger(server)["connections"] - before

    # TLS keeps about 1,000 bytes for a connection at rest. Room for connections stays when they have gone.
    secured = grown()
    assert secured >= 20 * 1000
    for peer in peers:
        peer.socket.close()
    wait_until(lambda: grown() <= secured - 20 * 1000)


def test_capacity_names_the_bound_that_comes_first(start_server, many_files):
    server = start_server(server_limits={"connections": 10})
    empty = capacity(server)
    assert (empty["connections"], empty["more"], empty["reason"]) == (0, 10, "connections")
    peers = [RawWebSocket(server) for _ in range(4)]
    some = capacity(server)
    assert (some["connections"], some["more"], some["reason"]) == (4, 6, "connections")
    assert some["bounds"]["connections"] == {"more": 6, "limit": 10, "used": 4}
    assert set(some["bounds"]) == {"connections", "open_files", "memory"}
    peers += [RawWebSocket(server) for _ in range(6)]
    assert capacity(server)["more"] == 0

    server = start_server()
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (300, limits[1]))
    files = capacity(server)
    assert files["reason"] == "open_files"
    bound = files["bounds"]["open_files"]
    assert files["more"] == bound["more"] == 300 - bound["reserved"]


def test_capacity_by_memory_is_what_is_left_divided_by_what_a_connection_takes(start_server, many_files):
    limit = 64 << 20
    server = start_server(server_limits={"memory_bytes": limit})
    first = capacity(server)["bounds"]["memory"]
    assert (first["source"], first["limit"], first["connection_bytes_measured"]) == ("configured", limit, False)
    peers = [RawWebSocket(server) for _ in range(200)]
    whole = capacity(server)
    memory = whole["bounds"]["memory"]
    each = memory["connection_bytes"] + memory["connection_kernel_bytes"]
    assert memory["connection_bytes_measured"] and 200 < memory["connection_bytes"] < 100_000
    assert memory["more"] == (limit - memory["used"]) // each
    assert whole["reason"] == "memory" and whole["more"] == memory["more"]
    assert abs(memory["used"] - server.rss_bytes()) < 2 << 20
    assert len(peers) == whole["connections"]


def test_without_a_configured_limit_memory_is_the_cgroups_or_the_machines(server):
    memory = capacity(server)["bounds"]["memory"]
    assert memory["source"] in ("cgroup", "machine")
    assert 0 < memory["used"] <= memory["limit"]
