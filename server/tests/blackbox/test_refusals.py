"""Sections 4, 6 and 9: what is refused of history, recovery, edits, audiences and options, and by a full server."""

import json

import pytest

from peer import Peer, connect_many, error_code
from server_process import App, assert_problem, server_key
from wire import Wire

APP = "candid"
MESSAGE_ID = "01234567-89ab-7def-8123-456789abcdef"
EPOCH = "0123456789abcdef"
LARGE = {"history_messages": 5000, "history_bytes": 1 << 24}


@pytest.mark.parametrize(
    "since",
    [None, 1, "x", [], {}, {"epoch": EPOCH}, {"offset": 1}, {"epoch": 1, "offset": 1}, {"epoch": {}, "offset": 1},
     {"epoch": EPOCH, "offset": -1}, {"epoch": EPOCH, "offset": "1"}, {"epoch": EPOCH, "offset": 1.5}],
)  # fmt: skip
async def test_position_that_is_none_is_refused(server, channel, since):
    peer = await Peer.connect(server, app=APP)
    if since is None:
        assert "recovered" not in await peer.ok("join", channel=channel, since=since)
    else:
        assert await peer.refused("join", channel=channel, since=since) == "invalid_command"
        assert (await peer.ok("members", channel=channel))["total"] == 0


@pytest.mark.parametrize("epoch", ["", "x", None, EPOCH, EPOCH + "0", "zzzzzzzzzzzzzzzz"])
async def test_epoch_that_is_of_no_stream_recovers_nothing_and_is_no_error(server, channel, epoch):
    peer = await Peer.connect(server, app=APP)
    joined = await peer.ok("join", channel=channel, since={"epoch": epoch, "offset": 1})
    assert (joined["recovered"], joined["missed"]) == (False, 0)


@pytest.mark.parametrize(
    "members",
    [{"after": "x"}, {"after": -1}, {"after": 1.5}, {"before": "1"}, {"before": []}, {"after": 1, "before": 2}],
)
async def test_page_of_history_from_nowhere_is_refused(server, channel, members):
    peer = await Peer.connect(server, app=APP)
    assert await peer.refused("history", channel=channel, **members) == "invalid_command"


@pytest.mark.parametrize(
    "audience",
    [{"to_users": "luke"}, {"to_users": [1]}, {"to_users": {"luke": 1}}, {"to_users": ["u"] * 257},
     {"except_users": 5}, {"except_users": [None]}, {"except_users": ["u"] * 257},
     {"to_session": 5}, {"to_session": "x"}, {"to_session": ["AAAAAAAB3kXv9QpZs0aY"]}],
    ids=lambda audience: json.dumps(audience)[:40],
)  # fmt: skip
async def test_audience_that_is_none_is_refused(server, channel, audience):
    peer = await Peer.connect(server, app=APP)
    await peer.join(channel, echo=False)
    assert await peer.refused("send", channel=channel, event="e", **audience) == "invalid_command"
    assert await peer.refused("broadcast", event="e", **audience) == "invalid_command"
    for path, body in [("/v1/send", {"channel": channel, "event": "e"}), ("/v1/broadcast", {"event": "e"})]:
        assert_problem(server.call("POST", path, body | audience, app=APP), 400, "invalid_command")
    for type in ("edit", "delete"):
        refused = await peer.refused(type, channel=channel, message_id=MESSAGE_ID, message=1, **audience)
        assert refused == "invalid_command"
    await peer.nothing()


async def test_256_users_may_be_named(server, channel):
    peer = await Peer.connect(server, app=APP)
    await peer.join(channel, echo=False)
    await peer.ok("send", channel=channel, event="e", echo=True, except_users=[f"user-{n}" for n in range(256)])
    await peer.expect(event="e")


@pytest.mark.parametrize("flag", ["true", 1, [], {}])
async def test_no_history_is_true_or_false(server, channel, flag):
    peer = await Peer.connect(server, app=APP)
    assert await peer.refused("send", channel=channel, event="e", no_history=flag) == "invalid_command"
    body = {"channel": channel, "event": "e", "no_history": flag}
    assert_problem(server.call("POST", "/v1/send", body, app=APP), 400, "invalid_command")


