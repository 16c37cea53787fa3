"""An HTTP server on this machine that fails in the ways real ones do, on demand."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What goes wrong with one request.

    Args:
        status: answer with this code and no file.
        headers: further headers of the answer.
        page: an HTML page instead of the file.
        cut: end the connection after so many bytes of the body.
        hold: at the cut keep silent, until the server closes, instead of ending the connection.
        no_length: do not say how long the body is.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    page: str | None = None
    cut: int | None = None
    hold: bool = False
    no_length: bool = False


@dataclass
class Resource:
    """A file that the server has. Each request takes the next of `faults`; without any left all goes well."""

    content: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True  # parts are sent where asked for
    chunked: bool = False
    faults: list[Fault] = field(default_factory=list)


@dataclass
class Request:
    """What a client asked for."""

    path: str
    query: str
    headers: Any


class FaultyServer(ThreadingHTTPServer):
    """Serves `resources` by path; `requests` lists what was asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.resources: dict[str, Resource] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def paths(self) -> list[str]:
        """The path of each request."""
        return [request.path for request in self.requests]

    def ranges_of(self, path: str) -> list[str | None]:
        """The header Range of each request for a path."""
        return [request.headers["Range"] for request in self.requests if request.path == path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


@contextlib.contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """A server that runs in a thread until the block ends."""
    server = FaultyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.server.requests.append(Request(address.path, address.query, self.headers))
        resource = self.server.resources.get(address.path, Resource(b"", faults=[Fault(status=404)]))
        fault = resource.faults.pop(0) if resource.faults else Fault()
        if fault.page is not None:
            body = fault.page.encode()
            headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
            self._answer(fault.status, headers | fault.headers)
            self.wfile.write(body)
        elif fault.status != 200:
            self._answer(fault.status, {"Content-Length": "0"} | fault.headers)
        else:
            self._send(resource, fault)

    def _send(self, resource: Resource, fault: Fault) -> None:
        start, total = self._start(resource), len(resource.content)
        if start is not None and start >= total:
            self._answer(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
            return
        headers = {"ETag": resource.etag, "Last-Modified": resource.last_modified}
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        body = resource.content[start or 0 :]
        if resource.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif not fault.no_length:
            headers["Content-Length"] = str(len(body))
        self._answer(200 if start is None else 206, {k: v for k, v in headers.items() if v} | fault.headers)
        body, whole = body[: fault.cut], fault.cut is None
        if resource.chunked:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) + b"0\r\n\r\n" * whole)
        else:
            self.wfile.write(body)
        if fault.hold:
            self.server.closing.wait(60)

    def _start(self, resource: Resource) -> int | None:
        """First byte of the range to send; None for the whole file."""
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        if asked is None or not resource.ranges:
            return None
        if condition not in (None, resource.etag, resource.last_modified):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at `requests` instead."""
