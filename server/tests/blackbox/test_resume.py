"""Sessions that outlive their sockets: docs/PROTOCOL.md, section 2, "Resuming"."""

import asyncio
import urllib.parse

import pytest

from peer import Peer, connect_many, settle
from server_process import client_key, wait_until

APP = "kept"


async def resume(server, ticket, received=None, app=APP, **options):
    """Comes back with a ticket; the welcome is in `peer.welcome`."""
    query = {"app": app, "key": client_key(app), "resume": ticket}
    if received is not None:
        query["received"] = received
    peer = Peer(await Peer.open(server, urllib.parse.urlencode(query), **options))
    peer.welcome = (await asyncio.wait_for(peer._first, 5)).object["welcome"]
    peer.id = peer.welcome["session"]
    return peer


def received(peer):
    """Messages that a peer has received in its session: the welcome is none of them."""
    return len(peer.frames) - 1


def events(peer):
    return [frame.object["event"] for frame in peer.drained()]


async def lose(server, peer):
    """Ends a connection without a goodbye, and waits until the server has noticed."""
    kept = server.counted("parked_total")
    peer.reset()
    await asyncio.to_thread(wait_until, lambda: server.counted("parked_total") > kept)


async def watched(server, channel, app=APP):
    """Two members; the first has received the notice that the second joined."""
    watcher = await Peer.connect(server, app=app)
    await watcher.ok("join", channel=channel, echo=False)
    ada = await Peer.connect(server, app=app)
    await ada.ok("join", channel=channel, echo=False)
    await watcher.expect(event="channel:join")
    return watcher, ada


async def test_a_session_is_resumed_with_all_it_had_and_nobody_saw_it_leave(server, channel):
    others = await connect_many(server, 8, app=APP)
    ada = await Peer.connect(server, app=APP)
    await ada.ok("join", channel=channel, echo=False)
    await ada.ok("update", profile={"name": "Ada"}, echo=False)
    for other in others:
        await other.ok("join", channel=channel, echo=False)
    await settle(others[-1], *others, ada)
    for peer in [*others, ada]:
        peer.drained()
    count, ticket, session = received(ada), ada.welcome["resume"], ada.id
    await lose(server, ada)
    for number in range(10):
        await others[number % 8].ok("send", channel=channel, event="e", message=number, echo=False)
    back = await resume(server, ticket, count)
    assert (back.welcome["resumed"], back.id) == (True, session)
    assert back.welcome["resume"] != ticket
    for number in range(10):
        await back.expect(event="e", message=number)
    page = await others[0].ok("members", channel=channel)
    assert {"id": session, "data": {"name": "Ada"}} in page["members"]
    await settle(others[0], *others)
    for other in others:
        assert not any(event.startswith("channel:") for event in events(other))
    await others[0].ok("send", channel=channel, event="e", message="live")
    await back.expect(event="e", message="live")


async def test_a_client_that_counts_misses_no_frame_and_sees_none_twice_over_many_losses(server, channel):
    sender = await Peer.connect(server, app=APP)
    ada = await Peer.connect(server, app=APP)
    await ada.ok("join", channel=channel, echo=False)
    seen, count, sent = [], received(ada), 0
    for loss in range(12):
        for _ in range(5):
            await sender.tell("send", channel=channel, event="e", message=sent)
            sent += 1
        await sender.fence()
        # What has arrived by now is whatever has arrived; the rest is on its way when the connection is cut.
        taken = [frame.object["message"] for frame in ada.drained()]
        seen += taken
        count += len(taken)
        await lose(server, ada)
        ada = await resume(server, ada.welcome["resume"], count)
        assert ada.welcome["resumed"] is True
    while len(seen) < sent:
        seen.append((await ada.publication()).object["message"])
    assert seen == list(range(sent))


async def test_a_ticket_takes_over_a_session_whose_connection_seems_alive(server, channel):
    watcher, ada = await watched(server, channel)
    back = await resume(server, ada.welcome["resume"], received(ada))
    assert (back.welcome["resumed"], back.id) == (True, ada.id)
    assert await ada.close_code() == 4006
    await back.ok("send", channel=channel, event="e", message=1, echo=False)
    await watcher.expect(event="e", message=1)


