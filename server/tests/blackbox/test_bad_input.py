"""What a peer can do wrong on a WebSocket: each mistake has its answer, and nobody else notices.

`bystanders` are connections (on several workers) that must answer after each test, and the process must be alive.
"""

import json
import random

import pytest

from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawWebSocket, close_payload, frame

pytestmark = pytest.mark.usefixtures("bystanders")

FRAME_BYTES = 1 << 20


@pytest.fixture
def peer(server):
    with RawWebSocket(server) as raw:
        yield raw


def assert_error(peer, code):
    contents = peer.object()
    assert set(contents) == {"error"} and contents["error"]["code"] == code, contents
    assert "ok" in peer.command("ping"), "the connection lives on"


# JSON


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "}", "[", "]", '{"type":"ping"', '{"type":"ping",}', '{"type":"ping"}}', '{"type":"ping"} x',
        '{"type":"ping"}{"type":"ping"}', "{'type':'ping'}", '{type:"ping"}', '{"type" "ping"}', '{"type":ping}',
        "nul", "NaN", "01", "1.", '"abc', '"\\x"', '"\\u12"', '"\x01"', '{"type":"pi\nng"}', "[1,]", "[{},]",
        "undefined", "\ufeff{\"type\":\"ping\"}", '{"type":"ping","id":1,"x":tru}', '{"type":"ping"}\x00', "\x00",
        ",", ":", '{"a":1,,}',
    ],
)  # fmt: skip
def test_malformed_json_is_answered(peer, text):
    peer.send_frame(TEXT, text.encode())
    assert_error(peer, "malformed_json")


def test_nothing_of_a_malformed_frame_is_done(peer, channel):
    good = json.dumps({"type": "join", "channel": channel, "id": 1})
    peer.send_frame(TEXT, f"[{good},{{]".encode())
    assert_error(peer, "malformed_json")
    assert peer.command("members", channel=channel)["ok"]["total"] == 0


@pytest.mark.parametrize("opening,closing", [("[", "]"), ('{"a":', "}")], ids=["arrays", "objects"])
def test_depth_of_128_is_allowed_and_129_is_not(peer, opening, closing):
    for depth, code in ((128, None), (129, "too_deep"), (5000, "too_deep")):
        nested = opening * (depth - 1) + "1" + closing * (depth - 1)
        peer.send_frame(TEXT, f'{{"type":"ping","id":{depth},"x":{nested}}}'.encode())
        answer = peer.object()
        assert "ok" in answer if code is None else answer["error"]["code"] == code, (depth, answer)


def test_payload_nested_too_deep_is_not_delivered(peer, channel):
    assert "ok" in peer.command("join", channel=channel, echo=False)
    nested = "[" * 129 + "]" * 129
    peer.send_frame(TEXT, f'{{"type":"send","channel":"{channel}","event":"e","message":{nested}}}'.encode())
    assert_error(peer, "too_deep")


def test_depth_is_not_width(peer):
    wide = ",".join(["[[]]"] * 1000)
    peer.send_frame(TEXT, f'{{"type":"ping","id":"wide","x":[{wide}]}}'.encode())
    assert "ok" in peer.object()


def test_brackets_in_strings_are_not_depth(peer):
    peer.send_frame(TEXT, ('{"type":"ping","id":"s","x":"' + "[" * 1000 + r"\"[{" + '"}').encode())
    assert "ok" in peer.object()


@pytest.mark.parametrize("unit", ["[", '{"a":', "[[", '[{"x":'])
def test_endless_nesting_is_refused(peer, unit):
    peer.send_frame(TEXT, (unit * 200000).encode()[:FRAME_BYTES])
    contents = peer.object()
    assert contents["error"]["code"] in ("too_deep", "malformed_json")
    assert "ok" in peer.command("ping")


def test_long_number_and_long_string_are_only_long(peer):
    for value in ("1" * 500000, '"' + "\\u0041" * 80000 + '"', "1e" + "9" * 1000):
        peer.send_frame(TEXT, f'{{"type":"ping","id":"n","x":{value}}}'.encode())
        assert "ok" in peer.object()


def test_wrong_types_and_unknown_commands_are_answered(peer):
    for command, code in [
        ({"type": "join", "channel": 5}, "invalid_command"),
        ({"type": 5}, "invalid_command"),
        (5, "invalid_command"),
        ({"type": "nonsense"}, "unknown_command"),
        ({"type": "join", "channel": "x" * 257}, "invalid_channel"),
        ([{"type": "ping"}] * 257, "batch_too_long"),
    ]:
        peer.send_json(command)
        assert_error(peer, code)


def test_text_in_a_binary_frame_is_no_command(peer):
    peer.send_frame(BINARY, b'{"type":"ping","id":1}')
    assert_error(peer, "invalid_binary")


