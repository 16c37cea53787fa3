"""An HTTP server on this machine that fails in the ways real ones do, on demand."""

import contextlib
import socket
import struct
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
        reset: end it by a reset instead of in good order.
        hold: at the cut keep silent, until the server closes, instead of ending the connection.
        drip: send the body byte by byte with so many seconds in between.
        length: state this length instead of the true one; None: state none.
        shift: answer a range that begins so many bytes later than asked for.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    page: str | None = None
    cut: int | None = None
    reset: bool = False
    hold: bool = False
    drip: float | None = None
    length: int | str | None = "true"
    shift: int = 0


@dataclass
class Resource:
    """A file that the server has.

    `ranges`: "yes"; "always" (whatever If-Range says); "none" (no header Accept-Ranges) and "ignored" (the
    header is sent, but the answer is always the whole file). Each request takes the next of `faults`; without
    any left all goes well.
    """

    content: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: str = "yes"
    chunked: bool = False
    content_type: str = "application/octet-stream"
    faults: list[Fault] = field(default_factory=list)


@dataclass
class Request:
    """What a client asked for."""

    path: str
    query: str
    range: str | None
    if_range: str | None
    cookie: str | None


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

    def ranges_of(self, path: str) -> list[str | None]:
        """The header Range of each request for a path."""
        return [request.range for request in self.requests if request.path == path]

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
        asked = self.headers["Range"]
        self.server.requests.append(
            Request(address.path, address.query, asked, self.headers["If-Range"], self.headers["Cookie"])
        )
        resource = self.server.resources.get(address.path)
        if resource is None:
            self._answer(404, {"Content-Length": "0"})
            return
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
        start = self._start(resource)
        total = len(resource.content)
        if start is not None and start >= total:
            self._answer(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
            return
        headers = {"Content-Type": resource.content_type}
        if resource.etag:
            headers["ETag"] = resource.etag
        if resource.last_modified:
            headers["Last-Modified"] = resource.last_modified
        if resource.ranges != "none":
            headers["Accept-Ranges"] = "bytes"
        if start is not None:
            start += fault.shift
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        body = resource.content[start or 0 :]
        if resource.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif fault.length is not None:
            headers["Content-Length"] = str(len(body) if fault.length == "true" else fault.length)
        self._answer(200 if start is None else 206, headers | fault.headers)
        self._send_body(resource, fault, body)

    def _send_body(self, resource: Resource, fault: Fault, body: bytes) -> None:
        sent = body if fault.cut is None else body[: fault.cut]
        if fault.drip is not None:
            for byte in sent:
                self.wfile.write(bytes([byte]))
                if self.server.closing.wait(fault.drip):
                    return
        elif resource.chunked:
            for i in range(0, len(sent), 1000):
                piece = sent[i : i + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if fault.cut is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(sent)
        if fault.hold:
            self.server.closing.wait(60)
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _start(self, resource: Resource) -> int | None:
        """First byte of the range to send; None for the whole file."""
        asked = self.headers["Range"]
        if asked is None or resource.ranges not in ("yes", "always"):
            return None
        condition = self.headers["If-Range"]
        met = resource.ranges == "always" or condition is None
        if not met and condition not in (resource.etag, resource.last_modified):
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
