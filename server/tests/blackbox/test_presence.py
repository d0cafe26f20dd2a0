"""Section 5: a session that disconnects for any reason leaves each of its channels, once."""

import asyncio

import pytest

from peer import Peer, connect_many
from tokens import token
from wire import BINARY, CLOSE, CONTINUATION, TEXT, RawWebSocket, close_payload, frame


def close_frame(peer, server):
    peer.send_frame(CLOSE, close_payload(1000))
    assert peer.close_code() == 1000


def close_frame_without_code(peer, server):
    peer.send_frame(CLOSE)
    peer.close_code()


def close_frame_and_gone(peer, server):
    peer.send_frame(CLOSE, close_payload(1001))
    peer.socket.close()


def tcp_close(peer, server):
    peer.socket.close()


def tcp_reset(peer, server):
    peer.reset()


def half_close(peer, server):
    peer.half_close()
    peer.rest()


def half_close_inside_a_frame(peer, server):
    peer.send(frame(TEXT, b'{"type":"ping"}')[:9])
    peer.half_close()
    peer.rest()


def gone_inside_a_message(peer, server):
    peer.send_frame(TEXT, b'{"type":', fin=False)
    peer.socket.close()


def unmasked_frame(peer, server):
    peer.send_frame(TEXT, b"{}", masked=False)
    assert peer.close_code() == 1002


def invalid_utf8(peer, server):
    peer.send_frame(TEXT, b"\xff")
    assert peer.close_code() == 1007


def oversized_frame(peer, server):
    peer.send_frame(BINARY, length=(1 << 20) + 1)
    assert peer.close_code() == 1009


def lone_continuation(peer, server):
    peer.send_frame(CONTINUATION, b"x")
    assert peer.close_code() == 1002


def disconnected_by_the_back_end(peer, server):
    assert server.call("POST", "/v1/disconnect", {"session": peer.id}).json == {"disconnected": 1}
    assert peer.close_code() == 4002


def leaves_first(peer, server):
    for channel in peer.channels:
        assert peer.command("leave", channel=channel, echo=False)["ok"]["left"]
    peer.send_frame(CLOSE, close_payload(1000))
    peer.close_code()


def leaves_in_the_last_frame(peer, server):
    channel = peer.channels[0]
    leave = frame(TEXT, f'{{"type":"leave","channel":"{channel}"}}'.encode())
    peer.send(leave + frame(CLOSE, close_payload(1000)))
    peer.close_code()


