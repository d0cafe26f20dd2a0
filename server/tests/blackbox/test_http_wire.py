"""HTTP/1.1 as bytes: framing, keeping connections, pipelining, limits, and attempts to smuggle."""

import json
import time

import pytest

from server_process import DEADLINE_S, Server, assert_problem, client_key, config_text, server_key
from wire import RawWebSocket, Wire, upgrade_request

AUTHORIZATION = f"Authorization: Bearer {server_key()}\r\n".encode()


def get(path="/v1/channels?limit=1", headers=b"", version=b"HTTP/1.1"):
    return b"GET " + path.encode() + b" " + version + b"\r\nHost: localhost\r\n" + AUTHORIZATION + headers + b"\r\n"


def post(path="/v1/broadcast", body=b'{"event":"e"}', headers=None):
    """`headers` replaces the framing, which is otherwise the right Content-Length."""
    framing = b"Content-Length: %d\r\n" % len(body) if headers is None else headers
    return b"POST " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + AUTHORIZATION + framing + b"\r\n" + body


def chunked(*chunks, trailers=b""):
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture
def wire(server):
    with Wire(server) as connection:
        yield connection


@pytest.fixture
def silent_channel(server, channel):
    """A channel nobody may have sent to when the test ends."""
    with RawWebSocket(server) as watcher:
        assert "ok" in watcher.command("join", channel=channel, echo=False)
        yield channel
        response = server.call("POST", "/v1/send", {"channel": channel, "event": "end"})
        assert response.json["offset"] == 1, "something was sent to the channel"


def test_connection_is_kept_between_requests(wire):
    for _ in range(20):
        wire.send(get())
        assert wire.response().status == 200
        wire.send(post())
        assert wire.response().status == 200


def test_connection_is_kept_after_refusals(wire):
    for request, status in [
        (get("/v1/nothing"), 404),
        (post("/v1/channels"), 405),
        (post(body=b"{"), 400),
        (get("/v1/members?channel=c&limit=x"), 400),
        (get(), 200),
    ]:
        wire.send(request)
        assert wire.response().status == status


def test_close_is_honoured(wire):
    wire.send(get(headers=b"Connection: close\r\n"))
    response = wire.response()
    assert response.status == 200
    assert "close" in response.header("connection").lower()
    assert wire.rest() == b""


def test_pipelined_requests_are_answered_in_order(wire):
    paths = ["/v1/channels?limit=1", "/v1/nothing", "/v1/members?channel=c", "/v1/send", "/v1/channels?limit=0"]
    wire.send(b"".join(get(path) for path in paths) + post() + get("/v1/nothing"))
    assert [wire.response().status for _ in range(7)] == [200, 404, 200, 405, 400, 200, 404]


def test_pipelined_publications_take_effect_in_order(wire, server, channel):
    with RawWebSocket(server) as watcher:
        assert "ok" in watcher.command("join", channel=channel, echo=False)
        bodies = [json.dumps({"channel": channel, "event": "e", "message": n}).encode() for n in range(100)]
        wire.send(b"".join(post("/v1/send", body) for body in bodies))
        assert [wire.response().json["offset"] for _ in bodies] == list(range(1, 101))
        assert [watcher.object()["message"] for _ in bodies] == list(range(100))


def test_pipelining_after_close_is_ignored(wire):
    wire.send(get(headers=b"Connection: close\r\n") + get("/v1/nothing"))
    assert wire.response().status == 200
    assert wire.rest() == b""


def test_handshake_may_follow_a_request(wire):
    wire.send(get() + upgrade_request(f"key={client_key()}"))
    assert wire.response().status == 200
    assert wire.response().status == 101


def test_requests_may_arrive_byte_by_byte(wire):
    for byte in post() + get() + post(body=chunked(b'{"event"', b':"e"}'), headers=CHUNKED):
        wire.send(bytes([byte]))
    assert [wire.response().status for _ in range(3)] == [200, 200, 200]


def test_empty_line_before_a_request_is_passed_over(wire):
    """RFC 9112, 2.2: some peers send one after a body."""
    wire.send(b"\r\n" + get())
    assert wire.response().status == 200


@pytest.mark.parametrize(
    "body",
    [
        chunked(b'{"event":"e"}'),
        chunked(*[bytes([byte]) for byte in b'{"event":"e"}']),
        chunked(b'{"event":"e"}', trailers=b"X-Trailer: yes\r\n"),
        b'D;name=value;other="quoted"\r\n{"event":"e"}\r\n0\r\n\r\n',
        b'00d\r\n{"event":"e"}\r\n000\r\n\r\n',
    ],
    ids=["one chunk", "many chunks", "trailer", "extension", "leading zeros"],
)
def test_chunked_bodies_are_read(wire, body):
    wire.send(post(body=body, headers=CHUNKED) + get("/v1/nothing"))
    assert wire.response().status == 200
    assert wire.response().status == 404, "the next request begins after the body"


