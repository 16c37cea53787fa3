"""The explorer of two photographs: a page that asks this process for matches, on this machine only.

It knows two addresses: the page and the matches. It reads no file and no request's body after it has started.
"""

import math
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

from spheremap.api.local_server import LocalHandler, LocalServer
from spheremap.api.matcher import Description, Matcher, check_points
from spheremap.api.results import shrink
from spheremap.base.errors import InputError
from spheremap.report.explorer import picture_of, text_of
from spheremap.report.page import render_explorer

_SIDE = 720  # px, longer side of a photograph on the page
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
            row by row, float32 as base64. Those of the padding, which cannot be matches, have the lowest one.

        Raises:
            InputError: for a point outside the source or a weight outside [0, 1].
        """
        xy, padding = check_points([(x, y)], self._source.photograph.size), self._target.padding
        answer = {}
        with self._lock:
            found = self._matcher.similarity(self._source, self._target, xy, sphere_weight)
            for method, similarity in found.items():
                places, _ = self._matcher.places(similarity, self._target)
                shown = similarity[0].masked_fill(padding, similarity[0, ~padding].min())
                values = text_of(shown.cpu().numpy().astype("<f4"))
                answer[method] = {"match": places[0].tolist(), "map": values}
        return answer

    def page(self, names: tuple[str, str]) -> tuple[str, str]:
        """The page, with both photographs inside, and its content security policy."""
        source, target = (
            picture_of(shrink(own.photograph, _SIDE), name, own.photograph.size, own.box)
            for own, name in zip((self._source, self._target), names, strict=True)
        )
        pair = {"source": source, "target": target, "keypoints": []}
        data = {"grid": list(self._source.grid), "pairs": [pair], "ask": _ADDRESS}
        return render_explorer(data, self._matcher.weight_for(self._source, self._target))


class ExplorerServer(LocalServer):
    """Serves one explorer on the loopback address."""

    def __init__(self, explorer: Explorer, names: tuple[str, str], port: int = 0) -> None:
        """Listen; `serve_forever` answers.

        Args:
            explorer: what is explored.
            names: of the photographs, shown on the page.
            port: 0 for a random free one.

        Raises:
            InputError: if the port cannot be had.
        """
        super().__init__(_Handler, port)
        self.explorer = explorer
        page, self.policy = explorer.page(names)
        self.content = page.encode()


class _Handler(LocalHandler):
    server: ExplorerServer

    def get(self, address: str, query: str) -> None:
        if address == "":
            self.send(HTTPStatus.OK, self.server.content, "text/html; charset=utf-8")
        elif address == _ADDRESS:
            self._match(parse_qs(query))
        else:
            self.send_nothing()

    def _match(self, query: dict[str, list[str]]) -> None:
        try:
            x, y, weight = (float(query[name][0]) for name in ("x", "y", "weight"))
            if not all(map(math.isfinite, (x, y, weight))):
                raise ValueError
            answer: dict[str, Any] = self.server.explorer.match(x, y, weight)
        except (KeyError, ValueError):
            self.send_json(HTTPStatus.BAD_REQUEST, {"error": "x, y and weight must be numbers"})
        except InputError as error:
            self.send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        else:
            self.send_json(HTTPStatus.OK, answer)
