"""Sections 3 and 4: each command, its answer, ids, arrays, and who sees what."""

import asyncio
import json
import time

import pytest

from peer import Peer, assert_silence, binary_frame, connect_many
from tokens import token


async def test_join_answers_position_and_members(server, channel):
    first, second = await connect_many(server, 2)
    answer = await first.ok("join", channel=channel)
    assert set(answer) == {"channel", "joined", "members", "epoch", "offset"}
    assert (answer["channel"], answer["joined"], answer["members"], answer["offset"]) == (channel, True, 1, 0)
    await first.ok("send", channel=channel, event="one")
    await first.ok("send", channel=channel, event="two")
    later = await second.ok("join", channel=channel)
    assert (later["members"], later["offset"], later["epoch"]) == (2, 2, answer["epoch"])
    await first.ok("send", channel=channel, event="three")
    await second.expect(event="channel:join")
    await second.expect(event="three", offset=3)


async def test_other_members_see_a_join_and_a_leave(server, channel):
    watcher, peer = await connect_many(server, 2, echo="false")
    await watcher.join(channel)
    await peer.join(channel)
    frame = await watcher.expect(channel=channel, event="channel:join", message={"id": peer.id})
    assert set(frame.object) == {"channel", "event", "message"}, "a presence notice has no offset"
    assert await peer.ok("leave", channel=channel) == {"channel": channel, "left": True}
    frame = await watcher.expect(channel=channel, event="channel:leave", message={"id": peer.id})
    assert set(frame.object) == {"channel", "event", "message"}
    await assert_silence(peer, peer, watcher)


async def test_joining_twice_is_harmless(server, channel):
    watcher, peer = await connect_many(server, 2)
    await watcher.join(channel, echo=False)
    await peer.join(channel, echo=False)
    await watcher.expect(event="channel:join")
    again = await peer.ok("join", channel=channel)
    assert (again["channel"], again["joined"], again["members"]) == (channel, False, 2)
    await assert_silence(peer, peer, watcher)
    await watcher.ok("send", channel=channel, event="once", echo=False)
    await peer.expect(event="once")
    await assert_silence(watcher, peer)
    assert (await peer.ok("leave", channel=channel, echo=False))["left"] is True
    await watcher.expect(event="channel:leave", message={"id": peer.id})
    assert (await watcher.ok("members", channel=channel))["total"] == 1


async def test_leaving_a_channel_one_is_not_in_is_harmless(server, channel):
    watcher, peer = await connect_many(server, 2)
    await watcher.join(channel, echo=False)
    assert await peer.ok("leave", channel=channel) == {"channel": channel, "left": False}
    await assert_silence(peer, peer, watcher)


async def test_after_leaving_nothing_of_the_channel_arrives(server, channel):
    sender, peer = await connect_many(server, 2)
    await peer.join(channel, echo=False)
    await peer.ok("leave", channel=channel, echo=False)
    await sender.ok("send", channel=channel, event="late")
    await sender.join(channel, echo=False)
    await assert_silence(sender, peer)


async def test_channel_that_was_empty_does_not_pretend_to_go_on(server, channel):
    """An offset is a place in one epoch: a stream that starts again is another epoch."""
    peer = await Peer.connect(server)
    before = await peer.ok("join", channel=channel)
    for _ in range(3):
        await peer.ok("send", channel=channel, event="e")
    await peer.ok("leave", channel=channel)
    after = await peer.ok("join", channel=channel)
    assert after["epoch"] != before["epoch"] or after["offset"] == 3


async def test_send_reaches_all_members_and_nobody_else(server, channel):
    sender, *members = await connect_many(server, 12)
    outsider = members.pop()
    for member in members:
        await member.join(channel, echo=False)
    for number, member in enumerate(members):
        for later in members[number + 1 :]:
            await member.expect(event="channel:join", message={"id": later.id})
    await sender.ok("send", channel=channel, event="chat", message={"text": "hi"})
    for member in members:
        frame = await member.publication()
        assert frame.object == {"channel": channel, "event": "chat", "message": {"text": "hi"}, "offset": 1}
    await assert_silence(sender, sender, outsider, *members)