# UTF-8


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff", b"\xc3", b"\xc3\x28", b"\xa0\xa1", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xc0\xaf",
        b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["alone", "in a string", "in fragments"])
def test_text_that_is_not_utf8_closes_with_1007(peer, bad, place):
    if place == "alone":
        peer.send_frame(TEXT, bad)
    elif place == "in a string":
        peer.send_frame(TEXT, b'{"type":"ping","x":"' + bad + b'"}')
    else:
        peer.send_frame(TEXT, b'{"type":"ping","x":"' + bad[:1], fin=False)
        peer.send_frame(CONTINUATION, bad[1:] + b'"}')
    assert peer.close_code() == 1007


def test_characters_may_be_split_over_fragments(peer):
    text = '{"type":"ping","id":"é🎺"}'.encode()
    for number, byte in enumerate(text):
        opcode = CONTINUATION if number else TEXT
        peer.send_frame(opcode, bytes([byte]), fin=number == len(text) - 1)
    assert peer.object()["id"] == "é🎺"


# Frames


BROKEN = {
    "unmasked text": frame(TEXT, b'{"type":"ping"}', masked=False),
    "unmasked ping": frame(PING, b"", masked=False),
    "unmasked close": frame(CLOSE, close_payload(1000), masked=False),
    "reserved bit 1": frame(TEXT, b"{}", reserved=4),
    "reserved bit 2": frame(TEXT, b"{}", reserved=2),
    "reserved bit 3": frame(TEXT, b"{}", reserved=1),
    "reserved bit in a ping": frame(PING, b"", reserved=4),
    "lone continuation": frame(CONTINUATION, b"x"),
    "text inside a message": frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),
    "binary inside a message": frame(TEXT, b"{", fin=False) + frame(BINARY, b"}"),
    "fragmented ping": frame(PING, b"x", fin=False),
    "fragmented close": frame(CLOSE, close_payload(1000), fin=False),
    "ping of 126 bytes": frame(PING, b"x" * 126),
    "pong of 126 bytes": frame(PONG, b"x" * 126),
    "close of 126 bytes": frame(CLOSE, close_payload(1000, b"x" * 124)),
    "close of 1 byte": frame(CLOSE, b"\x03"),
} | {f"opcode {opcode}": frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)}


@pytest.mark.parametrize("name", BROKEN)
def test_frame_that_breaks_rfc_6455_closes_with_1002(peer, name):
    peer.send(BROKEN[name])
    assert peer.close_code() == 1002


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_bad_close_code_closes_with_1002(peer, code):
    peer.send_frame(CLOSE, close_payload(code))
    assert peer.close_code() == 1002


@pytest.mark.parametrize("code", [1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def test_valid_close_code_is_answered_with_a_close(peer, code):
    peer.send_frame(CLOSE, close_payload(code, "Grüße".encode()))
    assert peer.close_code() in (1000, code)
    assert peer.rest() == b""


def test_close_is_answered_with_1000(peer):
    peer.send_frame(CLOSE, close_payload(1000, b"bye"))
    assert peer.close_code() == 1000
    assert peer.rest() == b"", "then the server closes the connection"


def test_close_without_a_code_is_answered(peer):
    peer.send_frame(CLOSE)
    assert peer.close_code() in (1000, 1005)
    assert peer.rest() == b""


def test_close_reason_that_is_not_utf8_is_a_breach(peer):
    peer.send_frame(CLOSE, close_payload(1000, b"\xff\xfe"))
    assert peer.close_code() in (1002, 1007)


def test_commands_before_a_close_are_executed_and_after_it_are_not(server, peer, channel):
    with RawWebSocket(server) as watcher:
        assert "ok" in watcher.command("join", channel=channel, echo=False)
        send = '{{"type":"send","channel":"{}","event":"{}"}}'
        before, after = (frame(TEXT, send.format(channel, event).encode()) for event in ("before", "after"))
        peer.send(before + frame(CLOSE, close_payload(1000)) + after)
        assert watcher.object()["event"] == "before"
        assert peer.close_code() in (1000, None)
        response = server.call("POST", "/v1/send", {"channel": channel, "event": "end"})
        assert response.json["offset"] == 2
        assert watcher.object()["event"] == "end"


# Sizes


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_frame_over_the_limit_is_refused_by_its_head_alone(peer, opcode):
    peer.send_frame(opcode, b"x", length=FRAME_BYTES + 1)
    assert peer.close_code() == 1009


@pytest.mark.parametrize("length", [1 << 32, (1 << 62) + 5, (1 << 63) - 1])
def test_absurd_length_is_refused(peer, length):
    peer.send_frame(TEXT, b"x", length=length)
    assert peer.close_code() == 1009


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1])
def test_length_with_the_highest_bit_is_refused(peer, length):
    peer.send_frame(TEXT, b"x", length=length)
    assert peer.close_code() in (1002, 1009)


