"""Options of single channels over HTTP, and presence by user."""

import pytest

import tokens
from peer import Peer, settle
from server_process import assert_problem

APP = "remembering"
DEFAULTS = {
    "history_messages": 1000,
    "history_bytes": 1048576,
    "history_age_s": 3600,
    "announce": True,
    "presence_by_user": False,
    "membership_to_send": False,
    "slow_consumer": "disconnect",
    "join": "anybody",
    "publish": "anybody",
    "direct": "anybody",
    "signed_in_messages": "optional",
    "roster": False,
    "user_state": False,
    "user_lists": False,
    "presence_batch_ms": 0,
}


async def put(server, channel, app=APP, **options):
    return await server.api("PUT", "/v1/options", {"channel": channel} | options, app=app)


async def numbers(server, channel):
    page = await server.api("GET", "/v1/history", app=APP, channel=channel, after=0)
    return [message["message"] for message in page["messages"]]


async def send(server, channel, *payloads):
    for payload in payloads:
        await server.api("POST", "/v1/send", {"channel": channel, "event": "e", "message": payload}, app=APP)


async def test_options_are_those_of_the_configuration_until_they_are_set(server, channel):
    assert await server.api("GET", "/v1/options", app=APP, channel=channel) == {"channel": channel} | DEFAULTS
    changed = {"history_messages": 7, "announce": False, "slow_consumer": "drop"}
    expected = {"channel": channel} | DEFAULTS | changed
    assert await put(server, channel, **changed) == expected
    assert await server.api("GET", "/v1/options", app=APP, channel=channel) == expected
    assert await put(server, channel) == {"channel": channel} | DEFAULTS
    assert await server.api("GET", "/v1/options", app=APP, channel=channel) == {"channel": channel} | DEFAULTS


async def test_changing_them_keeps_what_is_remembered(server, channel):
    await send(server, channel, *range(6))
    position = await server.api("GET", "/v1/history", app=APP, channel=channel)
    await put(server, channel, history_messages=4)
    assert await numbers(server, channel) == [2, 3, 4, 5]
    await put(server, channel, history_messages=100, history_age_s=60)
    await send(server, channel, 6)
    assert await numbers(server, channel) == [2, 3, 4, 5, 6]
    peer = await Peer.connect(server, app=APP)
    since = {"epoch": position["epoch"], "offset": 2}
    joined = await peer.ok("join", channel=channel, since=since)
    assert (joined["recovered"], joined["missed"]) == (True, 5)
    await put(server, channel, history_messages=0)
    assert await numbers(server, channel) == []
    await put(server, channel)
    await send(server, channel, 7)
    assert await numbers(server, channel) == [7]


async def test_they_hold_at_once_for_members_and_senders(server, channel):
    first, second, other = [await Peer.connect(server, app=APP, echo="false") for _ in range(3)]
    await first.join(channel)
    await put(server, channel, announce=False, membership_to_send=True)
    await second.join(channel)
    await settle(second, first)
    first.assert_nothing_waits()
    assert await other.refused("send", channel=channel, event="e") == "membership_required"
    await second.ok("send", channel=channel, event="e")
    await first.expect(event="e")
    await put(server, channel)
    await other.ok("send", channel=channel, event="f")
    await first.expect(event="f")


@pytest.mark.parametrize(
    "body",
    [
        {"channel": 1},
        {},
        {"channel": "c", "history_messages": -1},
        {"channel": "c", "history_messages": 65537},
        {"channel": "c", "history_bytes": 1023},
        {"channel": "c", "history_age_s": 0},
        {"channel": "c", "announce": 1},
        {"channel": "c", "slow_consumer": "wait"},
        {"channel": "c", "other": 1},
        [],
    ],
)
async def test_wrong_options_are_refused(server, body):
    assert_problem(server.call("PUT", "/v1/options", body, app=APP), 400, "invalid_command")


async def test_wrong_requests_for_options_are_refused(server):
    assert_problem(server.call("GET", "/v1/options", app=APP), 400, "invalid_request")
    assert_problem(server.call("GET", "/v1/options", app=APP, channel=""), 400, "invalid_channel")
    assert_problem(server.call("PUT", "/v1/options", {"channel": ""}, app=APP), 400, "invalid_channel")
    assert_problem(server.call("GET", "/v1/members", channel="c", by="x"), 400, "invalid_request")


async def test_presence_by_user(server, channel):
    watcher = await Peer.connect(server, app=APP, echo="false")
    await put(server, channel, presence_by_user=True, announce=False)
    await watcher.join(channel)
    assert_problem(
        server.call("PUT", "/v1/options", {"channel": channel, "announce": False}, app=APP), 409, "option_in_use"
    )
    luke = [
        await Peer.connect(server, app=APP, session=tokens.token("luke", APP), echo=str(number == 0).lower())
        for number in range(6)
    ]
    for peer in luke:
        await peer.join(channel)
    await luke[0].expect(event="channel:user_join", message={"user": "luke"})
    leia = await Peer.connect(server, app=APP, session=tokens.token("leia", APP))
    await leia.join(channel)
    await leia.expect(event="channel:user_join", message={"user": "leia"})
    # A session may gain its user while it is a member.
    ben = await Peer.connect(server, app=APP)
    await ben.join(channel)
    await ben.ok("session", token=tokens.token("ben", APP))
    for user in ("luke", "leia", "ben"):
        await watcher.expect(event="channel:user_join", message={"user": user})
    users = await watcher.ok("members", channel=channel, by="user")
    assert users == {
        "channel": channel,
        "total": 3,
        "users": [{"user": "ben", "sessions": 1}, {"user": "leia", "sessions": 1}, {"user": "luke", "sessions": 6}],
        "next": None,
    }
    assert users == await server.api("GET", "/v1/members", app=APP, channel=channel, by="user")
    page = await watcher.ok("members", channel=channel, by="user", limit=2)
    assert (len(page["users"]), page["next"]) == (2, "leia")
    page = await server.api("GET", "/v1/members", app=APP, channel=channel, by="user", limit=2, after="leia")
    assert page["users"] == [{"user": "luke", "sessions": 6}] and page["next"] is None
    assert await watcher.refused("members", channel=channel, by="x") == "invalid_command"
    for number, peer in enumerate(luke):
        await (peer.close() if number % 2 else peer.ok("leave", channel=channel))
    await watcher.expect(event="channel:user_leave", message={"user": "luke"})
    ben.reset()
    await watcher.expect(event="channel:user_leave", message={"user": "ben"})
    await settle(leia, watcher)
    watcher.assert_nothing_waits()
    none = await watcher.ok("members", channel=f"{channel}-none", by="user")
    assert none == {"channel": f"{channel}-none", "total": 0, "users": [], "next": None}
