"""Pages that this process serves to the browsers of this machine alone.

A server listens on the loopback address. Every address it answers begins with a random token, so that other
users of the machine cannot guess it. It refuses requests whose Host is not its own (a web page that points
its own name to 127.0.0.1) or whose Origin is another (a web page that sends requests here).
"""

import hmac
import json
import secrets
import sys
import webbrowser
from abc import ABC, abstractmethod
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from spheremap.base.errors import InputError

LOOPBACK = "127.0.0.1"
_IDLE = 30.0  # s after which a silent connection is closed


class LocalServer(ThreadingHTTPServer):
    """Listens on the loopback address.

    Attributes:
        url: where the page is.
        policy: the content security policy of all answers.
    """

    daemon_threads = True  # an open connection does not keep the process alive
    policy: str

    def __init__(self, handler: type["LocalHandler"], port: int) -> None:
        """Listen; `serve_forever` answers.

        Args:
            handler: what answers.
            port: 0 for a random free one.

        Raises:
            InputError: if the port cannot be had.
        """
        try:
            super().__init__((LOOPBACK, port), handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot listen on port {port}", found=str(error), fix="choose another --port, or none"
            ) from error
        self.hosts = [f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")]
        self.root = f"/{secrets.token_urlsafe(16)}/"
        self.url = f"http://{self.hosts[0]}{self.root}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that no longer wants its answer is no fault."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def show(self, browser: bool) -> None:
        """Print the address, open it in the browser if wanted, and serve until interrupted."""
        print(f"{self.url}  (Ctrl-C to end)", flush=True)
        if browser:
            webbrowser.open(self.url)
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            print()


class LocalHandler(BaseHTTPRequestHandler, ABC):
    """Hands on what may be asked: `get` is given the address behind the token, and the query."""

    server: LocalServer
    server_version = "spheremap"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _IDLE

    @abstractmethod
    def get(self, address: str, query: str) -> None:
        """Answer a request."""

    def do_GET(self) -> None:
        if not self.is_from_here():
            return
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # the body would be taken for the next request
            self.send(HTTPStatus.BAD_REQUEST, b"no bodies", "text/plain")
            return
        address, query = self.address()
        if address is None:
            self.send_nothing()
        else:
            self.get(address, query)

    def is_from_here(self) -> bool:
        """Whether Host and Origin are the server's own; if not, the request is answered."""
        hosts, origin = self.server.hosts, self.headers.get("Origin")
        if self.headers.get("Host") in hosts and origin in (None, *(f"http://{host}" for host in hosts)):
            return True
        self.close_connection = True  # a body would be taken for the next request
        self.send(HTTPStatus.FORBIDDEN, b"not from here", "text/plain")
        return False

    def address(self) -> tuple[str | None, str]:
        """The address behind the token, None behind another, and the query."""
        asked = urlsplit(self.path)
        root, rest = asked.path[: len(self.server.root)], asked.path[len(self.server.root) :]
        # in a time that does not tell how much of the token is right
        known = hmac.compare_digest(root.encode(), self.server.root.encode())
        return rest if known else None, asked.query

    def send_nothing(self) -> None:
        """Answer that nothing is at this address."""
        self.send(HTTPStatus.NOT_FOUND, b"nothing here", "text/plain")

    def send_json(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        """Answer with JSON."""
        self.send(status, json.dumps(answer).encode(), "application/json")

    def send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        """Answer with content of a media type."""
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", self.server.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the terminal shows the address alone."""
