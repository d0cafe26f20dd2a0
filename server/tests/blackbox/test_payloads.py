"""Payloads and names: the very bytes that were sent, in text frames and in binary ones."""

import base64
import json
import os

import pytest

from peer import Peer, assert_silence, binary_frame, connect_many

UNTOUCHED = [
    "null",
    "true",
    '""',
    "0",
    "-0",
    "-0.0",
    "1e400",
    "-1E+400",
    "1e-400",
    "1.0",
    "1.10",
    "0.1000000000000000055511151231257827",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1E5",
    "{}",
    "[]",
    "[ ]",
    "{ }",
    '{"a" : 1 ,\t"b":\n[ 1,2 ,3 ]\r}',
    '{"b":1,"a":2,"b":3}',
    '{"":{"":""}}',
    r'"\u0041\u00e9\ud83c\udfba\/\b\f\n\r\t\"\\"',
    '"é 名前 🎺"',
    '"\u2028\u2029\u007f\u0080\ufeff"',
    r'"</script><!-- \u003c"',
    '{"channel":"elsewhere","event":"channel:leave","offset":99,"id":1,"ok":{},"error":{}}',
    '{"base64":"AAEC"}',
    '{"welcome":{"session":"fake"}}',
    "[" * 100 + "]" * 100,
    '"' + "x" * 60000 + '"',
    r'{"\u0061":1,"a":2}',
    r'"\"},\"message\":{"',
]


def carries(frame, payload):
    """The frame's text has these very bytes as its `message`."""
    return any(f'"message":{space}{payload}' in frame.text for space in ("", " "))


def send_text(channel, payload, command_id=1):
    return f'{{"type":"send","id":{command_id},"channel":"{channel}","event":"e","message":{payload}}}'


@pytest.mark.parametrize("payload", UNTOUCHED, ids=lambda payload: payload[:20])
async def test_payload_travels_byte_for_byte(server, channel, payload):
    sender, member = await connect_many(server, 2)
    await member.join(channel, echo=False)
    assert "ok" in (await sender.answer_to(1, send_text(channel, payload))).object
    frame = await member.expect(channel=channel, event="e", offset=1)
    assert carries(frame, payload), frame.text
    text = f'{{"message": {payload} , "event":"b","type":"broadcast","id":2}}'
    assert "ok" in (await sender.answer_to(2, text)).object
    assert carries(await member.expect(channel=None, event="b"), payload)


@pytest.mark.parametrize("payload", UNTOUCHED, ids=lambda payload: payload[:20])
async def test_payload_of_the_back_end_travels_byte_for_byte(server, channel, payload):
    member = await Peer.connect(server)
    await member.join(channel, echo=False)
    message = f'{{"channel":"{channel}","event":"e","message":{payload}}}'.encode()
    broadcast = f'{{"event":"b","message":{payload}}}'.encode()
    headers = {"Content-Type": "application/json"}
    await server.api("POST", "/v1/send", message, headers=headers)
    await server.api("POST", "/v1/broadcast", broadcast, headers=headers)
    assert [*await server.api("POST", "/v1/publish", b"[" + message + b" , " + broadcast + b"]", headers=headers)]
    for event in ("e", "b", "e", "b"):
        assert carries(await member.expect(event=event), payload)


async def test_payloads_in_an_array_travel_byte_for_byte(server, channel):
    payloads = [payload for payload in UNTOUCHED if len(payload) < 1000]
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    await peer.send("[" + " , ".join(send_text(channel, payload, 900 + n) for n, payload in enumerate(payloads)) + "]")
    for payload in payloads:
        assert carries(await peer.expect(event="e"), payload)


@pytest.mark.parametrize("payload", [r'"\ud800"', r'"\udc00\ud800"', r'{"\ud800":1}'])
async def test_lone_surrogate_travels_untouched_or_is_refused(server, channel, payload):
    """RFC 8259 leaves it open; a changed payload is no answer."""
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    await peer.send(send_text(channel, payload))
    await peer.fence()
    answer = next(frame for frame in peer.frames if frame.object.get("id") == 1 or "error" in frame.object)
    if "ok" in answer.object:
        assert carries(await peer.publication(), payload)
    else:
        assert answer.object["error"]["code"] == "malformed_json"


