"""The server under test: its configuration, its process, and plain HTTP requests to it.

`config_text` is the only place that knows the configuration's keys. `Server` starts the binary that FANFARE_BIN
names on ports of its own choice, waits until it is ready, and keeps its log for the report of a failed test. It must
not know what any test is about.
"""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import tokens

DEADLINE_S = 5.0
PROBLEM = "application/problem+json"


@dataclass
class App:
    """One tenant of the server: what differs from the defaults, by the names of the configuration file."""

    name: str
    settings: dict = field(default_factory=dict)
    limits: dict = field(default_factory=dict)
    session_keys: list = None
    channels: list = field(default_factory=list)
    issuers: list = field(default_factory=list)
    triggers: list = field(default_factory=list)


def client_key(app="default"):
    return f"client-key-{app}-0123456789"


def server_key(app="default"):
    return f"server-key-{app}-0123456789"


SMALL_LIMITS = {
    "message_bytes": 1024,
    "profile_bytes": 256,
    "channels_per_connection": 3,
    "channel_name_bytes": 32,
    "event_name_bytes": 32,
}

# The apps of the shared server. A test that needs another rule names another app, not another server.
APPS = [
    App("default"),
    App("other"),
    App("quiet", {"echo": False}),
    App("strict", {"session_required": True}),
    App("exact", {"session_leeway_seconds": 0}),
    App("exact-strict", {"session_required": True, "session_leeway_seconds": 0}),
    App("timeless", {"session_exp_required": False}),
    App("membership", {"membership_to_send": True}),
    App("fenced", {"origins": ["https://allowed.example", "https://also.example:8443"]}),
    App("small", limits=SMALL_LIMITS),
    App("slow", {"slow_consumer": "disconnect"}, {"outbound_bytes": 1 << 20}),
    App("dropping", {"slow_consumer": "drop"}, {"outbound_bytes": 1 << 20}),
    App("rated", {"sender_edits": True}, {"messages_per_second": 10}),
    # Nobody listens on this port.
    App("issued", issuers=[{"url": "http://127.0.0.1:9/keys"}]),
    App("narrow", limits={"connections": 3}),
    App("kept", limits={"resume_ms": 20000, "resume_bytes": 65536}),
    App("briefly", limits={"resume_ms": 300}),
    App("candid", {"history_messages": 100, "show_sender": True, "sender_edits": True}),
    App("remembering", {"history_messages": 1000}, channels=[{"match": "short-*", "history_messages": 3}]),
    App(
        "ruled",
        {"announce": False},
        channels=[
            {"match": "users-*", "join": "users", "publish": "users", "direct": "nobody"},
            {"match": "closed-*", "join": "nobody", "publish": "nobody"},
            {"match": "apart-*", "signed_in_messages": "always", "publish": "nobody"},
        ],
    ),
    App(
        "scripted",
        triggers=[
            {"name": "upper", "channel": "upper-*", "source": "export const message = (i) => i.payload.toUpperCase()"},
            {"name": "asks", "channel": "asks-*", "url": "http://127.0.0.1:1/", "secret": "0123456789abcdef"},
        ],
    ),
]


def config_text(workers, apps=APPS, server=None, server_limits=None, log=None, listeners=(), acme=None):
    """The configuration file. JSON's strings, numbers, booleans and lists of them are TOML's too."""
    lines = []

    def table(name, settings):
        if settings:
            lines.append(name)
            lines.extend(f"{key} = {json.dumps(value)}" for key, value in settings.items())

    defaults = {
        "listen": ["127.0.0.1:0"],
        "admin_listen": "127.0.0.1:0",
        "workers": workers,
        "ping_interval_ms": 25000,
        "request_timeout_ms": 10000,
        "drain_ms": 10000,
    }
    table("[server]", defaults | (server or {}))
    table("[server.limits]", server_limits or {})
    table("[server.acme]", acme or {})
    for listener in listeners:
        table("[[server.listeners]]", listener)
    table("[log]", log or {})
    for app in apps:
        quoted = json.dumps(app.name)
        keys = {"client_key": client_key(app.name), "server_key": server_key(app.name)}
        settings = {"session_required": False, "echo": True, "origins": ["*"]} | app.settings
        table(f"[apps.{quoted}]", keys | settings)
        table(f"[apps.{quoted}.limits]", app.limits)
        for rule in app.channels:
            table(f"[[apps.{quoted}.channels]]", rule)
        for issuer in app.issuers:
            table(f"[[apps.{quoted}.session_key_sets]]", issuer)
        for trigger in app.triggers:
            table(f"[[apps.{quoted}.triggers]]", trigger)
        for session_key in tokens.session_keys(app.name) if app.session_keys is None else app.session_keys:
            table(f"[[apps.{quoted}.session_keys]]", session_key)
    return "\n".join(lines) + "\n"


@dataclass
class Response:
    """An HTTP answer. Header names are lower case; a repeated header keeps its values apart."""

    status: int
    headers: list
    body: bytes

    def header(self, name):
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) < 2, f"{name} is repeated: {values}"
        return values[0] if values else None

    @property
    def json(self):
        return json.loads(self.body)


