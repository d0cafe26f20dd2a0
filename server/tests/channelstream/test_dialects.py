"""What clients of other dialects and clients of Channelstream see of each other, in both directions."""

import json
import uuid

import pytest
from websockets.sync.client import connect

import peers
from peers import PATIENCE_S

MORE = [
    "[apps.default.agnost]",
    "key_required = false",
    "[apps.default.xano]",
    "[[apps.default.xano.channels]]",
    'pattern = "shared*"',
    "anonymous_clients = true",
    "presence = true",
    "history = 25",
    "client_public_messaging = true",
]


class Other:
    """A client of another dialect, over a WebSocket with text frames."""

    def __init__(self, server, path):
        self.socket = connect(f"ws://127.0.0.1:{server.port}{path}", open_timeout=PATIENCE_S,
                              close_timeout=PATIENCE_S, compression=None, ping_interval=None)

    def receive(self):
        return self.socket.recv(timeout=PATIENCE_S)

    def send(self, message):
        self.socket.send(json.dumps(message))

    def until(self, is_it):
        """The first message that `is_it` accepts."""
        while True:
            message = self.next()
            if is_it(message):
                return message

    def close(self):
        self.socket.close()


class Native(Other):
    def __init__(self, server):
        super().__init__(server, "/v1/ws?key=client-key-of-default-0123")
        self.id = self.next()["welcome"]["session"]

    def next(self):
        return json.loads(self.receive())

    def join(self, channel):
        self.send({"id": "join", "type": "join", "channel": channel, "echo": False})
        self.until(lambda frame: frame.get("id") == "join")

    def leave(self, channel):
        self.send({"id": "leave", "type": "leave", "channel": channel})

    def update(self, profile):
        self.send({"id": "update", "type": "update", "profile": profile})

    def say(self, channel, message):
        self.send({"id": "send", "type": "send", "channel": channel, "event": "message", "message": message})

    def history(self, channel):
        self.send({"id": "history", "type": "history", "channel": channel, "after": 0})
        return self.until(lambda frame: frame.get("id") == "history")["ok"]

    def event(self, name):
        return self.until(lambda frame: frame.get("event") == name)


    def message(self):
        return self.event("message")["message"]


class Agnost(Other):
    def __init__(self, server):
        super().__init__(server, "/realtime/realtime/?EIO=4&transport=websocket")
        assert self.receive().startswith("0")
        self.socket.send("40" + json.dumps({"envId": "default", "echoMessages": False}))
        self.id = json.loads(self.receive().removeprefix("40"))["sid"]

    def next(self):
        while True:
            packet = self.receive()
            if packet.startswith("42"):
                return json.loads(packet[2:])
            assert packet == "2", packet
            self.socket.send("3")

    def emit(self, event, payload):
        self.socket.send("42" + json.dumps([event, payload]))

    def join(self, channel):
        self.emit("join", {"channel": channel, "echo": True})
        self.event("channel:join")

    def leave(self, channel):
        self.emit("leave", {"channel": channel})

    def update(self, profile):
        self.emit("update", {"data": profile})

    def say(self, channel, message):
        self.emit("message", {"channel": channel, "eventName": "message", "message": message})

    def event(self, name):
        return self.until(lambda event: event[0] == name)[1]


    def message(self):
        return self.event("message")["message"]


