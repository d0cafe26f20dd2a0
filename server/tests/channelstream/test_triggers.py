"""Triggers for the back end, on a running server: they decide about messages, edits and joins of its calls."""

import pytest

import peers

SCRIPT = """
export function message({ payload, channel, kind }) {
  if (payload?.text === 'bad') refuse(`${kind} in ${channel}`);
  if (typeof payload?.text === 'string') return { ...payload, text: payload.text.toUpperCase() };
}
export function join({ payload }) {
  if (payload.user === 'banned') refuse('You are banned.');
}
"""


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def judged(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    (folder / "judge.js").write_text(SCRIPT)
    more = ["[[apps.default.triggers]]", 'name = "judge"', 'channel = "*"', f'file = "{folder}/judge.js"',
            'actions = ["message", "join"]', 'scope = ["channel", "direct"]', "server = true"]
    running = peers.start_fanfare(folder, workers=request.param, more=more)
    yield running
    running.stop()


def texts(frames):
    return [frame["message"]["text"] for frame in frames]


def test_messages_edits_and_private_messages_are_decided_before_anybody_has_them(judged):
    luke = judged.join("luke", ["room"], channel_configs={"room": {"store_history": True}})
    ok = [{"user": "x", "channel": "room", "message": {"text": "one"}}, {"user": "x", "channel": "room"}]
    answer = judged.ok("POST", "/message", ok)
    assert answer[0]["message"] == {"text": "ONE"} and "message" not in answer[1]
    both = [{"user": "x", "channel": "room", "message": {"text": text}} for text in ("two", "bad")]
    refused = judged.call("POST", "/message", both)
    assert (refused.status, refused.json) == (422, {"1": {"message": ["message in room"]}})
    edit = [{"uuid": answer[0]["uuid"], "channel": "room", "message": {"text": "bad"}}]
    refused = judged.call("PATCH", "/message", edit)
    assert (refused.status, refused.json) == (422, {"0": {"message": ["edit in room"]}})
    edit[0]["message"]["text"] = "edited"
    assert judged.ok("PATCH", "/message", edit)[0]["message"] == {"text": "EDITED"}
    private = [{"user": "x", "pm_users": ["luke"], "message": {"text": text}} for text in ("quiet", "bad")]
    assert judged.call("POST", "/message", private[1:]).json == {"0": {"message": ["message in null"]}}
    judged.ok("POST", "/message", private[:1])
    judged.ok("DELETE", "/message", [{"uuid": answer[1]["uuid"], "channel": "room"}])
    seen = luke.until_marked("luke")
    kinds = {"message": 0, "message:edit": 0, "message:delete": 0}
    for frame in seen:
        kinds[frame["type"]] += 1
    assert kinds == {"message": 3, "message:edit": 1, "message:delete": 1}, seen
    told = {frame["message"]["text"] for frame in seen if "message" in frame and frame["message"]}
    assert told == {"ONE", "EDITED", "QUIET"}
    assert texts(judged.history("room")) == ["EDITED"]
    luke.close()


def test_a_join_that_is_refused_makes_no_connection_and_no_member(judged):
    body = {"username": "banned", "channels": ["hall", "room"]}
    refused = judged.call("POST", "/connect", body)
    assert (refused.status, refused.json) == (
        422, {"channels": {"0": ["You are banned."], "1": ["You are banned."]}})
    info = judged.ok("POST", "/info", {"info": {}})
    assert "hall" not in info["channels"] and "banned" not in {user["user"] for user in info["users"]}
    conn_id = judged.connect("banned")["conn_id"]
    banned = judged.client(conn_id)
    refused = judged.call("POST", "/subscribe", {"conn_id": conn_id, "channels": ["hall"]})
    assert (refused.status, refused.json) == (422, {"channels": {"0": ["You are banned."]}})
    judged.ok("POST", "/channel_config", {"hall": {}})
    judged.ok("POST", "/message", [{"user": "x", "channel": "hall", "message": {"text": "members"}}])
    assert banned.until_marked("banned") == []
    banned.close()
    leia = judged.join("leia", ["hall"])
    judged.ok("POST", "/message", [{"user": "x", "channel": "hall", "message": {"text": "members"}}])
    assert texts(leia.until_marked("leia")) == ["MEMBERS"]
    leia.close()
