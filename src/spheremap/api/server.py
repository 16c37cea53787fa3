"""The explorer: two photographs on a page that asks this process for matches, on this machine only.

The server listens on the loopback address. Every address it answers begins with a random token, so that other
users of the machine cannot guess it. It refuses requests whose Host is not its own (a web page that points
its own name to 127.0.0.1) or whose Origin is another (a web page that sends requests here), and it knows two
addresses only: the page and the matches. It reads no file and no request's body after it has started.
"""

import base64
import hmac
import io
import json
import math
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from spheremap.api.matcher import Description, Matcher
from spheremap.api.results import shrink
from spheremap.base.errors import InputError

LOOPBACK = "127.0.0.1"
_SIDE = 720  # px, longer side of a photograph on the page
_IDLE = 30.0  # s after which a silent connection is closed
_TEMPLATE = Path(__file__).with_name("explorer.html")


class Explorer:
    """The matches of one pair of photographs, as the page asks for them."""

    def __init__(self, matcher: Matcher, source: Description, target: Description) -> None:
        self._matcher, self._source, self._target = matcher, source, target
        self._lock = Lock()  # one computation at a time: they share the processor's threads

    def match(self, x: float, y: float, sphere_weight: float) -> dict[str, Any]:
        """Where the point lies in the target, by every row of the table.

        Returns:
            row to {x, y, similarity, low, high, map}: the match in pixels of the target, its similarity, the
            lowest and highest similarity of all patches, and all of them from low (0) to high (255), row by
            row, as base64.

        Raises:
            InputError: for a point outside the source or a weight outside [0, 1].
        """
        with self._lock:
            matches = self._matcher.match(self._source, self._target, [(x, y)], sphere_weight=sphere_weight)
            found = self._matcher.similarity(self._source, self._target, matches.source_xy, sphere_weight)
        answer = {}
        for row, similarity in found.items():
            values = similarity[0].cpu().numpy().astype(np.float64)
            low, high = float(values.min()), float(values.max())
            scaled = ((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
            answer[row] = {
                "x": float(matches.target_xy[row][0, 0]),
                "y": float(matches.target_xy[row][0, 1]),
                "similarity": float(matches.similarity[row][0]),
                "low": low,
                "high": high,
                "map": base64.b64encode(scaled.tobytes()).decode("ascii"),
            }
        return answer

    def page(self, nonce: str, names: tuple[str, str]) -> bytes:
        """The page, with both photographs inside."""
        data = {
            "source": _photograph(self._source, names[0]),
            "target": _photograph(self._target, names[1]),
            "sphereWeight": self._matcher.sphere_weight,
        }
        # "<" could end the script in which the data stand
        text = json.dumps(data).replace("<", "\\u003c")
        template = _TEMPLATE.read_text(encoding="utf-8")
        return template.replace("NONCE", nonce).replace("/*DATA*/", text).encode()


def _photograph(description: Description, name: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    picture: Image.Image = shrink(description.photograph, _SIDE)
    picture.save(buffer, "JPEG", quality=88)
    return {
        "name": name,
        "size": list(description.photograph.size),
        "grid": list(description.grid),
        "box": description.box.tolist(),
        "uri": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"),
    }


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
        self.nonce = secrets.token_urlsafe(16)
        self.content = explorer.page(self.nonce, names)
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
        elif known and page == "match":
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
        nonce = self.server.nonce
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the terminal shows the address alone."""
