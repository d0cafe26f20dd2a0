"""Section 2 and the `session` command: tokens, their claims, their expiry and their renewal."""

import asyncio
import base64
import hashlib
import hmac
import json
import time

import pytest

from peer import Peer, settle
from server_process import assert_problem, client_key, wait_until
from tokens import ALGORITHMS, public_pem, secret, token

MESSAGE_ID = "01234567-89ab-7def-8123-456789abcdef"


def refused(server, session, app="default"):
    query = {"session": session, "key": client_key(app), "app": app}
    return assert_problem(server.handshake(query), 401, "invalid_session", "session_expired")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_algorithm_is_accepted(server, algorithm):
    peer = await Peer.connect(server, session=token("luke", algorithm=algorithm))
    assert peer.welcome["user"] == "luke"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_changed_signature_is_refused(server, algorithm):
    head, claims, signature = token(algorithm=algorithm).split(".")
    changed = ("A" if signature[9] != "A" else "B").join([signature[:9], signature[10:]])
    assert refused(server, f"{head}.{claims}.{changed}") == "invalid_session"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_changed_claims_are_refused(server, algorithm):
    head, _, signature = token("luke", algorithm=algorithm).split(".")
    _, claims, _ = token("vader", algorithm=algorithm).split(".")
    assert refused(server, f"{head}.{claims}.{signature}") == "invalid_session"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_missing_signature_is_refused(server, algorithm):
    head, claims, _ = token(algorithm=algorithm).split(".")
    assert refused(server, f"{head}.{claims}.") == "invalid_session"
    assert refused(server, f"{head}.{claims}") == "invalid_session"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
def test_algorithm_none_is_refused(server, name):
    head = encode({"alg": name, "typ": "JWT"})
    claims = encode({"sub": "luke", "exp": int(time.time()) + 60})
    assert refused(server, f"{head}.{claims}.") == "invalid_session"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("digest", ["HS256", "HS384", "HS512"])
def test_public_key_is_not_taken_for_a_shared_secret(server, algorithm, digest):
    signed = encode({"alg": digest}) + "." + encode({"sub": "luke", "exp": int(time.time()) + 60})
    for key in (public_pem(algorithm), public_pem(algorithm).strip()):
        hashing = getattr(hashlib, digest.replace("HS", "sha"))
        signature = hmac.new(key.encode(), signed.encode(), hashing).digest()
        assert refused(server, f"{signed}.{encode(signature)}") == "invalid_session"


@pytest.mark.parametrize("claimed", ["HS384", "HS512", "RS256", "ES256", "EdDSA", "ES512", "PS256"])
def test_algorithm_in_the_head_must_be_the_one_that_signed(server, claimed):
    _, claims, signature = token(algorithm="HS256").split(".")
    assert refused(server, f"{encode({'alg': claimed})}.{claims}.{signature}") == "invalid_session"


def test_secret_of_one_algorithm_does_not_serve_another(server):
    assert refused(server, token(algorithm="HS512", key=secret("default", "HS256"))) == "invalid_session"


def test_token_of_another_app_is_refused(server):
    assert refused(server, token(app="other")) == "invalid_session"
    assert refused(server, token(app="default"), "other") == "invalid_session"


@pytest.mark.parametrize("session", ["x", "a.b", "a.b.c", "....", "e30.e30.e30", "!!!.###.$$$", "é.é.é"])
def test_garbage_is_no_token(server, session):
    assert refused(server, session) == "invalid_session"


@pytest.mark.parametrize("claims", [b"", b"[]", b'"sub"', b"null", b'{"sub":"luke"', b"\xff\xfe"])
def test_signed_claims_that_are_not_a_json_object_are_refused(server, claims):
    signed = encode({"alg": "HS256"}) + "." + encode(claims)
    signature = hmac.new(secret("default").encode(), signed.encode(), hashlib.sha256).digest()
    assert refused(server, f"{signed}.{encode(signature)}") == "invalid_session"


@pytest.mark.parametrize("user", [None, "", 7, True, ["luke"], {"name": "luke"}, "u" * 257, "é" * 128 + "u"])
def test_sub_must_be_a_string_of_1_to_256_bytes(server, user):
    assert refused(server, token(user)) == "invalid_session"


@pytest.mark.parametrize("user", ["u", "u" * 256, "é" * 128, 'Ünï "quoted" \\ 名前 \n 🎺', "\u0000"])
async def test_user_may_be_any_string_of_1_to_256_bytes(server, user, channel):
    peer = await Peer.connect(server, session=token(user))
    assert peer.welcome["user"] == user
    await peer.join(channel)
    await peer.expect(event="channel:join", message={"id": peer.id, "user": user})


def test_exp_is_required(server):
    assert refused(server, token(expires_in=None)) == "invalid_session"


def test_exp_is_optional_where_the_app_says_so(server):
    query = {"app": "timeless", "key": client_key("timeless")}
    assert server.handshake(query | {"session": token(app="timeless", expires_in=None)}).status == 101
    assert refused(server, token(app="timeless", expires_in=-60), "timeless") == "session_expired"


