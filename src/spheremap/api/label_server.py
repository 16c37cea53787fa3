"""The page on which photographs are labelled, on this machine only (`spheremap.api.local_server`).

Photographs are asked for by their number, never by a path. The one address that changes anything takes JSON,
from the page itself: Host and Origin must be the server's, and the address begins with its token.
"""

import dataclasses
import io
import json
from collections.abc import Sequence
from http import HTTPStatus
from threading import Lock
from urllib.parse import parse_qs

import numpy as np
from PIL import Image

from spheremap.api.local_server import LocalHandler, LocalServer
from spheremap.base.errors import SpheremapError
from spheremap.base.shortage import shortage_of
from spheremap.data.images import load_rgb
from spheremap.data.labels import SPLITS_IN_TURN, Labels
from spheremap.data.shapes.camera import BIN_WIDTH, BINS, framed, look_at_origin
from spheremap.data.shapes.models import make_instance
from spheremap.data.shapes.scene import render, solid
from spheremap.report.page import render_labelling
from spheremap.report.pictures import data_uri

_SIDE = 1600  # px, longer side of a photograph on the page
_QUALITY = 90
_ICON = 80  # px, side of a picture of a viewpoint
_ANIMAL, _LIGHT = 3, 4  # seeds of the drawn quadruped on them, a pig, and of its light
_MOST = 1_000_000  # bytes of a request


class LabelServer(LocalServer):
    """Serves the labels of one folder on the loopback address."""

    def __init__(self, labels: Labels, names: Sequence[str], port: int = 0) -> None:
        """Listen; `serve_forever` answers.

        Args:
            labels: of the folder.
            names: of keypoints, with which a new category begins.
            port: 0 for a random free one.

        Raises:
            InputError: if the port cannot be had.
        """
        super().__init__(_Handler, port)
        self.labels, self.names = labels, list(names)
        self.lock = Lock()  # a step at a time
        self.viewpoints = _viewpoints()
        self.photographs = list(labels.sizes)
        self.policy = self.page()[1]

    def page(self) -> tuple[str, str]:
        """The page, with the labels as they are now, and its content security policy."""
        with self.lock:
            sizes, labels, names = self.labels.sizes, self.labels.labels, self.labels.names
        photographs = [{"name": name, "width": w, "height": h} for name, (w, h) in sizes.items()]
        data = {
            "photographs": photographs,
            "labels": {name: dataclasses.asdict(label) for name, label in labels.items()},
            "names": names,
            "begin": self.names,
        }
        return render_labelling(data, self.viewpoints, SPLITS_IN_TURN)

    def photograph(self, number: int) -> bytes:
        """A photograph as JPEG, at most `_SIDE` px large.

        Raises:
            IndexError: if there is none of this number.
            InputError: if it cannot be read.
        """
        picture = Image.fromarray(load_rgb(self.labels.root / self.photographs[number]))
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=_QUALITY)
        return stream.getvalue()


def _viewpoints() -> list[str]:
    """An animal seen from each of the viewpoints, drawn as those of the embedded data set."""
    subject = solid(make_instance("quadruped", np.random.default_rng(_ANIMAL)).mesh)
    pictures = []
    for number in range(BINS):
        position, axes = look_at_origin(number * BIN_WIDTH, 20, 4.5)
        camera = framed(position, axes, subject.mesh.vertices, _ICON, 0.95, np.zeros(2))
        drawn = render(subject, camera, np.random.default_rng(_LIGHT))
        pictures.append(data_uri(Image.fromarray(np.dstack([drawn.rgb, drawn.mask * np.uint8(255)]))))
    return pictures


class _Handler(LocalHandler):
    server: LabelServer

    def get(self, address: str, query: str) -> None:
        number = parse_qs(query).get("number", [""])[0]
        if address == "":
            self.send(HTTPStatus.OK, self.server.page()[0].encode(), "text/html; charset=utf-8")
        elif address == "photograph" and number.isascii() and number.isdigit():
            self._photograph(int(number[:9]))
        else:
            self.send_nothing()

    def _photograph(self, number: int) -> None:
        try:
            content = self.server.photograph(number)
        except IndexError:
            self.send_nothing()
        except SpheremapError as error:
            self.send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        else:
            self.send(HTTPStatus.OK, content, "image/jpeg")

    def do_POST(self) -> None:
        self.close_connection = True  # whatever is left of a body that is refused
        if not self.is_from_here():
            return
        length = self.headers.get("Content-Length", "")
        if self.address()[0] != "save":
            self.send_nothing()
        elif "Origin" not in self.headers or self.headers.get("Content-Type") != "application/json":
            self.send(HTTPStatus.FORBIDDEN, b"not from the page", "text/plain")
        elif not (length.isascii() and length.isdigit() and len(length) < 9 and int(length) <= _MOST):
            self.send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"too large", "text/plain")
        else:
            self._save(self.rfile.read(int(length)))

    def _save(self, content: bytes) -> None:
        try:
            step = json.loads(content)
            with self.server.lock:
                label = self.server.labels.save(step)
        except (ValueError, RecursionError):
            self.send_json(HTTPStatus.BAD_REQUEST, {"error": "not JSON"})
        except SpheremapError as error:
            self.send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except OSError as error:  # the disk is full, or the folder may not be written to
            self.send_json(HTTPStatus.INSUFFICIENT_STORAGE, {"error": str(shortage_of(error) or error)})
        else:
            self.send_json(HTTPStatus.OK, {"split": label and label.split})
