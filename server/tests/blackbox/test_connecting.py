"""Section 2: the handshake, its refusals, and the welcome."""

import asyncio
import json
import string
import urllib.parse

import pytest

from peer import Peer, connect_many
from server_process import DEADLINE_S, assert_problem, client_key, server_key, wait_until
from tokens import token
from wire import TEXT, RawWebSocket, Wire, frame, upgrade_request


def test_key_in_the_query_is_accepted(server):
    assert server.handshake().status == 101


def test_key_in_a_header_is_accepted(server):
    assert server.handshake({"key": None}, {"X-Fanfare-Key": client_key()}).status == 101


def test_header_names_are_case_insensitive(server):
    assert server.handshake({"key": None}, {"x-fanfare-KEY": client_key()}).status == 101


def test_server_key_opens_no_connection(server):
    assert_problem(server.handshake({"key": server_key()}), 403, "client_key_required")
    response = server.handshake({"key": None}, {"X-Fanfare-Key": server_key()})
    assert_problem(response, 403, "client_key_required")


def test_key_given_twice_is_refused(server):
    response = server.handshake({"key": client_key()}, {"X-Fanfare-Key": client_key()})
    assert_problem(response, 400, "invalid_request")


def test_app_is_chosen_by_name(server):
    assert server.handshake({"app": "other", "key": client_key("other")}).status == 101


def test_app_named_default_is_the_default(server):
    assert server.handshake({"app": "default"}).status == 101


def test_query_is_percent_decoded(server):
    assert server.handshake("key=" + "".join(f"%{ord(c):02x}" for c in client_key())).status == 101


def test_handshake_answers_the_websocket_key(server):
    answer = server.handshake()
    assert answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.header("upgrade").lower() == "websocket"
    assert answer.header("connection").lower() == "upgrade"


def test_upgrade_and_connection_are_matched_as_tokens_without_case(server):
    headers = {"Connection": "keep-alive, UPGRADE", "Upgrade": "WebSocket"}
    assert server.handshake(headers=headers).status == 101


@pytest.mark.parametrize("offered", ["fanfare.v1", "other.v2, fanfare.v1", "fanfare.v1,other.v2"])
def test_subprotocol_is_selected_when_offered(server, offered):
    answer = server.handshake(headers={"Sec-WebSocket-Protocol": offered})
    assert answer.status == 101
    assert answer.header("sec-websocket-protocol") == "fanfare.v1"


@pytest.mark.parametrize("headers", [{}, {"Sec-WebSocket-Protocol": "other.v2"}], ids=["none", "another"])
def test_subprotocol_is_not_required(server, headers):
    answer = server.handshake(headers=headers)
    assert answer.status == 101
    assert answer.header("sec-websocket-protocol") is None


def test_compression_is_not_negotiated(server):
    answer = server.handshake(headers={"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"})
    assert answer.status == 101
    assert answer.header("sec-websocket-extensions") is None


def test_unknown_app_is_refused(server):
    assert_problem(server.handshake({"app": "nobody"}), 401, "unknown_app")


def test_missing_key_is_refused(server):
    assert_problem(server.handshake({"key": None}), 401, "missing_key")


@pytest.mark.parametrize("key", ["wrong", client_key() + "0", client_key()[:-1], client_key().upper()])
def test_wrong_key_is_refused(server, key):
    assert_problem(server.handshake({"key": key}), 401, "invalid_key")


def test_key_of_another_app_is_refused(server):
    assert_problem(server.handshake({"app": "other"}), 401, "invalid_key")
    assert_problem(server.handshake({"app": "other", "key": client_key()}), 401, "invalid_key")


@pytest.mark.parametrize(
    "query", ["echo=maybe", "echo=1", "echo=TRUE", "binary=hex", "binary=", "app=%zz", "app=%ff", "echo=tru%"]
)
def test_invalid_query_parameter_is_refused(server, query):
    answer = server.handshake(f"key={client_key()}&{query}")
    assert_problem(answer, 400, "invalid_request")


def test_handshake_without_websocket_key_is_refused(server):
    assert_problem(server.handshake(without=["Sec-WebSocket-Key"]), 400, "invalid_request")


@pytest.mark.parametrize("key", ["", "dGhl", "not base64 at all!!!!!==", "dGhlIHNhbXBsZSBub25jZSB0b28gbG9uZw=="])
def test_handshake_with_invalid_websocket_key_is_refused(server, key):
    assert_problem(server.handshake(headers={"Sec-WebSocket-Key": key}), 400, "invalid_request")


def test_plain_request_is_told_to_upgrade(server):
    without = ["Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key"]
    answer = server.handshake(without=without)
    assert_problem(answer, 426, "upgrade_required")
    assert answer.header("upgrade").lower() == "websocket"  # RFC 9110, 15.5.22


def test_upgrade_to_another_protocol_is_told_to_upgrade(server):
    assert_problem(server.handshake(headers={"Upgrade": "h2c"}), 426, "upgrade_required")


@pytest.mark.parametrize("version", ["8", "12", "14", "thirteen"])
def test_other_websocket_versions_are_refused(server, version):
    answer = server.handshake(headers={"Sec-WebSocket-Version": version})
    assert_problem(answer, 426, "upgrade_required")
    assert answer.header("sec-websocket-version") == "13"  # RFC 6455, 4.4


def test_handshake_by_another_method_is_not_allowed(server):
    answer = server.handshake(method="POST")
    assert_problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.header("allow")


@pytest.mark.parametrize("origin", ["https://allowed.example", "https://also.example:8443"])
def test_listed_origin_is_accepted(server, origin):
    query = {"app": "fenced", "key": client_key("fenced")}
    assert server.handshake(query, {"Origin": origin}).status == 101


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://allowed.example",
        "https://allowed.example:444",
        "https://allowed.example.evil.example",
        "https://sub.allowed.example",
        "null",
    ],
)
def test_other_origin_is_refused(server, origin):
    query = {"app": "fenced", "key": client_key("fenced")}
    assert_problem(server.handshake(query, {"Origin": origin}), 403, "origin_not_allowed")


