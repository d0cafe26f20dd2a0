"""An issuer of session tokens: it serves its keys over HTTP or HTTPS, well or badly."""

import base64
import http.server
import json
import ssl
import threading

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519


def signing_key():
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key, kid, **members):
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    x = base64.urlsafe_b64encode(key.public_key().public_bytes(*raw)).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x, "use": "sig"} | members


def document(*keys):
    return json.dumps({"keys": list(keys)}).encode()


class Issuer:
    """Answers `GET /keys` with `body`, and counts the requests. `hold` keeps an answer back until it is set."""

    def __init__(self, certificate=None):
        issuer = self
        self.body, self.status, self.headers = b"", 200, {"Cache-Control": "max-age=1"}
        self.requests, self.hold = 0, None

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.requests += 1
                if issuer.hold is not None:
                    issuer.hold.wait(30)
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(issuer.body)))
                self.end_headers()
                try:
                    self.wfile.write(issuer.body)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{certificate}.crt", f"{certificate}.key")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://localhost:{self.port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self):
        """Nobody listens on the port any more."""
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()


def signed(key, kid, user="luke", **claims):
    claims = {"sub": user, "exp": 4_000_000_000} | claims
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid})