@pytest.mark.parametrize(
    "payload",
    [
        "tru", "nul", "NaN", "Infinity", "-", "01", "1.", ".5", "1e", "+1", "0x10", "'a'", '"a', '"\\x"', '"\\u12g4"',
        '"\t"', '"\x00"', '"\x1f"', "[1,]", "[,1]", "[1 2]", "[1", '{"a":1,}', '{"a"}', '{"a":}', '{a:1}', '{1:1}',
        "1 2", "", "//x\n1", "/**/1", "\u00a01", "[1}", '{"a":1]', '"\\',
    ],
)  # fmt: skip
async def test_malformed_payload_is_refused_and_not_delivered(server, channel, payload):
    sender, member = await connect_many(server, 2)
    await member.join(channel, echo=False)
    await sender.send(send_text(channel, payload))
    assert await sender.error() == "malformed_json"
    await assert_silence(sender, member)


@pytest.mark.parametrize("length", [1023, 1024])
async def test_payload_up_to_the_limit_is_delivered(server, channel, length):
    peer = await Peer.connect(server, "small")
    await peer.join(channel, echo=False)
    text = "x" * (length - 2)
    await peer.ok("send", channel=channel, event="e", message=text)
    await peer.expect(message=text)
    assert "ok" in await peer.send_payload({"type": "send", "channel": channel, "event": "b"}, b"x" * length)
    assert (await peer.expect(event="b")).payload == b"x" * length


async def test_payload_over_the_limit_is_refused_and_not_delivered(server, channel):
    sender, member = await connect_many(server, 2, app="small", echo="false")
    await member.join(channel)
    text, data = "x" * 1023, b"x" * 1025
    assert await sender.refused("send", channel=channel, event="e", message=text) == "message_too_large"
    assert await sender.refused("broadcast", event="e", message=text) == "message_too_large"
    for envelope in ({"type": "send", "channel": channel, "event": "e"}, {"type": "broadcast", "event": "e"}):
        assert (await sender.send_payload(envelope, data))["error"]["code"] == "message_too_large"
    await sender.ok("send", channel=channel, event="end")
    await member.expect(event="end", offset=1)
    await assert_silence(sender, member)


# Names


