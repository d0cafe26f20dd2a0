"""TLS on the data port: docs/OPERATIONS.md, "TLS". Certificates are made by the `openssl` program."""

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from server_process import App, config_text, server_key, wait_until
from wire import CLOSE, RawWebSocket, Wire, close_payload, exchange

OLD_VERSIONS = ["-tls1", "-tls1_1"]
WEAK_SUITES = [
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA384",
    "AECDH-AES128-SHA",
    "NULL-SHA256",
    "AES256-SHA256",
]


def openssl(*arguments, **options):
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=30, **options)


def certificate(folder, name, *names, ca=None, days=30):
    """A key and a certificate for `names`, signed by the authority `ca`, or by itself."""
    key, request, made = (folder / f"{name}.{kind}" for kind in ("key", "csr", "crt"))
    san = ",".join(f"DNS:{dns}" for dns in names)
    subject = ["-subj", f"/CN={name}", *(["-addext", f"subjectAltName={san}"] if san else [])]
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, *subject]
    if ca is None:
        done = openssl(*new, "-x509", "-days", days, "-out", made)
    else:
        openssl(*new, "-out", request, check=True)
        extensions = folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={san}\n" if san else "basicConstraints=CA:FALSE\n")
        signer = ["-CA", folder / f"{ca}.crt", "-CAkey", folder / f"{ca}.key", "-set_serial", "7"]
        done = openssl("x509", "-req", "-in", request, *signer, "-days", days, "-extfile", extensions, "-out", made)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder, "root")
    certificate(folder, "one", "one.example", ca="root")
    certificate(folder, "many", "two.example", "*.many.example", ca="root")
    certificate(folder, "stranger")
    certificate(folder, "back-end", ca="root")
    certificate(folder, "false-back-end", ca="stranger")
    certificate(folder, "expired", "one.example", ca="root", days=0)
    return folder


def listener(folder, *names, **settings):
    files = {f"{kind}_file": [f"{folder}/{name}.{ending}" for name in names or ["one"]]
             for kind, ending in (("certificate", "crt"), ("key", "key"))}
    return {"listen": "127.0.0.1:0"} | files | settings


@pytest.fixture
def tls_server(start_server, certificates):
    def start(*names, **settings):
        mutual = {"client_ca_file": f"{certificates}/root.crt"}
        listeners = [listener(certificates, *names), listener(certificates, **mutual)]
        return start_server(listeners=listeners, **settings)

    return start


def context(certificates, version=None, client=None):
    made = ssl.create_default_context(cafile=certificates / "root.crt")
    made.set_alpn_protocols(["http/1.1"])
    if version:
        made.minimum_version = made.maximum_version = version
    if client:
        made.load_cert_chain(certificates / f"{client}.crt", certificates / f"{client}.key")
    return made


def s_client(port, *arguments, text=b"Q\n"):
    done = openssl("s_client", "-connect", f"127.0.0.1:{port}", "-servername", "one.example", *arguments, input=text)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_and_websockets_go_over_both_versions(tls_server, certificates, version, channel):
    server = tls_server()
    tls = context(certificates, version)
    with Wire(server, port=server.tls_ports[0], tls=tls) as wire:
        assert wire.socket.selected_alpn_protocol() == "http/1.1"
        for _ in range(3):
            wire.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.response().status == 404
    peers = [RawWebSocket(server, port=server.tls_ports[0], tls=tls), RawWebSocket(server)]
    exchange(peers, channel)
    # A connection ends with a goodbye of TLS: an end without one would be an error here.
    peers[0].socket.suppress_ragged_eofs = False
    peers[0].send_frame(CLOSE, close_payload(1000))
    assert peers[0].close_code() == 1000
    assert peers[0].socket.recv(1) == b""
    wait_until(lambda: server.counted("sessions") == 1)
    assert server.counted("tls_handshakes_total") == 2
    assert server.counted("tls_failures_total") == 0


def test_a_message_that_comes_byte_by_byte_in_records_of_one_byte_arrives(tls_server, certificates):
    server = tls_server()
    peer = RawWebSocket(server, port=server.tls_ports[0], tls=context(certificates))
    for byte in b'\x81\x99\0\0\0\0{"type":"ping","id":"raw"}'.replace(b"\x99", bytes([0x80 | 26])):
        peer.send(bytes([byte]))
    assert peer.object()["id"] == "raw"


