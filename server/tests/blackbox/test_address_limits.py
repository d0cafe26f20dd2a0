"""Limits by address: docs/DEPLOYING.md, "Limits by address"."""

import socket
import struct

import pytest

from server_process import App, Server, assert_problem, client_key, config_text, wait_until
from test_addresses import PROXY_PORTS, v2
from wire import TEXT, RawWebSocket, Wire, upgrade_request


def wire_from(server, address, port=None):
    """A connection from an address of loopback."""
    wire = Wire.__new__(Wire)
    wire.socket = socket.create_connection(("127.0.0.1", port or server.port), 20, (address, 0))
    wire.buffer = bytearray()
    return wire


def ask(server, address, headers=b"", key=None, port=None, first=b""):
    """The answer to a WebSocket handshake, and the connection."""
    wire = wire_from(server, address, port)
    wire.send(first + upgrade_request(f"key={key or client_key()}", headers))
    return wire.response(), wire


def test_connections_of_an_address_are_bounded(start_server):
    server = start_server(server_limits={"address_connections": 3})
    wires = [wire_from(server, "127.0.0.9") for _ in range(3)]
    for wire in wires:
        RawWebSocket.open(wire)
    with wire_from(server, "127.0.0.9") as wire:
        assert_problem(wire.response(), 429, "too_many_connections")
    with wire_from(server, "127.0.0.8") as wire:
        RawWebSocket.open(wire)
    wait_until(lambda: server.counted("address_refused_total") == 1)
    wires.pop().socket.close()

    def is_admitted():
        with wire_from(server, "127.0.0.9") as wire:
            wire.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return wire.response().status == 404

    wait_until(is_admitted)