NAMES = [
    "x",
    "x" * 256,
    "é" * 128,
    "名" * 85 + "x",
    "🎺" * 64,
    " ",
    'a"b\\c/d',
    "line\nbreak\ttab\u0000null\u001f",
    "a/b:c?d#e&f=g%20",
    "null",
    "e\u0301",
    "\u2028\ufeff\uffff",
    "channels",
    "Channel:join",
    "a channel:join",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
async def test_names_are_any_utf8_of_1_to_256_bytes(server, name):
    peer = await Peer.connect(server)
    assert (await peer.ok("join", channel=name, echo=False))["channel"] == name
    await peer.ok("send", channel=name, event=name)
    await peer.expect(channel=name, event=name, offset=1)
    await peer.ok("broadcast", event=name)
    await peer.expect(channel=None, event=name)
    assert "ok" in await peer.send_payload({"type": "send", "channel": name, "event": name}, b"\x00")
    await peer.expect(channel=name, event=name, offset=2)
    await server.api("POST", "/v1/send", {"channel": name, "event": name})
    await peer.expect(channel=name, event=name, offset=3)
    assert (await peer.ok("members", channel=name))["members"] == [{"id": peer.id}]
    assert (await server.api("GET", "/v1/members", channel=name))["channel"] == name
    await peer.ok("leave", channel=name)


@pytest.mark.parametrize("name", ["", "x" * 257, "é" * 128 + "x", "🎺" * 65, "x" * 5000])
async def test_empty_and_longer_names_are_refused(server, channel, name):
    peer = await Peer.connect(server)
    for type in ("join", "leave", "members"):
        assert await peer.refused(type, channel=name) == "invalid_channel"
    assert await peer.refused("send", channel=name, event="e") == "invalid_channel"
    assert await peer.refused("send", channel=channel, event=name) == "invalid_event"
    assert await peer.refused("broadcast", event=name) == "invalid_event"


async def test_app_may_lower_the_limit_of_names(server):
    peer = await Peer.connect(server, "small", echo="false")
    await peer.join("x" * 32)
    await peer.ok("send", channel="x" * 32, event="y" * 32)
    assert await peer.refused("join", channel="x" * 33) == "invalid_channel"
    assert await peer.refused("send", channel="x", event="y" * 33) == "invalid_event"


async def test_names_are_told_apart_by_their_bytes(server, channel):
    peer, watcher = await connect_many(server, 2)
    await watcher.join(f"{channel}é", f"{channel}E", echo=False)
    for other in (f"{channel}e\u0301", f"{channel}e", f"{channel}É", f"{channel}é "):
        await peer.ok("send", channel=other, event="e")
    await assert_silence(peer, watcher)


async def test_escaped_name_is_the_same_name(server, channel):
    peer, watcher = await connect_many(server, 2)
    await watcher.join(f"{channel}é🎺", echo=False)
    await peer.send(send_text(channel + r"\u00e9\ud83c\udfba", "1"))
    await watcher.expect(channel=f"{channel}é🎺", message=1)


@pytest.mark.parametrize(
    "event",
    ["channel:", "channel:join", "channel:leave", "channel:" + "x" * 248, "message:", "message:edit", "message:x"],
)
async def test_reserved_events_are_refused(server, channel, event):
    sender, member = await connect_many(server, 2)
    await member.join(channel, echo=False)
    assert await sender.refused("send", channel=channel, event=event) == "reserved_event"
    assert await sender.refused("broadcast", event=event) == "reserved_event"
    for envelope in ({"type": "send", "channel": channel}, {"type": "broadcast"}):
        assert (await sender.send_payload(envelope | {"event": event}, b""))["error"]["code"] == "reserved_event"
    await assert_silence(sender, member)


async def test_reserved_event_is_not_hidden_by_escapes(server, channel):
    sender, member = await connect_many(server, 2)
    await member.join(channel, echo=False)
    await sender.send(f'{{"type":"send","channel":"{channel}","event":"\\u0063hannel\\u003ajoin"}}')
    assert await sender.error() == "reserved_event"
    await assert_silence(sender, member)


# Binary payloads


PAYLOADS = [b"", b"\x00", bytes(range(256)), b"\xff\xfe\xfd", b'{"json":1}', os.urandom(65536)]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: f"{len(payload)}-bytes")
async def test_binary_payload_reaches_each_kind_of_connection(server, channel, payload):
    sender = await Peer.connect(server)
    default = await Peer.connect(server)
    frames = await Peer.connect(server, binary="frames")
    text = await Peer.connect(server, binary="base64")
    for peer in (default, frames, text):
        await peer.join(channel, echo=False)
    for peer, joined in ((default, 2), (frames, 1)):
        for _ in range(joined):
            await peer.expect(event="channel:join")
    assert set((await sender.send_payload({"type": "send", "channel": channel, "event": "e"}, payload))["ok"]) == {
        "message_id",
        "offset",
    }
    for peer in (default, frames):
        frame = await peer.publication()
        assert frame.object == {"channel": channel, "event": "e", "offset": 1}
        assert frame.payload == payload
    frame = await text.publication()
    encoded = base64.b64encode(payload).decode()
    assert frame.object == {"channel": channel, "event": "e", "message": {"base64": encoded}, "offset": 1}


async def test_binary_broadcast_reaches_each_kind_of_connection(server):
    sender = await Peer.connect(server, echo="false")
    frames = await Peer.connect(server, binary="frames")
    text = await Peer.connect(server, binary="base64")
    assert "ok" in await sender.send_payload({"type": "broadcast", "event": "e"}, b"\x00\xff")
    frame = await frames.publication()
    assert frame.object == {"channel": None, "event": "e"} and frame.payload == b"\x00\xff"
    assert (await text.publication()).object == {"channel": None, "event": "e", "message": {"base64": "AP8="}}