@pytest.mark.parametrize("exp", ["soon", True, [], {}, None])
def test_exp_of_the_wrong_type_is_refused(server, exp):
    assert refused(server, token(expires_in=None, exp=exp)) == "invalid_session"


@pytest.mark.parametrize("nbf", ["soon", True, [], {}])
def test_nbf_of_the_wrong_type_is_refused(server, nbf):
    assert refused(server, token(nbf=nbf)) == "invalid_session"


def test_expired_token_is_refused(server):
    assert refused(server, token(expires_in=-60)) == "session_expired"
    assert refused(server, token(app="exact", expires_in=-1), "exact") == "session_expired"


def test_token_of_the_future_is_refused(server):
    assert refused(server, token(nbf=int(time.time()) + 60)) == "invalid_session"
    assert refused(server, token(app="exact", nbf=int(time.time()) + 3), "exact") == "invalid_session"


def test_expiry_of_a_forged_token_is_not_told(server):
    assert refused(server, token(expires_in=-60, key="x" * 64)) == "invalid_session"


def test_leeway_of_five_seconds_is_given(server):
    assert server.handshake({"session": token(expires_in=-2)}).status == 101
    assert server.handshake({"session": token(nbf=int(time.time()) + 2)}).status == 101


def test_token_becomes_valid_at_nbf(server):
    session = token(app="exact", nbf=int(time.time()) + 1)
    query = {"app": "exact", "key": client_key("exact"), "session": session}
    wait_until(lambda: server.handshake(query).status == 101)


async def test_profile_claim_is_the_first_profile(server, channel):
    profile = {"name": "Luke", "tags": ["a", 1, None, True], "ünï": "🎺"}
    watcher = await Peer.connect(server)
    await watcher.join(channel, echo=False)
    peer = await Peer.connect(server, session=token("luke", profile=profile))
    await peer.join(channel)
    member = {"id": peer.id, "user": "luke", "data": profile}
    await watcher.expect(channel=channel, event="channel:join", message=member)
    assert member in (await watcher.ok("members", channel=channel))["members"]


async def test_channels_claim_joins_at_once(server, channel):
    channels = [f"{channel}-{number}" for number in range(3)]
    watcher = await Peer.connect(server)
    await watcher.join(*channels, echo=False)
    peer = await Peer.connect(server, echo="false", session=token("luke", channels=channels, profile=5))
    for _ in channels:
        frame = await watcher.publication()
        channels.remove(frame.object["channel"])
        assert frame.object["event"] == "channel:join"
        assert frame.object["message"] == {"id": peer.id, "user": "luke", "data": 5}
    await watcher.tell("send", channel=f"{channel}-1", event="hello", echo=False)
    await peer.expect(channel=f"{channel}-1", event="hello")
    assert (await peer.ok("join", channel=f"{channel}-2"))["joined"] is False


async def test_session_command_answers_user_and_expiry(server):
    peer = await Peer.connect(server, session=token("luke"))
    expires_at = int(time.time()) + 7200
    answer = await peer.ok("session", token=token("luke", exp=expires_at))
    assert answer == {"user": "luke", "expires_at": expires_at}


async def test_session_without_expiry_is_answered_with_null(server):
    peer = await Peer.connect(server, "timeless")
    answer = await peer.ok("session", token=token("luke", "timeless", expires_in=None))
    assert answer == {"user": "luke", "expires_at": None}


async def test_connection_without_user_may_gain_one(server, channel):
    peer = await Peer.connect(server)
    await peer.join(channel, echo=False)
    await peer.ok("session", token=token("leia"))
    page = await peer.ok("members", channel=channel)
    assert page["members"] == [{"id": peer.id, "user": "leia"}]
    assert await peer.refused("session", token=token("luke")) == "invalid_session"


async def test_session_of_another_user_is_refused_and_changes_nothing(server, channel):
    peer = await Peer.connect(server, session=token("luke"))
    assert await peer.refused("session", token=token("vader")) == "invalid_session"
    await peer.join(channel)
    await peer.expect(message={"id": peer.id, "user": "luke"})


@pytest.mark.parametrize("session", ["", "garbage", token(app="other"), token(key="x" * 64)])
async def test_session_that_does_not_verify_is_refused(server, session):
    peer = await Peer.connect(server, session=token("luke"))
    assert await peer.refused("session", token=session) == "invalid_session"
    await peer.fence()


async def test_session_that_is_not_valid_now_is_refused(server):
    peer = await Peer.connect(server, session=token("luke"))
    for session in (token(expires_in=-60), token(nbf=int(time.time()) + 60)):
        assert await peer.refused("session", token=session) in ("session_expired", "invalid_session")
    await peer.ok("update", profile=1)


async def until_refused(peer, channel):
    """Writes until the session's time is over; returns the code that says so."""
    async with asyncio.timeout(6):
        while "ok" in (answer := await peer.command("send", channel=channel, event="tick", echo=False)):
            await asyncio.sleep(0.02)
    return answer["error"]["code"]