def test_body_of_a_request_that_needs_none_is_passed_over(wire):
    wire.send(get(headers=b"Content-Length: 10\r\n") + b"GET / HTTP/" + get("/v1/nothing"))
    status = wire.response().status
    assert status in (200, 400)
    if status == 200:
        assert wire.response().status in (400, 404)


# Attempts to smuggle. Each is refused once, and the connection is closed: what follows is never executed.


HIDDEN = b'{"channel":"%s","event":"smuggled"}'

SMUGGLING = {
    "both framings": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings the other way": b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "list of lengths": b"Content-Length: 0, 5\r\n\r\n",
    "signed length": b"Content-Length: +0\r\n\r\n",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "length in hex": b"Content-Length: 0x0\r\n\r\n",
    "empty length": b"Content-Length: \r\n\r\n",
    "length with a space": b"Content-Length: 0 0\r\n\r\n",
    "length beyond 64 bits": b"Content-Length: 18446744073709551616\r\n\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded header": b"X-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "folded framing": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "header without colon": b"Nonsense\r\nContent-Length: 0\r\n\r\n",
    "empty header name": b": value\r\nContent-Length: 0\r\n\r\n",
    "null in a value": b"X-Null: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "bare CR in a value": b"X-Bare: a\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
    "bare LF in the head": b"X-Bare: a\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
    "bare LF ends the head": b"Content-Length: 0\r\n\n",
    "chunk size of letters": CHUNKED + b"\r\nxyz\r\n",
    "chunk size with a sign": CHUNKED + b"\r\n+0\r\n\r\n",
    "chunk size beyond 64 bits": CHUNKED + b"\r\n10000000000000000\r\n",
    "chunk size with 0x": CHUNKED + b"\r\n0x0\r\n\r\n",
    "chunk size ended by LF": CHUNKED + b"\r\n0\n\r\n",
    "chunk longer than its size": CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n",
    "empty chunk size": CHUNKED + b"\r\n\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_doubtful_framing_is_refused_and_what_follows_is_not_executed(wire, silent_channel, name):
    smuggled = post("/v1/send", HIDDEN % silent_channel.encode())
    start = b"POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\n" + AUTHORIZATION
    wire.send(start + SMUGGLING[name] + smuggled)
    codes = ["malformed_request"] + (["not_implemented"] if "chunked" in name else [])
    response = wire.response()
    assert response.status in ((400, 413, 501) if "64 bits" in name else (400, 501))
    if response.status == 400:
        assert_problem(response, 400, *codes)
    assert wire.rest() == b"", "the connection is closed"


@pytest.mark.parametrize(
    "head",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/channels\r\n\r\n",
        b"GET  /v1/channels HTTP/1.1\r\n\r\n",
        b"G\x01T /v1/channels HTTP/1.1\r\n\r\n",
        b"GET /v1/chan\x00nels HTTP/1.1\r\n\r\n",
        b"GET /v1/channels HTTP/1.1 \r\n\r\n",
        b"GET /v1/channels FTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda head: ascii(head[:20].decode("latin-1")),
)
def test_what_is_not_http_is_refused(wire, head):
    wire.send(head)
    response = wire.response()
    assert_problem(response, response.status, "malformed_request", "version_not_supported")
    assert response.status in (400, 505)
    assert wire.rest() == b""


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/3.0", b"HTTP/0.9"])
def test_other_versions_are_not_supported(wire, version):
    wire.send(get(version=version))
    assert_problem(wire.response(), 505, "version_not_supported")
    assert wire.rest() == b""


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b"xchunked"])
def test_other_transfer_codings_are_not_implemented(wire, coding):
    wire.send(post(body=b"0\r\n\r\n", headers=b"Transfer-Encoding: " + coding + b"\r\n"))
    assert_problem(wire.response(), 501, "not_implemented")
    assert wire.rest() == b""


# Limits


def test_head_up_to_8_kib_is_read(wire):
    padding = 8192 - len(get(headers=b"X-Padding: \r\n"))
    wire.send(get(headers=b"X-Padding: " + b"x" * padding + b"\r\n"))
    assert wire.response().status == 200


