"""Section 5: one order for all members, contiguous offsets, one order of broadcasts."""

import asyncio

from peer import Peer, connect_many

MEMBERS = 12
PUBLISHERS = 6
EACH = 50


async def collect(peer, count):
    return [await peer.publication() for _ in range(count)]


def key(frame):
    return frame.object["event"], str(frame.object["message"]), frame.object.get("offset")


async def test_all_members_see_one_order_of_messages_and_notices(server, channel):
    members = await connect_many(server, MEMBERS)
    for number, member in enumerate(members):
        await member.join(channel, echo=False)
        for earlier in members[:number]:
            await earlier.expect(event="channel:join", message={"id": member.id})
    publishers = await connect_many(server, PUBLISHERS)
    visitors = await connect_many(server, 3)

    async def publish(number, peer):
        for step in range(EACH):
            await peer.ok("send", channel=channel, event="m", message=[number, step])

    async def publish_in_bursts(number, peer):
        await peer.send(
            [{"type": "send", "channel": channel, "event": "m", "message": [number, n]} for n in range(EACH)]
        )
        await peer.fence()

    async def publish_over_http(number):
        for step in range(EACH):
            await server.api("POST", "/v1/send", {"channel": channel, "event": "m", "message": [number, step]})

    async def come_and_go(peer):
        for step in range(10):
            await peer.join(channel, echo=False)
            await peer.ok("update", profile=step, echo=False)
            await peer.ok("leave", channel=channel, echo=False)

    async def update(peer):
        for step in range(10):
            await peer.ok("update", profile=step)

    await asyncio.gather(
        *(publish(number, peer) for number, peer in enumerate(members[:4])),
        *(publish_in_bursts(4 + number, peer) for number, peer in enumerate(publishers)),
        publish_over_http(4 + PUBLISHERS),
        *(come_and_go(peer) for peer in visitors),
        update(members[5]),
    )
    messages = EACH * (4 + PUBLISHERS + 1)
    total = messages + 30 * len(visitors) + 10
    streams = await asyncio.gather(*(collect(member, total) for member in members))
    reference = [key(frame) for frame in streams[0]]
    for stream in streams[1:]:
        assert [key(frame) for frame in stream] == reference
    offsets = [frame.object["offset"] for frame in streams[0] if frame.object["event"] == "m"]
    assert offsets == list(range(1, messages + 1))
    steps = {}
    for frame in streams[0]:
        if frame.object["event"] == "m":
            number, step = frame.object["message"]
            assert steps.get(number, -1) + 1 == step, "a publisher's own order was not kept"
            steps[number] = step
    for member in members:
        await member.nothing()


async def test_answered_offset_is_the_delivered_one(server, channel):
    peers = await connect_many(server, 8, echo="false")
    watcher = await Peer.connect(server)
    await watcher.join(channel, echo=False)
    answered = {}

    async def publish(number, peer):
        for step in range(20):
            answered[number, step] = (await peer.ok("send", channel=channel, event="m", message=[number, step]))[
                "offset"
            ]

    await asyncio.gather(*(publish(number, peer) for number, peer in enumerate(peers)))
    for frame in await collect(watcher, 160):
        assert answered[tuple(frame.object["message"])] == frame.object["offset"]


async def test_channels_count_their_own_offsets(server, channel):
    peer = await Peer.connect(server)
    one, two = f"{channel}-1", f"{channel}-2"
    await peer.join(one, two, echo=False)
    for offset in range(1, 4):
        await peer.ok("send", channel=one, event="e")
        await peer.expect(channel=one, offset=offset)
    await peer.ok("send", channel=two, event="e")
    await peer.expect(channel=two, offset=1)


async def test_notices_and_broadcasts_take_no_offset(server, channel):
    peer, other = await connect_many(server, 2)
    await peer.join(channel, echo=False)
    await peer.ok("send", channel=channel, event="one")
    await other.ok("join", channel=channel, echo=False)
    await other.ok("update", profile=1, echo=False)
    await other.ok("broadcast", event="all", echo=False)
    await other.ok("leave", channel=channel, echo=False)
    await peer.ok("send", channel=channel, event="two")
    seen = [(frame.object["event"], frame.object.get("offset")) for frame in await collect(peer, 6)]
    assert [pair for pair in seen if pair[0] != "all"] == [
        ("one", 1),
        ("channel:join", None),
        ("channel:update", None),
        ("channel:leave", None),
        ("two", 2),
    ]
    assert ("all", None) in seen


async def test_broadcasts_have_one_order_for_the_app(server):
    peers = await connect_many(server, MEMBERS)

    async def publish(number, peer):
        for step in range(20):
            await peer.ok("broadcast", event="b", message=[number, step])

    async def publish_over_http():
        for step in range(20):
            await server.api("POST", "/v1/broadcast", {"event": "b", "message": [-1, step]})

    await asyncio.gather(*(publish(number, peer) for number, peer in enumerate(peers[:6])), publish_over_http())
    streams = await asyncio.gather(*(collect(peer, 140) for peer in peers))
    reference = [frame.object["message"] for frame in streams[0]]
    for stream in streams[1:]:
        assert [frame.object["message"] for frame in stream] == reference
    for peer in peers:
        await peer.nothing()


async def test_members_that_join_meanwhile_see_the_rest_of_the_same_order(server, channel):
    first, publisher, *late = await connect_many(server, 10, echo="false")
    await first.join(channel)

    async def publish():
        for step in range(300):
            await publisher.ok("send", channel=channel, event="m", message=step)

    async def arrive(peer):
        return (await peer.ok("join", channel=channel))["offset"]

    publishing = asyncio.create_task(publish())
    positions = []
    for peer in late:
        positions.append(await arrive(peer))
    await publishing
    for peer, position in zip(late, positions, strict=True):
        offsets = []
        while (offsets or [position])[-1] < 300:
            frame = await peer.publication()
            if frame.object["event"] == "m":
                assert frame.object["message"] == frame.object["offset"] - 1
                offsets.append(frame.object["offset"])
        assert offsets == list(range(position + 1, 301)), "what follows the answered position arrives, and nothing else"
