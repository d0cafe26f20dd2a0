"""Revocation of users' tokens: docs/PROTOCOL.md, section 8."""

import asyncio
import json
import time
import urllib.parse

import tokens
from peer import Peer, connect_many
from server_process import App, Server, assert_problem, client_key, config_text, wait_until
from test_resume import APP as KEPT, lose
from wire import TEXT, RawWebSocket, Wire, upgrade_request


def issued(at, user, app="default", **claims):
    return tokens.token(user, app=app, iat=int(at), **claims)


def opens(server, token, app="default"):
    answer = server.handshake({"key": client_key(app), "app": app, "session": token})
    if answer.status != 101:
        assert_problem(answer, 401, "session_revoked")
    return answer.status == 101


async def test_tokens_issued_before_are_refused_and_live_sessions_end(server):
    now = time.time()
    peers = await connect_many(server, 8, session=issued(now - 10, "rose"))
    other = await Peer.connect(server, session=issued(now - 10, "jack"))
    answer = await server.api("POST", "/v1/revoke", {"user": "rose"})
    assert answer == {"disconnected": 8}
    for peer in peers:
        assert await peer.close_code() == 4002
    await other.ok("ping")
    assert not opens(server, issued(now - 10, "rose"))
    assert not opens(server, tokens.token("rose")), "a token that does not say when"
    assert opens(server, issued(now + 60, "rose")), "a later token"
    assert opens(server, issued(now - 10, "jack"))
    assert opens(server, tokens.token("rose", app="other"), app="other"), "another app has another rose"
    assert server.counted("revoked_users") >= 1
    plain = await Peer.connect(server)
    assert await plain.refused("session", token=issued(now - 10, "rose")) == "invalid_session"


async def test_a_time_may_be_given_and_the_revocation_ends(server):
    before = int(time.time()) - 100
    await server.api("POST", "/v1/revoke", {"user": "finn", "before": before, "for_s": 2})
    assert not opens(server, issued(before, "finn"))
    assert opens(server, issued(before + 1, "finn"))
    await asyncio.to_thread(wait_until, lambda: opens(server, issued(before, "finn")), 20)


async def test_a_parked_session_of_a_revoked_user_ends(server):
    token = issued(time.time() - 10, "poe", app=KEPT)
    peer = await Peer.connect(server, app=KEPT, session=token)
    ticket = peer.welcome["resume"]
    await lose(server, peer)
    await server.api("POST", "/v1/revoke", {"user": "poe"}, app=KEPT)
    query = {"app": KEPT, "key": client_key(KEPT), "resume": ticket}
    back = Peer(await Peer.open(server, urllib.parse.urlencode(query)))
    welcome = (await asyncio.wait_for(back._first, 5)).object["welcome"]
    assert welcome["user"] is None and welcome["session"] != peer.id


def test_malformed_requests_are_refused(server):
    for body in [{}, {"token_id": 7}, {"token_id": ""}, {"token_id": "t" * 257}, {"token_id": "t", "user": "u"},
                 {"token_id": "t", "before": 1}, {"token_id": "an app whose tokens have no ids"}, {"user": 7}, {"user": ""}, {"user": "u" * 257}, {"user": "u", "before": "now"},
                 {"user": "u", "before": -1}, {"user": "u", "for_s": 0}, {"user": "u", "for_s": 31622401}, [], "u"]:
        assert server.call("POST", "/v1/revoke", body).status == 400, body
    assert server.call("GET", "/v1/revoke").status == 405
    assert server.call("POST", "/v1/revoke", {"user": "u"}, key=client_key()).status == 403


async def test_a_single_token_is_revoked_by_its_id(workers):
    app = App("default", settings={"session_id_claim": "jti", "session_required": True})
    server = Server(config_text(workers, apps=[app]))
    try:
        await one_token(server)
    finally:
        server.stop()


async def one_token(server):
    phone, laptop = tokens.token("rose", jti="phone"), tokens.token("rose", jti="laptop")
    peers = await connect_many(server, 6, session=phone)
    other = await Peer.connect(server, session=laptop)
    nameless = await Peer.connect(server, session=tokens.token("rose", jti=7))
    renewed = await Peer.connect(server, session=phone)
    await renewed.ok("session", token=laptop)
    changed = await Peer.connect(server, session=laptop)
    await changed.ok("session", token=phone)
    answer = await server.api("POST", "/v1/revoke", {"token_id": "phone", "for_s": 3600})
    assert answer == {"disconnected": 7}
    for peer in [*peers, changed]:
        assert await peer.close_code() == 4002
    for peer in [other, nameless, renewed]:
        await peer.ok("ping")
    assert not opens(server, phone) and opens(server, laptop)
    assert await other.refused("session", token=phone) == "invalid_session"
    assert (server.counted("revoked_tokens"), server.counted("revoked_users")) == (1, 0)
    assert await server.api("POST", "/v1/revoke", {"token_id": "nobody", "for_s": 1}) == {"disconnected": 0}


def test_every_dialect_obeys(workers):
    app = App("default", settings={"session_id_claim": "jti"})
    server = Server(config_text(workers, apps=[app]) + "\n[apps.default.agnost]\n[apps.default.xano]\n")
    try:
        check_dialects(server, "7:42", issued(time.time() - 10, "7:42"), {"user": "7:42"})
        check_dialects(server, "7:43", tokens.token("7:43", jti="one"), {"token_id": "one"})
    finally:
        server.stop()


def check_dialects(server, user, token, revoked):
    def agnost():
        wire = Wire(server)
        wire.send(upgrade_request("").replace(b"/v1/ws?", b"/realtime/?EIO=4&transport=websocket"))
        assert wire.response().status == 101
        peer = RawWebSocket.__new__(RawWebSocket)
        peer.socket, peer.buffer = wire.socket, wire.buffer
        assert peer.frame()[1].startswith(b"0")
        auth = {"envId": "default", "apiKey": client_key(), "session": token}
        peer.send_frame(TEXT, b"40" + json.dumps(auth).encode())
        assert peer.frame()[1].startswith(b"40")
        return peer

    def xano():
        wire = Wire(server)
        header = f"Sec-WebSocket-Protocol: {token}\r\n".encode()
        wire.send(upgrade_request("", header).replace(b"/v1/ws?", b"/rt/default"))
        assert wire.response().status == 101
        peer = RawWebSocket.__new__(RawWebSocket)
        peer.socket, peer.buffer = wire.socket, wire.buffer
        return peer

    def users():
        found = server.call("GET", "/v1/sessions").json["sessions"]
        return [session.get("user") for session in found]

    peers = [agnost(), xano()]
    wait_until(lambda: users() == [user, user])
    assert server.call("POST", "/v1/revoke", revoked).json == {"disconnected": 2}
    for peer in peers:
        peer.close_code()
    peers = [agnost(), xano()]
    wait_until(lambda: users() == [None, None])
    for peer in peers:
        peer.socket.close()
    wait_until(lambda: users() == [])
