"""A server on the loopback that misbehaves on request, for tests and the download benchmark."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """One address. A fault is met by the first `faults` requests (GET), or by all where it is None."""

    body: bytes = b""
    etag: str | None = None
    fault: str | None = None
    faults: int | None = None
    kind: str = "application/octet-stream"
    location: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    after: "Page | None" = None
    """What the page becomes once its faults are spent."""


@dataclass
class Site:
    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def address(self, path: str) -> str:
        return f"{self.url}/{path}"

    def asked(self, path: str) -> list[dict[str, str]]:
        return [headers for method, name, headers in self.log if method == "GET" and name == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_GET(self) -> None:
        self._serve("GET")

    def _serve(self, method: str) -> None:
        path = self.path.lstrip("/")
        self.site.log.append((method, path, dict(self.headers)))
        page = self.site.pages.get(path)
        if page is None:
            return self._head(404, 0)
        fault = page.fault
        if fault is not None and page.faults is not None and method == "GET":
            page.faults -= 1
            if page.faults == 0:
                page.fault = None
                if page.after is not None:
                    self.site.pages[path] = page.after
        if fault in {"429", "500", "503", "403"}:
            return self._head(int(fault), 0, page.headers)
        if fault == "redirect":
            return self._head(302, 0, {"Location": page.location})
        return self._body(page, fault, method)

    def _body(self, page: Page, fault: str | None, method: str) -> None:
        body, start, status = page.body, 0, 200
        headers = dict(page.headers) | ({"ETag": page.etag} if page.etag else {})
        if page.etag and self.headers.get("If-None-Match") == page.etag:
            return self._head(304, None, headers)
        asked = self.headers.get("Range")
        if asked and page.ranges and self.headers.get("If-Range", page.etag) == page.etag:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(body):
                return self._head(416, 0, {"Content-Range": f"bytes */{len(body)}"})
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        announced = len(rest) + 10 if fault == "long" else len(rest)
        self._head(status, None if fault == "lengthless" else announced, headers | {"Content-Type": page.kind})
        if method == "HEAD":
            return None
        return self._send(rest, fault)

    def _send(self, rest: bytes, fault: str | None) -> None:
        half = rest[: len(rest) // 2]
        try:
            if fault == "cut":
                self.wfile.write(half)
                self.close_connection = True
            elif fault == "stall":
                self.wfile.write(half)
                self.wfile.flush()
                time.sleep(4)
                self.close_connection = True
            elif fault == "trickle":
                for place in range(len(rest)):
                    self.wfile.write(rest[place : place + 1])
                    self.wfile.flush()
                    time.sleep(0.02)
            else:
                self.wfile.write(rest)
                self.close_connection = fault in {"long", "lengthless"}
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _head(self, status: int, length: int | None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def serving() -> Iterator[Site]:
    """A site on a free port of 127.0.0.1, stopped at the end."""
    site = Site("")
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
