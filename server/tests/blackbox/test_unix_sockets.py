"""Unix sockets and host names to listen on: docs/DEPLOYING.md, "Unix sockets"."""

import os
import signal
import socket
import stat
import subprocess

import pytest

from server_process import client_key, config_text, wait_until
from test_address_limits import ask
from test_addresses import LOG, logged, v2
from test_deploying import free_port, program, run
from wire import RawWebSocket, Wire, exchange


def connect(path):
    wire = Wire.__new__(Wire)
    wire.socket, wire.buffer = socket.socket(socket.AF_UNIX), bytearray()
    wire.socket.settimeout(20)
    wire.socket.connect(str(path))
    return wire


def test_clients_talk_over_a_unix_socket(start_server, tmp_path, channel):
    path = tmp_path / "data.sock"
    server = start_server(server={"listen": ["127.0.0.1:0", f"unix:{path}"], "socket_mode": "0600"}, log=LOG)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    wires = [connect(path) for _ in range(6)]
    peers = [RawWebSocket.open(wire) for wire in wires] + [RawWebSocket(server)]
    exchange(peers, channel)
    assert logged(server, peers[0].id) == "none"
    with connect(path) as wire:
        wire.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.response().status == 404
    for wire in wires:
        wire.socket.close()
    wait_until(lambda: server.counted("connections") == 1)
    server.terminate()
    assert server.process.wait(20) == 0
    assert not path.exists()


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(start_server, workers, tmp_path):
    path = tmp_path / "data.sock"
    first = start_server(server={"listen": ["127.0.0.1:0", f"unix:{path}"]})
    config = tmp_path / "second.toml"
    config.write_text(config_text(workers, server={"listen": f"unix:{path}"}))
    command = [os.environ["FANFARE_BIN"], "--config", str(config)]
    done = subprocess.run(command, capture_output=True, timeout=30, env={})
    assert done.returncode == 1 and b"another process listens there" in done.stderr, done.stderr
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(20)
    assert path.is_socket()
    second = start_server(server={"listen": ["127.0.0.1:0", f"unix:{path}"]})
    with connect(path) as wire:
        RawWebSocket.open(wire)
    assert second.alive()
    other = tmp_path / "file"
    other.write_text("text")
    config.write_text(config_text(workers, server={"listen": f"unix:{other}"}))
    done = subprocess.run(command, capture_output=True, timeout=30, env={})
    assert done.returncode == 1 and b"no socket" in done.stderr, done.stderr
    assert other.read_text() == "text"


@pytest.mark.parametrize("trusted", [True, False])
def test_the_peer_of_a_unix_socket_may_be_a_trusted_proxy(start_server, tmp_path, trusted):
    data, proxied = tmp_path / "data.sock", tmp_path / "proxied.sock"
    proxies = ["unix"] if trusted else ["10.0.0.0/8"]
    server = start_server(server={"listen": ["127.0.0.1:0", f"unix:{data}"], "trusted_proxies": proxies}, log=LOG,
                          listeners=[{"listen": f"unix:{proxied}", "proxy_protocol": True}])
    with connect(data) as wire:
        peer = RawWebSocket.open(wire, b"X-Forwarded-For: 192.0.2.1\r\n")
        assert logged(server, peer.id) == ("192.0.2.1" if trusted else "none")
    with connect(proxied) as wire:
        if not trusted:
            assert wire.rest() == b""
            return
        wire.send(v2("192.0.2.2"))
        assert logged(server, RawWebSocket.open(wire).id) == "192.0.2.2"


def test_the_admin_listener_may_be_a_unix_socket(workers, tmp_path):
    path = tmp_path / "admin.sock"
    config = tmp_path / "fanfare.toml"
    config.write_text(config_text(workers, server={"admin_listen": f"unix:{path}"}))
    process = subprocess.Popen([os.environ["FANFARE_BIN"], "--config", str(config)], stdout=subprocess.PIPE, env={})
    try:
        lines = [process.stdout.readline().decode() for _ in range(2)]
        assert lines[1] == f"admin on unix:{path}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660

        def get(target):
            with connect(path) as wire:
                wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return wire.rest()

        wait_until(lambda: b"200 OK" in get("/readyz"))
        assert b"fanfare_connections" in get("/metrics") and b"200 OK" in get("/dashboard/")
        process.terminate()
        assert process.wait(30) == 0
        assert not path.exists()
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()


def test_a_host_name_is_resolved_at_the_start(start_server, workers, tmp_path):
    port = free_port()
    server = start_server(server={"listen": ["127.0.0.1:0", f"localhost:{port}"], "admin_listen": "localhost:0"})
    assert ask(server, "127.0.0.1", port=port)[0].status == 101
    assert server.admin("/readyz").status == 200
    config = tmp_path / "fanfare.toml"
    config.write_text(config_text(workers, server={"listen": "no-such-host.invalid:80"}))
    done = subprocess.run([os.environ["FANFARE_BIN"], "--config", str(config)], capture_output=True, timeout=30, env={})
    assert done.returncode == 1 and b"no-such-host.invalid:80" in done.stderr, done.stderr


def test_nginx_reaches_the_server_by_a_unix_socket(start_server, run, tmp_path):
    nginx, port, path = program("nginx"), free_port(), tmp_path / "data.sock"
    server = start_server(log=LOG, server={"listen": ["127.0.0.1:0", f"unix:{path}"], "socket_mode": "0666",
                                           "trusted_proxies": ["unix"]})
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(f"""daemon off; user root; pid {tmp_path}/nginx.pid; error_log stderr;
        events {{ worker_connections 64; }}
        http {{ {temporary} access_log off; server {{ listen 127.0.0.1:{port}; location / {{
            proxy_pass http://unix:{path}; proxy_http_version 1.1;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
        }} }} }}""")
    run([nginx, "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")], port)
    with Wire(server, port=port) as wire:
        assert logged(server, RawWebSocket.open(wire).id) == "127.0.0.1"
