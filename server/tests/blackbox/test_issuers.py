"""Keys of issuers: docs/OPERATIONS.md, "Keys of issuers"."""

import json
import os
import subprocess
import threading

import pytest

from issuer import Issuer, document, jwk, signed, signing_key
from server_process import App, assert_problem, client_key, config_text, wait_until
from test_tls import certificate
from wire import RawWebSocket

# Longer than the server waits for an answer, with room for a slow machine.
PATIENCE_S = 20.0


@pytest.fixture
def issuer():
    own = Issuer()
    yield own
    own.stop()


def app(issuer, **settings):
    return App("default", session_keys=[], issuers=[{"url": issuer.url, "floor_s": 1} | settings])


def is_accepted(server, token):
    answer = server.handshake({"session": token})
    if answer.status != 101:
        assert_problem(answer, 401, "invalid_session")
    return answer.status == 101


def reads(server):
    return server.counted("issuer_reads_total")


def failures(server):
    return server.counted("issuer_failures_total")


def test_keys_are_there_when_the_server_is_ready(start_server, issuer):
    key = signing_key()
    issuer.body = document(jwk(key, "a"), jwk(key, "enc", use="enc"), {"kty": "oct", "k": "c2VjcmV0"})
    server = start_server(apps=[app(issuer)])
    assert is_accepted(server, signed(key, "a"))
    assert not is_accepted(server, signed(signing_key(), "a"))
    assert not is_accepted(server, signed(key, "enc"))
    assert (server.counted("issuer_keys"), server.counted("issuer_skipped_keys")) == (1, 2)
    assert "is not for signatures" in server.log() and "is a secret" in server.log()


def test_a_rotation_reaches_every_worker_while_clients_are_connected(start_server, issuer):
    old, new = signing_key(), signing_key()
    issuer.body, issuer.headers = document(jwk(old, "old")), {"Cache-Control": "max-age=86400"}
    server = start_server(apps=[app(issuer)])
    peers = [RawWebSocket(server, session=signed(old, "old")) for _ in range(8)]
    issuer.body = document(jwk(new, "new"))
    # The first token with the new name is refused, and asks for the document.
    wait_until(lambda: is_accepted(server, signed(new, "new")), PATIENCE_S)
    assert reads(server) == 2
    for _ in range(16):
        assert is_accepted(server, signed(new, "new")) and not is_accepted(server, signed(old, "old"))
    for peer in peers:
        assert "ok" in peer.command("ping")


def test_a_flood_of_unknown_names_asks_no_more_than_once_in_a_floor(start_server, issuer):
    key = signing_key()
    issuer.body, issuer.headers = document(jwk(key, "a")), {"Cache-Control": "max-age=86400"}
    server = start_server(apps=[app(issuer, floor_s=3600)])
    for number in range(40):
        assert not is_accepted(server, signed(key, f"unknown-{number}"))
    assert issuer.requests == 1
    assert is_accepted(server, signed(key, "a"))


def test_the_last_keys_stay_while_the_issuer_is_away(start_server, issuer):
    key = signing_key()
    issuer.body = document(jwk(key, "a"))
    server = start_server(apps=[app(issuer)])
    issuer.stop()
    wait_until(lambda: failures(server) >= 2, PATIENCE_S)
    assert is_accepted(server, signed(key, "a"))
    assert "cannot be reached" in server.log()
    issuer.stop = lambda: None


def test_a_server_starts_without_its_issuer_and_finds_it_later(start_server):
    key, issuer = signing_key(), Issuer()
    issuer.status = 503
    server = start_server(apps=[app(issuer)])
    assert not is_accepted(server, signed(key, "a"))
    issuer.status, issuer.body = 200, document(jwk(key, "a"))
    wait_until(lambda: is_accepted(server, signed(key, "a")), PATIENCE_S)
    issuer.stop()


