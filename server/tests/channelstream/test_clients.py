"""What clients and back ends of Channelstream find that the original does not show, or shows otherwise."""

import http.client
import json
import time
import uuid

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import peers
from peers import ADMIN, PATIENCE_S

AN_ID = "0190a1b2-c3d4-4e5f-8091-a2b3c4d5e6f7"


@pytest.fixture
def name():
    unique = uuid.uuid4().hex[:8]
    return lambda word: f"{word}-{unique}"


# --- who may come in -----------------------------------------------------------------------------------------


def test_an_unknown_client_is_closed_at_once(server):
    client = server.client(AN_ID)
    with pytest.raises(ConnectionClosed) as closed:
        client.socket.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd.code == 1000


@pytest.mark.parametrize("query", ["", "?conn_id=", "?conn_id=x", "?other=1"])
def test_a_client_without_an_id_loses_its_connection_without_a_word(server, query):
    with connect(f"ws://127.0.0.1:{server.port}/ws{query}", compression=None) as client:
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is None


def test_a_request_that_is_no_handshake_is_told_so(server):
    assert server.call("GET", "/ws", signed=False).status in (400, 426)


def test_ids_of_clients_are_known_by_any_spelling(server, name):
    conn_id = server.connect(name("user"), [name("channel")])["conn_id"]
    client = server.client("{" + conn_id.upper().replace("-", "") + "}")
    server.ok("POST", "/message", [{"user": "x", "channel": name("channel"), "message": {"a": 1}}])
    assert client.next()["message"] == {"a": 1}


def test_an_address_that_is_not_allowed_is_forbidden_whatever_it_signs(tmp_path):
    server = peers.start_fanfare(tmp_path, allow_posting_from=["203.0.113.1"])
    try:
        for headers in ({}, {"x-channelstream-secret": "x"}, {"x-channelstream-secret": server.sign()}):
            assert server.call("POST", "/info", signed=False, headers=headers).status == 403
        assert server.call("GET", f"/disconnect?conn_id={AN_ID}", signed=False).text == "false"
    finally:
        server.stop()


def test_old_signatures_are_refused_unless_they_may_be_old(tmp_path, server):
    old = "channelstream.ZVPxAA.UB9ITnnv9UITu0ka92WJCn1VFsQ"
    for validate, status in ((True, 401), (False, 200)):
        other = peers.start_fanfare(tmp_path, name=f"v{validate}", secret="secret", validate_requests=validate)
        try:
            headers = {"x-channelstream-secret": old}
            assert other.call("GET", "/info", signed=False, headers=headers).status == status
        finally:
            other.stop()


@pytest.mark.parametrize("options", [{"secret": "secret"}, {"admin_secret": "admin_secret"}])
def test_the_originals_own_secrets_are_refused_where_others_could_come(tmp_path, options):
    with pytest.raises(AssertionError, match="has ended"):
        peers.start_fanfare(tmp_path, listen="0.0.0.0", **options)
    assert "everybody knows" in (tmp_path / "fanfare.log").read_text()


def test_apps_are_apart(server, name):
    other = peers.Server.__new__(peers.Server)
    other.port, other.prefix = server.port, "/other"
    channel = name("channel")
    here, there = server.join(name("user"), [channel]), other.join(name("user"), [channel])
    other.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"from": "other"}}])
    server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"from": "default"}}])
    assert here.next()["message"] == {"from": "default"}
    assert there.next()["message"] == {"from": "other"}
    assert server.call("GET", f"/disconnect?conn_id={there.conn_id}", signed=False).text == "false"


def test_other_protocols_keep_their_paths(server):
    answer = server.call("OPTIONS", "/v1/send", signed=False, headers={"access-control-request-method": "POST"})
    assert answer.status == 204 and "xdomainrequestallowed" not in answer.headers
    answer = server.call("POST", "/v1/nowhere", "{}")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")


