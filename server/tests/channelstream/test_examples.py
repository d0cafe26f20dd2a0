"""The six calls that the original's page shows, sent with curl: who receives, who does not, and what history holds."""

import json
import subprocess
import uuid

import pytest

from peers import PATIENCE_S

CHANNEL = "tutorial/messaging"


def curl(server, body, method="POST"):
    """Sends an example as its page has it."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", str(PATIENCE_S),
               "--request", method, "--header", f"x-channelstream-secret: {server.sign('/message')}",
               "--data", body, f"http://127.0.0.1:{server.port}/message"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Room:
    """Four users in the example's channel, and one who is not."""

    NAMES = ["messaging-demo-user", "some-other-user", "exclude-this-user", "random-user"]

    def __init__(self, server):
        self.server = server
        server.ok("POST", "/channel_config", {CHANNEL: {"store_history": True, "history_size": 100}})
        self.clients = {name: server.join(name, [CHANNEL]) for name in self.NAMES}
        self.clients["outsider"] = server.join("outsider")
        self.before = [entry["uuid"] for entry in server.history(CHANNEL)]

    def seen(self):
        """What each has received."""
        return {name: client.until_marked(name) for name, client in self.clients.items()}

    def receivers(self):
        return {name for name, frames in self.seen().items() if frames}

    def history(self):
        return [entry for entry in self.server.history(CHANNEL) if entry["uuid"] not in self.before]


@pytest.fixture
def room(server):
    room = Room(server)
    yield room
    for client in room.clients.values():
        client.close()


FIRST = """[{
  "channel": "tutorial/messaging",
  "user": "from_user",
  "message": {"text": "My message text", "can":"store_different_keys", "counter": 5}
}]"""


def test_send_a_message_to_all_users_listening_on_specific_channel(server, room):
    (answer,) = curl(server, FIRST)
    seen = room.seen()
    assert {name for name, frames in seen.items() if frames} == set(Room.NAMES)
    for name in Room.NAMES:
        (frame,) = seen[name]
        assert frame == {
            "channel": CHANNEL, "uuid": answer["uuid"], "timestamp": answer["timestamp"], "user": "from_user",
            "message": {"text": "My message text", "can": "store_different_keys", "counter": 5},
            "edited": None, "catchup": False, "type": "message"}
    (entry,) = room.history()
    assert (entry["uuid"], entry["user"], entry["message"]["counter"]) == (answer["uuid"], "from_user", 5)


def test_send_a_message_to_some_users_listening_on_specific_channel(server, room):
    (answer,) = curl(server, """[{
      "channel": "tutorial/messaging",
      "user": "from_user",
      "pm_users": ["messaging-demo-user", "some-other-user"],
      "exclude_users": [
        "exclude-this-user", "random-user"
      ],
      "message": {"text": "My message text"}
    }]""")
    assert room.receivers() == {"messaging-demo-user", "some-other-user"}
    (entry,) = room.history()
    assert entry["pm_users"] == answer["pm_users"] == ["messaging-demo-user", "some-other-user"]


def test_send_a_message_globally_to_specific_user(server, room):
    second = server.join("messaging-demo-user")
    (answer,) = curl(server, """[{
      "user": "from_user",
      "pm_users": ["messaging-demo-user", "some-other-user"],
      "message": {"text": "My message text"}
    }]""")
    assert room.receivers() == {"messaging-demo-user", "some-other-user"}
    (frame,) = second.until_marked("messaging-demo-user")
    assert (frame["channel"], frame["uuid"]) == (None, answer["uuid"])
    second.close()
    assert room.history() == []


def test_send_a_message_to_a_channel_and_do_not_save_it_in_history(server, room):
    (answer,) = curl(server, """[{
      "channel": "tutorial/messaging",
      "user": "system",
      "no_history": true,
      "message": {"text": "My message text"}
    }]""")
    assert answer["no_history"] is True
    assert room.receivers() == set(Room.NAMES)
    assert room.history() == []


def test_modify_message_already_sent_to_channel(server, room):
    (first,) = curl(server, FIRST)
    room.seen()
    curl(server, """[{
      "channel": "tutorial/messaging",
      "uuid": "USE_UUID_FROM_FIRST_EXAMPLE",
      "user": "my_new_user",
      "message": {"text": "My new payload"}
    }]""".replace("USE_UUID_FROM_FIRST_EXAMPLE", first["uuid"]), method="PATCH")
    seen = room.seen()
    assert {name for name, frames in seen.items() if frames} == set(Room.NAMES)
    (frame,) = seen["random-user"]
    assert (frame["type"], frame["uuid"], frame["user"]) == ("message:edit", first["uuid"], "my_new_user")
    assert frame["message"] == {"text": "My new payload"}
    (entry,) = room.history()
    assert (entry["uuid"], entry["user"], entry["message"]) == (
        first["uuid"], "my_new_user", {"text": "My new payload"})
    assert entry["edited"] == frame["edited"]


def test_an_edit_repeats_its_audience(server, room):
    private = str(uuid.uuid4())
    audience = {"channel": CHANNEL, "uuid": private, "pm_users": ["random-user"]}
    curl(server, json.dumps([{**audience, "user": "from_user", "message": {"text": "old"}}]))
    assert room.receivers() == {"random-user"}
    curl(server, json.dumps([{**audience, "message": {"text": "new"}}]), method="PATCH")
    assert room.receivers() == {"random-user"}
    curl(server, json.dumps([{"channel": CHANNEL, "uuid": private, "message": {"text": "for all"}}]), method="PATCH")
    assert room.receivers() == set(Room.NAMES)
    (entry,) = room.history()
    assert (entry["message"], entry["pm_users"]) == ({"text": "for all"}, ["random-user"])


def test_delete_message_already_sent_to_channel(server, room):
    (first,) = curl(server, FIRST)
    room.seen()
    curl(server, """[{
      "channel": "tutorial/messaging",
      "uuid": "USE_UUID_FROM_FIRST_EXAMPLE"
    }]""".replace("USE_UUID_FROM_FIRST_EXAMPLE", first["uuid"]), method="DELETE")
    seen = room.seen()
    assert {name for name, frames in seen.items() if frames} == set(Room.NAMES)
    assert seen["random-user"] == [{"channel": CHANNEL, "uuid": first["uuid"], "type": "message:delete"}]
    assert room.history() == []
