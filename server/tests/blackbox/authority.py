"""An authority that speaks ACME: Let's Encrypt's test server, `pebble`, and a name server that sends it to loopback.

`scripts/test` installs pebble below target/; FANFARE_PEBBLE names another binary. Without one, its tests are skipped.
"""

import json
import os
import random
import shutil
import socket
import socketserver
import subprocess
import threading
from pathlib import Path

import pytest

from server_process import wait_until

ROOT = Path(__file__).parents[3]


def pebble_binary():
    found = os.environ.get("FANFARE_PEBBLE") or shutil.which("pebble", path=str(ROOT / "target/go/bin"))
    if not found:
        pytest.skip("pebble is not installed")
    return found


def free_port():
    """A port below those that the system gives to clients."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class NameServer:
    """Answers every question for an IPv4 address with 127.0.0.1, and every other question with nothing. Speaks TCP."""

    def __init__(self):
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while length := self.rfile.read(2):
                    answer = NameServer.answer(self.rfile.read(int.from_bytes(length)))
                    self.wfile.write(len(answer).to_bytes(2) + answer)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def answer(query):
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        is_address = question[-4:-2] == b"\0\1"
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_address else b"\0\0") + bytes(4)
        return head + question + (b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1" if is_address else b"")

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class Authority:
    """A running pebble that checks names at `tls_port`. `certificate` is a path without `.crt` and `.key`."""

    def __init__(self, folder, certificate, tls_port, valid_s=7_776_000, refused_nonces=0):
        self.binary, self.folder, self.names = pebble_binary(), folder, NameServer()
        self.port, self.process = free_port(), None
        self.url = f"https://localhost:{self.port}/dir"
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "certificate": f"{certificate}.crt",
            "privateKey": f"{certificate}.key",
            "httpPort": 1,
            "tlsPort": tls_port,
            "domainBlocklist": ["blocked.example"],
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "profiles": {"default": {"description": "the only profile", "validityPeriod": valid_s}},
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
        self._environment = {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_AUTHZREUSE": "0",
            "PEBBLE_WFE_NONCEREJECT": str(refused_nonces),
        }
        self.start()

    def start(self):
        log = (self.folder / "pebble.log").open("ab")
        command = [self.binary, "-config", self.folder / "pebble.json", "-dnsserver", f"127.0.0.1:{self.names.port}"]
        self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        log.close()
        wait_until(self._is_listening, 20.0)

    def _is_listening(self):
        assert self.process.poll() is None, self.log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self):
        return (self.folder / "pebble.log").read_text()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def close(self):
        self.stop()
        self.names.stop()