async def test_binary_and_text_share_one_order(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    for number in range(20):
        if number % 2:
            await peer.tell("send", channel=channel, event="e", message=number)
        else:
            await peer.send(binary_frame({"type": "send", "channel": channel, "event": "e"}, bytes([number])))
    for number in range(20):
        frame = await peer.expect(offset=number + 1)
        assert (frame.object.get("message"), frame.payload) == (
            (number, None) if number % 2 else (None, bytes([number]))
        )


async def test_binary_command_without_id_is_silent(server, channel):
    peer = await Peer.connect(server)
    await peer.send(binary_frame({"type": "send", "channel": channel, "event": "e"}, b"x"))
    await peer.nothing()


async def test_binary_envelope_may_be_spaced_and_escaped(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    envelope = f' {{ "type" : "s\\u0065nd", "channel":"{channel}" ,"event":"e" , "id" : "b" }}\n'.encode()
    assert "ok" in (await peer.answer_to("b", binary_frame(envelope, b"\x01"))).object
    assert (await peer.publication()).payload == b"\x01"


async def test_json_text_is_not_changed_for_base64_connections(server, channel):
    peer = await Peer.connect(server, binary="base64")
    await peer.join(channel, echo=False)
    await peer.send(send_text(channel, ' {"base64" : 5}'))
    assert (await peer.publication()).object["message"] == {"base64": 5}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\x00\x05{}",
        b"\xff\xff" + b"{}" * 10,
        (100).to_bytes(2, "big") + json.dumps({"type": "send"}).encode(),
    ],
)
async def test_envelope_length_must_fit(server, frame):
    peer = await Peer.connect(server)
    await peer.send(frame)
    assert await peer.error() == "invalid_binary"
    await peer.nothing()


@pytest.mark.parametrize(
    "type", ["join", "leave", "update", "members", "session", "ping", "history", "edit", "delete"]
)
async def test_command_that_carries_no_payload_is_refused_in_binary(server, channel, type):
    peer = await Peer.connect(server)
    envelope = {"type": type, "channel": channel, "event": "e", "profile": {}, "token": "t"}
    assert (await peer.send_payload(envelope, b""))["error"]["code"] == "invalid_binary"
    assert (await peer.ok("members", channel=channel))["total"] == 0


@pytest.mark.parametrize("envelope", [b"", b"{", b"nonsense", b"\xff\xfe", b'{"type":"send",}'])
async def test_malformed_envelope_is_refused(server, envelope):
    peer = await Peer.connect(server)
    await peer.send(binary_frame(envelope, b"payload"))
    assert await peer.error() in ("malformed_json", "invalid_binary")
    await peer.nothing()


@pytest.mark.parametrize("envelope", [b"null", b"5", b'[{"type":"send","channel":"c","event":"e"}]', b"{}"])
async def test_envelope_must_be_one_command(server, envelope):
    peer = await Peer.connect(server)
    await peer.send(binary_frame(envelope, b"payload"))
    assert await peer.error() in ("invalid_command", "invalid_binary")
    await peer.nothing()


async def test_errors_of_binary_commands_are_those_of_text(server):
    peer = await Peer.connect(server)
    cases = [
        ({"type": "send", "channel": "", "event": "e"}, "invalid_channel"),
        ({"type": "send", "channel": "c", "event": ""}, "invalid_event"),
        ({"type": "send", "channel": 5, "event": "e"}, "invalid_command"),
        ({"type": "send", "event": "e"}, "invalid_command"),
        ({"type": "broadcast"}, "invalid_command"),
        ({"type": "send", "channel": "c", "event": "e", "echo": "yes"}, "invalid_command"),
    ]
    for envelope, code in cases:
        assert (await peer.send_payload(envelope, b"x"))["error"]["code"] == code
    answer = await peer.send_payload({"type": "nonsense"}, b"x")
    assert answer["error"]["code"] in ("unknown_command", "invalid_binary")
