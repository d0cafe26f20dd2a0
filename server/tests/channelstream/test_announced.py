"""Clients that a back end announces and that never come: bounded, collected and counted."""

import http.client
import json
import re
import time

import pytest

import peers
from peers import PATIENCE_S

# An app's most connections that wait for their clients.
MOST = 10_000
# The seconds after which a connection without client ends, and those that a busy machine may need besides.
LIFE_S, SLACK_S = 15, 45


@pytest.fixture
def alone(tmp_path):
    running = peers.start_fanfare(tmp_path)
    yield running
    running.stop()


class Figures:
    """The sizes and counters of the default app's directory, as the metrics show them."""

    def __init__(self, server):
        connection = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=PATIENCE_S)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        line = re.compile(r'^fanfare_directory_(\w+)\{app="default"\} (\d+)', re.MULTILINE)
        self.of = {name: int(value) for name, value in line.findall(text)}

    def __getitem__(self, name):
        return self.of[name]


def announce(server, users):
    """Announces one client of each user over one HTTP connection. Returns the statuses."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    headers = {"x-channelstream-secret": server.sign("/connect")}
    statuses = []
    for at, user in enumerate(users):
        if at % 1000 == 0:
            headers["x-channelstream-secret"] = server.sign("/connect")
        body = json.dumps({"username": user, "channels": ["lobby"], "info": {"include_users": False},
                           "channel_configs": {"lobby": {"notify_presence": True}}})
        connection.request("POST", "/connect", body=body, headers=headers)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    return statuses


def test_clients_that_never_come_are_bounded_collected_and_counted(alone):
    member = alone.join("member")
    began = time.monotonic()
    statuses = announce(alone, (f"user-{n}" for n in range(MOST + 500)))
    # Clients that were announced first may be collected before the last ones are announced.
    peak, took = Figures(alone), time.monotonic() - began
    assert peak["waiting"] <= MOST and set(statuses) <= {200, 503}
    refused = statuses.count(503)
    assert peak["refused_total"] == refused
    if took < LIFE_S:
        assert (peak["waiting"], refused) == (MOST, 500)
    deadline = time.monotonic() + LIFE_S + SLACK_S
    while (figures := Figures(alone))["waiting"]:
        assert time.monotonic() < deadline, figures.of
        time.sleep(0.2)
    assert figures["collected_total"] == statuses.count(200)
    assert figures["clients"] == 1, "the member is there"
    info = alone.ok("POST", "/info", {"info": {"channels": ["lobby"]}})
    assert (info["channels"]["lobby"]["total_connections"], info["users"]) == (0, [])
    # There is room again, and the server serves those who come.
    late = alone.join("late", ["lobby"])
    alone.ok("POST", "/message", [{"user": "x", "channel": "lobby", "message": {"text": "hello"}}])
    assert [frame["message"] for frame in late.until_marked("late")] == [{"text": "hello"}]
    late.close()
    member.close()