async def test_names_and_payloads_are_bounded_wherever_they_are_given(server):
    peer = await Peer.connect(server, app=APP)
    for channel in ("", "x" * 257):
        for command in ({"type": "history"}, {"type": "edit", "message": 1}, {"type": "delete"}):
            members = command | {"channel": channel, "message_id": MESSAGE_ID}
            assert await peer.refused(**members) == "invalid_channel", command
        change = {"channel": channel, "message_id": MESSAGE_ID, "message": 1}
        for method in ("PATCH", "DELETE"):
            assert_problem(server.call(method, "/v1/messages", change, app=APP), 400, "invalid_channel")
        for path in ("/v1/history", "/v1/options", "/v1/members"):
            assert_problem(server.call("GET", path, app=APP, channel=channel), 400, "invalid_channel")
        assert_problem(server.call("GET", "/v1/members", app=APP, channel=channel, by="user"), 400, "invalid_channel")
    large = {"channel": "c", "message_id": MESSAGE_ID, "message": "x" * 65535}
    assert await peer.refused("edit", **large) == "message_too_large"
    assert_problem(server.call("PATCH", "/v1/messages", large, app=APP), 400, "message_too_large")
    for path in ("/v1/history", "/v1/users/u", "/v1/channels", "/v1/members"):
        for limit in (0, 1001, "x"):
            answer = server.call("GET", path, app=APP, channel="c", limit=limit)
            assert_problem(answer, 400, "invalid_request")


async def test_editing_what_another_sent_or_nobody_is_refused(server, channel):
    luke, leia = await connect_many(server, 2, app=APP)
    message_id = (await luke.ok("send", channel=channel, event="e"))["message_id"]
    for type in ("edit", "delete"):
        assert await leia.refused(type, channel=channel, message_id=message_id, message=1) == "edit_not_allowed"
        assert await luke.refused(type, channel=channel, message_id=MESSAGE_ID, message=1) == "unknown_message"
        elsewhere = {"channel": f"{channel}-none", "message_id": message_id, "message": 1}
        assert await luke.refused(type, **elsewhere) == "unknown_message"
        assert await luke.refused(type, channel=channel, message_id="x", message=1) == "invalid_command"
    kept_from = await luke.ok("send", channel=channel, event="e", no_history=True)
    assert await luke.refused("delete", channel=channel, message_id=kept_from["message_id"]) == "unknown_message"
    assert (await luke.ok("delete", channel=channel, message_id=message_id))["offset"] == 2


async def test_edits_and_deletions_count_as_messages(server, channel):
    peer = await Peer.connect(server, app="rated")
    change = {"channel": channel, "message_id": MESSAGE_ID, "message": 1}
    codes = [await peer.refused(type, **change) for _ in range(15) for type in ("edit", "delete")]
    assert codes[0] == "unknown_message" and set(codes) == {"unknown_message", "rate_limited"}


async def test_more_than_4096_messages_are_not_recovered(server, channel):
    app = "remembering"
    await server.api("PUT", "/v1/options", {"channel": channel} | LARGE, app=app)
    messages = [{"channel": channel, "event": "e", "message": number} for number in range(4097)]
    for start in range(0, len(messages), 256):
        await server.api("POST", "/v1/publish", messages[start : start + 256], app=app)
    epoch = (await server.api("GET", "/v1/history", app=app, channel=channel))["epoch"]
    peer = await Peer.connect(server, app=app, echo="false")
    for offset, recovered in [(0, False), (1, True)]:
        joined = await peer.ok("join", channel=channel, since={"epoch": epoch, "offset": offset})
        missed = 4096 if recovered else 0
        assert (joined["recovered"], joined["missed"], joined["offset"]) == (recovered, missed, 4097)
        await peer.ok("leave", channel=channel)
    assert [frame.object["offset"] for frame in peer.drained()] == list(range(2, 4098))


