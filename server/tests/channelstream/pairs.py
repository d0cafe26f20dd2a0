"""The original and Fanfare, asked the same: every byte of the answers is compared, times and ids masked."""

import json
import re
import uuid
from collections import Counter

import peers

# Steps, by group of routes.
STEPS = Counter()

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Times that a test gives are of 2020 and stay.
TIME = re.compile(r"(?!2020)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?")
SHARED = ("access-control-allow-origin", "xdomainrequestallowed", "access-control-allow-methods",
          "access-control-allow-headers", "access-control-max-age", "content-type")
# What HTTP itself calls for.
FRAMING = {"date", "server", "content-length", "connection", "transfer-encoding", "keep-alive", "vary",
           "set-cookie", "location"}


def masked(text):
    seen = {}
    text = UUID.sub(lambda match: seen.setdefault(match.group(), f"<id {len(seen)}>"), text)
    return TIME.sub("<time>", text)


def settled(value):
    """Lists of users have no order in the original, which keeps them in sets and tables."""
    if isinstance(value, dict):
        return {key: settled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        inner = [settled(each) for each in value]
        if inner and all(isinstance(each, dict) and "user" in each and "state" in each for each in inner):
            return sorted(inner, key=lambda each: each["user"])
        return inner
    return value


def by_name(value):
    """The channels of an answer have no order that means anything."""
    for holder in (value, value.get("channels_info") if isinstance(value, dict) else None):
        if isinstance(holder, dict) and isinstance(holder.get("channels"), dict):
            holder["channels"] = dict(sorted(holder["channels"].items()))
    return value


def told(answer):
    """What an answer says, as text that can be compared."""
    text = answer.text
    if answer.headers.get("content-type") == "application/json" and text.startswith(("{\n", "[\n")):
        value = json.loads(text)
        assert text == json.dumps(value, indent=4), "the layout is the original's"
        text = json.dumps(by_name(settled(value)), indent=4)
    return masked(text)


def headers_of(how):
    return how.get('headers')


class Pair:
    def __init__(self, original, fanfare):
        self.both = (original, fanfare)
        self.clients = []

    def close(self):
        for pair in self.clients:
            for client in pair:
                client.close()

    def same(self, method, path, body=None, differs=(), **how):
        """Asks both, and compares everything that they answer. Returns Fanfare's answer."""
        STEPS[path.split("?")[0]] += 1
        was, now = (server.call(method, path, body, **how) for server in self.both)
        assert now.status == was.status, (path, headers_of(how), was.text, now.text)
        # The servers' own addresses are in pages.
        texts = [told(answer).replace(str(server.port), "<port>")
                 for answer, server in zip((was, now), self.both)]
        if "body" not in differs:
            assert texts[1] == texts[0], f'{path} {body}\nnow {texts[1]}\nwas {texts[0]}'
        for name in SHARED:
            if name not in differs:
                assert now.headers.get(name) == was.headers.get(name), name
        assert set(now.headers) - FRAMING == set(was.headers) - FRAMING
        return now

    def connect(self, username, channels=(), **more):
        """The same connection at both. Returns its id."""
        conn_id = str(uuid.uuid4())
        self.same("POST", "/connect", {"username": username, "channels": list(channels), "conn_id": conn_id, **more})
        return conn_id

    def attach(self, conn_id):
        pair = tuple(server.client(conn_id) for server in self.both)
        self.clients.append(pair)
        return pair

    def join(self, username, channels=(), **more):
        return self.attach(self.connect(username, channels, **more))

    def same_frames(self, pair, user):
        """What both clients of a user have received until now. Returns Fanfare's."""
        STEPS["frames"] += 1
        was, now = ([settled(frame) for frame in client.until_marked(user)] for client in pair)
        lines = ["\n".join(masked(json.dumps(frame, sort_keys=True)) for frame in frames) for frames in (was, now)]
        assert lines[1] == lines[0], f'now\n{lines[1]}\nwas\n{lines[0]}'
        return now

    def next_frame(self, pair):
        """The next that both clients receive."""
        STEPS["frames"] += 1
        was, now = (settled(client.next()) for client in pair)
        assert masked(json.dumps(now, sort_keys=True)) == masked(json.dumps(was, sort_keys=True)), f'{now}\n{was}'
        return now
