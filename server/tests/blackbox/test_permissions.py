"""The rules of channels about joining, reading and publishing, and messages for signed-in members alone."""

import tokens
from peer import Peer
from wire import RawWebSocket

APP = "ruled"


async def pair(server):
    """A session with a user, and a session without."""
    user = await Peer.connect(server, app=APP, session=tokens.token("leia", APP))
    return user, await Peer.connect(server, app=APP)


async def test_a_channel_for_users_refuses_whoever_is_none(server, channel):
    channel = f"users-{channel}"
    user, nobody = await pair(server)
    await user.join(channel)
    for command in ["join", "history", "members"]:
        assert await nobody.refused(command, channel=channel) == "session_required"
    assert await nobody.refused("send", channel=channel, event="e") == "session_required"
    await user.ok("send", channel=channel, event="e", message=1)
    assert (await user.expect(message=1)).object["channel"] == channel
    assert await user.refused("send", channel=channel, event="e", to_session=user.id) == "not_allowed"


async def test_no_way_of_connecting_joins_against_a_rule(server, channel):
    closed, users = f"closed-{channel}", f"users-{channel}"
    claimed = await Peer.connect(server, app=APP, session=tokens.token("leia", APP, channels=[closed, users]))
    members = await claimed.ok("members", channel=users)
    assert [member["id"] for member in members["members"]] == [claimed.id]
    assert (await server.api("GET", "/v1/members", app=APP, channel=closed))["total"] == 0
    with RawWebSocket(server, app=APP, join=users) as peer:
        assert peer.object()["error"]["code"] == "session_required"


async def test_the_back_end_is_not_concerned(server, channel):
    channel = f"users-{channel}"
    user, _ = await pair(server)
    await user.join(channel)
    await server.api("PUT", "/v1/options", {"channel": channel, "join": "nobody", "publish": "nobody"}, app=APP)
    assert await user.refused("send", channel=channel, event="e") == "not_allowed"
    await server.api("POST", "/v1/send", {"channel": channel, "event": "e", "message": 1}, app=APP)
    await user.expect(message=1)
    assert (await server.api("GET", "/v1/members", app=APP, channel=channel))["total"] == 1


async def test_signed_in_members_are_apart_where_the_rule_says_so(server, channel):
    channel = f"apart-{channel}"
    user, nobody = await pair(server)
    await user.join(channel)
    await nobody.join(channel)
    await user.ok("send", channel=channel, event="e", message="among us")
    await user.expect(message="among us")
    assert await nobody.refused("send", channel=channel, event="e") == "not_allowed"
    await server.api("POST", "/v1/send", {"channel": channel, "event": "e", "message": "to all"}, app=APP)
    await nobody.expect(message="to all")
    body = {"channel": channel, "event": "e", "message": "to users", "signed_in": True}
    await server.api("POST", "/v1/send", body, app=APP)
    await server.api("POST", "/v1/send", {"channel": channel, "event": "e", "message": "last"}, app=APP)
    await nobody.expect(message="last")
