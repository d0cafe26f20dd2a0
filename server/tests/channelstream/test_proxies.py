"""Apps behind a proxy that serves them below a prefix, and names the prefix and the scheme."""

import json

import pytest
from websockets.sync.client import connect

import peers
from peers import ADMIN, PATIENCE_S


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    trust = ['trusted_proxies = ["127.0.0.1"]']
    running = peers.start_fanfare(tmp_path_factory.mktemp("proxied"), server=trust)
    yield running
    running.stop()


def users(server, path, **headers):
    answer = server.call("POST", path, {"info": {}}, headers=headers)
    assert answer.status == 200, answer.text
    return {user["user"] for user in answer.json["users"]}


@pytest.mark.parametrize("path", ["/connect", "/other/connect"])
def test_a_script_name_finds_the_app_of_a_prefix(proxied, path):
    user = f"ada{path.replace('/', '-')}"
    behind = {"x-script-name": "/other"}
    body = {"username": user, "channels": ["room"]}
    conn_id = proxied.call("POST", path, body, headers=behind).json["conn_id"]
    assert user in users(proxied, "/info", **behind) and user in users(proxied, "/other/info")
    assert user not in users(proxied, "/info")
    url = f"ws://127.0.0.1:{proxied.port}{path.removesuffix('/connect')}/ws?conn_id={conn_id}"
    with connect(url, additional_headers=behind, compression=None, ping_interval=None) as client:
        message = [{"user": "x", "channel": "room", "message": {"text": "hello"}}]
        assert proxied.call("POST", "/message", message, headers=behind).status == 200
        while not (frame := json.loads(client.recv(timeout=PATIENCE_S))):
            pass
        assert frame[0]["message"] == {"text": "hello"}


def test_a_script_name_of_no_app_is_the_prefix_of_the_app_at_the_root(proxied):
    behind = {"x-script-name": "/chat", "x-scheme": "https"}
    proxied.call("POST", "/chat/connect", {"username": "grace", "channels": ["room"]}, headers=behind)
    assert "grace" in users(proxied, "/info")
    refused = proxied.call("GET", "/chat/admin", signed=False, headers=behind)
    site = f"https://127.0.0.1:{proxied.port}"
    assert (refused.status, refused.headers["location"]) == (302, f"{site}/chat/admin/sign_in")
    form = f"username={ADMIN[0]}&password={ADMIN[1]}"
    signed_in = proxied.call("POST", "/chat/admin/sign_in", form, signed=False, headers=behind)
    assert signed_in.headers["location"] == f"{site}/chat/admin"
    assert "Path=/chat;" in signed_in.headers["set-cookie"]
    cookie = {"cookie": signed_in.headers["set-cookie"].split(";")[0]}
    page = proxied.call("GET", "/admin", signed=False, headers=behind | cookie)
    assert page.status == 200 and 'href="/chat/admin/admin.json"' in page.text


@pytest.mark.parametrize("name", ["chat", "/chat/", "/a//b", "/", "/chat<", "/" + "x" * 256])
def test_what_is_no_prefix_is_ignored(proxied, name):
    assert proxied.call("GET", "/chat/info", headers={"x-script-name": name}).status == 404
    assert proxied.call("GET", "/info", headers={"x-script-name": name}).status == 200


def test_another_peer_names_nothing(server):
    named = {"x-script-name": "/chat", "x-scheme": "https", "x-url-scheme": "https"}
    assert server.call("GET", "/chat/info", headers=named).status == 404
    refused = server.call("GET", "/admin", signed=False, headers=named)
    assert refused.headers["location"] == f"http://127.0.0.1:{server.port}/admin/sign_in"


def test_the_native_api_keeps_its_paths(proxied):
    behind = {"x-script-name": "/chat"}
    assert proxied.call("GET", "/v1/channels", signed=False, headers=behind).status == 401
