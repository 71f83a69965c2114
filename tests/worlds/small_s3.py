"""A server on loopback that speaks as much of S3 as banks need, and answers chosen PUTs wrongly."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

Fault = Callable[[str, int], str | None]
"""(path, number of the PUT) -> what happens to it: `409` or `412` without storing, `500 stored`, `409 stored`, None."""


class Bucket(ThreadingHTTPServer):
    """A server that speaks as much of S3 as conditional writes need, and answers chosen PUTs wrongly."""

    daemon_threads = True

    def __init__(self, fault: Fault) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.held, self.puts, self.lock = fault, {}, itertools.count(), threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 22:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            fault = self.server.fault(self.path, next(self.server.puts))
            taken = self.headers.get("If-None-Match") == "*" and self.path in self.server.held
            if not taken and (fault is None or fault.endswith("stored")):
                self.server.held[self.path] = body
        self.answer(int(fault.split()[0]) if fault else 412 if taken else 200)

    def do_DELETE(self) -> None:
        self.server.held.pop(self.path, None)
        self.answer(204)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        if "list-type" in asked:
            there = self.listing(url.path.strip("/"), asked.get("prefix", [""])[0])
        else:
            there = self.server.held.get(self.path)
        self.answer(404) if there is None else self.answer(200, there)

    def listing(self, bucket: str, prefix: str) -> bytes:
        start = len(bucket) + 2
        names = sorted(unquote(path)[start:] for path in list(self.server.held))
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-11-30T22:00:00.000Z</LastModified>"
            f"<ETag>x</ETag><Size>{len(self.server.held[quote(f'/{bucket}/{name}')])}</Size></Contents>"
            for name in names
            if name.startswith(prefix)
        )
        head = f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult>{head}{contents}</ListBucketResult>".encode()

    def do_HEAD(self) -> None:
        self.do_GET()
