"""The same steps at the original and at Fanfare. DIFFERENCES in docs/CHANNELSTREAM.md lists where they part."""

import uuid

import pytest

from pairs import STEPS

EVERYTHING = {
    "notify_presence": True,
    "store_history": True,
    "history_size": 3,
    "broadcast_presence_with_user_lists": True,
    "notify_state": True,
}
AN_ID = "0190a1b2-c3d4-4e5f-8091-a2b3c4d5e6f7"


@pytest.fixture
def name():
    """Names that no other test uses."""
    unique = uuid.uuid4().hex[:8]
    return lambda word: f"{word}-{unique}"


# --- pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/html", "application/json", "text/plain", "*/*", None,
                                    "text/html;q=0.1, application/json"])
def test_pages_for_errors(pair, accept):
    headers = {"accept": accept} if accept else {}
    for method, path in [("GET", "/"), ("GET", "/nowhere"), ("GET", "/a/b"), ("POST", "/info"), ("GET", "/admin"),
                         ("GET", "/admin/admin.json")]:
        pair.same(method, path, signed=False, headers=headers)


@pytest.mark.parametrize("path", ["/connect", "/subscribe", "/unsubscribe", "/user_state", "/channel_config"])
def test_methods(pair, path):
    # The original's page names the function that does not answer.
    pair.same("GET", path, differs={"body"})
    pair.same("PUT", path, differs={"body"})
    pair.same("OPTIONS", path, signed=False)


def test_signatures(pair, server):
    signed = [server.sign("x"), server.sign(""), server.sign("a.b.c"), server.sign("x") + "=", server.sign("x")[:-1],
              server.sign("x", secret="other"), "x", "", ".", "..", "a.b.c", server.sign("x").replace(".", "!", 1)]
    for secret in signed:
        nothing = {"info": {"channels": []}}
        pair.same("POST", "/info", nothing, signed=False, headers={"x-channelstream-secret": secret})
        pair.same("POST", f"/info?secret={secret}", nothing, signed=False)


# --- /connect ------------------------------------------------------------------------------------------------

WRONG_BODIES = [{}, [], "x", 1, None]


@pytest.mark.parametrize("body", [
    {}, {"username": None}, {"username": 5}, {"username": ""}, {"username": "x" * 513}, {"username": ["a"]},
    {"username": "a", "conn_id": "x"}, {"username": "a", "conn_id": 5}, {"username": "a", "conn_id": None},
    {"username": "a", "channels": None}, {"username": "a", "channels": "x"}, {"username": "a", "channels": {"a": 1}},
    {"username": "a", "channels": ["", "x" * 257, 4, None, {}]},
    {"username": "a", "state_public_keys": ["", 1]}, {"username": "a", "state_public_keys": None},
    {"username": "a", "user_state": []}, {"username": "a", "user_state": {"a": [], "b": {}, "c": None}},
    {"username": "a", "fresh_user_state": "x"}, {"username": "a", "fresh_user_state": {"a": {"b": 1}}},
    {"username": "a", "channel_configs": {"c": None}}, {"username": "a", "channel_configs": {"c": 5}},
    {"username": "a", "channel_configs": {"c": {"history_size": "x", "store_history": "y", "notify_state": None}}},
    {"username": "a", "channel_configs": {"c": {"history_size": -1}}}, {"username": "a", "channel_configs": []},
    {"username": "a", "info": 5}, {"username": "a", "info": None}, {"username": "a", "info": {"channels": [5]}},
    {"username": "a", "info": {"include_history": "maybe", "exclude_channels": "x"}},
])
def test_connect_refuses(pair, body):
    pair.same("POST", "/connect", body)


