"""Messages for some: users and sessions, within channels and across them; who sent it; a user's sessions."""

import pytest

import tokens
from peer import Peer, connect_many, settle
from server_process import assert_problem

APP = "remembering"


async def user(server, name, app=APP):
    return await Peer.connect(server, app=app, session=tokens.token(name, app), echo="false")


async def family(server, channel=None, app=APP):
    """Two sessions of luke, one of leia, one of nobody."""
    peers = [await user(server, name, app) for name in ("luke", "luke", "leia")]
    peers.append(await Peer.connect(server, app=app, echo="false"))
    if channel:
        for peer in peers:
            await peer.join(channel)
        await settle(peers[0], *peers)
        for peer in peers:
            peer.drained()
    return peers


CASES = [
    ({"to_users": ["luke"]}, [0, 1]),
    ({"to_users": ["luke", "leia", "luke"]}, [0, 1, 2]),
    ({"to_users": []}, []),
    ({"except_users": ["luke"]}, [2, 3]),
    ({"to_users": ["luke", "leia"], "except_users": ["leia"]}, [0, 1]),
]


@pytest.mark.parametrize("audience,receivers", CASES)
@pytest.mark.parametrize("app", [APP, "default"])
async def test_a_message_in_a_channel_for_some_users(server, channel, audience, receivers, app):
    peers = await family(server, channel, app)
    body = {"channel": channel, "event": "private", "message": 1} | audience
    answer = await server.api("POST", "/v1/send", body, app=app)
    assert (answer["offset"] is None) == (app == "default")
    sender = await Peer.connect(server, app=app)
    await settle(sender, *peers)
    for number, peer in enumerate(peers):
        events = [frame.object["event"] for frame in peer.drained()]
        assert events.count("private") == (1 if number in receivers else 0), number


@pytest.mark.parametrize("audience,receivers", CASES)
async def test_a_message_across_channels_for_some_users(server, audience, receivers):
    peers = await family(server)
    await peers[3].ok("broadcast", event="private", message=1, **audience)
    body = {"event": "private", "message": 2} | audience
    assert set(await server.api("POST", "/v1/broadcast", body, app=APP)) == {"message_id"}
    await settle(peers[3], *peers)
    for number, peer in enumerate(peers):
        seen = sorted(frame.object["message"] for frame in peer.drained() if frame.object["event"] == "private")
        mine = [] if number == 3 else [1]
        assert seen == (mine + [2] if number in receivers else []), number


async def test_a_message_for_one_session(server, channel):
    peers = await family(server, channel)
    for target in (0, 3):
        body = {"channel": channel, "event": "private", "to_session": peers[target].id}
        assert (await server.api("POST", "/v1/send", body, app=APP))["offset"] is None
        await peers[1].ok("broadcast", event="direct", to_session=peers[target].id)
        await settle(peers[1], *peers)
        for number, peer in enumerate(peers):
            events = sorted(frame.object["event"] for frame in peer.drained())
            assert events == (["direct", "private"] if number == target else [])
    assert await peers[0].refused("broadcast", event="e", to_session="x") == "invalid_command"
    assert await peers[0].refused("broadcast", event="e", to_users="luke") == "invalid_command"
    assert await peers[0].refused("broadcast", event="e", to_users=["u"] * 257) == "invalid_command"
    assert await peers[0].refused("broadcast", event="e", except_users=[1]) == "invalid_command"


async def test_nothing_crosses_apps(server):
    luke = await user(server, "luke")
    other = await user(server, "luke", "other")
    await server.api("POST", "/v1/broadcast", {"event": "e", "to_users": ["luke"]}, app="other")
    await other.expect(event="e")
    await server.api("POST", "/v1/broadcast", {"event": "e", "to_session": luke.id}, app="other")
    await settle(await Peer.connect(server, app=APP), luke)
    luke.assert_nothing_waits()