def test_peer_without_origin_is_no_browser_and_is_accepted(server):
    assert server.handshake({"app": "fenced", "key": client_key("fenced")}).status == 101


def test_star_allows_every_origin(server):
    assert server.handshake(headers={"Origin": "https://anything.example"}).status == 101


def test_session_token_in_the_query_is_accepted(server):
    assert server.handshake({"session": token()}).status == 101


def test_session_token_in_a_header_is_accepted(server):
    with Wire(server) as wire:
        headers = f"Authorization: Bearer {token('leia')}\r\n".encode()
        wire.send(upgrade_request(f"key={client_key()}", headers))
        assert wire.response().status == 101
        while b'"leia"' not in wire.buffer:
            wire.receive()


async def test_first_frame_is_the_welcome(server):
    peer = await Peer.connect(server)
    assert list(peer.frames[0].object) == ["welcome"]
    assert peer.welcome["user"] is None
    assert peer.welcome["app"] == "default"
    assert peer.welcome["ping_interval_ms"] == 25000
    assert peer.welcome["limits"] == {
        "frame_bytes": 1048576,
        "message_bytes": 65536,
        "profile_bytes": 4096,
        "channels": 128,
        "batch": 256,
    }


async def test_welcome_names_user_and_app(server):
    peer = await Peer.connect(server, "other", session=token("luke", "other"))
    assert peer.welcome["user"] == "luke"
    assert peer.welcome["app"] == "other"


async def test_welcome_tells_the_limits_of_the_app(server):
    limits = (await Peer.connect(server, "small")).welcome["limits"]
    assert (limits["message_bytes"], limits["profile_bytes"], limits["channels"]) == (1024, 256, 3)


async def test_session_ids_are_20_characters_of_base64url_and_unique(server):
    peers = await connect_many(server, 32)
    alphabet = set(string.ascii_letters + string.digits + "-_")
    for peer in peers:
        assert len(peer.id) == 20 and set(peer.id) <= alphabet, peer.id
    assert len({peer.id for peer in peers}) == 32


def test_frames_sent_along_with_the_handshake_are_not_lost(server):
    early = frame(TEXT, b'{"type":"ping","id":"early"}')
    with RawWebSocket(server, also_send=early) as peer:
        answer = peer.object()
        assert answer["id"] == "early" and "ok" in answer


def test_handshake_may_arrive_byte_by_byte(server):
    with Wire(server) as wire:
        for byte in upgrade_request(f"key={client_key()}"):
            wire.send(bytes([byte]))
        assert wire.response().status == 101


def test_full_app_refuses_and_recovers_when_a_connection_ends(server):
    query = {"app": "narrow", "key": client_key("narrow")}
    peers = [RawWebSocket(server, "narrow") for _ in range(3)]
    assert_problem(server.handshake(query), 503, "too_many_connections")
    assert server.handshake().status == 101, "another app is not full"
    peers[0].socket.close()
    wait_until(lambda: server.handshake(query).status == 101)
    for peer in peers[1:]:
        peer.socket.close()


def test_full_server_refuses_and_recovers_when_a_connection_ends(start_server):
    server = start_server(server_limits={"connections": 3})
    peers = []

    def full():
        try:
            peers.append(RawWebSocket(server))
        except AssertionError:
            return True
        return False

    wait_until(full)
    assert len(peers) <= 3
    assert_problem(server.handshake(), 503, "too_many_connections")
    peers[0].socket.close()
    wait_until(lambda: server.handshake().status == 101)
    for peer in peers[1:]:
        peer.socket.close()


async def open_and_join(server, name):
    """A connection that joins with its handshake; what it is answered, and the connection."""
    connection = await Peer.open(server, urllib.parse.urlencode({"key": client_key(), "join": name, "echo": "false"}))
    assert "welcome" in json.loads(await asyncio.wait_for(connection.recv(), DEADLINE_S))
    return json.loads(await asyncio.wait_for(connection.recv(), DEADLINE_S)), connection


async def test_join_in_the_query_is_the_first_command(server, channel):
    name = f'{channel} "é&=\n'
    watcher = await Peer.connect(server)
    await watcher.join(name, echo=False)
    answer, connection = await open_and_join(server, name)
    assert answer["id"] == "join"
    assert (answer["ok"]["channel"], answer["ok"]["joined"], answer["ok"]["members"]) == (name, True, 2)
    assert (await watcher.publication()).object["event"] == "channel:join"
    await watcher.ok("send", channel=name, event="e", message=1, echo=False)
    assert json.loads(await asyncio.wait_for(connection.recv(), DEADLINE_S))["event"] == "e"
    await connection.close()


def test_join_in_the_query_comes_before_frames_sent_with_the_handshake(server, channel):
    command = frame(TEXT, json.dumps({"id": 1, "type": "members", "channel": channel}).encode())
    with RawWebSocket(server, also_send=command, join=channel, echo="false") as peer:
        first, second = peer.object(), peer.object()
    assert (first["id"], second["id"], second["ok"]["total"]) == ("join", 1, 1)


async def test_refused_join_in_the_query_is_an_answer_and_not_the_end(server):
    answer, connection = await open_and_join(server, "")
    assert answer == {"id": "join", "error": {"code": "invalid_channel", "message": answer["error"]["message"]}}
    await connection.send('{"id":1,"type":"ping"}')
    assert json.loads(await asyncio.wait_for(connection.recv(), DEADLINE_S))["id"] == 1
    await connection.close()