def test_connect_accepts(pair, name):
    user, one, two = name("user"), name("one"), name("two")
    pair.same("POST", "/connect", {"username": user})
    pair.same("POST", "/connect", {"username": user, "channels": [two, one, two], "unknown": 1})
    pair.same("POST", "/connect", {
        "username": user, "channels": [one], "user_state": {"a": 1, "é": "ü\n", "f": 1.5, "n": None, "t": True},
        "state_public_keys": ["a", "é"], "fresh_user_state": {"late": 1}, "channel_configs": {one: EVERYTHING}})
    pair.same("POST", "/connect", {"username": user, "channels": [one], "info": {"return_public_state": True}})
    fresh = name("fresh")
    pair.same("POST", "/connect", {
        "username": fresh, "channels": [name("three")], "fresh_user_state": {"early": 1, "both": 1},
        "user_state": {"both": 2}, "channel_configs": {name("three"): {**EVERYTHING, "history_size": "7"}},
        "info": {"include_history": "0", "include_users": "false"}})


@pytest.mark.parametrize("spelling", [AN_ID.upper(), AN_ID.replace("-", ""), "{%s}" % AN_ID, f"urn:uuid:{AN_ID}"])
def test_ids_in_any_spelling(pair, name, spelling):
    conn_id = spelling.replace(AN_ID[:8], uuid.uuid4().hex[:8]).replace(AN_ID[:8].upper(), uuid.uuid4().hex[:8])
    answer = pair.same("POST", "/connect", {"username": name("user"), "conn_id": conn_id})
    pair.same("GET", f"/disconnect?conn_id={answer.json['conn_id']}", signed=False)


# --- /subscribe, /unsubscribe --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/subscribe", "/unsubscribe"])
@pytest.mark.parametrize("body", [
    {}, {"conn_id": None}, {"conn_id": "x", "channels": []}, {"conn_id": AN_ID, "channels": ["a"]},
    {"conn_id": AN_ID, "channels": "a"}, {"channels": ["a", 5, ""]}, {"conn_id": AN_ID, "channels": None, "info": 1},
])
def test_subscriptions_refused(pair, path, body):
    pair.same("POST", path, body)


def test_subscriptions(pair, name):
    one, two, three = name("one"), name("two"), name("three")
    conn_id = pair.connect(name("user"), [one])
    pair.same("POST", "/subscribe", {"conn_id": conn_id, "channels": [three, two, one],
                                     "channel_configs": {one: EVERYTHING, two: EVERYTHING}})
    pair.same("POST", f"/subscribe?conn_id={conn_id}", {"channels": [two]})
    pair.same("POST", "/subscribe", {"conn_id": conn_id, "channels": [two], "info": {"exclude_channels": [one]}})
    pair.same("POST", "/unsubscribe", {"conn_id": conn_id, "channels": [two, "nowhere"]})
    pair.same("POST", f"/unsubscribe?conn_id={conn_id}", {"channels": [two, one], "info": {"include_users": False}})
    pair.same("POST", "/unsubscribe", {"conn_id": conn_id, "channels": [three]})


# --- /user_state ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [
    {}, {"user": None}, {"user": 5}, {"user": ""}, {"user": "nobody-knows"}, {"user": "x" * 600},
    {"user": "nobody-knows", "user_state": {"a": []}, "state_public_keys": [5]},
])
def test_user_state_refuses(pair, body):
    pair.same("POST", "/user_state", body)


def test_user_state(pair, name):
    user = name("user")
    pair.connect(user, user_state={"a": 1}, state_public_keys=["a"])
    for change in [{"user_state": {"a": 1}}, {"user_state": {"a": 1.0, "b": None}}, {"user_state": {"a": True}},
                   {"user_state": {"b": "x", "a": 2}}, {"state_public_keys": ["b", "zz"]}, {"state_public_keys": []},
                   {"state_public_keys": None, "user_state": {"b": None}}, {}]:
        pair.same("POST", "/user_state", {"user": user, **change})