async def test_private_messages_are_in_nobody_elses_history_or_recovery(server, channel):
    luke, leia, nobody = await user(server, "luke"), await user(server, "leia"), await Peer.connect(server, app=APP)
    await nobody.ok("send", channel=channel, event="e", message="all")
    await nobody.ok("send", channel=channel, event="e", message="luke", to_users=["luke"])
    await nobody.ok("send", channel=channel, event="e", message="not luke", except_users=["luke"])
    everything = await server.api("GET", "/v1/history", app=APP, channel=channel, after=0)
    assert [message["message"] for message in everything["messages"]] == ["all", "luke", "not luke"]
    since = {"epoch": everything["epoch"], "offset": 0}
    for peer, expected in [(luke, ["all", "luke"]), (leia, ["all", "not luke"]), (nobody, ["all", "not luke"])]:
        page = await peer.ok("history", channel=channel, after=0)
        assert [message["message"] for message in page["messages"]] == expected
        peer.drained()
        joined = await peer.ok("join", channel=channel, since=since, echo=False)
        assert (joined["recovered"], joined["missed"]) == (True, len(expected))
        await peer.fence()
        seen = [frame.object["message"] for frame in peer.drained() if frame.object["event"] == "e"]
        assert seen == expected


async def test_the_sender_travels_with_the_message_where_the_app_says_so(server, channel):
    luke = await user(server, "luke", "candid")
    nobody = await Peer.connect(server, app="candid", echo="false")
    for peer in (luke, nobody):
        await peer.join(channel)
    await settle(nobody, luke)
    luke.drained()
    await luke.ok("send", channel=channel, event="e")
    frame = await nobody.expect(event="e")
    assert (frame.object["sender"], frame.object["user"]) == (luke.id, "luke")
    await nobody.ok("send", channel=channel, event="e")
    frame = await luke.expect(event="e")
    assert frame.object["sender"] == nobody.id and "user" not in frame.object
    await server.api("POST", "/v1/send", {"channel": channel, "event": "e"}, app="candid")
    frame = await luke.expect(event="e")
    assert "sender" not in frame.object
    await luke.ok("broadcast", event="b")
    frame = await nobody.expect(event="e", channel=channel)
    frame = await nobody.expect(event="b", channel=None)
    assert frame.object["user"] == "luke"


async def test_sessions_of_a_user_are_listed_and_disconnected_together(server, channel):
    name = f"user of/{channel}+ä"
    peers = [await user(server, name) for _ in range(5)]
    await peers[0].join(channel)
    await peers[1].ok("update", profile={"a": 1})
    from urllib.parse import quote

    path = f"/v1/users/{quote(name, safe='')}"
    answer = await server.api("GET", path, app=APP)
    assert answer["user"] == name and answer["next"] is None
    listed = {session["id"]: session for session in answer["sessions"]}
    assert set(listed) == {peer.id for peer in peers}
    assert listed[peers[0].id] == {"id": peers[0].id, "channels": [channel]}
    assert listed[peers[1].id] == {"id": peers[1].id, "channels": [], "data": {"a": 1}}
    paged, after = [], {}
    while after is not None:
        page = await server.api("GET", path, app=APP, limit=2, **after)
        assert len(page["sessions"]) <= 2
        paged += [session["id"] for session in page["sessions"]]
        after = {"after": page["next"]} if page["next"] else None
    assert sorted(paged) == sorted(listed)
    assert await server.api("POST", "/v1/disconnect", {"user": name}, app=APP) == {"disconnected": 5}
    for peer in peers:
        assert await peer.close_code() == 4002
    assert (await server.api("GET", path, app=APP))["sessions"] == []
    assert_problem(server.call("GET", path, app=APP, after="x"), 400, "invalid_cursor")
    assert_problem(server.call("GET", "/v1/users/", app=APP), 404, "not_found")
    assert_problem(server.call("GET", "/v1/users/%zz", app=APP), 400, "invalid_request")