KEY = signing_key()
BAD_ANSWERS = {
    "huge": ({"body": b'{"keys":[' + b" " * (1 << 20) + b"]}"}, "more than 262144 bytes"),
    "not JSON": ({"body": b"<html>Sign in</html>"}, "is not a JSON object"),
    "two keys of one name": (
        {"body": document(jwk(KEY, "b"), jwk(signing_key(), "b"))},
        'has two keys with the `kid` "b"',
    ),
    "no key": ({"body": document()}, "has no key that verifies"),
    "too many keys": ({"body": document(*(jwk(KEY, f"k{n}") for n in range(65)))}, "more than 64 keys"),
    "deep": ({"body": b'{"keys":' + b"[" * 100_000}, "is not a JSON object"),
    "a redirect": ({"status": 302, "headers": {"Location": "/elsewhere"}}, "redirect 302"),
    "an error": ({"status": 500, "body": b"{}"}, "the status 500"),
    "a huge head": ({"headers": {"X-Padding": "x" * 60_000}}, "gave no HTTP answer"),
    "slow": ({"hold": threading.Event}, "no whole answer in 5000 ms"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_bad_answer_changes_nothing_and_is_told(start_server, issuer, name):
    issuer.body = document(jwk(KEY, "a"))
    server = start_server(apps=[app(issuer)])
    bystander = RawWebSocket(server, session=signed(KEY, "a"))
    answer, sentence = BAD_ANSWERS[name]
    for member, value in answer.items():
        setattr(issuer, member, value() if member == "hold" else value)
    wait_until(lambda: failures(server) >= 1, PATIENCE_S)
    wait_until(lambda: sentence in server.log(), PATIENCE_S)
    assert is_accepted(server, signed(KEY, "a"))
    assert "ok" in bystander.command("ping")


def test_https_needs_an_authority_that_is_trusted(start_server, tmp_path):
    for name, authority in (("root", None), ("other", None), ("issuer", "root")):
        certificate(tmp_path, name, *(["localhost"] if authority else []), ca=authority)
    key, issuer = signing_key(), Issuer(f"{tmp_path}/issuer")
    issuer.body = document(jwk(key, "a"))
    server = start_server(apps=[app(issuer, ca_file=f"{tmp_path}/root.crt")])
    assert is_accepted(server, signed(key, "a"))
    stranger = start_server(apps=[app(issuer, ca_file=f"{tmp_path}/other.crt")])
    assert not is_accepted(stranger, signed(key, "a"))
    assert "cannot be trusted" in stranger.log() and "UnknownIssuer" in stranger.log()
    issuer.stop()


def test_without_a_file_the_trust_store_of_the_system_vouches(start_server, tmp_path, monkeypatch):
    for name, authority in (("root", None), ("other", None), ("issuer", "root")):
        certificate(tmp_path, name, *(["localhost"] if authority else []), ca=authority)
    key, issuer = signing_key(), Issuer(f"{tmp_path}/issuer")
    issuer.body = document(jwk(key, "a"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/root.crt")
    assert is_accepted(start_server(apps=[app(issuer)]), signed(key, "a"))
    other = start_server(apps=[app(issuer, ca_file=f"{tmp_path}/other.crt")])
    assert not is_accepted(other, signed(key, "a"))
    assert "cannot be trusted" in other.log()
    issuer.stop()


def test_an_empty_trust_store_is_refused_without_a_file(tmp_path, monkeypatch):
    file = tmp_path / "fanfare.toml"
    issuer = '[[apps.a.session_key_sets]]\nurl = "https://keys.example/jwks"\n'
    file.write_text(f'[apps.a]\nclient_key = "{client_key()}"\n{issuer}')
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/roots.pem")
    done = check(file)
    assert done.returncode == 2 and "session_key_sets[0].ca_file" in done.stderr, done.stderr
    assert "trust store has no certificate" in done.stderr and "/nowhere/roots.pem" in done.stderr


def test_a_reload_keeps_the_keys_and_the_floor(start_server, workers, issuer):
    key, text = signing_key(), {}
    issuer.body, issuer.headers = document(jwk(key, "a")), {"Cache-Control": "max-age=86400"}
    own = app(issuer, floor_s=3600)
    server = start_server(apps=[own])
    issuer.stop()
    issuer.stop = lambda: None
    for origins in (["https://a.example"], ["*"]):
        own.settings = {"origins": origins}
        server.config_path.write_text(config_text(workers, apps=[own]))
        assert server.request("POST", "/reload", b"", port=server.admin_port).status == 200
        assert is_accepted(server, signed(key, "a"))
    assert (issuer.requests, failures(server)) == (1, 0)
    own.issuers = []
    server.config_path.write_text(config_text(workers, apps=[own]))
    assert server.request("POST", "/reload", b"", port=server.admin_port).status == 200
    assert not is_accepted(server, signed(key, "a"))


def check(file):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FANFARE_")}
    command = [os.environ["FANFARE_BIN"], "check", "--config", str(file)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(
    "entry, problem",
    [
        ({}, "url"),
        ({"url": "http://keys.example/jwks"}, "another machine"),
        ({"url": "https://keys.example/jwks", "ca_file": "/nowhere"}, "cannot be read"),
        ({"url": "https://keys.example/jwks", "ca_file": "/etc/hostname"}, "holds no certificate"),
        ({"url": "http://localhost:1/", "ca_file": "/etc/hostname"}, "https://"),
        ({"url": "http://localhost:1/", "floor_s": 0}, "1 to 3600"),
    ],
)
def test_check_refuses_an_address_that_cannot_work(tmp_path, entry, problem):
    file = tmp_path / "fanfare.toml"
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in entry.items())
    text = f'[apps.a]\nclient_key = "{client_key()}"\n[[apps.a.session_key_sets]]\n{lines}'
    file.write_text(text)
    done = check(file)
    assert done.returncode == 2 and problem in done.stderr and "session_key_sets[0]" in done.stderr


def test_check_says_that_it_does_not_read_the_keys(tmp_path):
    file = tmp_path / "fanfare.toml"
    issuer = '[[apps.a.session_key_sets]]\nurl = "http://localhost:9/keys"\n'
    file.write_text(f'[apps.a]\nclient_key = "{client_key()}"\nsession_required = true\n{issuer}')
    done = check(file)
    assert done.returncode == 0
    assert "only a running server reads: http://localhost:9/keys" in done.stdout
