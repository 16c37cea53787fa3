"""The explorer of two photographs: a page that asks this process for matches, on this machine only.

The server listens on the loopback address. Every address it answers begins with a random token, so that other
users of the machine cannot guess it. It refuses requests whose Host is not its own (a web page that points
its own name to 127.0.0.1) or whose Origin is another (a web page that sends requests here), and it knows two
addresses only: the page and the matches. It reads no file and no request's body after it has started.
"""

import hmac
import json
import math
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from spheremap.api.matcher import Description, Matcher
from spheremap.api.results import shrink
from spheremap.base.errors import InputError
from spheremap.report.explorer import picture_of, text_of
from spheremap.report.page import render_explorer

LOOPBACK = "127.0.0.1"
_SIDE = 720  # px, longer side of a photograph on the page
_IDLE = 30.0  # s after which a silent connection is closed
_ADDRESS = "match"  # where the page asks


class Explorer:
    """The matches of one pair of photographs, as the page asks for them."""

    def __init__(self, matcher: Matcher, source: Description, target: Description) -> None:
        self._matcher, self._source, self._target = matcher, source, target
        self._lock = Lock()  # one computation at a time: they share the processor's threads

    def match(self, x: float, y: float, sphere_weight: float) -> dict[str, Any]:
        """Where the point lies in the target, by features, sphere, and both fused.

        Returns:
            For each the match, (x, y) in pixels of the target, and the map: the similarity of all patches,
            row by row, float32 as base64.

        Raises:
            InputError: for a point outside the source or a weight outside [0, 1].
        """
        with self._lock:
            matches = self._matcher.match(self._source, self._target, [(x, y)], sphere_weight=sphere_weight)
            found = self._matcher.similarity(self._source, self._target, matches.source_xy, sphere_weight)
        return {
            row: {
                "match": matches.target_xy[row][0].tolist(),
                "map": text_of(similarity[0].cpu().numpy().astype("<f4")),
            }
            for row, similarity in found.items()
        }

    def page(self, names: tuple[str, str]) -> tuple[str, str]:
        """The page, with both photographs inside, and its content security policy."""
        source, target = (
            picture_of(shrink(own.photograph, _SIDE), name, own.photograph.size, own.box)
            for own, name in zip((self._source, self._target), names, strict=True)
        )
        pair = {"source": source, "target": target, "keypoints": []}
        data = {"grid": list(self._source.grid), "pairs": [pair], "ask": _ADDRESS}
        return render_explorer(data, self._matcher.weight_for(self._source, self._target))


class ExplorerServer(ThreadingHTTPServer):
    """Serves one explorer on the loopback address.

    Attributes:
        url: where the page is.
    """

    daemon_threads = True  # an open connection does not keep the process alive

    def __init__(self, explorer: Explorer, names: tuple[str, str], port: int = 0) -> None:
        """Listen; `serve_forever` answers.

        Args:
            explorer: what is explored.
            names: of the photographs, shown on the page.
            port: 0 for a random free one.

        Raises:
            InputError: if the port cannot be had.
        """
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot listen on port {port}", found=str(error), fix="choose another --port, or none"
            ) from error
        token = secrets.token_urlsafe(16)
        self.explorer = explorer
        page, self.policy = explorer.page(names)
        self.content = page.encode()
        self.hosts = [f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")]
        self.root = f"/{token}/"
        self.url = f"http://{self.hosts[0]}{self.root}"


class _Handler(BaseHTTPRequestHandler):
    server: ExplorerServer
    server_version = "spheremap"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _IDLE

    def do_GET(self) -> None:
        hosts = self.server.hosts
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in hosts or (
            origin is not None and origin not in [f"http://{host}" for host in hosts]
        ):
            self._send(HTTPStatus.FORBIDDEN, b"not from here", "text/plain")
            return
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # the body would be taken for the next request
            self._send(HTTPStatus.BAD_REQUEST, b"no bodies", "text/plain")
            return
        address = urlsplit(self.path)
        root, page = address.path[: len(self.server.root)], address.path[len(self.server.root) :]
        # in a time that does not tell how much of the token is right
        known = hmac.compare_digest(root.encode(), self.server.root.encode())
        if known and page == "":
            self._send(HTTPStatus.OK, self.server.content, "text/html; charset=utf-8")
        elif known and page == _ADDRESS:
            self._match(parse_qs(address.query))
        else:
            self._send(HTTPStatus.NOT_FOUND, b"nothing here", "text/plain")

    def _match(self, query: dict[str, list[str]]) -> None:
        try:
            x, y, weight = (float(query[name][0]) for name in ("x", "y", "weight"))
            if not all(map(math.isfinite, (x, y, weight))):
                raise ValueError
            answer: dict[str, Any] = self.server.explorer.match(x, y, weight)
        except (KeyError, ValueError):
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "x, y and weight must be numbers"})
        except InputError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        else:
            self._send_json(HTTPStatus.OK, answer)

    def _send_json(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
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