async def test_edit_and_delete(server, channel):
    luke, again, leia = [await user(server, name, "candid") for name in ("luke", "luke", "leia")]
    await leia.join(channel)
    ids = [(await luke.ok("send", channel=channel, event="e", message=number))["message_id"] for number in range(4)]
    for number in range(4):
        await leia.expect(event="e", id=ids[number])
    # Another session of the same user may.
    assert (await again.ok("edit", channel=channel, message_id=ids[0], message="x"))["offset"] == 5
    frame = await leia.expect(event="message:edit", id=ids[0], message="x", offset=5, user="luke")
    assert isinstance(frame.object["edited_ms"], int)
    assert (await luke.ok("delete", channel=channel, message_id=ids[1]))["offset"] == 6
    await leia.expect(event="message:delete", id=ids[1], message=None, offset=6)
    assert await leia.refused("edit", channel=channel, message_id=ids[0], message=1) == "edit_not_allowed"
    assert await luke.refused("delete", channel=channel, message_id=ids[1]) == "unknown_message"
    change = {"channel": channel, "message_id": ids[2]}
    assert await server.api("PATCH", "/v1/messages", change | {"message": "y"}, app="candid") == {
        "message_id": ids[2],
        "offset": 7,
    }
    await leia.expect(event="message:edit", id=ids[2], message="y")
    answers = await server.api("DELETE", "/v1/messages", [change, change, {"channel": channel}, 5], app="candid")
    assert answers[0]["ok"] == {"message_id": ids[2], "offset": 8}
    assert [answer["error"]["code"] for answer in answers[1:]] == ["unknown_message"] + ["invalid_command"] * 2
    await leia.expect(event="message:delete", id=ids[2])
    page = await server.api("GET", "/v1/history", app="candid", channel=channel, after=0)
    assert [(message["message"], "edited_ms" in message) for message in page["messages"]] == [("x", True), (3, False)]
    back = await Peer.connect(server, app="candid", echo="false")
    joined = await back.ok("join", channel=channel, since={"epoch": page["epoch"], "offset": 3})
    assert (joined["recovered"], joined["missed"], joined["offset"]) == (True, 4, 8)
    await back.expect(id=ids[3], offset=4, event="e")
    await back.expect(id=ids[0], offset=5, event="message:edit", message="x")
    await back.expect(id=ids[1], offset=6, event="message:delete")
    await back.expect(id=ids[2], offset=8, event="message:delete")


async def test_an_edit_for_another_audience(server, channel):
    luke, leia = [await user(server, name, "candid") for name in ("luke", "leia")]
    for peer in (luke, leia):
        await peer.join(channel)
    await settle(leia, luke)
    luke.drained()
    body = {"channel": channel, "event": "e", "message": 1}
    message_id = (await server.api("POST", "/v1/send", body, app="candid"))["message_id"]
    change = {"channel": channel, "message_id": message_id, "message": 2}
    await server.api("PATCH", "/v1/messages", change | {"to_users": ["luke"]}, app="candid")
    await luke.expect(event="e")
    await luke.expect(event="message:edit", message=2, offset=2)
    await leia.expect(event="e")
    await leia.expect(event="message:delete", message=None, id=message_id, offset=2)

    page = await server.api("GET", "/v1/history", app="candid", channel=channel)
    for since, missed in ((0, 0), (1, 1), (2, 0)):
        back = await user(server, "leia", "candid")
        joined = await back.ok("join", channel=channel, since={"epoch": page["epoch"], "offset": since})
        assert (joined["recovered"], joined["missed"]) == (True, missed)
        if missed:
            await back.expect(event="message:delete", message=None, id=message_id, offset=2)
        for peer in (luke, leia):
            await peer.expect(event="channel:join")

    await server.api("PATCH", "/v1/messages", change | {"to_users": ["leia"], "message": 3}, app="candid")
    await luke.expect(event="message:delete", id=message_id, offset=3)
    await leia.expect(event="message:edit", message=3, id=message_id, offset=3)
    await server.api("DELETE", "/v1/messages", {"channel": channel, "message_id": message_id}, app="candid")
    await leia.expect(event="message:delete", id=message_id, offset=4)
    await settle(luke, leia)
    luke.assert_nothing_waits()


async def test_wrong_changes_are_refused(server, channel):
    unknown = "01234567-89ab-7def-8123-456789abcdef"
    for method in ("PATCH", "DELETE"):
        body = {"channel": channel, "message_id": unknown, "message": 1}
        assert_problem(server.call(method, "/v1/messages", body, app=APP), 404, "unknown_message")
        for wrong in ({"message_id": 1}, {"message_id": "x"}, {"channel": 1}, {"to_users": 1}):
            assert_problem(server.call(method, "/v1/messages", body | wrong, app=APP), 400, "invalid_command")
        assert_problem(server.call(method, "/v1/messages", [body] * 257, app=APP), 400, "batch_too_long")
    del body["message"]
    assert_problem(server.call("PATCH", "/v1/messages", body, app=APP), 400, "invalid_command")
    response = server.call("POST", "/v1/messages", body, app=APP)
    assert_problem(response, 405, "method_not_allowed")
    assert response.header("allow") == "PATCH, DELETE, OPTIONS"
    peer = await Peer.connect(server, app="strict")
    assert await peer.refused("delete", channel=channel, message_id=unknown) == "session_required"
    peers = await connect_many(server, 1)
    assert await peers[0].refused("delete", channel=channel, message_id=unknown) == "edit_not_allowed"
