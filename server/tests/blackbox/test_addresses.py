"""The addresses of clients: docs/DEPLOYING.md, "The address of a client". nginx and HAProxy are run where they are
installed."""

import socket
import struct

import pytest

from server_process import wait_until
from test_deploying import free_port, program, run
from test_tls import certificate, context, listener
from wire import RawWebSocket, Wire

LOG = {"level": "info,fanfare_server=debug"}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_PORTS = [{"listen": "127.0.0.1:0", "proxy_protocol": True}]


@pytest.fixture
def start(start_server):
    """Starts a server that trusts loopback, logs addresses and has a listener for proxies."""

    def start(**server):
        settings = {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]} | server
        return start_server(server=settings, log=LOG, listeners=PROXY_PORTS)

    return start


def v2(address="192.0.2.7", command=0x21, family=0x11, tlvs=b"", block=None):
    """A header of version 2 of the PROXY protocol."""
    addresses = socket.inet_aton(address) + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 56324, 443)
    block = addresses + tlvs if block is None else block
    return SIGNATURE + struct.pack(">BBH", command, family, len(block)) + block


def v1(address="192.0.2.7"):
    return f"PROXY TCP4 {address} 198.51.100.1 56324 443\r\n".encode()


def session(server, *pieces, headers=b"", port=None, tls=None):
    """Opens a WebSocket after these first bytes. Returns the address that the log has for its session."""
    with Wire(server, port=port) as wire:
        for piece in pieces:
            wire.send(piece)
        if tls:
            wire.socket = tls.wrap_socket(wire.socket, server_hostname="one.example")
        return logged(server, RawWebSocket.open(wire, headers).id)


def logged(server, session):
    lines = [line for line in server.log(1 << 20).splitlines() if session in line and "a session begins" in line]
    assert len(lines) == 1, lines
    return lines[0].split("address=")[1].split()[0]


def test_the_header_of_a_trusted_proxy_names_the_client(start):
    server = start()
    assert session(server) == "127.0.0.1"
    assert session(server, headers=b"X-Forwarded-For: 192.0.2.1\r\n") == "192.0.2.1"
    assert session(server, headers=b"X-Forwarded-For: 8.8.8.8, 192.0.2.1, 10.3.2.1\r\n") == "192.0.2.1"
    assert session(server, headers=b"X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-For: 192.0.2.1\r\n") == "192.0.2.1"
    assert session(server, headers=b"X-Forwarded-For: [2001:db8::1]:443\r\n") == "2001:db8::1"
    assert session(server, headers=b"X-Forwarded-For: 192.0.2.1, unknown\r\n") == "127.0.0.1"
    many = b"X-Forwarded-For: " + b"1.1.1.1," * 800 + b"192.0.2.9\r\n"
    assert session(server, headers=many) == "192.0.2.9"
    assert session(server, headers=b"Forwarded: for=192.0.2.1\r\n") == "127.0.0.1", "the other header counts"


def test_forwarded_counts_where_it_is_configured(start):
    server = start(forwarding_header="forwarded")
    header = b'Forwarded: for=8.8.8.8, for="[2001:db8::7]:80";proto=https, for=10.0.0.3\r\n'
    assert session(server, headers=header) == "2001:db8::7"
    assert session(server, headers=b"X-Forwarded-For: 192.0.2.1\r\n") == "127.0.0.1"


def test_a_stranger_names_no_client(start):
    server = start(trusted_proxies=["10.0.0.0/8"])
    assert session(server, headers=b"X-Forwarded-For: 192.0.2.1\r\n") == "127.0.0.1"
    with Wire(server, port=server.proxy_ports[0]) as wire:
        assert wire.rest() == b"", "only a trusted proxy may connect"
    wait_until(lambda: server.counted("proxy_refused_total") == 1)
    assert "its address is not in `trusted_proxies`" in server.log()


