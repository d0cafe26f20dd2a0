"""Ids, times and names that a back end gives over HTTP, and changes of messages that no channel remembers."""

import uuid

from peer import Peer

APP = "remembering"


async def test_ids_times_and_names_of_the_back_end_reach_members_and_history(server, channel):
    peer = await Peer.connect(server, app=APP)
    await peer.join(channel, echo=False)
    given = {"message_id": str(uuid.uuid4()), "time_ms": 1_700_000_000_000, "label": "bot"}
    body = {"channel": channel, "event": "e", "message": 1} | given
    # The message is more than an hour old: members receive it, and the history does not keep it.
    assert (await server.api("POST", "/v1/send", body, app=APP))["message_id"] == given["message_id"]
    seen = (await peer.publication()).object
    assert (seen["id"], seen["user"]) == (given["message_id"], "bot")
    assert (await server.api("GET", "/v1/history", app=APP, channel=channel))["messages"] == []
    fresh = {"channel": channel, "event": "e", "message": 2, "message_id": str(uuid.uuid4()), "label": "bot"}
    await server.api("POST", "/v1/send", fresh, app=APP)
    (kept,) = (await server.api("GET", "/v1/history", app=APP, channel=channel))["messages"]
    assert (kept["id"], kept["user"], kept["message"]) == (fresh["message_id"], "bot", 2)


async def test_lenient_changes_are_told_of_any_message(server, channel):
    peer = await Peer.connect(server, app=APP)
    await peer.join(channel, echo=False)
    change = {"channel": channel, "message_id": str(uuid.uuid4()), "lenient": True}
    answer = await server.api("PATCH", "/v1/messages", change | {"message": "new"}, app=APP)
    assert answer == {"message_id": change["message_id"], "offset": None}
    seen = (await peer.publication()).object
    assert (seen["event"], seen["message"]) == ("message:edit", "new")
    await server.api("DELETE", "/v1/messages", change, app=APP)
    assert (await peer.publication()).object["event"] == "message:delete"