# --- /message ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [
    {}, [], '"x"', 5, [1, 2], [{}], [{"user": "a", "channel": ""}, {"uuid": AN_ID}],
    [{"uuid": "x", "user": 5, "channel": 5, "pm_users": "a", "exclude_users": [5], "no_history": "y"}],
    [{"uuid": None, "user": None, "channel": None, "pm_users": None, "exclude_users": None, "no_history": None}],
    [{"uuid": AN_ID, "user": "a", "channel": "nowhere", "message": [], "timestamp": 5, "edited": 5}],
    [{"uuid": AN_ID, "user": "a", "channel": "nowhere", "message": "x", "timestamp": "2020-01-01", "edited": ""}],
    [{"uuid": AN_ID, "user": "x" * 513, "channel": "x" * 257, "pm_users": ["", "x" * 513]}],
])
def test_messages_refused(pair, method, body):
    # A part of a body that is no object crashes none of the two, but a body that is null would the original.
    pair.same(method, "/message", body)


def test_messages(pair, name):
    user, channel = name("user"), name("channel")
    client = pair.join(user, [channel], channel_configs={channel: EVERYTHING})
    other = pair.join(name("other"), [channel])
    pair.same_frames(client, user)
    ids = [str(uuid.uuid4()) for _ in range(6)]
    say = {"user": "system", "channel": channel}
    pair.same("POST", "/message", [{**say, "uuid": ids[0], "message": {"text": "one", "n": [1, 2.50, None]}}])
    pair.same("POST", "/message", [
        {**say, "uuid": ids[1], "message": {"é": "ü"}, "timestamp": "2020-01-02T03:04:05Z"},
        {**say, "uuid": ids[2], "timestamp": "2020-01-02 03:04:05.5+0530"},
        {**say, "message": {"to": "nobody"}, "channel": None},
        {**say, "uuid": ids[3], "message": {}, "no_history": True, "exclude_users": [name("other")]},
        {**say, "uuid": ids[4], "message": {"for": "two"}, "pm_users": [user, "nobody"], "exclude_users": ["nobody"]},
    ])
    pair.same("POST", "/message", [{"user": "system", "pm_users": [user, name("other")], "exclude_users": [user],
                                    "uuid": ids[5], "message": {"private": True}}])
    assert [frame["uuid"] for frame in pair.same_frames(client, user)] == ids
    assert [frame["uuid"] for frame in pair.same_frames(other, name("other"))] == [*ids[:3], ids[5]]
    pair.same("POST", "/info", {"info": {"channels": [channel]}})


def test_edits_and_deletions(pair, name):
    user, channel = name("user"), name("channel")
    client = pair.join(user, [channel], channel_configs={channel: {**EVERYTHING, "notify_presence": False}})
    kept, unknown, private = (str(uuid.uuid4()) for _ in range(3))
    pair.same("POST", "/message", [{"uuid": kept, "user": "a", "channel": channel, "message": {"text": "old"}}])
    pair.same("POST", "/message", [{"uuid": private, "user": "a", "pm_users": [user], "message": {"text": "old"}}])
    for edit in [{"message": {"text": "new"}}, {"user": "b"}, {"timestamp": "2020-01-02T03:04:05"}, {},
                 {"edited": "2020-05-06T07:08:09Z", "message": {"text": "newer"}}, {"pm_users": ["nobody"]}]:
        pair.same("PATCH", "/message", [{"uuid": kept, "channel": channel, **edit}])
    pair.same("PATCH", "/message", [{"uuid": unknown, "channel": channel, "message": {"text": "of nothing"}}])
    pair.same("PATCH", "/message", [{"uuid": private, "pm_users": [user], "message": {"text": "new"}}])
    pair.same("PATCH", "/message", [{"uuid": private, "channel": "nowhere", "message": {"text": "new"}}])
    pair.same_frames(client, user)
    pair.same("POST", "/info", {"info": {"channels": [channel]}})
    pair.same("DELETE", "/message", [{"uuid": kept, "channel": channel}])
    pair.same("DELETE", "/message", [{"uuid": unknown, "channel": channel, "exclude_users": ["nobody"]}])
    pair.same("DELETE", "/message", [{"uuid": private, "pm_users": [user]}])
    pair.same_frames(client, user)
    pair.same("POST", "/info", {"info": {"channels": [channel]}})


