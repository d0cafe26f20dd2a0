"""A back end that signs with itsdangerous, clients over WebSocket, and their servers."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from itsdangerous import TimestampSigner
from websockets.sync.client import connect

SECRET = "a-secret-of-the-tests"
ADMIN = ("admin", "a-password-of-the-tests")
PATIENCE_S = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode()

    @property
    def json(self):
        return json.loads(self.text)


class Server:
    """A running server and its back end."""

    def __init__(self, command, port, env=None, log=None, prefix=""):
        self.port, self.prefix = port, prefix
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert self.process.poll() is None, "the server has ended"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "the server does not listen"
                time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    def sign(self, value="channelstream", secret=SECRET):
        return TimestampSigner(secret).sign(value).decode()

    def call(self, method, path, body=None, signed=True, headers=None):
        """Sends a request of the back end. A text body is sent unchanged."""
        headers = dict(headers or {})
        if signed:
            headers["x-channelstream-secret"] = self.sign(path)
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, self.prefix + path, body=body, headers=headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def ok(self, method, path, body=None):
        answer = self.call(method, path, body)
        assert answer.status == 200, answer.text
        return answer.json

    def native(self, method, path, body):
        """Sends a request of the default app's back end to Fanfare's own API."""
        headers = {"authorization": "Bearer server-key-of-default-0123"}
        answer = self.call(method, path, body, signed=False, headers=headers)
        assert answer.status == 200, answer.text
        return answer.json

    def connect(self, username, channels=(), **more):
        return self.ok("POST", "/connect", {"username": username, "channels": list(channels), **more})

    def client(self, conn_id):
        return Client(self, conn_id)

    def join(self, username, channels=(), **more):
        """A connected client."""
        return self.client(self.connect(username, channels, **more)["conn_id"])

    def history(self, channel):
        return self.ok("POST", "/info", {"info": {"channels": [channel]}})["channels"][channel]["history"]


class Client:
    """A client over WebSocket: a user's browser."""

    def __init__(self, server, conn_id):
        self.server, self.conn_id, self.beats = server, conn_id, 0
        self.waiting = []
        url = f"ws://127.0.0.1:{server.port}{server.prefix}/ws?conn_id={conn_id}"
        self.socket = connect(url, open_timeout=PATIENCE_S, close_timeout=PATIENCE_S, compression=None,
                              ping_interval=None)

    def next(self):
        """The next object of a frame. Empty frames are heartbeats, and are skipped."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.waiting:
            assert time.monotonic() < deadline, "only heartbeats come"
            frame = json.loads(self.socket.recv(timeout=PATIENCE_S))
            assert isinstance(frame, list)
            self.beats += not frame
            self.waiting += frame
        return self.waiting.pop(0)

    def until_marked(self, user):
        """Everything that was sent until now. In one turn of the server a private message may come before what was
        published to a channel, so the second of two marks is the end."""
        return self.until_mark(user) + self.until_mark(user)

    def until_mark(self, user):
        """Everything that comes before a private message which this method sends."""
        mark = f"mark-{time.monotonic_ns()}"
        self.server.ok("POST", "/message", [{"user": "marker", "pm_users": [user], "message": {"mark": mark}}])
        seen = []
        while True:
            frame = self.next()
            message = frame.get("message")
            if isinstance(message, dict) and "mark" in message:
                if message["mark"] == mark:
                    return seen
                continue
            seen.append(frame)

    def close(self):
        self.socket.close()


def start_fanfare(folder, name="fanfare", workers=2, listen="127.0.0.1", more=(), server=(), **options):
    """Starts a server with two apps. `server` are lines of its section, and `more` are lines after all sections."""
    port, admin_port = free_port(), free_port()
    section = {"secret": SECRET, "admin_user": ADMIN[0], "admin_secret": ADMIN[1], **options}
    lines = [
        "[server]",
        f'listen = "{listen}:{port}"',
        f'admin_listen = "127.0.0.1:{admin_port}"',
        f"workers = {workers}",
        *server,
    ]
    for app, prefix in (("default", ""), ("other", "/other")):
        lines += [f"[apps.{app}]", f'client_key = "client-key-of-{app}-0123"',
                  f'server_key = "server-key-of-{app}-0123"', f"[apps.{app}.channelstream]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in section.items()]
        lines += [f'prefix = "{prefix}"']
    path = Path(folder) / f"{name}.toml"
    lines += more
    path.write_text("\n".join(lines))
    log = open(Path(folder) / f"{name}.log", "wb")
    env = {name: value for name, value in os.environ.items() if not name.startswith("FANFARE_")}
    running = Server([os.environ["FANFARE_BIN"], "--config", str(path)], port, env=env, log=log)
    running.admin_port = admin_port
    return running


def start_original(folder):
    port = free_port()
    path = Path(folder) / "original.ini"
    path.write_text(
        "[channelstream]\n"
        f"port = {port}\nhost = 127.0.0.1\nsecret = {SECRET}\n"
        f"admin_user = {ADMIN[0]}\nadmin_secret = {ADMIN[1]}\nallow_posting_from = 127.0.0.1\nlog_level = ERROR\n"
    )
    log = open(Path(folder) / "original.log", "wb")
    script = Path(__file__).parent / "original.py"
    return Server([sys.executable, str(script), str(path)], port, log=log)
