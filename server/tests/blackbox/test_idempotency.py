"""A publication with an idempotency key is published once, over whichever connection it comes again."""

import asyncio
import uuid

from peer import Peer
from server_process import assert_problem

APP = "remembering"


async def test_a_repeated_publication_is_answered_as_the_first(server, channel):
    peer = await Peer.connect(server, app=APP)
    await peer.join(channel, echo=False)
    key = uuid.uuid4().hex
    body = {"channel": channel, "event": "e", "message": 1, "idempotency_key": key}
    answers = await asyncio.gather(*(server.api("POST", "/v1/send", body, app=APP) for _ in range(16)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["offset"] == 1
    other = body | {"message": 2}
    assert await server.api("POST", "/v1/publish", [other, other], app=APP) == [{"ok": answers[0]}] * 2
    another = await server.api("POST", "/v1/send", body | {"idempotency_key": uuid.uuid4().hex}, app=APP)
    assert another["offset"] == 2
    await peer.expect(offset=1, message=1)
    await peer.expect(offset=2)
    await peer.nothing()


async def test_broadcasts_too_and_each_app_has_its_keys(server):
    key = uuid.uuid4().hex
    peers = {app: await Peer.connect(server, app=app) for app in (APP, "other")}
    body = {"event": key, "idempotency_key": key}
    answers = {app: [await server.api("POST", "/v1/broadcast", body, app=app) for _ in range(2)] for app in peers}
    for app, peer in peers.items():
        assert answers[app][0] == answers[app][1]
        await peer.expect(event=key)
        await peer.nothing()
    assert answers[APP][0] != answers["other"][0]


async def test_what_was_refused_may_be_tried_again(server, channel):
    key = uuid.uuid4().hex
    wrong = {"channel": channel, "event": "channel:x", "idempotency_key": key}
    assert_problem(server.call("POST", "/v1/send", wrong, app=APP), 400, "reserved_event")
    assert (await server.api("POST", "/v1/send", wrong | {"event": "e"}, app=APP))["offset"] == 1


async def test_wrong_keys_are_refused(server, channel):
    for key in ("", "x" * 129, 1, []):
        body = {"channel": channel, "event": "e", "idempotency_key": key}
        assert_problem(server.call("POST", "/v1/send", body), 400, "invalid_command")
    body = {"channel": channel, "event": "e", "idempotency_key": "x" * 128}
    await server.api("POST", "/v1/send", body)