def test_message_over_the_limit_in_fragments_is_refused(peer):
    half = b" " * (FRAME_BYTES // 2 + 1)
    peer.send_frame(TEXT, half, fin=False)
    peer.send_frame(CONTINUATION, b"", length=len(half))
    assert peer.close_code() == 1009


def test_message_of_exactly_the_limit_is_accepted(peer):
    text = b'{"type":"ping","id":"big"}'
    peer.send_frame(TEXT, text + b" " * (FRAME_BYTES - len(text)))
    assert peer.object()["id"] == "big"


def test_message_of_exactly_the_limit_in_fragments_is_accepted(peer):
    text = b'{"type":"ping","id":"big"}'
    peer.send_frame(TEXT, text, fin=False)
    peer.send_frame(CONTINUATION, b" " * (FRAME_BYTES - len(text)))
    assert peer.object()["id"] == "big"


def fragments(count):
    text = b'{"type":"ping","id":"parts"}'.ljust(count)
    parts = [text[i : i + 1] for i in range(count - 1)] + [text[count - 1 :]]
    return b"".join(
        frame(CONTINUATION if number else TEXT, part, fin=number == count - 1) for number, part in enumerate(parts)
    )


def test_1024_fragments_are_accepted(peer):
    peer.send(fragments(1024))
    assert peer.object()["id"] == "parts"


def test_1025_fragments_are_too_many(peer):
    peer.send(fragments(1025))
    assert peer.close_code() == 1009


def test_empty_fragments_count_too(peer):
    peer.send(frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 1100)
    assert peer.close_code() == 1009


@pytest.mark.parametrize("form", [16, 64])
def test_length_longer_than_needed_is_a_breach_or_harmless(peer, form):
    peer.send_frame(TEXT, b'{"type":"ping","id":"long"}', length_form=form)
    opcode, payload = peer.frame()
    if opcode == CLOSE:
        assert int.from_bytes(payload[:2], "big") == 1002
    else:
        assert json.loads(payload)["id"] == "long"


@pytest.mark.parametrize("size", [125, 126, 127, 65535, 65536, 65537])
def test_each_form_of_length_is_read(peer, size):
    text = b'{"type":"ping","id":"size"}'
    peer.send_frame(TEXT, text.ljust(size))
    assert peer.object()["id"] == "size"


# Control frames


def test_ping_is_answered_with_its_payload(peer):
    for payload in (b"", b"x", bytes(range(125))):
        peer.send_frame(PING, payload)
        assert peer.frame() == (PONG, payload)


def test_control_frames_may_come_between_fragments(peer):
    peer.send_frame(TEXT, b'{"type":"ping",', fin=False)
    peer.send_frame(PING, b"between")
    peer.send_frame(PONG, b"unasked")
    assert peer.frame() == (PONG, b"between")
    peer.send_frame(CONTINUATION, b'"id":"whole"}')
    assert peer.object()["id"] == "whole"


def test_close_may_come_between_fragments(peer):
    peer.send_frame(TEXT, b'{"type":"ping",', fin=False)
    peer.send_frame(CLOSE, close_payload(1000))
    assert peer.close_code() == 1000


def test_unasked_pong_is_ignored(peer):
    peer.send_frame(PONG, b"unasked")
    assert "ok" in peer.command("ping")


def test_frames_may_arrive_byte_by_byte(peer):
    for byte in frame(TEXT, b'{"type":"ping","id":"slow"}'):
        peer.send(bytes([byte]))
    assert peer.object()["id"] == "slow"
    for byte in frame(PING, b"p"):
        peer.send(bytes([byte]))
    assert peer.frame() == (PONG, b"p")


def test_many_frames_may_arrive_at_once(peer):
    peer.send(b"".join(frame(TEXT, f'{{"type":"ping","id":{n}}}'.encode()) for n in range(2000)))
    for number in range(2000):
        assert peer.object()["id"] == number


def test_flood_of_pings_is_survived(peer):
    for _ in range(20):
        peer.send(frame(PING, b"x" * 125) * 100)
        for _ in range(100):
            assert peer.frame() == (PONG, b"x" * 125)
    assert "ok" in peer.command("ping")


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_harm_nobody(server, seed):
    random_bytes = random.Random(seed).randbytes
    with RawWebSocket(server) as peer:
        try:
            for _ in range(20):
                peer.send(random_bytes(100))
        except ConnectionError:
            pass
    with RawWebSocket(server) as peer:
        for _ in range(5):
            peer.send_frame(BINARY, random_bytes(200))
            assert "error" in peer.object()
