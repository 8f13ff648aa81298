"""A server on the loopback that sends given bytes, for responses that no library would send."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[bytes], Iterator[bytes]]
"""Called with the head of a request; yields the blocks to send, after which the connection is closed."""


def said(*blocks: bytes) -> Answer:
    """An answer that is the same to every request."""
    return lambda _head: iter(blocks)


def head(status: str, *lines: bytes) -> bytes:
    """The head of a response."""
    return b"\r\n".join([f"HTTP/1.1 {status}".encode(), *lines, b"Connection: close", b"", b""])


def whole(status: str, body: bytes, *lines: bytes) -> bytes:
    """A response with a length."""
    return head(status, b"Content-Length: %d" % len(body), *lines) + body


@contextmanager
def sending(answers: dict[str, Answer]) -> Iterator[str]:
    """The URL of a server that answers by path, others with status 404; stopped at the end."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request and (block := connection.recv(65536)):
                request += block
            path = request.split(b" ")[1].decode().lstrip("/") if request else ""
            for block in answers.get(path, said(whole("404 Not Found", b"")))(request):
                connection.sendall(block)
                if ended.is_set():
                    return

    def accept() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
