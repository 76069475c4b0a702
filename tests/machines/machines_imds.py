"""A small instance metadata service, version 2, over real HTTP."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Imds:
    """`paths` answers; other paths are a 404. `tokens` are valid; cleared, they have expired."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.issued = 0
        self.base = ""


@contextmanager
def serve() -> Iterator[Imds]:
    imds = Imds()

    class Answer(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            if self.path != "/latest/api/token" or not self.headers.get(
                "X-aws-ec2-metadata-token-ttl-seconds"
            ):
                return self.say(400, "")
            token = secrets.token_hex(8)
            imds.tokens.add(token)
            imds.issued += 1
            return self.say(200, token)

        def do_GET(self) -> None:
            if self.headers.get("X-aws-ec2-metadata-token") not in imds.tokens:
                return self.say(401, "")
            found = imds.paths.get(self.path.removeprefix("/latest/meta-data/"))
            return self.say(404, "") if found is None else self.say(200, found)

        def say(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    imds.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield imds
    finally:
        server.shutdown()
        server.server_close()