def test_the_name_that_a_client_asks_for_chooses_the_certificate(tls_server, certificates):
    server = tls_server("one", "many")
    for asked, subject in [
        ("one.example", "one"),
        ("TWO.example", "many"),
        ("a.many.example", "many"),
        ("a.b.many.example", "one"),
        ("unknown.example", "one"),
    ]:
        _, said = s_client(server.tls_ports[0], "-servername", asked)
        assert f"subject=CN = {subject}\n" in said, (asked, said)


def test_old_versions_weak_suites_and_other_protocols_are_refused_each(tls_server):
    server = tls_server()
    port = server.tls_ports[0]
    tried = [[version, "-cipher", "ALL:@SECLEVEL=0"] for version in OLD_VERSIONS]
    tried += [["-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"] for suite in WEAK_SUITES]
    tried += [["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"], ["-alpn", "h2"]]
    tried += [["-tls1_2", "-cipher", "ALL:@SECLEVEL=0", "-sigalgs", "ECDSA+SHA1"]]
    for arguments in tried:
        code, said = s_client(port, *arguments)
        assert code != 0 and "alert" in said, (arguments, said)
    assert server.counted("tls_failures_total") == len(tried)
    for arguments in [["-tls1_2"], ["-tls1_3"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]]:
        code, said = s_client(port, *arguments)
        assert code == 0 and "Verify return code" in said, (arguments, said)


def test_a_session_is_resumed_by_its_ticket(tls_server, certificates):
    server = tls_server()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = context(certificates, version)
        session = None
        for reused in (False, True):
            with Wire(server, port=server.tls_ports[0]) as wire:
                secured = tls.wrap_socket(wire.socket, server_hostname="one.example", session=session)
                wire.socket = secured
                wire.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
                assert wire.response().status == 404
                assert secured.session_reused == reused
                session = secured.session
    assert server.counted("tls_resumptions_total") == 2


def test_a_client_that_asks_to_renegotiate_does_not_get_it(tls_server):
    server = tls_server()
    _, said = s_client(server.tls_ports[0], "-tls1_2", text=b"R\nR\n")
    assert "RENEGOTIATING" in said and "no renegotiation" in said, said
    assert server.alive()


def test_half_a_handshake_ends_in_time_and_garbage_at_once(start_server, certificates):
    server = start_server(listeners=[listener(certificates)], server={"request_timeout_ms": 300})
    port = server.tls_ports[0]
    hello = client_hello(certificates)
    bystander = RawWebSocket(server, port=port, tls=context(certificates))
    for part in (b"", hello[:1], hello[:40], hello[:-1], hello):
        with Wire(server, port=port) as wire:
            wire.send(part)
            wire.rest()
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(4096),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(16_380),
        b"\x17\x03\x03\x00\x10" + bytes(16),
        hello + b"\x17\x03\x03\x00\x20" + os.urandom(32),
        hello + hello,
    ]:
        with Wire(server, port=port) as wire:
            try:
                wire.send(garbage)
            except ConnectionError:
                continue
            wire.rest()
    wait_until(lambda: server.counted("connections") == 1)
    assert server.counted("tls_failures_total") == 12
    assert server.counted("panics_total") == 0
    assert "ok" in bystander.command("ping")


