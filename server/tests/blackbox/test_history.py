"""History and recovery: what a channel remembers, and that whoever comes back misses nothing."""

import asyncio

import pytest

from peer import Peer, connect_many
from server_process import assert_problem

APP = "remembering"


async def say(server, channel, *payloads, **members):
    answers = []
    for payload in payloads:
        body = {"channel": channel, "event": "e", "message": payload} | members
        answers.append(await server.api("POST", "/v1/send", body, app=APP))
    return answers


def numbers(page):
    return [message["message"] for message in page["messages"]]


async def test_history_is_the_same_on_the_socket_and_over_http(server, channel):
    peer = await Peer.connect(server, app=APP)
    answers = await say(server, channel, *range(5))
    assert [answer["offset"] for answer in answers] == [1, 2, 3, 4, 5]
    assert (await say(server, channel, "private", no_history=True))[0]["offset"] is None
    for query, expected, following in [
        ({}, [4, 3, 2, 1, 0], None),
        ({"limit": 2}, [4, 3], 4),
        ({"limit": 2, "before": 4}, [2, 1], 2),
        ({"limit": 2, "after": 0}, [0, 1], 2),
        ({"limit": 9, "after": 2}, [2, 3, 4], None),
    ]:
        page = await peer.ok("history", channel=channel, **query)
        assert page == await server.api("GET", "/v1/history", app=APP, channel=channel, **query)
        assert (numbers(page), page["next"], page["offset"]) == (expected, following, 5)
    oldest = (await peer.ok("history", channel=channel, after=0, limit=1))["messages"][0]
    assert set(oldest) == {"event", "message", "offset", "id", "time_ms"}
    assert oldest["id"] == answers[0]["message_id"]


async def test_history_of_a_channel_that_is_not_there_is_empty(server, channel):
    expected = {"channel": channel, "epoch": None, "offset": 0, "messages": [], "next": None}
    assert await server.api("GET", "/v1/history", app=APP, channel=channel) == expected


@pytest.mark.parametrize(
    "query",
    [{}, {"channel": "c", "after": "x"}, {"channel": "c", "before": "-1"}, {"channel": "c", "after": 1, "before": 2}],
)
async def test_wrong_queries_of_history_are_refused(server, query):
    assert_problem(server.call("GET", "/v1/history", app=APP, **query), 400, "invalid_request")


async def test_a_rule_for_the_beginning_of_a_name(server, channel):
    await say(server, f"short-{channel}", *range(5))
    page = await server.api("GET", "/v1/history", app=APP, channel=f"short-{channel}")
    assert numbers(page) == [4, 3, 2]


async def test_messages_carry_the_id_under_which_they_are_remembered(server, channel):
    peer = await Peer.connect(server, app=APP)
    await peer.join(channel, echo=False)
    answer = (await say(server, channel, 1))[0]
    frame = await peer.expect(event="e", offset=1)
    assert frame.object["id"] == answer["message_id"]
    await say(server, channel, 2, no_history=True)
    frame = await peer.expect(message=2)
    assert "id" not in frame.object and "offset" not in frame.object


async def test_recovery_over_several_channels_in_one_frame(server, channel):
    channels = [f"{channel}-{number}" for number in range(3)]
    peer = await Peer.connect(server, app=APP, echo="false")
    positions = {}
    for name in channels:
        joined = await peer.ok("join", channel=name)
        positions[name] = {"epoch": joined["epoch"], "offset": joined["offset"]}
    await peer.close()
    for name in channels:
        await say(server, name, 1, 2)
    peer = await Peer.connect(server, app=APP, echo="false")
    await peer.send([{"type": "join", "channel": name, "since": positions[name]} for name in channels])
    await peer.fence()
    seen = [(frame.object["channel"], frame.object["message"]) for frame in peer.drained() if frame.object["event"] == "e"]
    assert sorted(seen) == sorted((name, payload) for name in channels for payload in (1, 2))


async def test_what_is_forgotten_is_not_recovered(server, channel):
    name = f"short-{channel}"
    await say(server, name, *range(5))
    peer = await Peer.connect(server, app=APP, echo="false")
    epoch = (await peer.ok("history", channel=name))["epoch"]
    joined = await peer.ok("join", channel=name, since={"epoch": epoch, "offset": 1})
    assert (joined["recovered"], joined["missed"], joined["offset"]) == (False, 0, 5)
    await peer.nothing()
    await peer.ok("leave", channel=name)
    joined = await peer.ok("join", channel=name, since={"epoch": epoch, "offset": 2})
    assert (joined["recovered"], joined["missed"]) == (True, 3)
    for offset in (3, 4, 5):
        await peer.expect(offset=offset, message=offset - 1)
    assert await peer.refused("join", channel="x", since={"offset": 1}) == "invalid_command"


async def test_nobody_misses_anything_while_publishers_run_at_full_speed(server, channel):
    """Readers drop their connections and come back, as long as publishers publish: every offset once, in order."""
    publishers = await connect_many(server, 4, app=APP, echo="false")
    total = 4 * 150
    done = 0

    async def publish(peer):
        nonlocal done
        for number in range(150):
            await peer.ok("send", channel=channel, event="e", message=number)
            done += 1

    async def read():
        seen, epoch, returns = None, None, 0
        while seen is None or seen < total:
            peer = await Peer.connect(server, app=APP, echo="false")
            since = {} if epoch is None else {"since": {"epoch": epoch, "offset": seen}}
            joined = await peer.ok("join", channel=channel, **since)
            if epoch is None:
                epoch, seen = joined["epoch"], joined["offset"]
            else:
                assert joined["recovered"] is True
                assert joined["offset"] == seen + joined["missed"]
            until = min(total, seen + 40) if done < total else total
            while seen < until:
                frame = await peer.publication()
                if frame.object["event"] == "e":
                    assert frame.object["offset"] == seen + 1
                    seen += 1
            peer.reset()
            returns += 1
        return returns

    watcher = await Peer.connect(server, app=APP, echo="false")
    await watcher.join(channel)
    readers = [asyncio.create_task(read()) for _ in range(8)]
    await asyncio.gather(*(publish(peer) for peer in publishers))
    assert sum(await asyncio.gather(*readers)) > 8