async def test_send_answers_a_message_id_of_its_own_and_the_offset(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    answers = [await peer.ok("send", channel=channel, event="e") for _ in range(5)]
    assert all(set(answer) == {"message_id", "offset"} for answer in answers)
    assert [answer["offset"] for answer in answers] == [1, 2, 3, 4, 5]
    assert len({json.dumps(answer["message_id"]) for answer in answers}) == 5


async def test_send_to_nobody_has_no_offset(server, channel):
    peer = await Peer.connect(server)
    assert (await peer.ok("send", channel=channel, event="e"))["offset"] is None


async def test_message_left_out_is_null(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    await peer.ok("send", channel=channel, event="e")
    frame = await peer.publication()
    assert frame.object == {"channel": channel, "event": "e", "message": None, "offset": 1}
    await peer.ok("broadcast", event="e")
    assert (await peer.publication()).object == {"channel": None, "event": "e", "message": None}


async def test_membership_is_not_needed_to_send(server, channel):
    sender, member = await connect_many(server, 2)
    await member.join(channel, echo=False)
    await sender.ok("send", channel=channel, event="e")
    await member.expect(event="e")


async def test_membership_is_needed_where_the_app_says_so(server, channel):
    sender, member = await connect_many(server, 2, app="membership")
    await member.join(channel, echo=False)
    assert await sender.refused("send", channel=channel, event="no") == "membership_required"
    answer = await sender.send_payload({"type": "send", "channel": channel, "event": "no"}, b"x")
    assert answer["error"]["code"] == "membership_required"
    await sender.ok("broadcast", event="all", echo=False)
    await member.expect(event="all", channel=None)
    await sender.join(channel, echo=False)
    await member.expect(event="channel:join")
    await sender.ok("send", channel=channel, event="yes", echo=False)
    await member.expect(event="yes", offset=1)
    await sender.ok("leave", channel=channel, echo=False)
    assert await sender.refused("send", channel=channel, event="no") == "membership_required"


async def test_broadcast_reaches_every_session_of_the_app(server, channel):
    sender, *peers = await connect_many(server, 16)
    await peers[0].join(channel, echo=False)
    answer = await sender.ok("broadcast", event="warning", message="maintenance at noon")
    assert set(answer) == {"message_id"}
    for peer in [sender, *peers]:
        frame = await peer.publication()
        assert frame.object == {"channel": None, "event": "warning", "message": "maintenance at noon"}
    await assert_silence(sender, sender, *peers)


async def test_update_is_seen_in_each_joined_channel(server, channel):
    one, two, neither = f"{channel}-1", f"{channel}-2", f"{channel}-3"
    peer, watcher = await connect_many(server, 2)
    await watcher.join(one, two, neither, echo=False)
    await peer.join(one, two, echo=False)
    for _ in range(2):
        await watcher.expect(event="channel:join")
    assert await peer.ok("update", profile={"name": "Luke"}, echo=False) == {}
    seen = [(await watcher.publication()).object for _ in range(2)]
    for notice in seen:
        assert notice["event"] == "channel:update"
        assert notice["message"] == {"id": peer.id, "data": {"name": "Luke"}}
        assert "offset" not in notice
    assert sorted(notice["channel"] for notice in seen) == [one, two]
    await assert_silence(peer, peer, watcher)


async def test_update_without_channels_is_remembered_for_later(server, channel):
    peer, watcher = await connect_many(server, 2)
    await watcher.join(channel, echo=False)
    assert await peer.ok("update", profile=["first"]) == {}
    await assert_silence(peer, peer, watcher)
    await peer.join(channel)
    await watcher.expect(event="channel:join", message={"id": peer.id, "data": ["first"]})
    await peer.expect(event="channel:join", message={"id": peer.id, "data": ["first"]})


async def test_data_is_absent_until_a_profile_was_set(server, channel):
    peer, watcher = await connect_many(server, 2)
    await watcher.join(channel, echo=False)
    await peer.join(channel, echo=False)
    frame = await watcher.publication()
    assert frame.object["message"] == {"id": peer.id}
    page = await peer.ok("members", channel=channel)
    assert sorted(page["members"], key=str) == sorted([{"id": peer.id}, {"id": watcher.id}], key=str)
    await peer.ok("update", profile="here")
    await watcher.expect(event="channel:update", message={"id": peer.id, "data": "here"})
    page = await peer.ok("members", channel=channel)
    assert {"id": peer.id, "data": "here"} in page["members"]


@pytest.mark.parametrize("profile", [None, False, 0, "", [], {}, {"id": "fake", "user": "fake"}, "🎺"])
async def test_profile_may_be_any_json(server, channel, profile):
    peer = await Peer.connect(server)
    await peer.ok("update", profile=profile)
    await peer.join(channel)
    await peer.expect(event="channel:join", message={"id": peer.id, "data": profile})
    await peer.ok("leave", channel=channel)
    await peer.expect(event="channel:leave", message={"id": peer.id, "data": profile})


async def test_latest_profile_counts(server, channel):
    peer = await Peer.connect(server, session=token("luke", profile=0))
    for profile in range(1, 4):
        await peer.ok("update", profile=profile)
    await peer.join(channel)
    await peer.expect(message={"id": peer.id, "user": "luke", "data": 3})


async def test_members_lists_id_user_and_profile(server, channel):
    luke = await Peer.connect(server, session=token("luke", profile={"n": 1}))
    leia = await Peer.connect(server, session=token("leia"))
    nobody = await Peer.connect(server)
    for peer in (luke, leia, nobody):
        await peer.join(channel)
    answer = await nobody.ok("members", channel=channel)
    assert set(answer) == {"channel", "total", "members", "next"}
    assert (answer["channel"], answer["total"], answer["next"]) == (channel, 3, None)
    expected = [{"id": luke.id, "user": "luke", "data": {"n": 1}}, {"id": leia.id, "user": "leia"}, {"id": nobody.id}]
    assert sorted(answer["members"], key=str) == sorted(expected, key=str)


async def test_members_needs_no_membership(server, channel):
    member, outsider = await connect_many(server, 2)
    await member.join(channel)
    assert (await outsider.ok("members", channel=channel))["members"] == [{"id": member.id}]


async def test_members_of_an_empty_channel(server, channel):
    peer = await Peer.connect(server)
    expected = {"channel": channel, "total": 0, "members": [], "next": None}
    assert await peer.ok("members", channel=channel) == expected


async def test_ping_answers_the_time(server):
    peer = await Peer.connect(server)
    answer = await peer.ok("ping")
    assert set(answer) == {"time_ms"}
    assert isinstance(answer["time_ms"], int) and abs(answer["time_ms"] - time.time() * 1000) < 5000


# Answers and ids


IDS = ['"a"', '""', '"' + "x" * 64 + '"', '"' + "é" * 32 + '"', '"with \\"quotes\\" and \\\\"', '"7"', "7", "0", "-1"]
NUMBERS = ["1.50", "-0", "1e3", "1E+3", "0.10", "123456789012345678901234567890", "9007199254740993", "1e400"]


@pytest.mark.parametrize("command_id", IDS + NUMBERS)
async def test_id_is_given_back_as_it_came(server, command_id):
    peer = await Peer.connect(server)
    for command in ("ping", "join"):
        frame = await peer.answer_to(json.loads(command_id), f'{{"type":"{command}","id":{command_id}}}')
        if command_id in NUMBERS:
            assert f'"id":{command_id}' in frame.text.replace(" ", "")
        assert type(frame.object["id"]) is type(json.loads(command_id))
        assert ("ok" if command == "ping" else "error") in frame.object


BAD_IDS = ["true", "false", "[]", "{}", "[1]", '{"a":1}', '"' + "x" * 65 + '"', '"' + "é" * 32 + 'x"']


@pytest.mark.parametrize("command_id", BAD_IDS)
async def test_id_of_another_kind_is_refused_and_nothing_done(server, channel, command_id):
    peer = await Peer.connect(server)
    await peer.send(f'{{"type":"join","channel":"{channel}","id":{command_id}}}')
    assert await peer.error() == "invalid_command"
    assert (await peer.ok("members", channel=channel))["total"] == 0


async def test_command_without_id_is_silent_on_success(server, channel):
    peer = await Peer.connect(server, echo="false")
    before = len(peer.frames)
    await peer.tell("join", channel=channel)
    await peer.tell("send", channel=channel, event="e")
    await peer.tell("broadcast", event="e")
    await peer.tell("update", profile=1)
    await peer.tell("members", channel=channel)
    await peer.tell("ping")
    await peer.tell("session", token=token("luke"))
    await peer.tell("leave", channel=channel)
    await peer.fence()
    assert len(peer.frames) == before + 1, peer.frames[before:]


async def test_error_of_a_command_without_id_arrives_without_id(server):
    peer = await Peer.connect(server)
    await peer.tell("send", channel="", event="e")
    assert await peer.error() == "invalid_channel"
    assert set(peer.frames[-1].object) == {"error"}


async def test_error_carries_code_and_message(server):
    peer = await Peer.connect(server)
    answer = await peer.command("send", channel="", event="e")
    assert set(answer["error"]) >= {"code", "message"}


async def test_unknown_members_are_ignored(server, channel):
    peer = await Peer.connect(server)
    await peer.ok("join", channel=channel, colour="red", nested={"type": "leave"}, message=[1], echo=False)
    await peer.ok("ping", channel=5, echo="whatever", event=None)
    assert (await peer.ok("members", channel=channel))["total"] == 1


async def test_member_names_and_values_may_be_escaped(server, channel):
    peer = await Peer.connect(server)
    text = '{"t\\u0079pe":"\\u006aoin","i\\u0064":1,"ch\\u0061nnel":"' + channel.replace("r", "\\u0072") + '"}'
    assert (await peer.answer_to(1, text)).object["ok"]["channel"] == channel


async def test_order_of_members_does_not_matter(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    text = f'{{"message":[1],"echo":true,"event":"e","id":"x","channel":"{channel}","type":"send"}}'
    assert "ok" in (await peer.answer_to("x", text)).object
    await peer.expect(event="e", message=[1])


async def test_whitespace_around_a_command_is_allowed(server):
    peer = await Peer.connect(server)
    assert "ok" in (await peer.answer_to(5, ' \t\r\n{ "type" :\n"ping" , "id"\t: 5 } \r\n')).object


# Arrays


async def test_array_is_executed_in_order_with_answers_in_order(server, channel):
    peer = await Peer.connect(server)
    before = len(peer.frames)
    commands = [
        {"type": "join", "id": 11, "channel": channel, "echo": False},
        {"type": "send", "id": 12, "channel": channel, "event": "one"},
        {"type": "members", "id": 13, "channel": channel},
        {"type": "send", "id": 14, "channel": "", "event": "bad"},
        {"type": "send", "id": 15, "channel": channel, "event": "two"},
        {"type": "leave", "id": 16, "channel": channel, "echo": False},
        {"type": "members", "id": 17, "channel": channel},
    ]
    await peer.answer_to(17, commands)
    answers = [frame.object for frame in peer.frames[before:] if "id" in frame.object]
    assert [answer["id"] for answer in answers] == [11, 12, 13, 14, 15, 16, 17]
    assert [("ok" in answer) for answer in answers] == [True, True, True, False, True, True, True]
    assert answers[2]["ok"]["total"] == 1 and answers[6]["ok"]["total"] == 0
    await peer.expect(event="one", offset=1)
    await peer.expect(event="two", offset=2)


async def test_array_may_mix_commands_with_and_without_id(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    answer = await peer.answer_to(
        "end",
        [
            {"type": "send", "channel": channel, "event": "a"},
            {"type": "nonsense"},
            {"type": "send", "channel": channel, "event": "b"},
            {"type": "ping", "id": "end"},
        ],
    )
    assert "ok" in answer.object
    assert await peer.error() == "unknown_command"
    await peer.expect(event="a")
    await peer.expect(event="b")


async def test_array_of_256_commands_is_executed(server, channel):
    peer, watcher = await connect_many(server, 2)
    await watcher.join(channel, echo=False)
    await peer.send([{"type": "send", "channel": channel, "event": "e", "message": n} for n in range(256)])
    for number in range(256):
        await watcher.expect(message=number, offset=number + 1)


async def test_array_of_257_commands_is_refused_whole(server, channel):
    peer, watcher = await connect_many(server, 2)
    await watcher.join(channel, echo=False)
    await peer.send([{"type": "send", "channel": channel, "event": "e", "id": n} for n in range(257)])
    assert await peer.error() == "batch_too_long"
    await assert_silence(peer, peer, watcher)


async def test_array_in_an_array_is_no_command(server):
    peer = await Peer.connect(server)
    answer = await peer.answer_to("end", [[{"type": "ping"}], {"type": "ping", "id": "end"}])
    assert "ok" in answer.object
    assert await peer.error() == "invalid_command"


@pytest.mark.parametrize("element", ["1", "null", '"ping"', "true"])
async def test_element_that_is_no_object_fails_alone(server, element):
    peer = await Peer.connect(server)
    answer = await peer.answer_to("end", f'[{element},{{"type":"ping","id":"end"}}]')
    assert "ok" in answer.object
    assert await peer.error() == "invalid_command"


async def test_commands_in_separate_frames_take_effect_in_order(server, channel):
    peer = await Peer.connect(server)
    for number in range(50):
        await peer.tell("join", channel=channel, echo=False)
        await peer.tell("send", channel=channel, event="e", message=number)
        await peer.tell("leave", channel=channel, echo=False)
    for number in range(50):
        await peer.expect(event="e", message=number)
    await peer.nothing()


async def test_answers_come_in_the_order_of_the_commands(server, channel):
    peer = await Peer.connect(server)
    before = len(peer.frames)
    ids = list(range(100, 200))
    for command_id in ids[:-1]:
        kind = ["ping", "join", "members", "send", "nonsense"][command_id % 5]
        command = {"type": kind, "id": command_id, "channel": channel, "event": "e", "echo": False}
        await peer.send(binary_frame(command, b"x") if kind == "send" else command)
    await peer.answer_to(ids[-1], {"type": "ping", "id": ids[-1]})
    assert [frame.object["id"] for frame in peer.frames[before:] if "id" in frame.object] == ids


# Errors of commands


MALFORMED = {
    "ping": [],
    "join": ["channel"],
    "leave": ["channel"],
    "send": ["channel", "event"],
    "broadcast": ["event"],
    "update": ["profile"],
    "members": ["channel"],
    "session": ["token"],
    "history": ["channel"],
    "edit": ["channel", "message_id", "message"],
    "delete": ["channel", "message_id"],
}
MESSAGE_ID = "01234567-89ab-7def-8123-456789abcdef"
COMPLETE = {"channel": "c", "event": "e", "profile": {}, "token": "t", "message_id": MESSAGE_ID, "message": 1}
ANY_JSON = ("profile", "message")


@pytest.mark.parametrize("type,missing", [(t, m) for t, members in MALFORMED.items() for m in members])
async def test_missing_member_is_refused(server, type, missing):
    peer = await Peer.connect(server)
    members = {name: COMPLETE[name] for name in MALFORMED[type] if name != missing}
    assert await peer.refused(type, **members) == "invalid_command"


@pytest.mark.parametrize("value", [5, None, True, [], {}, ["c"]])
@pytest.mark.parametrize(
    "type,wrong", [(t, m) for t, members in MALFORMED.items() for m in members if m not in ANY_JSON]
)
async def test_member_of_the_wrong_type_is_refused(server, type, wrong, value):
    peer = await Peer.connect(server)
    members = {name: COMPLETE[name] for name in MALFORMED[type]} | {wrong: value}
    assert await peer.refused(type, **members) == "invalid_command"


@pytest.mark.parametrize("type", ["join", "leave", "send", "broadcast", "update"])
@pytest.mark.parametrize("echo", ["true", 1, 0, [], {}])
async def test_echo_of_the_wrong_type_is_refused(server, channel, type, echo):
    peer = await Peer.connect(server)
    assert await peer.refused(type, **COMPLETE | {"channel": channel}, echo=echo) == "invalid_command"


@pytest.mark.parametrize("type", ["members", "history"])
@pytest.mark.parametrize("limit", ["10", 0, -1, 1001, 1.5, 1e300, True, [], 10**30])
async def test_limit_outside_1_to_1000_is_refused(server, channel, type, limit):
    peer = await Peer.connect(server)
    assert await peer.refused(type, channel=channel, limit=limit) == "invalid_command"


@pytest.mark.parametrize("limit", [1, 1000])
async def test_limit_of_1_to_1000_is_accepted(server, channel, limit):
    peer = await Peer.connect(server)
    await peer.ok("members", channel=channel, limit=limit)


@pytest.mark.parametrize("after", ["garbage", "", "AAAA", "é", "x" * 1000])
async def test_after_must_be_a_cursor_of_this_server(server, channel, after):
    peer = await Peer.connect(server)
    assert await peer.refused("members", channel=channel, after=after) == "invalid_cursor"


@pytest.mark.parametrize("after", [5, True, [], {}])
async def test_after_of_the_wrong_type_is_refused(server, channel, after):
    peer = await Peer.connect(server)
    assert await peer.refused("members", channel=channel, after=after) in ("invalid_command", "invalid_cursor")


@pytest.mark.parametrize("type", ["", "Join", "join ", "publish", "subscribe", "x" * 1000, "jöin"])
async def test_unknown_type_is_refused(server, type):
    peer = await Peer.connect(server)
    assert await peer.refused(type, channel="c") == "unknown_command"


@pytest.mark.parametrize("command", [{}, {"type": 5}, {"type": None}, {"type": ["join"]}, {"channel": "c"}])
async def test_type_must_be_a_string(server, command):
    peer = await Peer.connect(server)
    answer = await peer.answer_to("x", command | {"id": "x"})
    assert answer.object["error"]["code"] == "invalid_command"


@pytest.mark.parametrize("text", ["null", "true", "5", '"join"', "-1.5e3"])
async def test_frame_that_is_no_object_is_no_command(server, text):
    peer = await Peer.connect(server)
    await peer.send(text)
    assert await peer.error() == "invalid_command"
    await peer.fence()


async def test_too_many_channels_are_refused_until_one_is_left(server, channel):
    peer = await Peer.connect(server, "small")
    names = [f"{channel}-{number}" for number in range(4)]
    await peer.join(*names[:3])
    assert await peer.refused("join", channel=names[3]) == "too_many_channels"
    assert (await peer.ok("join", channel=names[0]))["joined"] is False, "rejoining takes no further place"
    assert (await peer.ok("members", channel=names[3]))["total"] == 0
    await peer.ok("leave", channel=names[0])
    assert (await peer.ok("join", channel=names[3]))["joined"] is True


async def test_128_channels_are_allowed_by_default(server, channel):
    peer = await Peer.connect(server, echo="false")
    await peer.join(*(f"{channel}-{number}" for number in range(128)))
    assert await peer.refused("join", channel=channel) == "too_many_channels"


async def test_profile_may_be_as_large_as_the_limit(server, channel):
    peer = await Peer.connect(server, "small")
    await peer.ok("update", profile="p" * 254)
    assert await peer.refused("update", profile="q" * 255) == "profile_too_large"
    await peer.join(channel)
    await peer.expect(message={"id": peer.id, "data": "p" * 254})


async def test_more_messages_per_second_than_allowed_are_refused(server, channel):
    peer, watcher = await connect_many(server, 2, app="rated")
    await watcher.join(channel, echo=False)
    answers = [await peer.command("send", channel=channel, event="e", message=n) for n in range(60)]
    refused = [answer["error"]["code"] for answer in answers if "error" in answer]
    assert "ok" in answers[0]
    assert set(refused) == {"rate_limited"}
    accepted = [number for number, answer in enumerate(answers) if "ok" in answer]
    for offset, number in enumerate(accepted, 1):
        await watcher.expect(message=number, offset=offset)
    async with asyncio.timeout(5):
        while "error" in await peer.command("send", channel=channel, event="again"):
            await asyncio.sleep(0.05)
    await watcher.expect(event="again", offset=len(accepted) + 1)
    await watcher.nothing()