def test_origins_are_allowed_by_a_part_of_their_names(tmp_path):
    server = peers.start_fanfare(tmp_path, allow_cors=["a.example"])
    try:
        for origin, shown in (("https://a.example:8080", "*"), ("https://b.example", None), (None, None)):
            answer = server.call("OPTIONS", "/connect", signed=False, headers={"origin": origin} if origin else {})
            assert answer.headers.get("access-control-allow-origin") == shown
    finally:
        server.stop()


# --- administration ------------------------------------------------------------------------------------------


def form(server, user, password):
    body = f"username={user}&password={password}"
    return server.call("POST", "/admin/sign_in", body, signed=False)


def test_administrators_sign_in_and_out(server, name):
    assert server.call("GET", "/admin", signed=False).status == 302
    answer = form(server, *ADMIN)
    assert answer.status == 302 and "HttpOnly" in answer.headers["set-cookie"]
    cookie = answer.headers["set-cookie"].split(";")[0]
    server.connect(name("user"), [name("channel")])
    overview = server.call("GET", "/admin/admin.json", signed=False, headers={"cookie": cookie}).json
    assert overview == {**server.ok("GET", "/admin/admin.json"), "uptime": overview["uptime"]}
    assert set(overview) == {
        "remembered_user_count", "unique_user_count", "total_connections", "total_channels", "total_messages",
        "total_unique_messages", "channels", "users", "uptime", "version"}
    assert name("user") in server.call("GET", "/admin", signed=False, headers={"cookie": cookie}).text
    assert server.call("GET", "/info", signed=False, headers={"cookie": cookie}).status == 403
    assert server.call("GET", "/admin", signed=False, headers={"cookie": cookie + "x"}).status == 302
    assert "Max-Age=0" in server.call("GET", "/admin/sign_out", signed=False).headers["set-cookie"]
    assert form(server, ADMIN[0], "wrong").status == 200
    assert form(server, *ADMIN).status == 200, "for a while nobody is let in"


def test_messages_are_counted_once_for_each_that_they_are_for(server, name):
    channel = name("channel")
    for user in ("a", "a", "b", "c"):
        server.connect(name(user), [channel])
    before = server.ok("GET", "/admin/admin.json")
    server.ok("POST", "/message", [
        {"user": "x", "channel": channel, "message": {}},
        {"user": "x", "channel": channel, "message": {}, "exclude_users": [name("a"), name("a"), "nobody"]},
        {"user": "x", "channel": channel, "message": {}, "pm_users": [name("a"), name("b")], "exclude_users": [name("b")]},
        {"user": "x", "channel": "nowhere", "message": {}},
        {"user": "x", "pm_users": [name("a"), "nobody"], "message": {}}])
    after = server.ok("GET", "/admin/admin.json")
    assert after["total_unique_messages"] - before["total_unique_messages"] == 5
    assert after["total_messages"] - before["total_messages"] == 4 + 2 + 2 + 0 + 2


# --- what is done right here ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path,method", [("/connect", "POST"), ("/subscribe", "POST"), ("/unsubscribe", "POST"),
                                         ("/user_state", "POST"), ("/message", "POST"), ("/message", "PATCH"),
                                         ("/message", "DELETE"), ("/channel_config", "POST"), ("/info", "POST"),
                                         ("/disconnect", "POST")])
@pytest.mark.parametrize("body", [b"{", b"nul", b"\xff", b"[" * 5000, b"NaN", b'"\\ud800"', b"5", b"null", b'"x"'])
def test_what_is_no_body_is_422(server, path, method, body):
    answer = server.call(method, path, body)
    assert (answer.status, answer.json) == (422, {"_schema": ["Invalid input type."]})


def test_what_crashes_the_original_is_422(server):
    assert server.call("POST", "/channel_config", []).status == 422
    assert server.call("POST", "/disconnect", b"", signed=False).status == 422
    assert server.call("POST", "/message", [None]).status == 422


def test_a_history_of_size_0_keeps_nothing(server, name):
    channel = name("channel")
    server.ok("POST", "/channel_config", {channel: {"store_history": True, "history_size": 0}})
    server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"n": n}} for n in range(3)])
    assert server.history(channel) == []