async def test_a_ticket_works_once(server):
    ada = await Peer.connect(server, app=APP)
    ticket = ada.welcome["resume"]
    await lose(server, ada)
    first = await resume(server, ticket, 0)
    second = await resume(server, ticket, 0)
    assert (first.welcome["resumed"], second.welcome["resumed"]) == (True, False)
    assert second.id != first.id


@pytest.mark.parametrize("ticket", ["", "x", "A" * 22, "A" * 4000, "é"])
async def test_what_is_no_ticket_opens_a_new_session(server, ticket):
    ada = await resume(server, ticket)
    assert ada.welcome["resumed"] is False
    assert len(ada.welcome["resume"]) == 22


async def test_a_ticket_of_another_app_opens_a_new_session_and_stays_good(server):
    ada = await Peer.connect(server, app=APP)
    await lose(server, ada)
    other = await resume(server, ada.welcome["resume"], 0, app="briefly")
    assert other.welcome["resumed"] is False
    assert (await resume(server, ada.welcome["resume"], 0)).welcome["resumed"] is True


async def test_an_id_is_no_ticket(server):
    ada = await Peer.connect(server, app=APP)
    await lose(server, ada)
    assert (await resume(server, ada.id, 0)).welcome["resumed"] is False


async def test_a_session_that_nobody_resumes_leaves_once(server, channel):
    watcher, ada = await watched(server, channel, app="briefly")
    await lose(server, ada)
    await watcher.expect(event="channel:leave")
    assert (await resume(server, ada.welcome["resume"], 1, app="briefly")).welcome["resumed"] is False
    await watcher.nothing()


async def test_a_client_that_says_goodbye_is_not_kept(server, channel):
    watcher, ada = await watched(server, channel)
    await ada.close()
    await watcher.expect(event="channel:leave")
    assert (await resume(server, ada.welcome["resume"], 1)).welcome["resumed"] is False


async def test_the_back_end_ends_a_kept_session(server, channel):
    watcher, ada = await watched(server, channel)
    await lose(server, ada)
    assert await server.api("POST", "/v1/disconnect", {"session": ada.id}, app=APP) == {"disconnected": 1}
    await watcher.expect(event="channel:leave")
    assert (await resume(server, ada.welcome["resume"], 1)).welcome["resumed"] is False


async def test_more_than_may_be_kept_ends_the_session(server, channel):
    sender, ada = await watched(server, channel)
    await lose(server, ada)
    for _ in range(3):
        await sender.ok("send", channel=channel, event="e", message="x" * 30_000, echo=False)
    await sender.expect(event="channel:leave")
    assert (await resume(server, ada.welcome["resume"], 1)).welcome["resumed"] is False


async def test_a_count_that_cannot_be_is_refused_or_ends_the_session(server):
    ada = await Peer.connect(server, app=APP)
    await lose(server, ada)
    assert (await resume(server, ada.welcome["resume"], 99)).welcome["resumed"] is False
    for wrong in ["x", "-1", "1.5", "99999999999999999999999"]:
        query = {"app": APP, "key": client_key(APP), "resume": "A" * 22, "received": wrong}
        assert server.handshake(query).status == 400, wrong


async def test_an_app_that_keeps_nobody_gives_no_tickets(server):
    ada = await Peer.connect(server)
    assert "resume" not in ada.welcome and "resumed" not in ada.welcome
    asked = await resume(server, "A" * 22, app="default")
    assert asked.welcome["resumed"] is False and "resume" not in asked.welcome


async def test_many_sessions_come_back_at_once_on_whatever_worker(server, channel):
    peers = await connect_many(server, 60, app=APP)
    await asyncio.gather(*(peer.ok("join", channel=channel, echo=False) for peer in peers))
    await settle(peers[0], *peers)
    counts = [received(peer) for peer in peers]
    for peer in peers:
        peer.reset()
    back = await asyncio.gather(
        *(resume(server, peer.welcome["resume"], count) for peer, count in zip(peers, counts))
    )
    assert all(peer.welcome["resumed"] for peer in back)
    assert [peer.id for peer in back] == [peer.id for peer in peers]
    await back[0].ok("send", channel=channel, event="e", message="all")
    for peer in back:
        await peer.expect(event="e", message="all")
