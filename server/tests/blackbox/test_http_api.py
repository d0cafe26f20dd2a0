"""Section 8: the back end's requests, their answers, their errors, and CORS."""

import json

import pytest

from peer import Peer, connect_many
from server_process import assert_problem, client_key, server_key
from wire import Wire

ENDPOINTS = [
    ("POST", "/v1/send"),
    ("POST", "/v1/broadcast"),
    ("POST", "/v1/publish"),
    ("GET", "/v1/members"),
    ("GET", "/v1/channels"),
    ("POST", "/v1/disconnect"),
    ("GET", "/v1/history"),
    ("GET", "/v1/options"),
    ("PUT", "/v1/options"),
    ("GET", "/v1/users/nobody"),
    ("PATCH", "/v1/users/nobody"),
    ("POST", "/v1/revoke"),
    ("PATCH", "/v1/messages"),
    ("DELETE", "/v1/messages"),
]
WITH_BODY = [(method, path) for method, path in ENDPOINTS if method != "GET"]


def each(endpoints):
    return pytest.mark.parametrize("method,path", endpoints, ids=[" ".join(endpoint) for endpoint in endpoints])


each_endpoint = each(ENDPOINTS)
each_with_body = each(WITH_BODY)


def body_of(method, path):
    if method == "GET":
        return None
    return {
        "/v1/send": {"channel": "c", "event": "e"},
        "/v1/broadcast": {"event": "e"},
        "/v1/disconnect": {"user": "nobody"},
        "/v1/options": {"channel": "c"},
        "/v1/users/nobody": {"state": {"seen": True}},
        "/v1/revoke": {"user": "nobody"},
    }.get(path, [])


async def test_send_reaches_the_members(server, channel):
    peers = await connect_many(server, 12, echo="false")
    for number, peer in enumerate(peers):
        await peer.join(channel)
        for earlier in peers[:number]:
            await earlier.expect(event="channel:join")
    body = {"channel": channel, "event": "news", "message": {"n": 1}}
    answers = [await server.api("POST", "/v1/send", body) for _ in range(3)]
    assert all(set(answer) == {"message_id", "offset"} for answer in answers)
    assert [answer["offset"] for answer in answers] == [1, 2, 3]
    assert len({json.dumps(answer["message_id"]) for answer in answers}) == 3
    for peer in peers:
        for offset in (1, 2, 3):
            frame = await peer.publication()
            assert frame.object == {"channel": channel, "event": "news", "message": {"n": 1}, "offset": offset}


async def test_send_to_nobody_has_no_offset(server, channel):
    answer = await server.api("POST", "/v1/send", {"channel": channel, "event": "e"})
    assert answer["offset"] is None


