"""Hundreds of connections join, leave, publish and vanish at random; a model knows what everyone must have seen.

A watcher is in every channel. Its stream of a channel is the truth about order; the model is the truth about content:
for each session and channel the notices must be exactly the joins and leaves that were carried out. What each session
saw during each of its memberships must be a stretch of the watcher's stream, and its messages must begin right after
the position that its join was answered with. Where the session's own two notices stand in that stretch, the protocol
leaves open.
"""

import asyncio
import os
import random

import pytest

from peer import Peer, connect_many

CONNECTIONS = 300
CHANNELS = 24
STEPS = 12


class Session:
    """One connection and what the model knows of it."""

    def __init__(self, peer, seed):
        self.peer = peer
        self.random = random.Random(seed)
        self.joined = set()
        self.notices = {}
        self.positions = {}
        self.stays = True

    def note(self, channel, event):
        self.notices.setdefault(channel, []).append(event)


async def live(session, channels, sent):
    peer, chance = session.peer, session.random
    for step in range(STEPS):
        channel = chance.choice(channels)
        action = chance.choice(["join", "join", "leave", "send", "rejoin"])
        if action == "join" or (action == "rejoin" and channel in session.joined):
            if len(session.joined) >= 3 and channel not in session.joined:
                channel = min(session.joined)
                await leave(session, channel)
            answer = await peer.ok("join", channel=channel)
            assert answer["joined"] is (channel not in session.joined)
            if channel not in session.joined:
                session.joined.add(channel)
                session.positions.setdefault(channel, []).append(answer["offset"])
                session.note(channel, "channel:join")
        elif action == "leave":
            await leave(session, channel)
        elif action == "send":
            answer = await peer.ok("send", channel=channel, event="m", message=[peer.id, step])
            assert answer["offset"] is not None, "the watcher listens"
            sent.setdefault(channel, {})[peer.id, step] = answer["offset"]
    end = chance.choice(["stay", "close", "reset", "close"])
    if end != "stay":
        session.stays = False
        for channel in session.joined:
            session.note(channel, "channel:leave")
        session.joined.clear()
        await peer.close() if end == "close" else peer.reset()


async def leave(session, channel):
    answer = await session.peer.ok("leave", channel=channel)
    assert answer["left"] is (channel in session.joined)
    if channel in session.joined:
        session.joined.remove(channel)
        session.note(channel, "channel:leave")


def seen_by(peer, channel):
    return [frame.object for frame in peer.frames if frame.object.get("channel") == channel and "event" in frame.object]


@pytest.mark.apps_under_load
async def test_random_lives_agree_with_the_model(server, channel):
    seed = os.environ.get("FANFARE_BLACKBOX_SEED") or str(random.randrange(1 << 32))
    print(f"FANFARE_BLACKBOX_SEED={seed}")
    channels = [f"{channel}-{number}" for number in range(CHANNELS)]
    watcher = await Peer.connect(server, echo="false")
    await watcher.join(*channels)
    peers = [peer for _ in range(CONNECTIONS // 50) for peer in await connect_many(server, 50)]
    sessions = [Session(peer, f"{seed}-{number}") for number, peer in enumerate(peers)]
    sent = {}
    await asyncio.gather(*(live(session, channels, sent) for session in sessions))

    for name in channels:
        expected = sum(len(session.notices.get(name, [])) for session in sessions) + len(sent.get(name, {}))
        async with asyncio.timeout(5):
            while len(seen_by(watcher, name)) < expected:
                await watcher.publication()
        await server.api("POST", "/v1/send", {"channel": name, "event": "end", "message": []})
        while (await watcher.publication()).object["event"] != "end":
            pass
        check_content(seen_by(watcher, name), name, sessions, sent.get(name, {}))
        for session in (session for session in sessions if name in session.positions):
            await check_order(seen_by(watcher, name), name, session)
        check_members(await server.api("GET", "/v1/members", channel=name, limit=1000), name, sessions, watcher)


def check_content(stream, name, sessions, sent):
    assert stream[-1]["event"] == "end", "nothing comes after the last thing"
    notices = {}
    for publication in stream[:-1]:
        if publication["event"] != "m":
            notices.setdefault(publication["message"]["id"], []).append(publication["event"])
    assert notices == {session.peer.id: session.notices[name] for session in sessions if name in session.notices}
    messages = [publication for publication in stream[:-1] if publication["event"] == "m"]
    assert [publication["offset"] for publication in messages] == list(range(1, len(messages) + 1))
    assert {tuple(publication["message"]): publication["offset"] for publication in messages} == sent


async def check_order(stream, name, session):
    """What a session saw of a channel is, membership by membership, a stretch of what the watcher saw."""
    if session.stays:
        async with asyncio.timeout(5):
            while not saw_everything(session, name):
                await session.peer.fence()
    others = [publication for publication in stream if not is_own(publication, session)]
    own = [number for number, publication in enumerate(stream) if is_own(publication, session)]
    # Every other one of its notices is a join; this is where they stand among the publications of others.
    joins = [at - number for number, at in enumerate(own)][::2]
    end = 0
    for number, seen in enumerate(memberships(session, name)):
        where = f"{session.peer.id} in {name}, membership {number}"
        offsets = [publication["offset"] for publication in seen if "offset" in publication]
        first = session.positions[name][number] + 1
        assert offsets == list(range(first, first + len(offsets))), where
        # Nothing is missed from the join's notice on; what comes just before it may be there already.
        starts = [at for at in range(joins[number], end - 1, -1) if others[at : at + len(seen)] == seen]
        assert starts, f"{where}: no stretch of the watcher's stream"
        end = starts[0] + len(seen)
    if session.stays and name in session.joined:
        assert end == len(others)


def saw_everything(session, name):
    seen = seen_by(session.peer, name)
    own = [publication["event"] for publication in seen if is_own(publication, session)]
    return own == session.notices.get(name, []) and (name not in session.joined or seen[-1]["event"] == "end")


def is_own(publication, session):
    return publication["event"].startswith("channel:") and publication["message"]["id"] == session.peer.id


def memberships(session, name):
    """What the session saw of others, cut after each of its own leaves."""
    cut = [[]]
    for publication in seen_by(session.peer, name):
        if not is_own(publication, session):
            cut[-1].append(publication)
        elif publication["event"] == "channel:leave":
            cut.append([])
    return cut if cut[-1] else cut[:-1]


def check_members(page, name, sessions, watcher):
    present = {session.peer.id for session in sessions if name in session.joined} | {watcher.id}
    assert page["total"] == len(present)
    assert {member["id"] for member in page["members"]} == present
