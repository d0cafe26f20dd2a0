"""Pages of members and of channels, over WebSocket and HTTP."""

import asyncio

import pytest

from peer import Peer, connect_many
from server_process import assert_problem

CROWD = 130


async def crowded(server, channel):
    peers = await connect_many(server, CROWD, echo="false")
    await asyncio.gather(*(peer.join(channel) for peer in peers))
    return peers


async def pages(fetch, limit):
    """Every page from the first to the one without `next`."""
    found, after = [], {}
    for _ in range(1000):
        page = await fetch(limit=limit, **after)
        found.append(page)
        if page["next"] is None:
            return found
        after = {"after": page["next"]}
    raise AssertionError("the pages do not end")


async def test_pages_hold_every_member_once_with_the_total(server, channel):
    peers = await crowded(server, channel)

    async def by_command(**members):
        return await peers[0].ok("members", channel=channel, **members)

    async def by_request(**query):
        return await server.api("GET", "/v1/members", channel=channel, **query)

    for fetch in (by_command, by_request):
        for limit in (1 if fetch is by_command else 50, 7, 65, CROWD, 1000):
            found = await pages(fetch, limit)
            ids = [member["id"] for page in found for member in page["members"]]
            assert sorted(ids) == sorted(peer.id for peer in peers), f"limit {limit}"
            for page in found:
                assert page["total"] == CROWD and page["channel"] == channel
                assert len(page["members"]) <= limit


async def test_default_limit_is_100(server, channel):
    peers = await crowded(server, channel)
    for page in (
        await peers[0].ok("members", channel=channel),
        await server.api("GET", "/v1/members", channel=channel),
    ):
        assert len(page["members"]) == 100 and page["total"] == CROWD and isinstance(page["next"], str)


async def test_members_who_stay_are_not_lost_while_others_leave(server, channel):
    peers = await crowded(server, channel)
    first = await peers[0].ok("members", channel=channel, limit=40)
    seen = {member["id"] for member in first["members"]}
    for peer in peers[1::2]:
        await peer.ok("leave", channel=channel)
    after = first["next"]
    while after is not None:
        page = await peers[0].ok("members", channel=channel, limit=40, after=after)
        seen |= {member["id"] for member in page["members"]}
        after = page["next"]
    assert {peer.id for peer in peers[0::2]} <= seen


async def test_cursor_of_command_and_request_are_the_same(server, channel):
    peers = await connect_many(server, 3)
    for peer in peers:
        await peer.join(channel)
    first = await peers[0].ok("members", channel=channel, limit=2)
    rest = await server.api("GET", "/v1/members", channel=channel, limit=2, after=first["next"])
    assert rest["next"] is None
    ids = [member["id"] for member in first["members"] + rest["members"]]
    assert sorted(ids) == sorted(peer.id for peer in peers)


async def test_channels_are_listed_with_their_members(server, channel):
    peers = await connect_many(server, 3)
    expected = {}
    for number in range(30):
        name = f"{channel}/é&{number}"
        for peer in peers[: number % 3 + 1]:
            await peer.join(name)
        expected[name] = number % 3 + 1
    await peers[0].join(f"x{channel}")

    async def fetch(**query):
        return await server.api("GET", "/v1/channels", prefix=f"{channel}/é&", **query)

    for limit in (1, 7, 30, 1000):
        found = await pages(fetch, limit)
        listed = [(entry["channel"], entry["members"]) for page in found for entry in page["channels"]]
        assert sorted(listed) == sorted(expected.items())
        assert all(len(page["channels"]) <= limit and set(page) == {"channels", "next"} for page in found)


async def test_channels_without_prefix_are_all_of_the_app(server, channel):
    peer = await Peer.connect(server, "quiet")
    names = {f"{channel}-{number}" for number in range(110)}
    await peer.join(*names)

    async def all_channels(**query):
        query.pop("limit")
        return await server.api("GET", "/v1/channels", app="quiet", **query)

    found = await pages(all_channels, None)
    assert all(len(page["channels"]) <= 100 for page in found), "100 is the default limit"
    assert names <= {entry["channel"] for page in found for entry in page["channels"]}


@pytest.mark.parametrize("path", ["/v1/members", "/v1/channels"])
@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.5", "99999999999999999999", "1e2"])
def test_limit_of_a_request_outside_1_to_1000_is_refused(server, path, limit):
    assert_problem(server.call("GET", path, channel="c", limit=limit), 400, "invalid_request")


@pytest.mark.parametrize("path", ["/v1/members", "/v1/channels"])
@pytest.mark.parametrize("after", ["garbage", "AAAA", "é", "x" * 500])
def test_cursor_of_a_request_must_be_of_this_server(server, path, after):
    assert_problem(server.call("GET", path, channel="c", after=after), 400, "invalid_cursor")
