"""Clients of Channelstream that poll, for JSON or for JSONP scripts."""

import http.client
import json
import select
import threading
import time
import uuid

import pytest

from peers import PATIENCE_S, Answer

AN_ID = "0190a1b2-c3d4-4e5f-8091-a2b3c4d5e6f7"


@pytest.fixture
def name():
    unique = uuid.uuid4().hex[:8]
    return lambda word: f"{word}-{unique}"


class Poll:
    """A poll that is under way."""

    def __init__(self, server, conn_id, query=""):
        self.began = time.monotonic()
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        self.connection.request("GET", f"{server.prefix}/listen?conn_id={conn_id}{query}")

    def answer(self):
        answer = Answer(self.connection.getresponse())
        self.took = time.monotonic() - self.began
        self.connection.close()
        return answer

    def frames(self):
        answer = self.answer()
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.text
        return answer.json

    def cut(self):
        self.connection.close()


def listen(server, conn_id):
    return Poll(server, conn_id).frames()


def say(server, channel, **message):
    return server.ok("POST", "/message", [{"user": "x", "channel": channel, "message": message}])[0]


def held(server, conn_id):
    """A held poll: of two polls, the poll that the other poll does not cause to be answered."""
    polls = [Poll(server, conn_id), Poll(server, conn_id)]
    answered = select.select([poll.connection.sock for poll in polls], [], [], PATIENCE_S)[0]
    polls.sort(key=lambda poll: poll.connection.sock in answered)
    still, before = polls
    assert before.frames() == []
    return still


def test_a_poll_with_nothing_to_say_is_answered_after_five_seconds(server, name):
    conn_id = server.connect(name("user"), [name("channel")])["conn_id"]
    poll = Poll(server, conn_id)
    assert poll.frames() == []
    assert poll.took >= 4.9


def test_what_was_said_before_the_first_poll_is_caught_up(server, name):
    channel = name("channel")
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    say(server, channel, n=1)
    server.ok("POST", "/message", [{"user": "x", "pm_users": [name("user")], "message": {"n": 2}}])
    frames = listen(server, conn_id)
    assert [(frame["message"], frame["catchup"]) for frame in frames] == [({"n": 1}, True), ({"n": 2}, True)]


def test_a_poll_that_is_held_gathers_what_comes(server, name):
    channel = name("channel")
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    poll = held(server, conn_id)
    sent = [say(server, channel, n=n) for n in range(3)]
    frames = poll.frames()
    assert [frame["uuid"] for frame in frames] == [message["uuid"] for message in sent]
    assert not any(frame["catchup"] for frame in frames)
    assert poll.took < 4.9


def test_what_comes_between_two_polls_comes_once(server, name):
    """A message is marked as caught up if it reached the client's worker before the poll."""
    channel = name("channel")
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    say(server, channel, n=0)
    assert len(listen(server, conn_id)) == 1
    first = say(server, channel, n=1)
    server.ok("PATCH", "/message", [{"uuid": first["uuid"], "channel": channel, "message": {"n": 2}}])
    frames = []
    while len(frames) < 2:
        frames += listen(server, conn_id)
    assert [(frame["type"], frame["message"]) for frame in frames] == [
        ("message", {"n": 1}), ("message:edit", {"n": 2})]
    say(server, channel, n=3)
    assert [frame["message"] for frame in listen(server, conn_id)] == [{"n": 3}]


def test_a_second_poll_takes_the_place_of_the_first(server, name):
    channel = name("channel")
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    poll = held(server, conn_id)
    say(server, channel, n=1)
    assert [frame["message"] for frame in poll.frames()] == [{"n": 1}]


def test_a_poll_that_is_dropped_loses_nothing(server, name):
    channel = name("channel")
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    poll = held(server, conn_id)
    poll.cut()
    sent = [say(server, channel, n=n) for n in range(5)]
    seen = []
    while len(seen) < 5:
        seen += listen(server, conn_id)
    assert [frame["uuid"] for frame in seen] == [message["uuid"] for message in sent]


def test_disconnecting_answers_the_poll_that_is_held(server, name):
    channel, watcher = name("channel"), name("watcher")
    eyes = server.join(watcher, [channel], channel_configs={channel: {"notify_presence": True}})
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    poll = held(server, conn_id)
    assert server.call("GET", f"/disconnect?conn_id={conn_id}", signed=False).text == "true"
    assert poll.frames() == []
    assert Poll(server, conn_id).answer().status == 401
    assert [eyes.next()["message"]["action"] for _ in range(2)] == ["joined", "parted"]


def test_a_client_that_stops_polling_parts(server, name):
    channel, watcher = name("channel"), name("watcher")
    eyes = server.join(watcher, [channel], channel_configs={channel: {"notify_presence": True}})
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    say(server, channel, n=1)
    assert [frame["type"] for frame in listen(server, conn_id)][-1] == "message"
    ended = time.monotonic()
    types = []
    while types[-1:] != ["parted"]:
        frame = eyes.next()
        types.append(frame["message"].get("action", frame["type"]))
    assert types == ["joined", "message", "parted"]
    assert time.monotonic() - ended >= 14
    assert Poll(server, conn_id).answer().status == 401