ENDS = [
    close_frame,
    close_frame_without_code,
    close_frame_and_gone,
    tcp_close,
    tcp_reset,
    half_close,
    half_close_inside_a_frame,
    gone_inside_a_message,
    unmasked_frame,
    invalid_utf8,
    oversized_frame,
    lone_continuation,
    disconnected_by_the_back_end,
    leaves_first,
    leaves_in_the_last_frame,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_each_end_of_a_connection_leaves_each_channel_once(server, channel, end):
    channels = [f"{channel}-{number}" for number in range(5)]
    watchers = await connect_many(server, 4, echo="false")
    for watcher in watchers:
        await watcher.join(*channels)
    await drain_joins(watchers, channels)
    peer = RawWebSocket(server, echo="false")
    peer.channels = channels
    for name in channels:
        assert "ok" in peer.command("join", channel=name)
    assert "ok" in peer.command("update", profile="bye")
    for watcher in watchers:
        for event, data in (("channel:join", {}), ("channel:update", {"data": "bye"})):
            await expect_in_each(watcher, channels, event, {"id": peer.id} | data)
    await asyncio.to_thread(end, peer, server)
    for watcher in watchers:
        await expect_in_each(watcher, channels, "channel:leave", {"id": peer.id, "data": "bye"})
    for name in channels:
        assert peer.id not in {m["id"] for m in (await watchers[0].ok("members", channel=name))["members"]}
    await nothing_more(server, watchers, channels)
    peer.socket.close()


async def expect_in_each(watcher, channels, event, message):
    waited_for = set(channels)
    for _ in channels:
        frame = await watcher.expect(event=event, message=message)
        waited_for.remove(frame.object["channel"])


async def drain_joins(watchers, channels):
    for number, watcher in enumerate(watchers):
        for _ in range(len(channels) * (len(watchers) - 1 - number)):
            await watcher.expect(event="channel:join")


async def nothing_more(server, watchers, channels):
    """A message in each channel is the next thing that each watcher sees there."""
    for name in channels:
        await server.api("POST", "/v1/send", {"channel": name, "event": "end"})
    for watcher in watchers:
        await expect_in_each(watcher, channels, "end", None)
        await watcher.nothing()


async def test_silent_peer_times_out_and_leaves_once(start_server, channel):
    server = start_server(server={"ping_interval_ms": 300})
    watcher = await Peer.connect(server, echo="false")
    await watcher.join(channel)
    peer = RawWebSocket(server)
    assert "ok" in peer.command("join", channel=channel)
    await watcher.expect(event="channel:join", message={"id": peer.id})
    await watcher.expect(event="channel:leave", message={"id": peer.id})
    assert await asyncio.to_thread(peer.close_code) == 4001
    await nothing_more(server, [watcher], [channel])
    peer.socket.close()


async def test_crowd_that_vanishes_leaves_once_each(server, channel):
    watcher = await Peer.connect(server, echo="false")
    await watcher.join(channel)
    crowd = await connect_many(server, 60)
    await asyncio.gather(*(peer.join(channel, echo=False) for peer in crowd))
    joined = [(await watcher.expect(event="channel:join")).object["message"]["id"] for _ in crowd]
    assert sorted(joined) == sorted(peer.id for peer in crowd)
    for number, peer in enumerate(crowd):
        if number % 3 == 0:
            peer.reset()
        elif number % 3 == 1:
            await peer.tell("leave", channel=channel)
            peer.reset()
        else:
            await peer.close()
    left = [(await watcher.expect(event="channel:leave")).object["message"]["id"] for _ in crowd]
    assert sorted(left) == sorted(joined)
    await nothing_more(server, [watcher], [channel])
    assert (await watcher.ok("members", channel=channel))["members"] == [{"id": watcher.id}]


async def test_channel_disappears_with_its_last_member(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel)
    assert (await server.api("GET", "/v1/channels", prefix=channel))["channels"] == [{"channel": channel, "members": 1}]
    await peer.ok("leave", channel=channel)
    assert (await server.api("GET", "/v1/channels", prefix=channel))["channels"] == []


async def test_session_ids_are_not_reused(server):
    seen = set()
    for _ in range(50):
        peer = await Peer.connect(server)
        assert peer.id not in seen
        seen.add(peer.id)
        await peer.close()


# Disconnecting by the back end


async def disconnect(server, body, app="default", **options):
    return (await server.api("POST", "/v1/disconnect", body, app=app, **options))["disconnected"]


async def test_disconnect_by_session(server):
    peer, other = await connect_many(server, 2)
    assert await disconnect(server, {"session": peer.id}) == 1
    assert await peer.close_code() == 4002
    await other.fence()


async def test_disconnect_may_ask_for_a_reconnect(server):
    peers = await connect_many(server, 2)
    assert await disconnect(server, {"session": peers[0].id, "reconnect": True}) == 1
    assert await disconnect(server, {"session": peers[1].id, "reconnect": False}) == 1
    assert [await peer.close_code() for peer in peers] == [4003, 4002]


@pytest.mark.parametrize("reconnect,code", [(None, 4002), (False, 4002), (True, 4003)])
async def test_disconnect_by_user_ends_all_of_its_sessions(server, channel, reconnect, code):
    user = f"user-of-{channel}"
    theirs = await connect_many(server, 8, session=token(user))
    gained = await Peer.connect(server)
    await gained.ok("session", token=token(user))
    others = [await Peer.connect(server, session=token(user + "x")), await Peer.connect(server)]
    body = {"user": user} | ({} if reconnect is None else {"reconnect": reconnect})
    assert await disconnect(server, body) == 9
    for peer in [*theirs, gained]:
        assert await peer.close_code() == code
    for peer in others:
        await peer.fence()
    assert await disconnect(server, body) == 0


async def test_disconnect_of_nobody_is_zero(server):
    peer = await Peer.connect(server)
    assert await disconnect(server, {"session": "AAAAAAAAAAAAAAAAAAAA"}) == 0
    assert await disconnect(server, {"user": "nobody at all"}) == 0
    await peer.fence()


async def test_disconnect_does_not_cross_apps(server):
    peer = await Peer.connect(server, session=token("luke-of-default"))
    assert await disconnect(server, {"session": peer.id}, app="other") == 0
    assert await disconnect(server, {"user": "luke-of-default"}, app="other") == 0
    await peer.fence()