@pytest.mark.parametrize("where", ["header", "path", "many small headers"])
def test_head_over_8_kib_is_too_large(wire, where):
    if where == "header":
        wire.send(get(headers=b"X-Padding: " + b"x" * 8192 + b"\r\n"))
    elif where == "path":
        wire.send(get("/v1/channels?prefix=" + "x" * 8192))
    else:
        wire.send(get(headers=b"".join(b"X-%d: %b\r\n" % (n, b"y" * 400) for n in range(30))))
    response = wire.response()
    assert_problem(response, 414 if where == "path" else 431, "head_too_large")
    assert response.header("access-control-allow-origin") == "*", "any page may read it"
    assert wire.rest() == b""


def test_endless_head_is_cut_off(wire):
    wire.send(b"GET /v1/channels HTTP/1.1\r\n")
    try:
        for number in range(10000):
            wire.send(b"X-%d: y\r\n" % number)
    except ConnectionError:
        return
    assert wire.response().status == 431


@pytest.mark.parametrize("count,status", [(64, 200), (65, 431)])
def test_64_headers_are_allowed_and_65_are_not(wire, count, status):
    wire.send(get(headers=b"".join(b"X-%d: y\r\n" % n for n in range(count - 2))))
    response = wire.response()
    assert response.status == status
    if status == 431:
        assert_problem(response, 431, "head_too_large")


def test_body_over_1_mib_is_refused_before_it_is_sent(wire):
    wire.send(post(body=b"", headers=b"Content-Length: 1048577\r\n"))
    response = wire.response()
    assert_problem(response, 413, "body_too_large")
    assert response.header("access-control-allow-origin") == "*"
    assert wire.rest() == b""


def test_chunked_body_over_1_mib_is_refused(wire):
    wire.send(post(body=b"10000\r\n" + b" " * 65536 + b"\r\n", headers=CHUNKED))
    for _ in range(15):
        wire.send(b"10000\r\n" + b" " * 65536 + b"\r\n")
    wire.send(b"1\r\n")
    assert_problem(wire.response(), 413, "body_too_large")
    assert wire.rest() == b""


def test_announced_chunk_over_1_mib_is_refused(wire):
    wire.send(post(body=b"100001\r\n", headers=CHUNKED))
    assert_problem(wire.response(), 413, "body_too_large")


def test_body_of_1_mib_is_read(wire):
    body = b'{"event":"e"}'
    wire.send(post(body=body + b" " * (1048576 - len(body))))
    assert wire.response().status == 200
    wire.send(post(body=chunked(body, b" " * (1048576 - len(body))), headers=CHUNKED))
    assert wire.response().status == 200


# Time


UNFINISHED = {
    "half a request line": b"GET /v1/chan",
    "half a head": get()[:-10],
    "half a body": post()[:-5],
    "half a chunk": post(body=b'd\r\n{"event"', headers=CHUNKED),
    "half a handshake": upgrade_request(f"key={client_key()}")[:-6],
}


@pytest.fixture(scope="session")
def impatient(workers):
    server = Server(config_text(workers, server={"request_timeout_ms": 600, "keep_alive_ms": 600}))
    yield server
    server.stop()


@pytest.mark.parametrize("name", UNFINISHED)
def test_unfinished_request_is_timed_out(impatient, name):
    with Wire(impatient) as wire:
        started = time.monotonic()
        wire.send(UNFINISHED[name])
        response = wire.response()
        assert_problem(response, 408, "request_timeout")
        assert response.header("access-control-allow-origin") == "*"
        assert wire.rest() == b""
        assert 0.3 < time.monotonic() - started < DEADLINE_S


@pytest.mark.parametrize("name", ["half a head", "half a body", "half a handshake"])
def test_trickling_does_not_extend_the_time(impatient, name):
    with Wire(impatient) as wire:
        wire.send(UNFINISHED[name][:30])
        started = time.monotonic()
        for byte in UNFINISHED[name][30:]:
            if wire.readable(within_s=0.05):
                break
            wire.send(bytes([byte]))
        assert wire.readable(within_s=1.5), "neither answered nor closed"
        assert time.monotonic() - started < DEADLINE_S
        assert wire.rest() == b"" or b" 408 " in bytes(wire.buffer[:40])


def test_connection_that_says_nothing_is_closed(impatient):
    with Wire(impatient) as wire:
        rest = wire.rest()
        assert rest == b"" or b" 408 " in rest[:40]


def test_open_websocket_is_not_timed_out_as_a_request(impatient):
    with RawWebSocket(impatient) as peer:
        started = time.monotonic()
        while time.monotonic() - started < 1.5:
            assert not peer.readable(within_s=0.1), "something arrived on an idle connection"
        assert "ok" in peer.command("ping")


def test_half_closed_request_is_answered_or_closed(wire):
    wire.send(get())
    wire.half_close()
    rest = wire.rest()
    assert rest == b"" or rest.startswith(b"HTTP/1.1 200")
