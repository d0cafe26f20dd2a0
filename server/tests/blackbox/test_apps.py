"""Section 1: nothing crosses apps."""

from peer import assert_silence, connect_many


async def test_channels_of_the_same_name_are_apart(server, channel):
    ours = await connect_many(server, 6, echo="false")
    theirs = await connect_many(server, 6, app="other", echo="false")
    for number, (mine, foreign) in enumerate(zip(ours, theirs, strict=True)):
        answer = await mine.ok("join", channel=channel)
        assert answer["members"] == number + 1
        assert (await foreign.ok("join", channel=channel))["members"] == number + 1
    for peers in (ours, theirs):
        for number, peer in enumerate(peers):
            for later in peers[number + 1 :]:
                await peer.expect(event="channel:join", message={"id": later.id})
    await ours[0].ok("send", channel=channel, event="ours")
    await ours[0].ok("update", profile="ours")
    await server.api("POST", "/v1/send", {"channel": channel, "event": "ours too"})
    await theirs[0].ok("send", channel=channel, event="theirs")
    for peer in ours[1:]:
        await peer.expect(event="ours", offset=1)
        await peer.expect(event="channel:update")
        await peer.expect(event="ours too", offset=2)
    for peer in theirs[1:]:
        await peer.expect(event="theirs", offset=1)
    await ours[0].expect(event="ours too")
    await assert_silence(theirs[0], *theirs)
    await assert_silence(ours[0], *ours)


async def test_broadcasts_stay_in_their_app(server):
    ours = await connect_many(server, 12)
    theirs = await connect_many(server, 12, app="other")
    await ours[0].ok("broadcast", event="ours")
    await server.api("POST", "/v1/broadcast", {"event": "ours too"})
    for peer in ours:
        await peer.expect(event="ours")
        await peer.expect(event="ours too")
    await theirs[0].ok("broadcast", event="theirs")
    for peer in theirs:
        await peer.expect(event="theirs")
    await assert_silence(ours[0], *ours)
    await assert_silence(theirs[0], *theirs)


async def test_members_and_channels_are_those_of_the_app(server, channel):
    mine, *_ = await connect_many(server, 1)
    foreign, *_ = await connect_many(server, 1, app="other")
    await mine.join(channel)
    assert (await foreign.ok("members", channel=channel))["total"] == 0
    assert (await server.api("GET", "/v1/members", app="other", channel=channel))["total"] == 0
    assert (await server.api("GET", "/v1/channels", app="other", prefix=channel))["channels"] == []
    assert (await server.api("GET", "/v1/channels", prefix=channel))["channels"] == [{"channel": channel, "members": 1}]


async def test_leaving_in_one_app_leaves_the_other_alone(server, channel):
    (mine,) = await connect_many(server, 1)
    (foreign,) = await connect_many(server, 1, app="other")
    await mine.join(channel, echo=False)
    await foreign.join(channel, echo=False)
    await foreign.ok("leave", channel=channel)
    await assert_silence(mine, mine)
    assert (await mine.ok("members", channel=channel))["members"] == [{"id": mine.id}]