def test_a_client_with_a_websocket_has_nothing_to_poll(server, name):
    channel = name("channel")
    client = server.join(name("user"), [channel])
    client.until_marked(name("user"))
    poll = Poll(server, client.conn_id)
    assert poll.frames() == []
    say(server, channel, n=1)
    assert client.next()["message"] == {"n": 1}


def test_a_client_that_polls_may_change_to_a_websocket(server, name):
    channel = name("channel")
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    poll = held(server, conn_id)
    client = server.client(conn_id)
    assert poll.frames() == []
    client.until_marked(name("user"))
    say(server, channel, n=1)
    assert client.next()["message"] == {"n": 1}


def test_subscriptions_hold_for_clients_that_poll(server, name):
    conn_id = server.connect(name("user"))["conn_id"]
    for number in range(5):
        poll = held(server, conn_id)
        channel = name(f"channel{number}")
        server.ok("POST", "/subscribe", {"conn_id": conn_id, "channels": [channel]})
        say(server, channel, n=number)
        assert [frame["message"] for frame in poll.frames()] == [{"n": number}]
        server.ok("POST", "/unsubscribe", {"conn_id": conn_id, "channels": [channel]})


def test_polls_of_one_client_come_to_any_worker(server, name):
    channel = name("channel")
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    seen, sent = [], []
    for number in range(20):
        sent.append(say(server, channel, n=number)["uuid"])
        if number % 3 == 0:
            seen += [frame["uuid"] for frame in listen(server, conn_id)]
    while len(seen) < len(sent):
        seen += [frame["uuid"] for frame in listen(server, conn_id)]
    assert seen == sent


@pytest.mark.parametrize("conn_id", ["", "x", "0190a1b2"])
def test_an_id_that_is_none_is_422(server, conn_id):
    answer = Poll(server, conn_id).answer()
    assert (answer.status, answer.json) == (422, ["Wrong UUID format"])


def test_no_id_is_422_and_an_unknown_one_401(server):
    assert server.call("GET", "/listen", signed=False).status == 422
    assert Poll(server, AN_ID).answer().status == 401
    headers = {"x-channelstream-secret": "bad"}
    assert server.call("GET", f"/listen?conn_id={AN_ID}", signed=False, headers=headers).json == {
        "request": "Bad Signature"}


def test_a_callback_is_called(server, name):
    channel = name("channel")
    conn_id = server.connect(name("user"), [channel])["conn_id"]
    say(server, channel, text="</script>")
    answer = Poll(server, conn_id, "&callback=jQuery1.cb_%24").answer()
    assert answer.headers["content-type"] == "application/javascript"
    assert answer.text.startswith("jQuery1.cb_$([") and answer.text.endswith("])")
    assert json.loads(answer.text[len("jQuery1.cb_$("):-1])[0]["message"] == {"text": "</script>"}


@pytest.mark.parametrize("callback", ["alert(1)", "a;b", "%3Cscript%3E", "a%20b", "a..b", "x" * 200])
def test_a_callback_that_is_code_is_refused(server, name, callback):
    conn_id = server.connect(name("user"), [name("channel")])["conn_id"]
    answer = Poll(server, conn_id, f"&callback={callback}").answer()
    assert (answer.status, list(answer.json)) == (422, ["callback"])


def test_polls_see_what_the_originals_see(pair, name):
    """The same polls at both servers, of which the original is asked first. Neither server has new messages."""
    from pairs import STEPS, masked
    channel, user = name("channel"), name("user")
    conn_id = pair.connect(user, [channel], channel_configs={channel: {"notify_state": True}})

    def same(query=""):
        STEPS["/listen"] += 1
        answers = [None, None]

        def ask(at):
            answers[at] = Poll(pair.both[at], conn_id, query).answer()

        threads = [threading.Thread(target=ask, args=(at,)) for at in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        was, now = answers
        assert now.status == was.status
        texts = [answer.text for answer in answers]
        if query:
            texts = [text.removeprefix("f(").removesuffix(")") for text in texts]
        elements = [[json.dumps(each, sort_keys=True) for each in json.loads(text)] for text in texts]
        assert masked("\n".join(elements[1])) == masked("\n".join(elements[0]))
        return json.loads(texts[1])

    say = {"user": "x", "channel": channel}
    first = str(uuid.uuid4())
    for step, query in enumerate(["", "", "&callback=f", "", ""]):
        pair.same("POST", "/message", [{**say, "message": {"step": step}}])
        if step == 1:
            pair.same("POST", "/message", [{**say, "uuid": first, "message": {"text": "old"}}])
        if step == 2:
            pair.same("DELETE", "/message", [{"uuid": first, "channel": channel}])
        if step == 3:
            pair.same("POST", "/user_state", {"user": user, "user_state": {"a": 1}})
        if step == 4:
            pair.same("POST", "/message", [{"user": "x", "pm_users": [user], "message": {"private": True}}])
        assert len(same(query)) == (1 if step == 0 else 2)
    assert same() == [], "nothing comes twice"
    for query in (f"?conn_id={AN_ID}", "?conn_id=x", "?conn_id="):
        pair.same("GET", f"/listen{query}", signed=False)