def test_history_by_number(pair, name):
    channel = name("channel")
    pair.same("POST", "/channel_config", {channel: {"store_history": True, "history_size": 2}})
    for number in range(3):
        pair.same("POST", "/message", [{"user": "a", "channel": channel, "message": {"number": number}}])
        pair.same("POST", "/info", {"info": {"channels": [channel]}})


# --- /channel_config, /info ----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {}, EVERYTHING, {"history_size": 0}, {"history_size": "5", "store_frames": "f"}, {"history_size": 3.9},
    {"history_size": True}, {"history_size": -1}, {"history_size": None}, {"store_history": 2}, {"unknown": 1}, 5, [],
])
def test_channel_config(pair, name, settings):
    pair.same("POST", "/channel_config", {name("channel"): settings})


def test_settings_that_are_left_out_are_reset(pair, name):
    one, two = name("one"), name("two")
    pair.same("POST", "/channel_config", {one: EVERYTHING, two: {}})
    pair.same("POST", "/channel_config", {one: {"store_history": 1}})
    pair.same("POST", "/info", {"info": {"channels": [two, one, "nowhere"]}})


@pytest.mark.parametrize("body", [
    {}, {"info": None}, {"info": 5}, {"info": {"channels": "x"}}, {"info": {"channels": [""]}},
    {"info": {"include_users": "x", "include_history": [], "return_public_state": {}, "include_connections": "x"}},
    {"info": {"channels": []}}, {"info": {"channels": ["nowhere"]}},
])
def test_info_of_nothing(pair, body):
    pair.same("POST", "/info", body)


def test_info(pair, name):
    one, two = name("one"), name("two")
    for user in ("a", "b"):
        pair.connect(name(user), [one, two], user_state={"open": 1, "closed": 2}, state_public_keys=["open"])
    pair.connect(name("a"), [one], state_public_keys=["open"])
    for config in [{}, {"exclude_channels": [one]}, {"include_history": False}, {"include_users": False},
                   {"return_public_state": True}, {"include_connections": True}]:
        pair.same("POST", "/info", {"info": {"channels": [one, two], **config}})
    pair.same("GET", "/info", {"info": {"channels": [two]}})


# --- /disconnect ---------------------------------------------------------------------------------------------


def test_disconnect(pair, name):
    conn_id = pair.connect(name("user"))
    for query in ("", "?conn_id=", "?conn_id=x", f"?conn_id={AN_ID}"):
        pair.same("GET", f"/disconnect{query}", signed=False)
        pair.same("DELETE", f"/disconnect{query}", signed=False)
    for body in ({}, {"conn_id": None}, {"conn_id": "x"}, {"conn_id": AN_ID}, {"conn_id": conn_id}):
        pair.same("POST", "/disconnect", body, signed=False)


# --- what clients see ----------------------------------------------------------------------------------------


def test_presence_once_for_each_user(pair, name):
    channel, watcher = name("channel"), name("watcher")
    eyes = pair.join(watcher, [channel], channel_configs={channel: EVERYTHING})
    user = name("user")
    first = pair.join(user, [channel], user_state={"open": 1, "closed": 2}, state_public_keys=["open"])
    joined = pair.next_frame(eyes)
    assert (joined["message"], joined["user"]) == ({"action": "joined"}, user)
    second = pair.join(user, [channel])
    assert pair.same_frames(eyes, watcher) == []
    for client in first:
        client.close()
    assert pair.same_frames(second, user) == []
    for client in second:
        client.close()
    parted = pair.next_frame(eyes)
    assert (parted["message"], parted["state"]) == ({"action": "parted"}, None)
    assert [entry["user"] for entry in parted["users"]] == [watcher]


