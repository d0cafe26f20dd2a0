"""An app's back end as http triggers meet it: Python's own HTTP server, with a decision for each event.

The server must not know what any test is about. A test may decide about an event (`decide`), or write the bytes of
a reply itself (`reply`).
"""

import contextlib
import http.server
import json
import socket
import threading
from dataclasses import dataclass


@dataclass
class Request:
    """A request as it came."""

    path: str
    headers: dict
    body: bytes
    # A number of its own for each connection.
    connection: int

    @property
    def events(self):
        body = json.loads(self.body)
        return body.get("events", [body])


PASS = {"verdict": "pass"}


class BackEnd:
    """`decide(event)` returns a verdict. `reply(handler, request)`, where given, writes the whole reply."""

    def __init__(self, decide=lambda event: PASS, reply=None, tls=None, close=False):
        self.decide, self.reply, self.close_after_reply = decide, reply, close
        self.requests = []
        self.connections = 0
        # Set when a connection was closed on both sides: the peer knows of it.
        self.closed = threading.Event()
        back_end = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                back_end.connections += 1
                self.number = back_end.connections
                if tls:
                    self.request.settimeout(10)
                    self.request = tls.wrap_socket(self.request, server_side=True)
                super().setup()

            def finish(self):
                super().finish()
                with contextlib.suppress(OSError):
                    self.request.shutdown(socket.SHUT_WR)
                    self.request.settimeout(30)
                    while self.request.recv(4096):
                        pass
                self.request.close()
                back_end.closed.set()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body, self.number)
                back_end.requests.append(request)
                if back_end.reply:
                    return back_end.reply(self, request)
                return self.answer(back_end.judge(request))

            do_GET = do_POST

            def answer(self, value, status=200, content_type="application/json", **headers):
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                # The reply promises that the connection stays open. Whoever has the reply may change this.
                closes = back_end.close_after_reply
                self.wfile.write(body)
                self.close_connection = closes

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            request_queue_size = 64
            daemon_threads = True

            def handle_error(self, *_):
                # A connection that the other end broke off, or whose greeting failed.
                pass

        self._server = Listener(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def judge(self, request):
        verdicts = [self.decide(event) for event in request.events]
        return {"verdicts": verdicts} if "events" in json.loads(request.body) else verdicts[0]

    def url(self, scheme="http", host="127.0.0.1"):
        return f"{scheme}://{host}:{self.port}/fanfare?x=1"

    @property
    def events(self):
        return [event for request in self.requests for event in request.events]

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
