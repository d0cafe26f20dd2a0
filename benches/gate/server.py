"""A server process on a core of its own, and the load generator on another."""

import http.client
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from checkout import Failure

KEY = "bench-client-key-0123456789"
CONFIG = f"""
[server]
listen = ["LISTEN"]
admin_listen = ADMIN
workers = 1

[log]
level = "warn"

[apps.default]
client_key = "{KEY}"
announce = false
"""
DEADLINE_S = 60.0


def write_config(path, listen, admin):
    """Writes the configuration of a server: where it listens, and its admin listener as a value of TOML."""
    path.write_text(CONFIG.replace("LISTEN", listen).replace("ADMIN", admin))


def cores():
    """The server's, and the generator's: the same if there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


class Server:
    """Runs as long as the `with` block does."""

    def __init__(self, binary):
        self._binary = binary

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="fanfare-bench-")
        folder = Path(self._folder.name)
        write_config(folder / "fanfare.toml", "127.0.0.1:0", '"127.0.0.1:0"')
        self._log = (folder / "server.log").open("w+")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FANFARE_")}
        self._process = subprocess.Popen(
            [self._binary, "--config", folder / "fanfare.toml"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {cores()[0]}),
        )
        self.pid = self._process.pid
        try:
            self.port = self._announced("listening")
            self._admin_port = self._announced("admin")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()
        self._folder.cleanup()

    def _announced(self, what):
        for line in self._process.stdout:
            found = re.fullmatch(rf"{what} on \S+:(\d+)\n", line)
            if found:
                return int(found.group(1))
        self._log.seek(0)
        raise Failure(f"{self._binary} did not start: {self._log.read().strip()}")

    def resident_bytes(self):
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss:\s+(\d+) kB", rollup, re.MULTILINE).group(1)) * 1024

    def connections(self):
        admin = http.client.HTTPConnection("127.0.0.1", self._admin_port, timeout=DEADLINE_S)
        try:
            admin.request("GET", "/metrics")
            metrics = admin.getresponse().read().decode()
        finally:
            admin.close()
        values = re.findall(r"^fanfare_connections(?:\{.*\})? (\S+)$", metrics, re.MULTILINE)
        if not values:
            raise Failure("The server's metrics do not say how many connections there are.")
        return sum(map(float, values))

    def await_no_connections(self):
        deadline = time.monotonic() + DEADLINE_S
        while self.connections() > 0:
            if time.monotonic() > deadline:
                raise Failure(f"{self.connections():g} connections did not end with the generator.")
            time.sleep(0.05)

    def load(self, loadgen, arguments, report):
        """Runs a scenario against this server and writes its report; None, or why it is no result."""
        report.parent.mkdir(parents=True, exist_ok=True)
        command = [loadgen, *arguments.split(), "--url", f"ws://127.0.0.1:{self.port}", "--key", KEY]
        # What is judged is CPU time, which holds whichever side is the limit.
        command += ["--server-pid", str(self.pid), "--pin", str(cores()[1]), "--lower-bound", "--quiet", "--json", report]
        run = subprocess.run(command, capture_output=True, text=True)
        return None if run.returncode == 0 else " ".join(run.stderr.split()) or f"exit status {run.returncode}"