def assert_problem(response, status, *codes):
    """The answer is a problem document with this status and one of these codes. Returns the code."""
    assert response.status == status, (response.status, response.body)
    assert response.header("content-type").split(";")[0].strip() == PROBLEM
    problem = response.json
    assert set(problem) >= {"type", "title", "status", "detail", "code"}, problem
    assert problem["status"] == status
    assert isinstance(problem["title"], str)
    assert re.fullmatch(r".*[^.]\.", problem["detail"]), "the detail is a sentence"
    assert problem["code"] in codes, problem
    return problem["code"]


def wait_until(condition, within_s=DEADLINE_S):
    """Polls for what happens in its own time; not for what a command's answer already says."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.01)


class Server:
    """A running server. `stop` or the end of the test ends it."""

    running = []

    def __init__(self, config):
        binary = os.environ["FANFARE_BIN"]
        self._folder = tempfile.TemporaryDirectory(prefix="fanfare-blackbox-")
        folder = Path(self._folder.name)
        self.config_path = folder / "fanfare.toml"
        self.config_path.write_text(config)
        self._log_path = folder / "server.log"
        self._log = self._log_path.open("ab")
        self._announced = {}
        self._tls_ports = []
        self._proxy_ports = []
        self._announcement = threading.Event()
        self.process = subprocess.Popen(
            [binary, "--config", str(folder / "fanfare.toml")],
            # The server reads variables of this prefix, and the suite's own are none of its affair.
            env={name: value for name, value in os.environ.items() if not name.startswith("FANFARE_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        Server.running.append(self)
        self._stdout_reader = threading.Thread(target=self._read_stdout, daemon=True)
        self._stdout_reader.start()
        try:
            self._announcement.wait(DEADLINE_S)
            assert len(self._announced) == 2, f"the listeners were not announced\n{self.log()}"
            self.port = self._announced["listening"]
            self.admin_port = self._announced["admin"]
            self.tls_ports = self._tls_ports
            self.proxy_ports = self._proxy_ports
            wait_until(lambda: self.admin("/readyz").status == 200)
        except BaseException:
            self.stop()
            raise

    def _read_stdout(self):
        for line in self.process.stdout:
            self._log.write(b"stdout: " + line)
            self._log.flush()
            words = line.decode().split()
            if words[3:] == ["with", "TLS"]:
                self._tls_ports.append(int(words[2].rsplit(":", 1)[1]))
            if words[3:5] == ["with", "PROXY"]:
                self._proxy_ports.append(int(words[2].rsplit(":", 1)[1]))
            if words[2:] and words[2].startswith("unix:"):
                continue
            if len(words) == 3 and words[0] in ("listening", "admin") and words[1] == "on":
                self._announced[words[0]] = int(words[2].rsplit(":", 1)[1])
                if len(self._announced) == 2:
                    self._announcement.set()
        self._announcement.set()

    def stop(self):
        """Ends the process without ceremony; harmless when it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        self._stdout_reader.join(DEADLINE_S)
        self.process.stdout.close()
        self._log.close()
        if self in Server.running:
            Server.running.remove(self)
        self._folder.cleanup()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def alive(self):
        return self.process.poll() is None

    def log(self, limit=8000):
        return self._log_path.read_bytes()[-limit:].decode("utf-8", "replace")

    def rss_bytes(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process has no VmRSS")

    def request(self, method, target, body=None, headers=None, port=None):
        """One HTTP request on a connection of its own. `body` that is not bytes is sent as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            fields = [(name.lower(), value) for name, value in answer.getheaders()]
            return Response(answer.status, fields, b"" if answer.status == 101 else answer.read())
        finally:
            connection.close()

    def admin(self, path):
        return self.request("GET", path, port=self.admin_port)

    def counted(self, metric):
        """A metric's value, over all workers and labels."""
        text = self.admin("/metrics").body.decode()
        values = re.findall(rf"^fanfare_{metric}(?:\{{.*\}})? (\d+)$", text, re.M)
        assert values, f"there is no metric {metric}"
        return sum(map(int, values))

    def call(self, method, path, body=None, app="default", key=None, headers=None, **query):
        """A request of the app's back end."""
        if app != "default":
            query["app"] = app
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        key = server_key(app) if key is None else key
        return self.request(method, target, body, {"Authorization": f"Bearer {key}"} | (headers or {}))

    async def api(self, method, path, body=None, **options):
        """`call` for asynchronous tests; the answer must be a success, its JSON is returned."""
        response = await asyncio.to_thread(self.call, method, path, body, **options)
        assert response.status == 200, (response.status, response.body)
        assert response.header("content-type").split(";")[0].strip() == "application/json"
        return response.json

    def handshake(self, query=None, headers=None, without=(), method="GET", path="/v1/ws"):
        """A WebSocket handshake as a plain HTTP exchange; `query` starts from the default app's client key."""
        query = {"key": client_key()} | (query or {}) if not isinstance(query, str) else query
        if not isinstance(query, str):
            query = urllib.parse.urlencode({key: value for key, value in query.items() if value is not None})
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        } | (headers or {})
        for name in without:
            del upgrade[name]
        return self.request(method, f"{path}?{query}" if query else path, None, upgrade)