def client_hello(certificates):
    outgoing = ssl.MemoryBIO()
    client = context(certificates).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="one.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_a_connection_that_is_garbled_later_ends_alone(tls_server, certificates):
    server = tls_server()
    peers = [RawWebSocket(server, port=server.tls_ports[0], tls=context(certificates)) for _ in range(2)]
    os.write(peers[0].socket.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises((EOFError, ssl.SSLError)):
        while True:
            peers[0].receive()
    assert "ok" in peers[1].command("ping")
    assert server.counted("tls_failures_total") == 1


def test_fan_out_reaches_all_in_order_however_slowly_one_reads(tls_server, certificates, channel):
    # On a slow machine the one that reads last answers no ping for long.
    server = tls_server(
        apps=[App("default", limits={"outbound_bytes": 1 << 26})], server={"ping_interval_ms": 600_000}
    )
    tls = context(certificates)
    peers = [RawWebSocket(server, port=server.tls_ports[0], tls=tls) for _ in range(20)]
    slow = RawWebSocket(server, port=server.tls_ports[0], tls=tls, receive_buffer=4096)
    for peer in [*peers, slow]:
        peer.command("join", channel=channel, echo=False)
    messages = [{"n": number, "padding": "p" * (number * 37 % 30_000)} for number in range(600)]
    for start in range(0, len(messages), 50):
        for message in messages[start : start + 50]:
            body = {"channel": channel, "event": "e", "message": message}
            assert server.call("POST", "/v1/send", body).status == 200
        for peer in peers:
            assert publications(peer, 50) == messages[start : start + 50]
    assert publications(slow, 600) == messages
    assert server.counted("slow_consumers_total") == 0


def publications(peer, count):
    found = []
    while len(found) < count:
        if (contents := peer.object()).get("event") == "e":
            found.append(contents["message"])
    return found


def test_a_slow_consumer_over_tls_is_closed_at_its_limit(tls_server, certificates, channel):
    server = tls_server(apps=[App("default", limits={"outbound_bytes": 1 << 20})])
    slow = RawWebSocket(server, port=server.tls_ports[0], tls=context(certificates), receive_buffer=4096)
    slow.command("join", channel=channel)
    body = {"channel": channel, "event": "e", "message": "m" * 60_000}

    def is_counted():
        assert server.call("POST", "/v1/send", body).status == 200
        return server.counted("slow_consumers_total") == 1

    wait_until(is_counted, within_s=20)
    assert slow.close_code() == 4000


def test_a_listener_with_an_authority_takes_its_certificates_alone(tls_server, certificates):
    server = tls_server()
    port = server.tls_ports[1]
    request = f"GET /v1/channels HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server_key()}\r\n\r\n".encode()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with Wire(server, port=port, tls=context(certificates, version, "back-end")) as wire:
            wire.send(request)
            assert wire.response().status == 200
        for client in (None, "false-back-end"):
            with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
                with Wire(server, port=port, tls=context(certificates, version, client)) as wire:
                    wire.send(request)
                    wire.response()
    wait_until(lambda: server.counted("tls_failures_total") == 4)


def test_sessions_are_resumed_over_tls_on_whatever_worker_the_client_arrives(tls_server, certificates, channel):
    server = tls_server()
    tls = context(certificates)
    for _ in range(8):
        peer = RawWebSocket(server, app="kept", port=server.tls_ports[0], tls=tls)
        assert "ok" in peer.command("join", channel=channel)
        ticket, session = peer.welcome["resume"], peer.id
        peer.reset()
        back = RawWebSocket(server, app="kept", port=server.tls_ports[0], tls=tls, resume=ticket)
        assert (back.id, back.welcome["resumed"]) == (session, True)
        assert "ok" in back.command("ping")
        back.socket.close()


def check(folder, *listeners, server=None, acme=None):
    settings = config_text(1, server={"listen": []} | (server or {}), listeners=listeners, acme=acme)
    (folder / "check.toml").write_text(settings)
    command = [os.environ["FANFARE_BIN"], "check", "--config", str(folder / "check.toml")]
    done = subprocess.run(command, capture_output=True, timeout=30, env={})
    return done.returncode, (done.stdout + done.stderr).decode()


def test_check_names_what_is_wrong_with_files(certificates, tmp_path):
    code, said = check(tmp_path, listener(certificates, "one", "many"))
    assert code == 0 and "127.0.0.1:0 (TLS)" in said, said
    code, said = check(tmp_path, listener(certificates, "expired"))
    assert code == 0 and "expired.crt` has expired" in said, said
    (tmp_path / "empty.pem").write_text("nothing\n")
    one = listener(certificates)
    for changed, sentence in [
        ({"key_file": f"{certificates}/many.key"}, "is not the key of the first certificate"),
        ({"key_file": f"{certificates}/one.crt"}, "holds no private key"),
        ({"key_file": []}, "must name as many files"),
        ({"certificate_file": f"{certificates}/none.crt"}, "cannot be read"),
        ({"certificate_file": f"{tmp_path}/empty.pem"}, "holds no certificate"),
        ({"client_ca_file": f"{tmp_path}/empty.pem"}, "holds no certificate"),
        ({"listen": "nowhere"}, "write an IP address or a host name and a port"),
    ]:
        code, said = check(tmp_path, one | changed)
        name = next(iter(changed))
        assert code == 2 and f"server.listeners[0].{name}" in said and sentence in said, said
    twice = one | {"listen": "127.0.0.1:9443"}
    code, said = check(tmp_path, twice, twice)
    assert code == 2 and "where another listener serves already" in said, said