async def test_message_left_out_is_null(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    await server.api("POST", "/v1/send", {"channel": channel, "event": "e"})
    await peer.expect(event="e", message=None)
    await server.api("POST", "/v1/broadcast", {"event": "e"})
    await peer.expect(event="e", message=None, channel=None)


async def test_broadcast_reaches_every_session(server):
    peers = await connect_many(server, 12)
    answer = await server.api("POST", "/v1/broadcast", {"event": "all", "message": [1]})
    assert set(answer) == {"message_id"}
    for peer in peers:
        assert (await peer.publication()).object == {"channel": None, "event": "all", "message": [1]}


async def test_publish_is_answered_in_order_and_delivered_in_order(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    items = [
        {"channel": channel, "event": "one", "message": 1},
        {"event": "two"},
        {"channel": channel, "event": "channel:bad"},
        {"channel": "", "event": "e"},
        {"channel": None, "event": "three"},
        {"channel": channel, "event": ""},
        {"channel": channel},
        5,
        {"channel": channel, "event": "four", "message": 4},
    ]
    answers = await server.api("POST", "/v1/publish", items)
    outcome = [answer["error"]["code"] if "error" in answer else sorted(answer["ok"]) for answer in answers]
    assert outcome == [
        ["message_id", "offset"],
        ["message_id"],
        "reserved_event",
        "invalid_channel",
        ["message_id"],
        "invalid_event",
        "invalid_command",
        "invalid_command",
        ["message_id", "offset"],
    ]
    assert all(set(answer["error"]) >= {"code", "message"} for answer in answers if "error" in answer)
    seen = [(frame.object["event"], frame.object["channel"]) for frame in [await peer.publication() for _ in range(4)]]
    assert [pair for pair in seen if pair[1]] == [("one", channel), ("four", channel)]
    assert [pair for pair in seen if not pair[1]] == [("two", None), ("three", None)]
    await peer.nothing()


async def test_publish_of_256_is_done_and_of_257_refused_whole(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    items = [{"channel": channel, "event": "e", "message": number} for number in range(257)]
    assert_problem(server.call("POST", "/v1/publish", items), 400, "batch_too_long")
    answers = await server.api("POST", "/v1/publish", items[:256])
    assert [answer["ok"]["offset"] for answer in answers] == list(range(1, 257))
    for number in range(256):
        await peer.expect(message=number, offset=number + 1)
    await peer.nothing()


async def test_publish_of_nothing_is_nothing(server):
    assert await server.api("POST", "/v1/publish", []) == []


async def test_payload_limit_holds_in_publish(server, channel):
    items = [{"channel": channel, "event": "e", "message": "x" * length} for length in (1022, 1023)]
    first, second = await server.api("POST", "/v1/publish", items, app="small")
    assert "ok" in first and second["error"]["code"] == "message_too_large"


async def test_members_are_as_the_command_answers(server, channel):
    peer = await Peer.connect(server)
    await peer.ok("update", profile={"a": [1]})
    await peer.join(channel)
    answer = await server.api("GET", "/v1/members", channel=channel)
    assert answer == await peer.ok("members", channel=channel)
    assert answer == {
        "channel": channel,
        "total": 1,
        "members": [{"id": peer.id, "data": {"a": [1]}}],
        "next": None,
    }


async def test_back_end_needs_no_membership_and_no_session(server, channel):
    for app in ("membership", "strict"):
        peer = await Peer.connect(server, app)
        await peer.join(channel, echo=False)
        await server.api("POST", "/v1/send", {"channel": channel, "event": "e"}, app=app)
        await peer.expect(event="e")
        await server.api("POST", "/v1/broadcast", {"event": "b"}, app=app)
        await peer.expect(event="b")
        (answer,) = await server.api("POST", "/v1/publish", [{"channel": channel, "event": "p"}], app=app)
        assert "ok" in answer
        await peer.expect(event="p")


@each_endpoint
async def test_app_is_default_unless_named(server, method, path):
    for query in ({}, {"app": "default"}):
        response = server.request(
            method,
            path + "?channel=c" + "".join(f"&{name}={value}" for name, value in query.items()),
            body_of(method, path),
            {"Authorization": f"Bearer {server_key()}"},
        )
        assert response.status == 200, response.body


@each_with_body
@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_json_bodies_are_accepted_with_and_without_a_type(server, method, path, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = server.call(method, path, json.dumps(body_of(method, path)).encode(), headers=headers)
    assert response.status == 200, response.body


@each_with_body
@pytest.mark.parametrize(
    "content_type", ["text/plain", "multipart/form-data", "application/jsonx", "application/xml", "json"]
)
def test_bodies_of_another_type_are_refused(server, method, path, content_type):
    body = json.dumps(body_of(method, path)).encode()
    response = server.call(method, path, body, headers={"Content-Type": content_type})
    assert_problem(response, 415, "unsupported_media_type")


# Keys


@each_endpoint
def test_unknown_app_is_refused(server, method, path):
    assert_problem(server.call(method, path, body_of(method, path), app="nobody"), 401, "unknown_app")


@each_endpoint
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": ""}, {"Authorization": "Bearer "}], ids=["none", "empty", "blank"]
)
def test_missing_key_is_refused(server, method, path, headers):
    response = server.request(method, path + "?channel=c", body_of(method, path), headers)
    assert_problem(response, 401, "missing_key", *(["invalid_key"] if headers else []))


@each_endpoint
@pytest.mark.parametrize("key", ["wrong", server_key() + "0", server_key()[:-1], server_key("other")])
def test_wrong_key_is_refused(server, method, path, key):
    assert_problem(server.call(method, path, body_of(method, path), key=key, channel="c"), 401, "invalid_key")


@each_endpoint
def test_client_key_is_not_enough(server, method, path):
    response = server.call(method, path, body_of(method, path), key=client_key(), channel="c")
    assert_problem(response, 403, "server_key_required")


def test_authorization_scheme_is_case_insensitive(server):
    headers = {"authorization": f"bearer {server_key()}"}
    assert server.request("GET", "/v1/channels", headers=headers).status == 200


def test_other_authorization_scheme_is_no_key(server):
    headers = {"Authorization": f"Basic {server_key()}"}
    assert_problem(server.request("GET", "/v1/channels", headers=headers), 401, "missing_key", "invalid_key")


async def test_refused_request_does_nothing(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    body = {"channel": channel, "event": "e"}
    for key in ("wrong", client_key(), server_key("other")):
        assert server.call("POST", "/v1/send", body, key=key).status in (401, 403)
    await server.api("POST", "/v1/send", {"channel": channel, "event": "end"})
    await peer.expect(event="end", offset=1)


# Errors of bodies and queries


@each_with_body
@pytest.mark.parametrize("body", [b"{", b"nonsense", b'{"channel":"c",}', b"{}}", b"\xff", b"", b"{'a':1}"])
def test_malformed_body_is_refused(server, method, path, body):
    headers = {"Content-Type": "application/json"}
    assert_problem(server.call(method, path, body, headers=headers), 400, "malformed_json")


@each_with_body
def test_body_nested_too_deep_is_refused(server, method, path):
    nested = "[" * 129 + "]" * 129
    body = f'{{"event":"e","channel":"c","user":"u","message":{nested}}}'
    if body_of(method, path) == []:
        body = f"[{body}]"
    assert_problem(server.call(method, path, body.encode()), 400, "too_deep")


@pytest.mark.parametrize(
    "path,body",
    [
        ("/v1/send", []),
        ("/v1/send", 5),
        ("/v1/send", None),
        ("/v1/send", {}),
        ("/v1/send", {"event": "e"}),
        ("/v1/send", {"channel": "c"}),
        ("/v1/send", {"channel": 5, "event": "e"}),
        ("/v1/send", {"channel": None, "event": "e"}),
        ("/v1/send", {"channel": "c", "event": ["e"]}),
        ("/v1/broadcast", []),
        ("/v1/broadcast", {}),
        ("/v1/broadcast", {"event": 5}),
        ("/v1/publish", {}),
        ("/v1/publish", "x"),
        ("/v1/publish", {"channel": "c", "event": "e"}),
        ("/v1/disconnect", []),
        ("/v1/disconnect", {}),
        ("/v1/disconnect", {"session": 5}),
        ("/v1/disconnect", {"user": None}),
        ("/v1/disconnect", {"user": ["u"]}),
        ("/v1/disconnect", {"user": "u", "reconnect": "yes"}),
        ("/v1/disconnect", {"reconnect": True}),
    ],
    ids=str,
)
def test_body_of_the_wrong_shape_is_refused(server, path, body):
    assert_problem(server.call("POST", path, json.dumps(body).encode()), 400, "invalid_command")


@pytest.mark.parametrize(
    "path,body,code",
    [
        ("/v1/send", {"channel": "", "event": "e"}, "invalid_channel"),
        ("/v1/send", {"channel": "x" * 257, "event": "e"}, "invalid_channel"),
        ("/v1/send", {"channel": "c", "event": ""}, "invalid_event"),
        ("/v1/send", {"channel": "c", "event": "é" * 129}, "invalid_event"),
        ("/v1/send", {"channel": "c", "event": "channel:join"}, "reserved_event"),
        ("/v1/send", {"channel": "c", "event": "e", "message": "x" * 65535}, "message_too_large"),
        ("/v1/broadcast", {"event": ""}, "invalid_event"),
        ("/v1/broadcast", {"event": "x" * 257}, "invalid_event"),
        ("/v1/broadcast", {"event": "channel:"}, "reserved_event"),
        ("/v1/broadcast", {"event": "e", "message": "x" * 65535}, "message_too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_names_and_messages_are_refused(server, path, body, code):
    assert_problem(server.call("POST", path, body), 400, code)


def test_message_of_exactly_the_limit_is_sent(server):
    assert server.call("POST", "/v1/send", {"channel": "c", "event": "e", "message": "x" * 65534}).status == 200


@pytest.mark.parametrize("query", [{}, {"channel": ""}, {"channel": "x" * 257}])
def test_members_need_a_valid_channel(server, query):
    expected = ("invalid_channel", "invalid_request") if not query else ("invalid_channel",)
    assert_problem(server.call("GET", "/v1/members", **query), 400, *expected)


@pytest.mark.parametrize("query", ["channel=%zz", "channel=%", "channel=%ff", "channel=c&limit=%31%"])
def test_query_that_cannot_be_decoded_is_refused(server, query):
    headers = {"Authorization": f"Bearer {server_key()}"}
    assert_problem(server.request("GET", f"/v1/members?{query}", headers=headers), 400, "invalid_request")


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v1/nothing", "/v1/send/", "/v2/send", "/v1/Send", "//v1/send", "/metrics", "/healthz"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_not_found(server, method, path):
    assert_problem(server.call(method, path, {} if method == "POST" else None), 404, "not_found")


@each_endpoint
@pytest.mark.parametrize("wrong", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(server, method, path, wrong):
    if (wrong, path) in ENDPOINTS:
        return
    response = server.call(wrong, path, channel="c")
    assert_problem(response, 405, "method_not_allowed")
    allowed = [name.strip() for name in response.header("allow").split(",")]
    assert method in allowed and wrong not in allowed


def test_head_is_answered_as_get_without_a_body(server, channel):
    """RFC 9110, section 9.3.2. On one connection: a body too many would be taken for the next answer."""
    with Wire(server) as wire:

        def head(target):
            authorization = f"Authorization: Bearer {server_key()}"
            wire.send(f"HEAD {target} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n\r\n".encode())
            status = int(wire.take_line().split()[1])
            lines = iter(wire.take_line, b"")
            return status, dict(line.decode().split(": ", 1) for line in lines)

        for path in ("/v1/channels?prefix=nobodys", f"/v1/members?channel={channel}", "/v1/options?channel=c"):
            status, headers = head(path)
            body = server.request("GET", path, headers={"Authorization": f"Bearer {server_key()}"}).body
            assert (status, headers["content-length"]) == (200, str(len(body)))
        assert head("/v1/nothing")[0] == 404
        assert head("/v1/send")[0] == 405
        assert head("/v1/ws")[0] == 405
        assert head("/v1/users/nobody")[0] == 200


# CORS


@each_endpoint
@pytest.mark.parametrize("app,origin", [("default", "https://any.example"), ("fenced", "https://allowed.example")])
def test_allowed_origin_is_named_in_the_answer(server, method, path, app, origin):
    response = server.call(method, path, body_of(method, path), app=app, headers={"Origin": origin}, channel="c")
    assert response.status == 200
    assert response.header("access-control-allow-origin") == origin


def test_allowed_origin_is_named_in_a_problem_too(server):
    response = server.call("POST", "/v1/send", {}, headers={"Origin": "https://any.example"})
    assert_problem(response, 400, "invalid_command")
    assert response.header("access-control-allow-origin") == "https://any.example"


def test_request_without_origin_gets_no_cors_header(server):
    assert server.call("GET", "/v1/channels").header("access-control-allow-origin") is None


@each_endpoint
def test_other_origin_is_refused(server, method, path):
    headers = {"Origin": "https://evil.example"}
    response = server.call(method, path, body_of(method, path), app="fenced", headers=headers, channel="c")
    assert_problem(response, 403, "origin_not_allowed")
    assert response.header("access-control-allow-origin") is None


@each_endpoint
@pytest.mark.parametrize("app,origin", [("default", "https://any.example"), ("fenced", "https://also.example:8443")])
def test_preflight_names_methods_and_headers(server, method, path, app, origin):
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    response = server.request("OPTIONS", f"{path}?app={app}", headers=headers)
    assert response.status in (200, 204)
    assert response.header("access-control-allow-origin") == origin
    assert method in split(response.header("access-control-allow-methods"))
    named = {name.lower() for name in split(response.header("access-control-allow-headers"))}
    assert named >= {"authorization", "content-type"}


# The problem, and the request that gets it.
APPLESS = {
    "not_found": "/v1/nothing",
    "unknown_app": "/v1/send?app=nobodys",
    "invalid_request": "/v1/send?app=%ff",
}


@pytest.mark.parametrize("code", APPLESS)
def test_every_page_may_read_what_is_refused_before_an_app_is_known(server, code):
    """The browser shows a page neither the answer nor its status otherwise, and asks first whether it may."""
    origin = {"Origin": "https://any.example"}
    preflight = server.request("OPTIONS", APPLESS[code], headers=origin | {"Access-Control-Request-Method": "POST"})
    assert (preflight.status, preflight.header("access-control-allow-origin")) == (204, "*")
    assert "POST" in split(preflight.header("access-control-allow-methods"))
    assert "authorization" in split(preflight.header("access-control-allow-headers"))
    response = server.request("POST", APPLESS[code], {}, origin)
    assert_problem(response, {"not_found": 404, "unknown_app": 401}.get(code, 400), code)
    assert response.header("access-control-allow-origin") == "*"


def test_preflight_of_another_origin_allows_nothing(server):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    response = server.request("OPTIONS", "/v1/send?app=fenced", headers=headers)
    assert response.header("access-control-allow-origin") is None


def split(value):
    return [part.strip() for part in value.split(",")]
