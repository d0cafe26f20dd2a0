"""Black-box tests of the server: what docs/PROTOCOL.md promises, checked over real sockets.

    pip install -r requirements.txt
    FANFARE_BIN=target/release/fanfare pytest server/tests/blackbox

Each test runs against a server with one worker and one with four; FANFARE_WORKERS_UNDER_TEST=1 (or 4) picks one.
The Node scenarios need `node` and `npm`, and install what they need below target/. The randomised test prints its seed; FANFARE_BLACKBOX_SEED replays it.
"""

import asyncio
import inspect
import os
import uuid

import pytest

from peer import close_opened_peers
from server_process import Server, config_text
from wire import RawWebSocket

TEST_DEADLINE_S = 40.0


def pytest_configure(config):
    if not config.option.collectonly and not os.access(os.environ.get("FANFARE_BIN", ""), os.X_OK):
        raise pytest.UsageError("FANFARE_BIN must be the path of the server's binary")


def worker_counts():
    wanted = os.environ.get("FANFARE_WORKERS_UNDER_TEST")
    return [int(wanted)] if wanted else [1, 4]


@pytest.fixture(scope="session", params=worker_counts(), ids=lambda count: f"workers={count}")
def workers(request):
    return request.param


@pytest.fixture(scope="session")
def shared_server(workers, tmp_path_factory):
    # Nobody listens on the port of the authority.
    acme = {"domains": ["a.example"], "agree_to_terms": True, "directory": "http://127.0.0.1:9/", "retry_s": 3600}
    data = {"data_dir": str(tmp_path_factory.mktemp("data"))}
    listeners = [{"listen": "127.0.0.1:0", "acme": True}]
    server = Server(config_text(workers, server=data, listeners=listeners, acme=acme))
    yield server
    server.stop()


@pytest.fixture
def server(shared_server):
    """The shared server, which no test may bring down."""
    yield shared_server
    assert shared_server.alive(), f"the server ended with {shared_server.process.returncode}"


@pytest.fixture
def start_server(workers):
    """Starts further servers, with settings of the test's own."""
    started = []

    def start(**settings):
        started.append(Server(config_text(workers, **settings)))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def channel():
    """A channel name no other test uses."""
    return f"room-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def bystanders(server, workers):
    """Connections (on several workers) that must not notice what the test does to another one."""
    peers = [RawWebSocket(server) for _ in range(1 if workers == 1 else 8)]
    yield peers
    assert server.alive(), f"the server ended with {server.process.returncode}"
    for peer in peers:
        assert "ok" in peer.command("ping")
        peer.socket.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs a coroutine test to its end, within a deadline, and closes the peers it opened."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def run():
        try:
            await asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_DEADLINE_S)
        finally:
            await close_opened_peers()

    asyncio.run(run())
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for number, server in enumerate(Server.running):
            report.sections.append((f"log of server {number} (alive: {server.alive()})", server.log()))
    return report