@pytest.mark.parametrize("way", ["header", "proxy"])
def test_connections_behind_a_proxy_count_for_their_clients(start_server, way):
    server = start_server(server={"trusted_proxies": ["127.0.0.1"]}, listeners=PROXY_PORTS,
                          server_limits={"address_connections": 2})

    def connect(client):
        if way == "header":
            return ask(server, "127.0.0.1", f"X-Forwarded-For: {client}\r\n".encode())
        return ask(server, "127.0.0.1", port=server.proxy_ports[0], first=v2(client))

    opened = [connect(client) for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2"]]
    assert [answer.status for answer, _ in opened] == [101, 101, 101]
    answer, wire = connect("192.0.2.1")
    assert_problem(answer, 429, "too_many_connections")
    wire.socket.close()
    opened[0][1].socket.close()

    def is_admitted():
        answer, wire = connect("192.0.2.1")
        wire.socket.close()
        return answer.status == 101

    wait_until(is_admitted)


def test_addresses_of_ipv6_count_by_their_64(start_server):
    server = start_server(server={"trusted_proxies": ["127.0.0.1"]}, server_limits={"address_connections": 1})
    answer, first = ask(server, "127.0.0.1", b"X-Forwarded-For: 2001:db8:0:1::1\r\n")
    assert answer.status == 101
    answer, _ = ask(server, "127.0.0.1", b"X-Forwarded-For: 2001:db8:0:1:ffff::9\r\n")
    assert answer.status == 429
    answer, _ = ask(server, "127.0.0.1", b"X-Forwarded-For: 2001:db8:0:2::1\r\n")
    assert answer.status == 101
    first.socket.close()


def test_handshakes_of_an_address_have_a_rate(start_server):
    server = start_server(server_limits={"address_handshakes_per_second": 5})
    answers = [ask(server, "127.0.0.9")[0] for _ in range(40)]
    refused = [answer for answer in answers if answer.status != 101]
    # How many seconds the forty handshakes take is the machine's affair.
    assert answers[0].status == 101 and refused
    wait_until(lambda: server.counted("address_refused_total") == len(refused))
    for answer in refused:
        assert_problem(answer, 429, "too_many_handshakes")
        assert answer.header("retry-after") == "1"
    assert ask(server, "127.0.0.8")[0].status == 101
    assert server.request("GET", "/nothing").status == 404, "other requests have no rate"


SECTIONS = """
[apps.default.agnost]
[apps.default.channelstream]
secret = "a secret of the back end"
allow_posting_from = "0.0.0.0"
[apps.default.xano]
"""


@pytest.fixture
def guarded(workers):
    text = config_text(workers, apps=[App("default")], server_limits={"address_failed_keys_per_minute": 3})
    server = Server(text + SECTIONS)
    yield server
    server.stop()


def wrong_client_key(server):
    answer, _ = ask(server, "127.0.0.9", key="a-wrong-key-0123456789")
    assert answer.status == 401


def wrong_server_key(server):
    with wire_from(server, "127.0.0.9") as wire:
        wire.send(b"GET /v1/channels HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong-key-0123456789\r\n\r\n")
        assert wire.response().status == 401


def wrong_token(server):
    answer, _ = ask(server, "127.0.0.9", b"Authorization: Bearer a.b.c\r\n")
    assert answer.status == 401


def wrong_signature(server):
    with wire_from(server, "127.0.0.9") as wire:
        wire.send(b"POST /message HTTP/1.1\r\nHost: a\r\nx-channelstream-secret: x.y\r\nContent-Length: 0\r\n\r\n")
        assert wire.response().status == 401


def websocket(server, path, headers=""):
    wire = wire_from(server, "127.0.0.9")
    wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n".encode())
    answer = wire.response()
    peer = RawWebSocket.__new__(RawWebSocket)
    peer.socket, peer.buffer = wire.socket, wire.buffer
    return answer, peer


def wrong_agnost_key(server):
    answer, peer = websocket(server, "/realtime/?EIO=4&transport=websocket")
    assert answer.status == 101 and peer.frame()[1].startswith(b"0")
    peer.send_frame(TEXT, b'40{"envId":"default","apiKey":"a-wrong-key-0123456789"}')
    assert b"invalid_api_key" in peer.frame()[1]


def wrong_xano_token(server):
    answer, _ = websocket(server, "/rt/default", "Sec-WebSocket-Protocol: a.b.c\r\n")
    assert answer.status == 101, "the client is anonymous"


@pytest.mark.parametrize("fail", [wrong_client_key, wrong_server_key, wrong_token, wrong_signature, wrong_agnost_key,
                                  wrong_xano_token])
def test_an_address_with_wrong_keys_waits(guarded, fail):
    for _ in range(3):
        fail(guarded)
    wait_until(lambda: guarded.counted("failed_keys_total") == 3)
    answer, _ = ask(guarded, "127.0.0.9")
    assert_problem(answer, 429, "too_many_failures")
    assert answer.header("retry-after") == "1"
    with wire_from(guarded, "127.0.0.9") as wire:
        wire.send(b"POST /v1/send HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n")
        assert_problem(wire.response(), 429, "too_many_failures")
    assert ask(guarded, "127.0.0.8")[0].status == 101, "another address is not concerned"
    wait_until(lambda: guarded.counted("address_blocked_total") == 2)


def test_a_good_key_costs_nothing(guarded):
    for _ in range(10):
        answer, wire = ask(guarded, "127.0.0.9")
        assert answer.status == 101
        wire.socket.close()
    wait_until(lambda: guarded.counted("failed_keys_total") == 0)


def test_tokens_on_a_websocket_that_do_not_verify_count_once_it_is_closed(guarded):
    with wire_from(guarded, "127.0.0.9") as wire:
        peer = RawWebSocket.open(wire)
        for at in range(20):
            try:
                peer.send_json({"type": "session", "id": at, "token": "a.b.c"})
            except OSError:
                break
        peer.close_code()
    wait_until(lambda: guarded.counted("failed_keys_total") == 1)


def test_a_broken_connection_gives_its_place_back(start_server):
    server = start_server(server_limits={"address_connections": 2})
    for _ in range(20):
        wire = wire_from(server, "127.0.0.9")
        RawWebSocket.open(wire)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.socket.close()
        wait_until(lambda: server.counted("connections") == 0)
