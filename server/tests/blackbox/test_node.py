"""The scenarios under node/, where npm's `ws` is the peer: another WebSocket implementation than Python's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from server_process import client_key, server_key

SOURCES = Path(__file__).parent / "node"
FOLDER = Path(__file__).parents[3] / "target/test-node"
SCENARIOS_DEADLINE_S = 30


@pytest.fixture(scope="session")
def node_modules():
    assert shutil.which("node") and shutil.which("npm"), "these tests need node and npm"
    FOLDER.mkdir(parents=True, exist_ok=True)
    locked, installed = SOURCES / "package-lock.json", FOLDER / "installed.json"
    # Modules are looked for beside the script.
    for source in SOURCES.iterdir():
        if source.is_file():
            shutil.copy(source, FOLDER)
    if not installed.exists() or installed.read_bytes() != locked.read_bytes():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=120)
        shutil.copy(locked, installed)


def test_scenarios_with_ws(server, node_modules):
    environment = os.environ | {
        "FANFARE_ADDRESS": f"127.0.0.1:{server.port}",
        "FANFARE_CLIENT_KEY": client_key(),
        "FANFARE_SERVER_KEY": server_key(),
    }
    run = subprocess.run(
        ["node", "--test", "--test-reporter=spec", "scenarios.test.mjs"],
        cwd=FOLDER,
        env=environment,
        timeout=SCENARIOS_DEADLINE_S,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert "pass 5" in run.stdout, run.stdout