class Xano(Other):
    def __init__(self, server):
        super().__init__(server, "/rt/default")

    def next(self):
        return json.loads(self.receive())

    def action(self, name):
        return self.until(lambda frame: frame["action"] == name)

    def join(self, channel):
        options = {"channel": channel}
        self.send({"action": "join", "options": options, "payload": {"history": False, "presence": True}})
        members = self.action("presence_full")["payload"]["presence"]
        self.id = members[-1]["socketId"] if len(members) == 1 else None

    def leave(self, channel):
        self.send({"action": "leave", "options": {"channel": channel}, "payload": None})

    def say(self, channel, message):
        self.send({"action": "message", "options": {"channel": channel}, "payload": message})


    def message(self):
        """The payload of the next message, or the data of the next event, which has no sender."""
        frame = self.until(lambda frame: frame["action"] in ("message", "event"))
        return frame["payload"] if frame["action"] == "message" else frame["payload"]["data"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = peers.start_fanfare(tmp_path_factory.mktemp("dialects"), more=MORE)
    yield running
    running.stop()


@pytest.fixture
def channel():
    return f"shared-{uuid.uuid4().hex[:8]}"


def info(server, channel):
    return server.ok("POST", "/info", {"info": {"channels": [channel]}})


TOLD = {"notify_presence": True, "notify_state": True, "broadcast_presence_with_user_lists": True,
        "store_history": True}


@pytest.mark.parametrize("dialect", [Native, Agnost, Xano])
def test_members_of_other_dialects_are_users_of_a_channel(server, channel, dialect):
    other = dialect(server)
    other.join(channel)
    # The member has come before the channel has settings.
    before = info(server, channel)
    assert before["channels"][channel]["users"] == [other.id], "others are named by their sessions"
    leia = server.join("leia", [channel], channel_configs={channel: TOLD})
    shown = info(server, channel)
    assert shown["channels"][channel]["users"] == sorted([other.id, "leia"])
    assert shown["channels"][channel]["total_connections"] == 2
    assert shown["channels"][channel]["uuid"] == before["channels"][channel]["uuid"]
    assert {"user": other.id, "state": {}} in shown["users"]
    second = dialect(server)
    second.join(channel)
    joined = leia.next()
    assert (joined["type"], joined["message"]) == ("presence", {"action": "joined"})
    assert len(joined["users"]) == 3 and joined["state"] == {}
    name = joined["user"]
    second.leave(channel)
    parted = leia.next()
    assert (parted["user"], parted["message"], parted["state"]) == (name, {"action": "parted"}, None)
    # A lost connection is a leave as well.
    other.close()
    parted = leia.next()
    assert parted["message"] == {"action": "parted"} and [user["user"] for user in parted["users"]] == ["leia"]
    assert info(server, channel)["channels"][channel]["users"] == ["leia"]
    leia.close()
    second.close()


@pytest.mark.parametrize("dialect", [Native, Agnost])
def test_a_profile_is_the_state_of_a_user(server, channel, dialect):
    leia = server.join("leia", [channel], channel_configs={channel: TOLD})
    other = dialect(server)
    other.join(channel)
    assert leia.next()["type"] == "presence"
    other.update({"mood": "well", "age": 19})
    change = leia.next()
    assert (change["type"], change["user"], change["channel"]) == ("user_state_change", other.id, channel)
    assert change["message"] == {
        "state": {"mood": "well", "age": 19},
        "changed": [{"key": "mood", "value": "well"}, {"key": "age", "value": 19}],
    }
    other.update({"mood": "well"})
    assert leia.next()["message"] == {"state": {"mood": "well"}, "changed": [{"key": "age", "value": None}]}
    assert {"user": other.id, "state": {"mood": "well"}} in info(server, channel)["users"]
    other.update({"mood": "well"})
    assert leia.until_mark("leia") == [], "the same profile is no change"
    leia.close()
    other.close()


@pytest.mark.parametrize("dialect", [Native, Agnost, Xano])
def test_a_message_reaches_a_channel_that_only_others_use(server, channel, dialect):
    other = dialect(server)
    other.join(channel)
    message = {"uuid": str(uuid.uuid4()), "user": "leia", "channel": channel, "message": {"n": 1}}
    server.ok("POST", "/message", [message])
    assert other.message() == {"n": 1}
    other.leave(channel)
    other.close()


def test_a_channel_of_others_ends_with_its_last_member(server, channel):
    other = Native(server)
    other.join(channel)
    assert channel in info(server, channel)["channels"]
    watcher = server.join("leia", [f"{channel}-own"])
    other.close()
    # The leave is an event of its own, so the listing is asked until it has happened.
    for _ in range(1_000):
        if channel not in info(server, channel)["channels"]:
            break
    else:
        pytest.fail("the channel stays")
    watcher.close()


@pytest.mark.parametrize("dialect", [Native, Agnost, Xano])
def test_a_message_goes_both_ways(server, channel, dialect):
    leia, other = server.join("leia", [channel]), dialect(server)
    other.join(channel)
    other.say(channel, {"n": 1})
    received = leia.next()
    assert (received["type"], received["channel"], received["message"]) == ("message", channel, {"n": 1})
    server.ok("POST", "/message", [{"user": "leia", "channel": channel, "message": {"n": 2}}])
    payload = other.message()
    # Xano's clients receive their own messages.
    assert (other.message() if payload == {"n": 1} else payload) == {"n": 2}
    leia.close()
    other.close()


def test_members_of_all_dialects_receive_one_order(server, channel):
    others = [Native(server), Agnost(server), Native(server), Agnost(server)]
    for other in others:
        other.join(channel)
    leia = server.join("leia", [channel])
    for round_ in range(10):
        for at, other in enumerate(others[:2]):
            other.say(channel, {"by": at, "n": round_})
        server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": {"by": 2, "n": round_}}])
    seen = [[other.message() for _ in range(30)] for other in others[2:]]
    frames = [leia.next() for _ in range(30)]
    seen.append([frame["message"] for frame in frames if frame["type"] == "message"])
    assert seen[0] == seen[1] == seen[2]
    for by in range(3):
        assert [message["n"] for message in seen[0] if message["by"] == by] == list(range(10))
    for other in [*others, leia]:
        other.close()


def test_other_dialects_read_the_history_of_a_channel_that_stores_it(server):
    channel = f"stored-{uuid.uuid4().hex[:8]}"
    server.ok("POST", "/channel_config", {channel: {"store_history": True, "history_size": 3}})
    ids = [str(uuid.uuid4()) for _ in range(4)]
    for n, id_ in enumerate(ids):
        server.ok("POST", "/message", [{"uuid": id_, "user": "leia", "channel": channel, "message": {"n": n}}])
    server.ok("PATCH", "/message", [{"uuid": ids[3], "channel": channel, "message": {"n": "edited"}}])
    server.ok("DELETE", "/message", [{"uuid": ids[2], "channel": channel}])
    native = Native(server)
    kept = native.history(channel)
    assert [(message["id"], message["message"], message["user"]) for message in kept["messages"]] == [
        (ids[1], {"n": 1}, "leia"),
        (ids[3], {"n": "edited"}, "leia"),
    ]
    # A member that was away gets what it has missed.
    position = {"epoch": kept["epoch"], "offset": kept["offset"]}
    server.ok("POST", "/message", [{"user": "leia", "channel": channel, "message": {"n": 4}}])
    native.send({"id": "join", "type": "join", "channel": channel, "since": position})
    assert native.until(lambda frame: frame.get("id") == "join")["ok"]["recovered"] is True
    assert native.message() == {"n": 4}
    # The setting ends with the next configuration.
    server.ok("POST", "/channel_config", {channel: {}})
    assert native.history(channel)["messages"] == []
    native.close()


@pytest.mark.parametrize("dialect", [Native, Agnost])
def test_the_public_state_of_a_user_is_the_profile_of_its_clients(server, channel, dialect):
    user = f"leia-{channel}"
    other = dialect(server)
    other.join(channel)
    state = {"user_state": {"mood": "well", "secret": 1}, "state_public_keys": ["mood"]}
    leia = server.join(user, [channel], **state)
    assert other.event("channel:join")["message"]["data"] == {"mood": "well"}
    server.ok("POST", "/user_state", {"user": user, "user_state": {"mood": "better", "secret": 2}})
    assert other.event("channel:update")["message"]["data"] == {"mood": "better"}
    # What is private is no update, and the list of public keys is one.
    server.ok("POST", "/user_state", {"user": user, "user_state": {"secret": 3}})
    server.ok("POST", "/user_state", {"user": user, "user_state": {}, "state_public_keys": []})
    assert other.event("channel:update")["message"]["data"] == {}
    leia.close()
    assert other.event("channel:leave")["message"]["data"] == {}
    other.close()


def test_a_user_has_one_state_for_back_ends_of_all_dialects(server, channel):
    user = f"leia-{channel}"
    server.native("PUT", "/v1/options", {"channel": channel, "user_state": True})
    state = {"user_state": {"mood": "well", "secret": 1}, "state_public_keys": ["mood"]}
    leia = server.join(user, [channel], **state, channel_configs={channel: {"notify_state": True}})
    native = Native(server)
    native.join(channel)

    # A change by the native API, seen by clients and back ends of Channelstream.
    change = {"state": {"mood": "better", "secret": 2}}
    answer = server.native("PATCH", f"/v1/users/{user}", change)
    assert answer["state"] == {"mood": "better", "secret": 2}
    told = leia.next()
    assert (told["type"], told["user"], told["message"]) == (
        "user_state_change", user,
        {"state": {"mood": "better"}, "changed": [{"key": "mood", "value": "better"}]})
    states = {known["user"]: known["state"] for known in info(server, channel)["users"]}
    assert states[user] == {"mood": "better", "secret": 2}
    assert native.event("channel:user_update")["message"] == {
        "user": user, "state": {"mood": "better"}, "changed": ["mood"]}

    # And the other way round. The notices of a channel have the order of the changes.
    answer = server.ok("POST", "/user_state", {"user": user, "user_state": {"mood": "best", "new": None}})
    assert answer["changed_state"] == [{"key": "mood", "value": "best"}]
    assert native.event("channel:user_update")["message"]["state"] == {"mood": "best"}
    assert leia.next()["message"]["state"] == {"mood": "best"}
    for n in range(20):
        if n % 2:
            server.native("PATCH", f"/v1/users/{user}", {"state": {"mood": n}})
        else:
            server.ok("POST", "/user_state", {"user": user, "user_state": {"mood": n}})
    moods = [leia.next()["message"]["state"]["mood"] for _ in range(20)]
    assert moods == sorted(moods) and moods[-1] == 19, moods
    native.close()
    leia.close()


def test_a_state_that_is_too_long_is_refused_and_changes_nothing(server, channel):
    user = f"leia-{channel}"
    long = {"text": "x" * (16 << 10)}
    refused = server.call("POST", "/connect", {"username": user, "channels": [channel], "user_state": long})
    assert (refused.status, refused.json) == (422, {"user_state": ["Longer than 16384 bytes."]})
    assert info(server, channel) == {"channels": {}, "users": []}
    server.connect(user, [channel], user_state={"a": 1})
    assert server.call("POST", "/user_state", {"user": user, "user_state": long}).status == 422
    assert info(server, channel)["users"] == [{"user": user, "state": {"a": 1}}]
