"""What a request's head decides, before its body is read: route, method, key, media type. And where keys go."""

import time

import pytest

import tokens
from server_process import assert_problem, client_key, server_key, wait_until
from wire import TEXT, RawWebSocket, Wire, frame

BODY_BYTES = 1 << 20


def head(path="/v1/send", method="POST", key=None, extra=b"", length=BODY_BYTES):
    authorization = b"" if key is None else f"Authorization: Bearer {key}\r\n".encode()
    framing = b"Content-Length: %d\r\n" % length
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n".encode() + authorization + framing + extra + b"\r\n"


REFUSED = {
    "no key": (head(), 401),
    "a wrong key": (head(key="wrong-wrong-wrong-wrong"), 401),
    "a client key": (head(key=client_key()), 403),
    "no such path": (head("/v1/nothing", key=server_key()), 404),
    "another method": (head("/v1/members", key=server_key()), 405),
    "a compressed body": (head(key=server_key(), extra=b"Content-Encoding: gzip\r\n"), 415),
    "another media type": (head(key=server_key(), extra=b"Content-Type: text/plain\r\n"), 415),
    "too much": (head(key=server_key(), length=BODY_BYTES + 1), 413),
    "a handshake with a body": (head("/v1/ws", method="GET"), 400),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"], ids=["sends", "waits"])
def test_refusal_comes_before_the_body_and_closes(server, name, expects):
    request, status = REFUSED[name]
    with Wire(server) as wire:
        wire.send(request[:-2] + expects + b"\r\n")
        response = wire.response()
        assert response.status == status, "and not 100"
        assert response.header("connection") == "close"
        assert wire.rest() == b""


def test_admitted_request_is_told_to_go_on(server):
    with Wire(server) as wire:
        wire.send(head(key=server_key(), extra=b"Expect: 100-continue\r\n", length=2))
        assert wire.take_line() == b"HTTP/1.1 100 Continue" and wire.take_line() == b""
        wire.send(b"{}")
        assert_problem(wire.response(), 400, "invalid_command")


def test_strangers_cannot_make_the_server_hold_bodies(start_server):
    server = start_server()
    before = server.rss_bytes()
    strangers = []
    for _ in range(300):
        stranger = Wire(server)
        strangers.append(stranger)
        try:
            stranger.send(head() + b"x" * (BODY_BYTES - 1))
        except (ConnectionError, TimeoutError):
            pass
    grown = server.rss_bytes() - before
    print(f"300 bodies of 1 MiB without a key: {grown >> 20} MiB more")
    assert grown < 32 << 20
    for stranger in strangers:
        stranger.socket.close()


def test_server_key_is_taken_from_authorization_alone(server):
    assert_problem(server.request("GET", f"/v1/channels?key={server_key()}"), 401, "missing_key")
    response = server.request("GET", "/v1/channels", headers={"X-Fanfare-Key": server_key()})
    assert_problem(response, 401, "missing_key")
    assert "Bearer" in response.header("www-authenticate")


@pytest.mark.parametrize("path", ["/v1/channels", "/v1/ws"])
@pytest.mark.parametrize("order", [1, -1])
def test_two_authorizations_are_refused(server, path, order):
    lines = [f"Authorization: Bearer {server_key()}\r\n", "Authorization: Bearer other-other-other\r\n"][::order]
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    with Wire(server) as wire:
        wire.send(f"GET {path}?key={client_key()} HTTP/1.1\r\nHost: a\r\n{upgrade}{''.join(lines)}\r\n".encode())
        assert_problem(wire.response(), 400, "invalid_request")


def test_every_answer_has_a_date_and_401_a_challenge(server):
    for response in [
        server.call("GET", "/v1/channels"),
        server.call("GET", "/v1/nothing"),
        server.request("GET", "/v1/channels"),
        server.handshake({"key": "wrong"}),
        server.request("GET", "/v1/ws"),
    ]:
        date = time.strptime(response.header("date"), "%a, %d %b %Y %H:%M:%S GMT")
        assert abs(time.mktime(date) - time.mktime(time.gmtime())) < 60
        assert (response.header("www-authenticate") is not None) == (response.status == 401)


def test_errors_of_http_do_not_speak_of_frames(server):
    response = server.call("POST", "/v1/send", b"{", headers={"Content-Type": "application/json"})
    assert_problem(response, 400, "malformed_json")
    assert "frame" not in response.json["detail"]


def test_list_of_protocols_may_name_websocket(server):
    assert server.handshake(headers={"Upgrade": "h2c, websocket"}).status == 101
    response = server.handshake(headers={"Upgrade": "h2c"})
    assert_problem(response, 426, "upgrade_required")
    assert response.header("upgrade") == "websocket"
    assert response.header("connection").lower() == "upgrade"


# Time and tokens


@pytest.mark.parametrize("begun", [frame(TEXT, b"abc")[:-1], frame(TEXT, b"abc", fin=False)], ids=["frame", "fragment"])
def test_message_that_is_begun_and_not_finished_is_timed_out_although_the_peer_pings(start_server, begun):
    server = start_server(server={"message_timeout_ms": 400})
    with RawWebSocket(server) as peer:
        peer.send(begun[:1])
        started = time.monotonic()
        for byte in begun[1:]:
            time.sleep(0.02)
            peer.send(bytes([byte]))
        assert peer.close_code() == 4004
        assert 0.3 < time.monotonic() - started < 4
    wait_until(lambda: server.counted("message_timeouts_total") == 1)


def test_messages_that_are_finished_are_not_timed_out(start_server):
    server = start_server(server={"message_timeout_ms": 300})
    with RawWebSocket(server) as peer:
        started = time.monotonic()
        message = frame(TEXT, b'{"type":"ping","id":"raw"}')
        peer.send(message[:4])
        while time.monotonic() - started < 1:
            # The end of one message and the beginning of the next arrive together, so one is always under way.
            time.sleep(0.05)
            peer.send(message[4:] + message[:4])
            assert "ok" in peer.object()


def test_bad_tokens_in_a_row_close_the_connection(start_server):
    server = start_server()
    bad = tokens.token()[:-4] + "AAAA"
    with RawWebSocket(server) as peer:
        for number in range(200):
            try:
                peer.send_json({"type": "session", "token": bad, "id": number})
            except ConnectionError:
                break
        assert peer.close_code() in (4005, None)
    wait_until(lambda: server.counted("bad_tokens_total") == 1)


def test_handshake_with_a_bad_token_ends_its_connection(server):
    with Wire(server) as wire:
        bad = tokens.token()[:-4] + "AAAA"
        wire.send(
            f"GET /v1/ws?key={client_key()}&session={bad} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        response = wire.response()
        assert_problem(response, 401, "invalid_session")
        assert wire.rest() == b""