def test_members_of_a_message_that_are_not_known_reach_its_receivers(server, name):
    channel = name("channel")
    client = server.join(name("user"), [channel])
    extras = {"event": "x", "é": [1, {"a": None}], "type": "forged", "catchup": True, "edited": "forged"}
    (answer,) = server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {}, **extras}])
    frame = client.next()
    for seen in (answer, frame):
        assert (seen["event"], seen["é"], seen["edited"]) == ("x", [1, {"a": None}], None)
    assert (frame["type"], frame["catchup"]) == ("message", False)


def test_a_second_socket_takes_the_place_of_the_first(server, name):
    channel, watcher = name("channel"), name("watcher")
    eyes = server.join(watcher, [channel], channel_configs={channel: {"notify_presence": True}})
    first = server.join(name("user"), [channel])
    assert eyes.next()["message"] == {"action": "joined"}
    second = server.client(first.conn_id)
    with pytest.raises(ConnectionClosed):
        first.next()
    assert second.until_marked(name("user")) == [] and eyes.until_marked(watcher) == []
    server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"to": "second"}}])
    assert second.next()["message"] == {"to": "second"}
    second.close()
    assert [eyes.next()["type"] for _ in range(2)] == ["message", "presence"]


def test_an_id_that_is_used_again_stays_one_connection(server, name):
    one, two = name("one"), name("two")
    client = server.join(name("user"), [one])
    again = server.connect(name("user"), [two], conn_id=client.conn_id)
    assert again["conn_id"] == client.conn_id
    server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"in": channel}} for channel in (one, two)])
    assert [client.next()["channel"] for _ in range(2)] == [one, two]
    answer = server.call("POST", "/connect", {"username": name("thief"), "conn_id": client.conn_id})
    assert (answer.status, list(answer.json)) == (422, ["conn_id"])


def test_disconnecting_ends_a_connection_at_once(server, name):
    channel, watcher = name("channel"), name("watcher")
    eyes = server.join(watcher, [channel], channel_configs={channel: {"notify_presence": True}})
    client = server.join(name("user"), [channel])
    assert eyes.next()["message"] == {"action": "joined"}
    assert server.call("POST", "/disconnect", {"conn_id": client.conn_id}, signed=False).text == "true"
    assert eyes.next()["message"] == {"action": "parted"}
    with pytest.raises(ConnectionClosed):
        client.next()
    assert server.call("POST", "/disconnect", {"conn_id": client.conn_id}, signed=False).text == "false"


def test_a_subscription_holds_when_it_is_answered(server, name):
    """The client is on one worker, the calls come to any."""
    client = server.join(name("user"))
    for number in range(20):
        channel = name(f"channel{number}")
        server.ok("POST", "/subscribe", {"conn_id": client.conn_id, "channels": [channel]})
        server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"n": number}}])
        assert client.next()["message"] == {"n": number}
        server.ok("POST", "/unsubscribe", {"conn_id": client.conn_id, "channels": [channel]})
        server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"n": "lost"}}])
    assert client.until_marked(name("user")) == []


def test_beats_come_to_clients_that_are_silent(server, name):
    conn_id = server.connect(name("user"), [name("channel")])["conn_id"]
    client = server.client(conn_id)
    for _ in range(2):
        assert json.loads(client.socket.recv(timeout=PATIENCE_S)) == []
    # Whatever a client sends is a sign of life, and nothing else.
    for text in ('{"type":"heartbeat"}', "", "[", "x" * 1000):
        client.socket.send(text)
    client.socket.send(b"\x00\xff")
    assert client.until_marked(name("user")) == []


def test_a_client_that_never_comes_is_forgotten(server, name):
    channel, watcher = name("channel"), name("watcher")
    eyes = server.join(watcher, [channel], channel_configs={channel: {"notify_presence": True}})
    began = time.monotonic()
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    assert eyes.next()["message"] == {"action": "joined"}
    assert eyes.next()["message"] == {"action": "parted"}
    assert time.monotonic() - began >= 14.9
    assert server.call("GET", f"/disconnect?conn_id={conn_id}", signed=False).text == "false"