@pytest.mark.parametrize("app", ["exact", "exact-strict"])
async def test_session_that_expires_stops_writing_until_renewed_but_keeps_reading(server, channel, app):
    peer = await Peer.connect(server, app, session=token("luke", app, expires_in=2))
    other = await Peer.connect(server, app, session=token("leia", app))
    await peer.join(channel, echo=False)
    assert await until_refused(peer, channel) == "session_expired"
    assert await peer.refused("broadcast", event="e") == "session_expired"
    assert await peer.refused("update", profile=1) == "session_expired"
    for change in ("edit", "delete"):
        assert await peer.refused(change, channel=channel, message_id=MESSAGE_ID, message=1) == "session_expired"
    assert "error" in await peer.send_payload({"type": "send", "channel": channel, "event": "e"}, b"x")

    await other.ok("send", channel=channel, event="still")
    await peer.expect(channel=channel, event="still")
    await peer.ok("ping")
    await peer.ok("members", channel=channel)
    await peer.ok("leave", channel=channel, echo=False)
    await peer.join(channel, echo=False)

    assert await peer.refused("session", token=token("vader", app)) == "invalid_session"
    assert await peer.refused("send", channel=channel, event="e") == "session_expired"
    await peer.ok("session", token=token("luke", app))
    await peer.ok("send", channel=channel, event="again")
    await peer.ok("broadcast", event="e")
    await peer.ok("update", profile=1)


async def test_nothing_of_an_expired_session_is_delivered(server, channel):
    peer = await Peer.connect(server, "exact", session=token("luke", "exact", expires_in=1))
    watcher = await Peer.connect(server, "exact")
    await until_refused(peer, channel)
    await peer.join(channel, echo=False)
    await watcher.join(channel, echo=False)
    await peer.tell("send", channel=channel, event="late")
    await peer.tell("broadcast", event="late")
    await peer.tell("update", profile="late")
    for _ in range(3):
        assert await peer.error() == "session_expired"
    await server.api("POST", "/v1/send", {"channel": channel, "event": "end"}, app="exact")
    await watcher.expect(channel=channel, event="end", offset=1)
    await watcher.nothing()


async def test_session_renewed_in_time_never_stops_writing(server, channel):
    peer = await Peer.connect(server, "exact", session=token("luke", "exact", expires_in=1))
    first_expiry = int(time.time()) + 1
    await peer.ok("session", token=token("luke", "exact"))
    async with asyncio.timeout(5):
        while time.time() < first_expiry + 1.2:
            await peer.ok("send", channel=channel, event="tick")
            await asyncio.sleep(0.05)


async def test_session_required_refuses_writing_without_session(server, channel):
    peer = await Peer.connect(server, "strict")
    watcher = await Peer.connect(server, "strict")
    await watcher.join(channel, echo=False)
    assert await peer.refused("send", channel=channel, event="e") == "session_required"
    assert await peer.refused("broadcast", event="e") == "session_required"
    assert await peer.refused("update", profile={}) == "session_required"
    for change in ("edit", "delete"):
        assert await peer.refused(change, channel=channel, message_id=MESSAGE_ID, message=1) == "session_required"
    answer = await peer.send_payload({"type": "broadcast", "event": "e"}, b"x")
    assert answer["error"]["code"] == "session_required"
    await server.api("POST", "/v1/send", {"channel": channel, "event": "end"}, app="strict")
    await watcher.expect(event="end", offset=1)
    await watcher.nothing()


async def test_session_required_lets_everyone_read(server, channel):
    peer = await Peer.connect(server, "strict")
    assert (await peer.ok("join", channel=channel))["joined"] is True
    await peer.expect(event="channel:join", message={"id": peer.id})
    assert (await peer.ok("members", channel=channel))["total"] == 1
    assert (await peer.ok("history", channel=channel))["messages"] == []
    await peer.ok("ping")
    await peer.ok("leave", channel=channel)


async def test_session_required_is_met_by_a_session_from_either_way(server, channel):
    at_once = await Peer.connect(server, "strict", session=token("luke", "strict"))
    later = await Peer.connect(server, "strict")
    await later.ok("session", token=token("leia", "strict"))
    for peer in (at_once, later):
        await peer.ok("send", channel=channel, event="e")
        await peer.ok("broadcast", event="e", echo=False)
        await peer.ok("update", profile={})
    await settle(at_once, later)


async def test_without_session_required_no_session_is_needed(server, channel):
    peer = await Peer.connect(server)
    await peer.ok("send", channel=channel, event="e")
    await peer.ok("broadcast", event="e")
    await peer.ok("update", profile={})


async def test_sessions_of_one_user_are_members_of_their_own(server, channel):
    first = await Peer.connect(server, session=token("luke"))
    second = await Peer.connect(server, session=token("luke"))
    await first.join(channel)
    await second.join(channel)
    page = await first.ok("members", channel=channel)
    assert page["total"] == 2
    assert sorted((m["id"], m["user"]) for m in page["members"]) == sorted((p.id, "luke") for p in (first, second))


def encode(part):
    part = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
