import pytest

import pairs
import peers


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = peers.start_fanfare(tmp_path_factory.mktemp("fanfare"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    running = peers.start_original(tmp_path_factory.mktemp("original"))
    yield running
    running.stop()


@pytest.fixture
def pair(server, original):
    pair = pairs.Pair(original, server)
    yield pair
    pair.close()


def pytest_terminal_summary(terminalreporter):
    steps = sum(pairs.STEPS.values())
    if steps:
        groups = ", ".join(f"{group} {count}" for group, count in sorted(pairs.STEPS.items()))
        terminalreporter.write_line(f"{steps} steps at both servers: {groups}")
