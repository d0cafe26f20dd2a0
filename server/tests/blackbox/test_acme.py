"""Certificates that the server obtains by itself: docs/OPERATIONS.md, "Certificates from an authority"."""

import socket
import ssl
import threading

import pytest

from authority import Authority, free_port
from issuer import Issuer
from server_process import config_text, wait_until
from test_tls import certificate, check
from wire import RawWebSocket

# For an order on a slow machine.
PATIENCE_S = 60.0
DOMAIN = "chat.example"


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "data").mkdir()
    certificate(tmp_path, "root")
    certificate(tmp_path, "authority", "localhost", ca="root")
    return tmp_path


@pytest.fixture
def start(start_server, folders):
    """Starts an authority, and a server that obtains certificates from it."""
    authorities = []

    def start_both(domains=(DOMAIN,), **pebble):
        port = free_port()
        authority = Authority(folders, folders / "authority", port, **pebble)
        authorities.append(authority)
        return authority, start_server(**settings(folders, authority.url, port, domains))

    yield start_both
    for authority in authorities:
        authority.close()


def settings(folders, url, port=0, domains=(DOMAIN,), **others):
    acme = {"domains": list(domains), "contact": "ops@chat.example", "agree_to_terms": True, "directory": url}
    acme |= {"retry_s": 1} | ({"directory_ca_file": f"{folders}/root.crt"} if url.startswith("https") else {})
    listeners = [{"listen": f"127.0.0.1:{port}", "acme": True}]
    return {"server": {"data_dir": f"{folders}/data"}, "listeners": listeners, "acme": acme | others}