async def test_more_than_half_of_the_queue_is_not_recovered(server, channel):
    app = "remembering"
    await server.api("PUT", "/v1/options", {"channel": channel} | LARGE, app=app)
    for _ in range(40):
        body = {"channel": channel, "event": "e", "message": "x" * 60_000}
        await server.api("POST", "/v1/send", body, app=app)
    epoch = (await server.api("GET", "/v1/history", app=app, channel=channel, limit=1))["epoch"]
    peer = await Peer.connect(server, app=app, echo="false")
    joined = await peer.ok("join", channel=channel, since={"epoch": epoch, "offset": 0})
    assert (joined["recovered"], joined["missed"], joined["offset"]) == (False, 0, 40)
    await peer.ok("leave", channel=channel)
    joined = await peer.ok("join", channel=channel, since={"epoch": epoch, "offset": 10})
    assert (joined["recovered"], joined["missed"]) == (True, 30)


async def test_page_of_history_ends_at_1_mib(server, channel):
    app = "remembering"
    await server.api("PUT", "/v1/options", {"channel": channel} | LARGE, app=app)
    for number in range(20):
        body = {"channel": channel, "event": "e", "message": f"{number:060000}"}
        await server.api("POST", "/v1/send", body, app=app)
    first = await server.api("GET", "/v1/history", app=app, channel=channel, after=0)
    assert len(first["messages"]) == 17 and first["next"] == 17
    rest = await server.api("GET", "/v1/history", app=app, channel=channel, after=17)
    assert [message["offset"] for message in rest["messages"]] == [18, 19, 20] and rest["next"] is None


def pipelined(request, bodies):
    head = f"{request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server_key()}\r\n"
    texts = (json.dumps(body).encode() for body in bodies)
    return b"".join(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text for text in texts)


async def test_messages_for_a_worker_whose_mailbox_is_full_are_refused(start_server, workers, channel):
    """A frame, a list and a row of requests, each handled in one turn, bring more than other workers' mailboxes hold."""
    server = start_server(apps=[App("default", {"announce": False})], server_limits={"mailbox_depth": 64})
    members = await connect_many(server, 16, echo="false")
    for member in members:
        await member.join(channel)
    sender = await Peer.connect(server, echo="false")
    accepted = []

    commands = [{"type": "send", "id": n, "channel": channel, "event": "e", "message": n} for n in range(256)]
    before = len(sender.frames)
    await sender.answer_to(255, commands)
    answers = [frame.object for frame in sender.frames[before:] if "id" in frame.object]
    codes = {error_code(answer) for answer in answers if "error" in answer}
    accepted += [answer["id"] for answer in answers if "ok" in answer]

    messages = [{"channel": channel, "event": "e", "message": n} for n in range(256, 512)]
    answers = await server.api("POST", "/v1/publish", messages)
    codes |= {error_code(answer) for answer in answers if "error" in answer}
    accepted += [message["message"] for message, answer in zip(messages, answers) if "ok" in answer]

    bodies = [{"channel": channel, "event": "e", "message": n} for n in range(512, 768)]
    statuses = set()
    with Wire(server) as wire:
        wire.send(pipelined("POST /v1/send", bodies))
        for body in bodies:
            response = wire.response()
            if response.status == 200:
                accepted.append(body["message"])
            else:
                assert_problem(response, 503, "overloaded")
                statuses.add(response.status)

    # One worker has no mail for itself.
    assert codes == ({"overloaded"} if workers > 1 else set())
    assert statuses == ({503} if workers > 1 else set())
    for member in members:
        for offset, message in enumerate(accepted, 1):
            await member.expect(event="e", message=message, offset=offset)
        await member.nothing()


def test_options_of_more_than_65536_channels_are_refused(start_server):
    server = start_server(apps=[App("default")])
    with Wire(server) as wire:

        def put(numbers, **options):
            bodies = [{"channel": f"c{number}"} | options for number in numbers]
            wire.send(pipelined("PUT /v1/options", bodies))
            return [wire.response() for _ in numbers]

        for start in range(0, 65_536, 512):
            assert {response.status for response in put(range(start, start + 512), announce=False)} == {200}
        refused, again = put([65_536, 0], announce=False)
        assert_problem(refused, 400, "too_many_options")
        assert again.status == 200, "one that has options may get others"
        assert [response.status for response in put([0]) + put([65_536], announce=False)] == [200, 200]