def test_presence_by_subscription(pair, name):
    channel, watcher = name("channel"), name("watcher")
    eyes = pair.join(watcher, [channel], channel_configs={channel: {"notify_presence": True}})
    conn_id = pair.connect(name("user"))
    client = pair.attach(conn_id)
    pair.same("POST", "/subscribe", {"conn_id": conn_id, "channels": [channel]})
    pair.same("POST", "/message", [{"user": "a", "channel": channel, "message": {"to": "both"}}])
    pair.same("POST", "/unsubscribe", {"conn_id": conn_id, "channels": [channel]})
    pair.same("POST", "/message", [{"user": "a", "channel": channel, "message": {"to": "one"}}])
    assert [frame["type"] for frame in pair.same_frames(eyes, watcher)] == ["presence", "message", "presence", "message"]
    assert [frame["message"] for frame in pair.same_frames(client, name("user"))] == [{"to": "both"}]


def test_state_is_told_with_public_keys_alone(pair, name):
    user, quiet, loud = name("user"), name("quiet"), name("loud")
    client = pair.join(user, [quiet, loud], state_public_keys=["open"], channel_configs={loud: {"notify_state": True}})
    for state in ({"open": 1}, {"closed": 1}, {"open": 1, "closed": 1}, {"open": 2, "closed": 2}):
        pair.same("POST", "/user_state", {"user": user, "user_state": state})
    frames = pair.same_frames(client, user)
    assert [frame["message"]["changed"] for frame in frames] == [
        [{"key": "open", "value": 1}], [], [{"key": "open", "value": 2}]]
    assert {frame["channel"] for frame in frames} == {loud}


def test_what_was_missed(pair, name):
    user, a, b = name("user"), name("a"), name("b")
    conn_id = pair.connect(user, [b, a], channel_configs={
        a: {"notify_presence": True, "notify_state": True}, b: {"store_frames": False}})
    pair.connect(name("other"), [a, b])
    message = str(uuid.uuid4())
    pair.same("POST", "/message", [
        {"user": "x", "channel": b, "message": {"lost": True}},
        {"uuid": message, "user": "x", "channel": a, "message": {"text": "old"}},
        {"user": "x", "channel": a, "message": {"for": "others"}, "exclude_users": [user]},
        {"user": "x", "channel": a, "message": {"for": "another"}, "pm_users": [name("other")]},
        {"user": "x", "pm_users": [user], "message": {"private": True}},
        {"user": "x", "pm_users": [name("other")], "message": {"private": False}}])
    pair.same("PATCH", "/message", [{"uuid": message, "channel": a, "message": {"text": "new"}}])
    pair.same("DELETE", "/message", [{"uuid": message, "channel": a}])
    pair.same("POST", "/user_state", {"user": user, "user_state": {"a": 1}})
    client = pair.attach(conn_id)
    frames = pair.same_frames(client, user)
    assert [frame["type"] for frame in frames] == [
        "presence", "message:edit", "message:delete", "user_state_change", "message"]
    assert all(frame["catchup"] for frame in frames)


def test_at_most_a_hundred_frames_and_fifty_private_messages_are_kept(pair, name):
    user, channel = name("user"), name("channel")
    conn_id = pair.connect(user, [channel])
    pair.same("POST", "/message", [{"user": "x", "channel": channel, "message": {"n": n}} for n in range(110)])
    pair.same("POST", "/message", [{"user": "x", "pm_users": [user], "message": {"n": n}} for n in range(60)])
    frames = pair.same_frames(pair.attach(conn_id), user)
    numbers = [frame["message"]["n"] for frame in frames]
    # The mark was one of fifty.
    assert numbers[:100] == list(range(10, 110)) and numbers[100:] == list(range(11, 60)) or numbers[100:] == list(range(10, 60))


def test_there_are_enough_steps():
    """Runs last in this file: each group of routes was asked often enough."""
    if sum(STEPS.values()) < 100:
        pytest.skip("not all of this file was run")
    groups = ["/connect", "/subscribe", "/unsubscribe", "/user_state", "/message", "/channel_config", "/info",
              "/disconnect", "frames"]
    assert {group: STEPS[group] for group in groups if STEPS[group] < 8} == {}
    assert sum(STEPS.values()) >= 120
