"""Reading the configuration again: docs/OPERATIONS.md, "Reloading"."""

import os
import shutil
import signal
import ssl
import subprocess
import threading

import pytest

from server_process import APPS, App, assert_problem, client_key, config_text, server_key, wait_until
from test_tls import certificate, context, listener
from wire import RawWebSocket, Wire, exchange

OLD, NEW = "an-old-key-0123456789", "a-new-key-0123456789"


def reload(server, text=None):
    if text is not None:
        server.config_path.write_text(text)
    return server.request("POST", "/reload", b"", port=server.admin_port)


def accepts(server, key):
    answer = server.handshake({"key": key})
    if answer.status != 101:
        assert_problem(answer, 401, "invalid_key")
    return answer.status == 101


@pytest.mark.parametrize("by", ["signal", "request"])
def test_a_key_is_replaced_and_sessions_of_the_old_one_go_on(start_server, workers, by, channel):
    def text(key):
        return config_text(workers).replace(client_key(), key)

    server = start_server()
    server.config_path.write_text(text(OLD))
    assert reload(server).status == 200
    assert accepts(server, OLD) and not accepts(server, NEW)
    peers = [RawWebSocket(server, key=OLD) for _ in range(8)]
    for peer in peers:
        peer.command("join", channel=channel)
    server.config_path.write_text(text(NEW))
    if by == "signal":
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.counted("reloads_total") == 2)
    else:
        answer = reload(server)
        assert (answer.status, answer.body.decode()) == (
            200,
            "The configuration was reloaded: apps.default.client_keys.\n",
        )
    assert accepts(server, NEW) and not accepts(server, OLD)
    for peer in peers:
        assert "ok" in peer.command("ping")


def test_limits_and_origins_change_for_sessions_that_are_there(start_server, workers):
    server = start_server()
    peer = RawWebSocket(server)
    assert "ok" in peer.command("send", channel="c", event="e", message="m" * 100)
    settings = App("default", {"origins": ["https://allowed.example"]}, {"message_bytes": 64})
    changed = config_text(workers, apps=[settings if app.name == "default" else app for app in APPS])
    answer = reload(server, changed).body.decode()
    assert "apps.default.limits.message_bytes" in answer and "apps.default.origins" in answer
    assert peer.command("send", channel="c", event="e", message="m" * 100)["error"]["code"] == "message_too_large"
    assert_problem(server.handshake(headers={"Origin": "https://other.example"}), 403, "origin_not_allowed")
    assert reload(server, config_text(workers)).status == 200
    assert "ok" in peer.command("send", channel="c", event="e", message="m" * 100)


def test_a_bad_file_changes_nothing_and_says_why(start_server, workers):
    server = start_server()
    bystander = RawWebSocket(server)
    good = config_text(workers)
    refused = [
        ("nonsense", "fanfare.toml"),
        (good.replace("echo = true", "ecko = true", 1), "there is no key `ecko`"),
        (good.replace(client_key(), "short", 1), "client_keys"),
        (config_text(workers + 1), "a restart is needed to change server.workers."),
        (config_text(workers, server={"backlog": 7}), "server.backlog"),
        (config_text(workers, server_limits={"mailbox_depth": 64}), "server.limits.mailbox_depth"),
        (config_text(workers, log={"level": "warn"}), "log.level"),
        (
            config_text(workers, apps=APPS) + f'[apps.cs]\nclient_key = "{client_key()}"\n'
            '[apps.cs.channelstream]\nsecret = "a-secret-of-its-own"\n',
            "a restart is needed to change apps.cs.",
        ),
        (
            config_text(workers, apps=[*APPS, *(App(f"added-{n}") for n in range(65))]),
            "a restart is needed to add more than 64 apps",
        ),
        (config_text(workers, server={"listen": ["127.0.0.1:0", "127.0.0.1:0"]}), "server.listen"),
    ]
    for number, (text, sentence) in enumerate(refused):
        # A new key in the same file as the mistake must take no effect.
        answer = reload(server, text.replace(server_key(), "another-server-key-0123456789"))
        said = answer.body.decode()
        assert answer.status == 422 and said.startswith("Nothing was reloaded: ") and sentence in said, said
        assert server.call("GET", "/v1/channels").status == 200
        assert server.counted("reload_failures_total") == number + 1
    server.config_path.unlink()
    assert "Cannot read" in reload(server).body.decode()
    assert reload(server, good).body == b"The configuration was reloaded: nothing has changed.\n"
    assert "ok" in bystander.command("ping")


def test_a_page_in_a_browser_may_not_reload(start_server):
    server = start_server()
    origin = {"Origin": "https://example.com"}
    assert server.request("POST", "/reload", b"", origin, port=server.admin_port).status == 403
    assert server.request("GET", "/reload", port=server.admin_port).status == 405
    assert server.counted("reloads_total") == 0