def test_connections_that_wait_are_bounded(tmp_path):
    server = peers.start_fanfare(tmp_path, name="bounded")
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        statuses = []
        for number in range(10_050):
            if number % 500 == 0:
                headers = {"x-channelstream-secret": server.sign()}
            connection.request("POST", "/connect", json.dumps({"username": "one"}), headers)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        assert statuses[0] == 200
        # Some may have been forgotten in the meantime.
        overview = server.ok("GET", "/admin/admin.json")
        assert overview["total_connections"] <= 10_000
        assert 503 in statuses or overview["total_connections"] < 10_000
    finally:
        server.stop()


# --- other dialects ------------------------------------------------------------------------------------------


class Native:
    """A client of the native dialect."""

    def __init__(self, server, channel):
        url = f"ws://127.0.0.1:{server.port}/v1/ws?key=client-key-of-default-0123&join={channel}"
        self.socket = connect(url, compression=None, ping_interval=None)
        self.until("join")

    def next(self):
        return json.loads(self.socket.recv(timeout=PATIENCE_S))

    def until(self, answer):
        while self.next().get("id") != answer:
            pass

    def say(self, **command):
        self.socket.send(json.dumps({"id": "say", "type": "send", **command}))

    def next_event(self, *events):
        while True:
            message = self.next()
            if message.get("event") in events:
                return message


def test_dialects_meet_in_a_channel(server, name):
    channel = name("channel")
    client = server.join(name("user"), [channel])
    native = Native(server, channel)
    native.say(channel=channel, event="chat", message={"text": "hi"})
    frame = client.next()
    assert (frame["channel"], frame["message"], frame["event"], frame["type"]) == (
        channel, {"text": "hi"}, "chat", "message")
    assert (frame["edited"], frame["catchup"], frame["user"]) == (None, False, None)
    native.say(channel=channel, event="chat", message=[1])
    assert client.next()["message"] == {"value": [1]}
    (said,) = server.ok("POST", "/message", [{"user": "somebody", "channel": channel, "message": {"text": "ho"}}])
    heard = native.next_event("message")
    assert (heard["message"], heard["user"]) == ({"text": "ho"}, "somebody")
    change = {"channel": channel, "uuid": said["uuid"]}
    server.ok("PATCH", "/message", [{**change, "message": {"text": "new"}}])
    assert native.next_event("message:edit")["message"] == {"text": "new"}
    server.ok("DELETE", "/message", [change])
    assert native.next_event("message:delete")["channel"] == channel
    assert [client.next()["type"] for _ in range(3)] == ["message", "message:edit", "message:delete"]


def test_natives_see_clients_come_and_go(server, name):
    channel = name("channel")
    native = Native(server, channel)
    client = server.join(name("user"), [channel], user_state={"open": 1, "closed": 2}, state_public_keys=["open"])
    joined = native.next_event("channel:join")["message"]
    if "user" not in joined:
        # The native client's own.
        joined = native.next_event("channel:join")["message"]
    assert (joined["user"], joined["data"]) == (name("user"), {"open": 1})
    client.close()
    assert native.next_event("channel:leave")["message"]["user"] == name("user")


def test_all_dialects_receive_in_one_order(server, name):
    channel = name("channel")
    client, native = server.join(name("user"), [channel]), Native(server, channel)
    for number in range(50):
        native.say(channel=channel, event="message", message={"native": number})
        server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"backend": number}}])
    native.say(channel=channel, event="message", message={"end": True})
    seen = []
    while not seen or seen[-1] != {"end": True}:
        seen.append(client.next()["message"])
    heard = []
    while not heard or heard[-1] != {"end": True}:
        heard.append(native.next_event("message")["message"])
    assert heard == seen and len(seen) == 101
