"""Keys that expire or are bound, keys that are optional, tokens that may be invalid: docs/CONFIGURATION.md."""

import datetime
import json
import time

import pytest

import tokens
from peer import Peer
from server_process import App, Server, assert_problem, config_text, server_key, wait_until
from test_addresses import v2
from test_reload import reload
from wire import TEXT, RawWebSocket, Wire, upgrade_request

BOUND, BACK_END = "a-bound-key-0123456789", "a-bound-server-key-0123456789"
FORWARDED = b"X-Forwarded-For: "


def date(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def entry(key, **terms):
    lines = [f"key = {json.dumps(key)}"]
    for name, value in terms.items():
        lines.append(f"{name} = {value if name == 'expires_at' else json.dumps(value)}")
    return "\n[[apps.default.keys]]\n" + "\n".join(lines) + "\n"


@pytest.fixture
def start(workers):
    """Starts a server with these texts at the end of its configuration, and settings of the app `default`."""
    started = []

    def start(*entries, app=None, limits=None, **server):
        text = config_text(workers, apps=[App("default", app or {}, limits or {})],
                           server={"trusted_proxies": ["127.0.0.1"]} | server)
        started.append(Server(text + "".join(entries)))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def answer(server, key=BOUND, headers=b"", query=""):
    with Wire(server) as wire:
        wire.send(upgrade_request(f"key={key}{query}" if key else query, headers))
        return wire.response()


def call(server, headers=b"", key=BACK_END):
    with Wire(server) as wire:
        wire.send(b"GET /v1/channels HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + key.encode() + b"\r\n" + headers +
                  b"\r\n")
        return wire.response()


def test_a_key_is_bound_to_origins(start):
    server = start(entry(BOUND, origins=["https://*.example.com"]))
    assert answer(server, headers=b"Origin: https://a.example.com\r\n").status == 101
    assert_problem(answer(server, headers=b"Origin: https://example.org\r\n"), 403, "origin_not_allowed")
    assert_problem(answer(server), 403, "origin_not_allowed")
    assert answer(server, key="client-key-default-0123456789").status == 101, "other keys are not concerned"


def test_a_key_is_bound_to_addresses_behind_a_proxy(start):
    server = start(entry(BOUND, addresses=["192.0.2.0/24", "2001:db8::/32"]),
                   entry(BACK_END, role="server", addresses="10.9.9.9"))
    assert answer(server, headers=FORWARDED + b"192.0.2.7\r\n").status == 101
    assert answer(server, headers=FORWARDED + b"2001:db8::7\r\n").status == 101
    for headers in [b"", FORWARDED + b"192.0.3.1\r\n", FORWARDED + b"192.0.2.7, 198.51.100.1\r\n"]:
        assert_problem(answer(server, headers=headers), 403, "address_not_allowed")
    assert call(server, FORWARDED + b"10.9.9.9\r\n").status == 200
    assert_problem(call(server, FORWARDED + b"10.9.9.8\r\n"), 403, "address_not_allowed")
    assert server.counted("failed_keys_total") == 0, "a bound key is no wrong key"


def test_an_expired_key_is_refused(start):
    past = date(time.time() - 1)
    server = start(entry(BOUND, expires_at=past), entry(BACK_END, role="server", expires_at=past))
    assert_problem(answer(server), 401, "key_expired")
    assert_problem(call(server), 401, "key_expired")


@pytest.mark.parametrize("limits", [{}, {"resume_ms": 60000}], ids=["", "resumable"])
def test_sessions_end_with_their_key(start, limits):
    end = int(time.time()) + 3
    server = start(entry(BOUND, expires_at=date(end)), limits=limits)
    with Wire(server) as wire, Wire(server) as lost:
        wire.send(upgrade_request(f"key={BOUND}"))
        assert wire.response().status == 101
        peer = RawWebSocket.__new__(RawWebSocket)
        peer.socket, peer.buffer = wire.socket, wire.buffer
        other = RawWebSocket(server)
        if limits:
            lost.send(upgrade_request(f"key={BOUND}"))
            assert lost.response().status == 101
            lost.reset()
            wait_until(lambda: server.counted("parked_sessions") == 1)
        wire.socket.settimeout(20)
        assert peer.close_code() == 4002
        assert time.time() >= end
        wait_until(lambda: server.counted("expired_keys_total") == (2 if limits else 1))
        wait_until(lambda: server.counted("parked_sessions") == 0)
        assert "ok" in other.command("ping"), "sessions of other keys go on"
        other.socket.close()
    assert_problem(answer(server), 401, "key_expired")


def test_the_terms_of_a_key_change_by_a_reload(start):
    server = start(entry(BOUND, addresses="192.0.2.1"))
    assert answer(server, headers=FORWARDED + b"192.0.2.1\r\n").status == 101
    text = server.config_path.read_text()
    assert reload(server, text.replace('addresses = "192.0.2.1"', f"expires_at = {date(1)}")).status == 200
    assert_problem(answer(server, headers=FORWARDED + b"192.0.2.1\r\n"), 401, "key_expired")
    assert reload(server, text.split("\n[[apps.default.keys]]")[0]).status == 200
    assert_problem(answer(server), 401, "invalid_key")


def test_agnosts_clients_and_back_ends_obey_the_terms(start):
    server = start(entry(BOUND, addresses="192.0.2.0/24", origins="https://a.example"),
                   entry(BACK_END, role="server", expires_at=date(time.time() - 1)), "\n[apps.default.agnost]\n")

    def connect(payload, headers=b""):
        wire = Wire(server)
        wire.send(upgrade_request("", headers).replace(b"/v1/ws?", b"/realtime/?EIO=4&transport=websocket"))
        assert wire.response().status == 101
        peer = RawWebSocket.__new__(RawWebSocket)
        peer.socket, peer.buffer = wire.socket, wire.buffer
        assert peer.frame()[1].startswith(b"0")
        peer.send_frame(TEXT, b"40" + json.dumps({"envId": "default"} | payload).encode())
        with wire:
            return peer.frame()[1].decode()

    good = b"Origin: https://a.example\r\n" + FORWARDED + b"192.0.2.7\r\n"
    assert connect({"apiKey": BOUND}, good).startswith("40{")
    assert "missing_request_origin" in connect({"apiKey": BOUND}, FORWARDED + b"192.0.2.7\r\n")
    assert "domain_not_authorized" in connect({"apiKey": BOUND}, good.replace(b"a.example", b"b.example"))
    assert "ip_not_authorized" in connect({"apiKey": BOUND}, good.replace(b"192.0.2.7", b"192.0.3.7"))
    assert connect({"accessToken": BACK_END}).startswith("44"), "an expired key opens nothing"
    assert connect({"accessToken": server_key()}).startswith("40{")


def test_keys_may_be_optional(start):
    server = start(app={"key_required": False})
    assert answer(server, key=None).status == 101
    assert answer(server, key="client-key-default-0123456789").status == 101
    assert_problem(answer(server, key="a-wrong-key-0123456789"), 401, "invalid_key")
    assert_problem(call(server, key="a-wrong-key-0123456789"), 401, "invalid_key")


async def test_an_invalid_token_may_mean_nobody(start):
    server = start(app={"session_invalid": "anonymous"})
    for token in [tokens.token(expires_in=-60), tokens.token(key="another secret of 32 bytes or so"), "a.b.c"]:
        peer = await Peer.connect(server, session=token)
        assert peer.welcome["user"] is None
    peer = await Peer.connect(server, session=tokens.token("ada"))
    assert peer.welcome["user"] == "ada"


async def test_back_ends_see_the_addresses_of_members(start, channel):
    server = start(app={"member_addresses": True})
    member = await Peer.connect(server, additional_headers={"X-Forwarded-For": "192.0.2.9"})
    await member.ok("join", channel=channel)
    page = await server.api("GET", "/v1/members", channel=channel)
    assert [entry["address"] for entry in page["members"]] == ["192.0.2.9"]
    page = await server.api("GET", "/v1/sessions")
    assert [entry["address"] for entry in page["sessions"]] == ["192.0.2.9"]
    answer = await member.ok("members", channel=channel)
    assert "address" not in answer["members"][0], "members do not see addresses"
    silent = start()
    member = await Peer.connect(silent)
    await member.ok("join", channel=channel)
    page = await silent.api("GET", "/v1/members", channel=channel)
    assert "address" not in page["members"][0]