def test_a_certificate_is_replaced_while_connections_last(start_server, workers, tmp_path):
    certificate(tmp_path, "root")
    certificate(tmp_path, "one", "one.example", ca="root", days=10)
    server = start_server(listeners=[listener(tmp_path)])
    port = server.tls_ports[0]
    tls = context(tmp_path)

    def served_until():
        with Wire(server, port=port, tls=tls) as wire:
            return ssl.cert_time_to_seconds(wire.socket.getpeercert()["notAfter"])

    def counted_until():
        return server.counted("certificate_expiry_timestamp_seconds")

    first = served_until()
    assert counted_until() == first
    peer = RawWebSocket(server, port=port, tls=tls)
    shutil.copy(tmp_path / "one.key", tmp_path / "old.key")
    certificate(tmp_path, "one", "one.example", ca="root", days=20)
    answer = reload(server)
    assert answer.body == b"The configuration was reloaded: server.listeners[0].\n"
    second = served_until()
    assert second >= first + 10 * 86_400
    assert counted_until() == second
    assert "ok" in peer.command("ping")
    shutil.copy(tmp_path / "old.key", tmp_path / "one.key")
    assert "is not the key" in reload(server).body.decode()
    assert served_until() == second and "ok" in peer.command("ping")


def test_reloads_in_a_storm_drop_nobody_and_lose_nothing(start_server, workers, channel):
    server = start_server()
    texts = [config_text(workers, server={"ping_interval_ms": 20_000 + number}) for number in range(20)]
    receivers = [RawWebSocket(server) for _ in range(20)]
    for peer in receivers:
        peer.command("join", channel=channel)
    sender = RawWebSocket(server)
    answers = []

    def storm():
        answers.extend(reload(server, text).status for text in texts)

    thread = threading.Thread(target=storm)
    thread.start()
    sent = 0
    while thread.is_alive() or sent < 200:
        assert "ok" in sender.command("send", channel=channel, event="e", message=sent)
        assert accepts(server, client_key())
        sent += 1
    thread.join()
    assert answers == [200] * len(texts)
    for peer in receivers:
        got = []
        while len(got) < sent:
            if (contents := peer.object()).get("event") == "e":
                got.append(contents["message"])
        assert got == list(range(sent))


def test_check_says_what_differs_and_what_needs_a_restart(tmp_path):
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text(config_text(1))
    text = config_text(2, server={"ping_interval_ms": 9000})
    after.write_text(text.replace(client_key(), NEW))
    command = [os.environ["FANFARE_BIN"], "check", "--config", str(after), "--diff", str(before)]
    done = subprocess.run(command, capture_output=True, timeout=30, env={})
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and lines[0].startswith("ok"), done
    assert lines[1:] == [
        "apps.default.client_keys: is different",
        "server.ping_interval_ms: 25000 -> 9000",
        "server.workers: 1 -> 2 (needs a restart)",
    ]
    before.write_text("nonsense")
    done = subprocess.run(command, capture_output=True, timeout=30, env={})
    assert done.returncode == 2 and b"before.toml" in done.stderr


def test_apps_come_and_go_while_the_server_runs(start_server, workers, channel):
    kept = App("kept", {"history_messages": 10}, {"resume_ms": 60000})
    server = start_server(apps=[App("default"), kept])
    bystander = RawWebSocket(server)
    bystander.command("join", channel=channel)
    members = [RawWebSocket(server, app="kept") for _ in range(8)]
    for member in members:
        member.command("join", channel=channel)
    assert "ok" in members[0].command("send", channel=channel, event="e", message="m")
    parked = RawWebSocket(server, app="kept")
    parked.socket.close()
    wait_until(lambda: server.counted("parked_sessions") == 1)

    answer = reload(server, config_text(workers, apps=[App("added"), App("default")]))
    assert (answer.status, answer.body.decode()) == (
        200,
        "The configuration was reloaded: apps.kept, apps.added.\n",
    )
    for member in members:
        assert member.close_code() == 4007
    wait_until(lambda: server.counted("app_sessions") == 1)
    wait_until(lambda: server.counted("parked_sessions") == 0)
    assert server.counted("removed_total") == len(members)
    assert_problem(server.handshake({"app": "kept", "key": client_key("kept")}), 401, "unknown_app")
    assert_problem(server.call("GET", "/v1/channels", app="kept"), 401, "unknown_app")
    assert "ok" in bystander.command("send", channel=channel, event="e", message="m")

    newcomers = [RawWebSocket(server, app="added") for _ in range(8)]
    exchange(newcomers, channel)
    assert server.call("GET", "/v1/channels", app="added").status == 200

    # The app that comes back has its keys, and nothing of what its channels remembered.
    assert reload(server, config_text(workers, apps=[App("default"), kept])).status == 200
    for newcomer in newcomers:
        assert newcomer.close_code() == 4007
    again = RawWebSocket(server, app="kept")
    assert "ok" in again.command("join", channel=channel)
    history = server.call("GET", "/v1/history", channel=channel, app="kept")
    assert (history.status, history.json["messages"]) == (200, [])
    assert "ok" in bystander.command("ping")


def test_a_storm_of_apps_that_come_and_go_disturbs_nobody(start_server, workers, channel):
    server = start_server(apps=[App("default")])
    peers = [RawWebSocket(server) for _ in range(8)]
    for number in range(20):
        apps = [App("default"), *([App(f"app-{number % 3}")] if number % 2 else [])]
        assert reload(server, config_text(workers, apps=apps)).status == 200
    exchange(peers, channel)