def shown(port, domain=DOMAIN, alpn="http/1.1"):
    """The certificate of a handshake, or None if the handshake fails."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols([alpn])
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        try:
            with tls.wrap_socket(plain, server_hostname=domain) as secured:
                return secured.getpeercert(binary_form=True)
        except (ssl.SSLError, OSError):
            return None


def obtained(server):
    return server.counted("acme_certificates_total")


def failures(server):
    return server.counted("acme_failures_total")


def kept(folders, domain=DOMAIN):
    return list((folders / "data").glob(f"acme/*/{domain}.pem"))


def test_a_certificate_is_obtained_and_outlives_the_server(start, start_server, folders):
    authority, server = start([DOMAIN, "two.example"], refused_nonces=10)
    wait_until(lambda: obtained(server) == 2, PATIENCE_S)
    port = server.tls_ports[0]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    peer = RawWebSocket(server, port=port, tls=tls)
    assert "ok" in peer.command("ping")
    first, second = shown(port), shown(port, "TWO.example")
    assert first != second and first == shown(port, "unknown.example")
    for name in (DOMAIN, "two.example"):
        (file,) = kept(folders, name)
        text = file.read_text()
        assert "PRIVATE KEY" in text and "CERTIFICATE" in text and file.stat().st_mode & 0o777 == 0o600
    assert server.counted("acme_expiry_timestamp_seconds") > 0
    assert server.counted("certificate_expiry_timestamp_seconds") > 0
    peer.socket.close()
    server.stop()
    authority.stop()
    again = start_server(**settings(folders, authority.url, port, [DOMAIN, "two.example"]))
    assert (shown(port), shown(port, "two.example")) == (first, second)
    assert (obtained(again), failures(again)) == (0, 0)


def test_a_renewal_is_for_new_handshakes_and_a_failure_leaves_the_last_certificate(start):
    authority, server = start(valid_s=9)
    wait_until(lambda: obtained(server) == 1, PATIENCE_S)
    port = server.tls_ports[0]
    first = shown(port)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    peer = RawWebSocket(server, port=port, tls=tls)
    wait_until(lambda: shown(port) != first, PATIENCE_S)
    authority.stop()
    failed, last = failures(server), None
    # The last certificate may have come just before the end of the authority.
    wait_until(lambda: failures(server) >= failed + 2, PATIENCE_S)
    last = shown(port)
    assert last is not None and last == shown(port)
    assert "the last one stays" in server.log() and "cannot be reached" in server.log()
    count = obtained(server)
    authority.start()
    wait_until(lambda: obtained(server) > count and shown(port) != last, PATIENCE_S)
    assert "ok" in peer.command("ping"), "the connection saw nothing of it"


def test_a_refused_domain_keeps_no_other_from_its_certificate(start):
    _, server = start(["blocked.example", DOMAIN])
    wait_until(lambda: obtained(server) == 1 and failures(server) >= 1, PATIENCE_S)
    assert "the authority refused" in server.log()
    # A client of the domain without a certificate gets the first certificate that there is.
    assert shown(server.tls_ports[0], "blocked.example") == shown(server.tls_ports[0])


def test_a_name_that_leads_elsewhere_is_refused_with_the_reason(start_server, folders):
    nobody = free_port()
    authority = Authority(folders, folders / "authority", nobody)
    try:
        server = start_server(**settings(folders, authority.url))
        wait_until(lambda: failures(server) >= 1, PATIENCE_S)
        assert "the authority refused: Failed to connect" in server.log(), server.log()
        assert obtained(server) == 0 and shown(server.tls_ports[0]) is None
    finally:
        authority.close()


def test_a_reload_keeps_certificates_and_obtains_those_of_new_domains(start, folders, workers):
    authority, server = start()
    wait_until(lambda: obtained(server) == 1, PATIENCE_S)
    port = server.tls_ports[0]
    first = shown(port)
    for _ in range(5):
        assert server.request("POST", "/reload", port=server.admin_port).status == 200
        assert shown(port) == first
    assert obtained(server) == 1
    changed = settings(folders, authority.url, port, [DOMAIN, "new.example"])
    server.config_path.write_text(config_text(workers, **changed))
    answer = server.request("POST", "/reload", port=server.admin_port)
    assert answer.status == 200 and b"server.acme.domains" in answer.body, answer.body
    wait_until(lambda: kept(folders, "new.example"), PATIENCE_S)
    wait_until(lambda: shown(port, "new.example") != first)
    assert shown(port) == first


def test_nobody_gets_a_challenge_that_was_not_made(start_server, folders):
    server = start_server(**settings(folders, "http://127.0.0.1:9/"))
    port = server.tls_ports[0]
    for domain in (DOMAIN, "other.example"):
        assert shown(port, domain) is None and shown(port, domain, "acme-tls/1") is None
    assert server.counted("tls_failures_total") == 4
    assert "ok" in RawWebSocket(server).command("ping")


BAD_DIRECTORIES = {
    "huge": ({"body": b'{"newNonce":"' + b" " * (1 << 20) + b'"}'}, "more than 131072 bytes"),
    "not JSON": ({"body": b"<html>\r\nSign in</html>"}, "JSON"),
    "without orders": ({"body": b"{}"}, "JSON"),
    "deep": ({"body": b"[" * 100_000}, "JSON"),
    "elsewhere": (
        {"body": b'{"newNonce":"ftp://a/","newAccount":"ftp://a/","newOrder":"ftp://a/"}'},
        "must begin with https://",
    ),
    "another machine": (
        {"body": b'{"newNonce":"http://192.0.2.1/","newAccount":"http://192.0.2.1/","newOrder":"http://192.0.2.1/"}'},
        "is another machine",
    ),
    "an endless wait": (
        {"status": 503, "headers": {"Retry-After": "18446744073709551615"}, "body": b"{}"},
        "No certificate was obtained",
    ),
    "a redirect": ({"status": 302, "headers": {"Location": "/elsewhere"}}, "No certificate was obtained"),
    "slow": ({"hold": threading.Event}, "no whole answer in 10000 ms"),
}


@pytest.mark.parametrize("name", BAD_DIRECTORIES)
def test_a_bad_authority_is_bounded_and_told_in_a_sentence(start_server, folders, name):
    answer, sentence = BAD_DIRECTORIES[name]
    bad = Issuer()
    for member, value in answer.items():
        setattr(bad, member, value() if callable(value) else value)
    server = start_server(**settings(folders, bad.url))
    wait_until(lambda: failures(server) >= 1, PATIENCE_S)
    assert sentence in server.log(), server.log()
    assert "ok" in RawWebSocket(server).command("ping")
    # The attempts go on.
    count = failures(server)
    if name != "slow":
        wait_until(lambda: failures(server) > count, PATIENCE_S)
    bad.stop()


def test_check_names_what_is_wrong_with_the_section(folders):
    one = settings(folders, "http://127.0.0.1:9/")

    def said(**changed):
        changed = one["acme"] | changed
        acme = {key: value for key, value in changed.items() if value is not None}
        return check(folders, *one["listeners"], server=one["server"], acme=acme)

    code, text = said()
    assert code == 0 and "127.0.0.1:0 (TLS)" in text, text
    for changed, key, sentence in [
        ({"agree_to_terms": None}, "agree_to_terms", "must be true"),
        ({"domains": []}, "domains", "must name 1 to 64 domains"),
        ({"domains": ["*.example.com"]}, "domains", "without a star"),
        ({"domains": ["192.0.2.1"]}, "domains", "write a host's name"),
        ({"domains": ["a.example", "A.example"]}, "domains", "twice"),
        ({"domains": [f"{n}.example" for n in range(65)]}, "domains", "must name 1 to 64 domains"),
        ({"contact": "nobody"}, "contact", "write an e-mail address"),
        ({"directory": "http://192.0.2.1/"}, "directory", "is another machine"),
        ({"directory": "http://127.0.0.1/" + "x" * 240}, "directory", "longer than 240 bytes"),
        ({"directory_ca_file": "nothing.crt"}, "directory_ca_file", "cannot be read"),
        ({"retry_s": 0}, "retry_s", "must be a whole number from 1 to 86400"),
    ]:
        code, text = said(**changed)
        assert code == 2 and f"server.acme.{key}" in text and sentence in text, text
    code, text = check(folders, *one["listeners"], server=one["server"])
    assert code == 2 and "there is no section `[server.acme]`" in text, text
    code, text = check(folders, {"listen": "127.0.0.1:0", "proxy_protocol": True}, acme=one["acme"])
    assert code == 2 and "server.data_dir" in text, text
    code, text = check(folders, server=one["server"] | {"listen": ["127.0.0.1:0"]}, acme=one["acme"])
    assert code == 2 and "has no listener" in text, text


def test_a_damaged_file_is_a_warning_and_its_certificate_is_obtained_again(start, folders):
    authority, server = start()
    wait_until(lambda: obtained(server) == 1, PATIENCE_S)
    first = shown(server.tls_ports[0])
    (file,) = kept(folders)
    file.write_bytes(file.read_bytes()[:700])
    answer = server.request("POST", "/reload", port=server.admin_port)
    assert answer.status == 200
    assert shown(server.tls_ports[0]) == first, "the certificate in memory is as good as ever"
    assert "cannot be used" in server.log() and "obtains another certificate" in server.log()