def test_headers_of_the_proxy_protocol_name_the_client(start):
    server = start()
    port = server.proxy_ports[0]
    assert session(server, v1(), port=port) == "192.0.2.7"
    assert session(server, v2(), port=port) == "192.0.2.7"
    assert session(server, b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", port=port) == "2001:db8::7"
    assert session(server, b"PROXY UNKNOWN\r\n", port=port) == "127.0.0.1"
    assert session(server, v2(command=0x20, family=0, block=b""), port=port) == "127.0.0.1"
    assert session(server, v2(family=0x31, block=b"/a" * 108), port=port) == "none"
    assert session(server, v2(tlvs=b"\x01\0\x02h2" + b"\x04\x0f\x00" + bytes(0xf00)), port=port) == "192.0.2.7"
    header = b"X-Forwarded-For: 203.0.113.5\r\n"
    assert session(server, v2("10.1.1.1"), headers=header, port=port) == "203.0.113.5", "a proxy behind a proxy"
    assert session(server, v2(), headers=header, port=port) == "192.0.2.7", "its client is not trusted"
    # The header and the request in one write, and the header byte by byte.
    assert session(server, *[bytes([byte]) for byte in v2()], port=port) == "192.0.2.7"
    with Wire(server, port=port) as wire:
        wire.send(v1() + b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.response().status == 404


@pytest.mark.parametrize("first", [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
    b"PROXY UNKNOWN " + b"f" * 200,
    v2()[:-1].replace(b"\0\x0c", b"\0\x0b"),
    v2(block=bytes(5000)),
    v2(tlvs=b"\x04\0\x09"),
    v2(command=0x31),
    v2(family=0x12),
    b"\x16\x03\x01\x02\x00\x01\x00\x01",
], ids=range(9))
def test_other_first_bytes_end_the_connection(start, first):
    server = start()
    with Wire(server, port=server.proxy_ports[0]) as wire:
        wire.send(first)
        assert wire.rest() == b""
    wait_until(lambda: server.counted("proxy_refused_total") == 1)
    wait_until(lambda: server.counted("connections") == 0)


def test_a_header_has_the_time_of_a_request(start):
    server = start(request_timeout_ms=300)
    with Wire(server, port=server.proxy_ports[0]) as wire:
        wire.send(v2()[:9])
        assert wire.rest() == b""
    wait_until(lambda: server.counted("request_timeouts_total") == 1)
    with Wire(server, port=server.proxy_ports[0]) as wire:
        wire.send(v2()[:9])
        wire.half_close()
        assert wire.rest() == b""


def test_tls_follows_the_header(start_server, tmp_path):
    certificate(tmp_path, "root")
    certificate(tmp_path, "one", "one.example", ca="root")
    listeners = [listener(tmp_path, "one", proxy_protocol=True)]
    server = start_server(server={"trusted_proxies": ["127.0.0.1"]}, log=LOG, listeners=listeners)
    for header in (v1(), v2()):
        assert session(server, header, port=server.proxy_ports[0], tls=context(tmp_path)) == "192.0.2.7"


def test_trusted_proxies_change_by_a_reload(start):
    server = start(admin_listen="127.0.0.1:0")
    header = b"X-Forwarded-For: 192.0.2.1\r\n"
    assert session(server, headers=header) == "192.0.2.1"
    text = server.config_path.read_text()
    server.config_path.write_text(text.replace('["127.0.0.1", "10.0.0.0/8"]', '["10.0.0.0/8"]'))
    assert server.request("POST", "/reload", port=server.admin_port).status == 200
    assert session(server, headers=header) == "127.0.0.1"


@pytest.mark.parametrize("header", ["proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
                                    'proxy_set_header Forwarded "for=$remote_addr";'])
def test_nginx_names_its_client(start, run, tmp_path, header):
    nginx = program("nginx")
    server = start(forwarding_header="x-forwarded-for" if "X-" in header else "forwarded",
                   trusted_proxies=["127.0.0.1"])
    port = free_port()
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(f"""daemon off; pid {tmp_path}/nginx.pid; error_log stderr;
        events {{ worker_connections 64; }}
        http {{ {temporary} access_log off; server {{ listen 127.0.0.1:{port}; location / {{
            proxy_bind 127.0.0.1; proxy_pass http://127.0.0.1:{server.port}; proxy_http_version 1.1; {header}
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
        }} }} }}""")
    run([nginx, "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")], port)
    assert session_from("127.0.0.9", server, port) == "127.0.0.9"
    forged = "X-Forwarded-For: 8.8.8.8\r\n" if "X-" in header else "Forwarded: for=8.8.8.8\r\n"
    assert session_from("127.0.0.9", server, port, forged.encode()) == "127.0.0.9"


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c"])
def test_haproxy_names_its_client(start, run, tmp_path, option):
    haproxy = program("haproxy")
    server, port = start(trusted_proxies=["127.0.0.1"]), free_port()
    (tmp_path / "haproxy.cfg").write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen realtime
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{server.proxy_ports[0]} {option} source 127.0.0.1
""")
    run([haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")], port)
    assert session_from("127.0.0.9", server, port) == "127.0.0.9"


def session_from(address, server, port, headers=b""):
    """As `session`, through a proxy at `port`, from an address of loopback."""
    wire = Wire.__new__(Wire)
    wire.socket, wire.buffer = socket.create_connection(("127.0.0.1", port), 20, (address, 0)), bytearray()
    with wire:
        return logged(server, RawWebSocket.open(wire, headers).id)
