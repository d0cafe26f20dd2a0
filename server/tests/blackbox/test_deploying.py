"""docs/DEPLOYING.md: nginx, HAProxy and Caddy run with the configurations of ops/, and the server notifies systemd.

A test whose program is not installed is skipped (Debian: nginx-light, haproxy, caddy, prometheus)."""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from server_process import Server, config_text, wait_until
from test_tls import certificate, context
from wire import RawWebSocket, Wire, exchange

OPS = Path(__file__).parents[3] / "ops"


def program(name):
    found = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def replaced(text, changes):
    """`text` with every pattern replaced. A pattern that is not in the text is an error."""
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        assert count, f"{pattern} is not in the configuration"
    return text


@pytest.fixture
def run():
    started = []

    def start(command, port):
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))

        def listens():
            assert started[-1].poll() is None, started[-1].stdout.read().decode()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, within_s=20)

    yield start
    for process in started:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def check_clients(server, port, tls, channel):
    """Clients behind a proxy: a message of each size passes at once, in both directions."""
    peers = [RawWebSocket(server, port=port, tls=tls) for _ in range(3)]
    exchange(peers, channel)
    with Wire(server, port=port, tls=tls) as wire:
        wire.send(b"GET /nothing HTTP/1.1\r\nHost: realtime.example.com\r\n\r\n")
        assert wire.response().status == 404


def test_nginx(start_server, run, tmp_path, channel):
    nginx = program("nginx")
    certificate(tmp_path, "root")
    certificate(tmp_path, "one", "one.example", ca="root")
    server, port = start_server(), free_port()
    text = replaced((OPS / "nginx.conf").read_text(), [
        (r"127\.0\.0\.1:8080", f"127.0.0.1:{server.port}"),
        (r"listen 443", f"listen 127.0.0.1:{port}"),
        (r"/etc/ssl/realtime\.example\.com\.crt", str(tmp_path / "one.crt")),
        (r"/etc/ssl/realtime\.example\.com\.key", str(tmp_path / "one.key")),
        (r"worker_processes auto", "worker_processes 1"),
        (r"worker_rlimit_nofile \d+", "worker_rlimit_nofile 1024"),
        (r"worker_connections \d+", "worker_connections 512"),
        (r"\nhttp \{", "\nhttp {" + "".join(
            f" {kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ) + f" access_log off;"),
    ])
    (tmp_path / "nginx.conf").write_text(f"daemon off; pid {tmp_path}/nginx.pid; error_log stderr;\n" + text)
    run([nginx, "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")], port)
    check_clients(server, port, context(tmp_path), channel)


def test_haproxy(start_server, run, tmp_path, channel):
    haproxy = program("haproxy")
    certificate(tmp_path, "root")
    certificate(tmp_path, "one", "one.example", ca="root")
    (tmp_path / "one.pem").write_bytes((tmp_path / "one.crt").read_bytes() + (tmp_path / "one.key").read_bytes())
    server, port = start_server(), free_port()
    text = replaced((OPS / "haproxy.cfg").read_text(), [
        (r"server one 127\.0\.0\.1:8080 check port 8081",
         f"server one 127.0.0.1:{server.port} check port {server.admin_port}"),
        (r"bind :443", f"bind 127.0.0.1:{port}"),
        (r"/etc/ssl/realtime\.example\.com\.pem", str(tmp_path / "one.pem")),
        (r"maxconn \d+", "maxconn 200"),
    ])
    (tmp_path / "haproxy.cfg").write_text(text)
    run([haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")], port)
    check_clients(server, port, context(tmp_path), channel)


def test_caddy(start_server, run, tmp_path, channel, monkeypatch):
    caddy = program("caddy")
    certificate(tmp_path, "root")
    certificate(tmp_path, "one", "one.example", ca="root")
    server, port = start_server(), free_port()
    text = replaced((OPS / "Caddyfile").read_text(), [
        (r"127\.0\.0\.1:8080 \{", f"127.0.0.1:{server.port} {{"),
        (r"health_port 8081", f"health_port {server.admin_port}"),
        (r"\nrealtime\.example\.com \{",
         f"\n{{\n admin off\n auto_https disable_redirects\n}}\n"
         f":{port} {{\n bind 127.0.0.1\n"
         f" tls {tmp_path}/one.crt {tmp_path}/one.key"),
    ])
    (tmp_path / "Caddyfile").write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    run([caddy, "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"], port)
    check_clients(server, port, context(tmp_path), channel)


METRIC = r"\b(?:fanfare|process)_\w+"


def served_samples(server):
    """The names that samples have."""
    return set(re.findall(r"^(\w+)", server.admin("/metrics").body.decode(), re.M))


def test_alert_rules_fire_and_name_metrics_that_there_are(server):
    text = (OPS / "alerts.yml").read_text()
    assert set(re.findall(METRIC, text)) <= served_samples(server)
    done = subprocess.run([program("promtool"), "test", "rules", OPS / "alerts_test.yml"], capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_of_grafana_asks_for_metrics_that_there_are(server, tmp_path):
    dashboard = json.loads((OPS / "grafana.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)) and max(x for x, _ in places) == 23
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    named = set(re.findall(METRIC, " ".join(queries) + variables["instance"]["query"]["query"]))
    assert named <= served_samples(server)
    assert set(re.findall(r"\$(\w+)", " ".join(queries))) <= {*variables, "__rate_interval"}
    plain = [query.replace("$__rate_interval", "1m").replace("$instance", "a") for query in queries]
    rules = [{"record": f"query:{at}", "expr": query} for at, query in enumerate(plain)]
    # JSON is YAML too.
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([program("promtool"), "check", "rules", tmp_path / "rules.yml"], capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_is_told_when_the_server_is_ready_and_when_it_drains(workers, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        server = Server(config_text(workers, server={"drain_spread_ms": 0}))
        try:
            assert told.recv(100) == b"READY=1"
            server.terminate()
            assert told.recv(100) == b"STOPPING=1"
            assert server.process.wait(20) == 0
        finally:
            server.stop()
