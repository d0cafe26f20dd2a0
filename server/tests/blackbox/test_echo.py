"""Who receives what it caused itself: the app's default, the connection's, the command's, and membership."""

import pytest

from peer import Peer, assert_silence, connect_many
from tokens import token

APP_ECHOES = {"default": True, "quiet": False}
CONNECTION = [None, "true", "false"]
PER_COMMAND = ["absent", None, True, False]

everywhere = [
    pytest.mark.parametrize("app", APP_ECHOES),
    pytest.mark.parametrize("connection", CONNECTION, ids=lambda value: f"connection-{value}"),
    pytest.mark.parametrize("per_command", PER_COMMAND, ids=lambda value: f"command-{value}"),
]


def in_all_combinations(test):
    for mark in everywhere:
        test = mark(test)
    return test


def echoes(app, connection, per_command):
    """The nearest word counts; `null` and absence leave it to the connection, and that to the app."""
    if per_command in (True, False):
        return per_command
    return APP_ECHOES[app] if connection is None else connection == "true"


async def pair(server, app, connection, channel, join=True):
    """The peer under test and another member; neither has anything to read."""
    other = await Peer.connect(server, app)
    peer = await Peer.connect(server, app, echo=connection)
    await other.join(channel, echo=False)
    if join:
        await peer.join(channel, echo=False)
        await other.expect(event="channel:join")
    return peer, other


async def check(peer, other, expected_echo, **publication):
    await other.expect(**publication)
    if expected_echo:
        await peer.expect(**publication)
    await assert_silence(peer, peer, other)


@in_all_combinations
@pytest.mark.parametrize("form", ["json", "binary"])
async def test_echo_of_send(server, channel, app, connection, per_command, form):
    peer, other = await pair(server, app, connection, channel)
    echo = {} if per_command == "absent" else {"echo": per_command}
    if form == "json":
        await peer.ok("send", channel=channel, event="e", message=1, **echo)
    else:
        assert "ok" in await peer.send_payload({"type": "send", "channel": channel, "event": "e"} | echo, b"1")
    await check(peer, other, echoes(app, connection, per_command), channel=channel, event="e", offset=1)


@in_all_combinations
async def test_sender_that_is_no_member_receives_nothing(server, channel, app, connection, per_command):
    peer, other = await pair(server, app, connection, channel, join=False)
    echo = {} if per_command == "absent" else {"echo": per_command}
    await peer.ok("send", channel=channel, event="e", **echo)
    await check(peer, other, False, channel=channel, event="e")


@in_all_combinations
async def test_echo_of_broadcast(server, channel, app, connection, per_command):
    peer, other = await pair(server, app, connection, channel)
    echo = {} if per_command == "absent" else {"echo": per_command}
    await peer.ok("broadcast", event="e", message=1, **echo)
    await check(peer, other, echoes(app, connection, per_command), channel=None, event="e")


@in_all_combinations
async def test_echo_of_join(server, channel, app, connection, per_command):
    peer, other = await pair(server, app, connection, channel, join=False)
    echo = {} if per_command == "absent" else {"echo": per_command}
    await peer.ok("join", channel=channel, **echo)
    notice = {"channel": channel, "event": "channel:join", "message": {"id": peer.id}}
    await check(peer, other, echoes(app, connection, per_command), **notice)


@in_all_combinations
async def test_echo_of_leave(server, channel, app, connection, per_command):
    peer, other = await pair(server, app, connection, channel)
    echo = {} if per_command == "absent" else {"echo": per_command}
    await peer.ok("leave", channel=channel, **echo)
    notice = {"channel": channel, "event": "channel:leave", "message": {"id": peer.id}}
    await check(peer, other, echoes(app, connection, per_command), **notice)


@in_all_combinations
async def test_echo_of_update(server, channel, app, connection, per_command):
    peer, other = await pair(server, app, connection, channel)
    echo = {} if per_command == "absent" else {"echo": per_command}
    await peer.ok("update", profile=1, **echo)
    notice = {"channel": channel, "event": "channel:update", "message": {"id": peer.id, "data": 1}}
    await check(peer, other, echoes(app, connection, per_command), **notice)


async def test_echo_of_one_command_does_not_change_the_connection(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    await peer.ok("send", channel=channel, event="unheard", echo=False)
    await peer.ok("send", channel=channel, event="heard")
    await peer.expect(event="heard", offset=2)
    await assert_silence(peer, peer)


async def test_echo_is_of_the_session_that_caused_it_only(server, channel):
    """Another session of the same user is another session."""
    first = await Peer.connect(server, echo="false", session=token("luke"))
    second = await Peer.connect(server, echo="false", session=token("luke"))
    await first.join(channel)
    await second.join(channel)
    await first.expect(event="channel:join")
    await first.ok("send", channel=channel, event="e")
    await second.expect(event="e")
    await assert_silence(first, first, second)


async def test_back_end_gets_no_echo_and_every_member_the_message(server, channel):
    peers = await connect_many(server, 3, app="quiet")
    for peer in peers:
        await peer.join(channel)
    for _ in range(2):
        await peers[0].expect(event="channel:join")
    await peers[1].expect(event="channel:join")
    await server.api("POST", "/v1/send", {"channel": channel, "event": "e"}, app="quiet")
    for peer in peers:
        await peer.expect(event="e", offset=1)
    await assert_silence(peers[0], *peers)
