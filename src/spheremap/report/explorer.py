"""The explorer in the report: pairs of pictures, and all the page needs to find a point of one in the other.

What is shown as the match is never computed in the page: for the keypoints it is the evaluation's prediction,
by every method, and for every other point the patch of highest similarity by features, sphere and their
mixtures, found here from the full descriptors. Only the similarity maps are computed in the page, from
features rounded to fit.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spheremap.base.progress import progress
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.engine.descriptors import unit, weighted_sum
from spheremap.methods.engine.method import Method
from spheremap.methods.fused import FEATURES, SPHERE
from spheremap.model.head import Head, sphere_points
from spheremap.report.matches import Match
from spheremap.report.names import readable
from spheremap.report.pictures import data_uri

SIDE = 384  # px, longer side of a picture
POINT_STEPS = 32767  # of the sphere's coordinates, as int16
# steps from 0 to the largest coordinate of a pair's features, tried from fine to coarse
_LEVELS = (127, 90, 63, 45, 31, 22, 15, 11, 7)
_BASE64 = 4 / 3  # bytes on the page per byte


@dataclass(frozen=True)
class Explorer:
    """What the page embeds.

    Attributes:
        data: see `explorer.js`; plain JSON.
        error: largest difference between a features' similarity drawn and the true one, over all pairs.
    """

    data: dict[str, Any]
    error: float


def mixtures(methods: Mapping[str, Method]) -> dict[str, tuple[float, float]]:
    """The methods that the page can compute, with their weights of features and sphere."""
    return {
        name: (method.parts().get(FEATURES, 0.0), method.parts().get(SPHERE, 0.0))
        for name, method in methods.items()
        if type(method).compare is Method.compare and method.parts().keys() <= {FEATURES, SPHERE}
    }


def build_explorer(
    matches: Sequence[tuple[str, str, str, Match]],
    cache: FeatureCache,
    head: Head,
    *,
    weights: Mapping[str, tuple[float, float]],
    megabytes: float,
) -> Explorer:
    """Gather pictures, keypoints, answers and descriptors of some pairs.

    Args:
        matches: (title, source, target, match) of each pair: image ids, and what was drawn of it.
        cache: features of whole images.
        head: the trained head.
        weights: of features and sphere, by method.
        megabytes: how much of the page descriptors and answers may take, in equal shares. The features are
            rounded to fit, and cut to one direction if need be.
    """
    patches = cache.grid[0] * cache.grid[1]
    fixed = patches * (2 * 3 * 2 + len(weights) * 2)  # sphere points (int16) and answers (uint16)
    room = megabytes * 1e6 / _BASE64 / len(matches) - fixed
    pairs, error = [], 0.0
    for title, source, target, match in progress(
        matches, total=len(matches), desc="explorer", unit="pairs", leave=False
    ):
        records = [cache.index(image_id) for image_id in (source, target)]
        tokens = cache.tokens(records)
        features = unit(torch.from_numpy(tokens))  # (2, N, D)
        points = unit(sphere_points(head, tokens).cpu())  # (2, N, 3)
        on_features, on_sphere = features[0] @ features[1].T, points[0] @ points[1].T
        best = {
            row: weighted_sum(zip(pair, (on_features, on_sphere), strict=True)).argmax(dim=1)
            for row, pair in weights.items()
        }
        packed, codes, step = pack(features, room)
        source_codes, target_codes = torch.from_numpy(codes * step)
        computed = (source_codes.T @ target_codes).float()  # as the page computes them
        error = max(error, float((computed - on_features).abs().max()))
        pairs.append(
            {
                "title": title,
                "source": _picture(match.source, source, cache.boxes[records[0]]),
                "target": _picture(match.target, target, cache.boxes[records[1]]),
                "keypoints": _keypoints(match),
                "best": {row: text_of(answer.numpy().astype("<u2")) for row, answer in best.items()},
                "features": base64.b64encode(packed).decode("ascii"),
                "step": step,
                "points": [text_of(np.rint(own.numpy() * POINT_STEPS).astype("<i2")) for own in points],
            }
        )
    data = {
        "grid": list(cache.grid),
        "weights": {row: list(pair) for row, pair in weights.items()},
        "pairs": pairs,
    }
    return Explorer(data, error)


def pack(features: Tensor, room: float) -> tuple[bytes, NDArray[np.int8], float]:
    """Features of a pair in as few bytes as asked for, so that dot products change least.

    They are turned to the principal directions of all 2N vectors together (not centred: it is dot products
    that are to be kept) and rounded to one step for all: weak directions become small numbers, which compress
    well.

    Args:
        features: `(2, N, D)` unit vectors.
        room: bytes to stay within; exceeded only where one direction in the coarsest steps does not fit.

    Returns:
        The codes compressed (zlib, order source or target, direction, patch), the codes `(2, E, N)`, and the
        step; the turned vectors are about codes times step.
    """
    both = features.double()
    flat = both.reshape(-1, both.shape[2])
    _, vectors = torch.linalg.eigh(flat.T @ flat)  # in ascending order
    strongest = vectors.flip(1)[:, : len(flat)]
    largest = strongest.gather(0, strongest.abs().argmax(dim=0, keepdim=True))
    turned = (both @ (strongest * largest.sign())).mT.numpy()  # an eigenvector has no sign
    reach = float(np.abs(turned).max()) or 1.0
    dims = turned.shape[1]
    fewer = [(dims >> halvings, _LEVELS[-1]) for halvings in range(1, dims.bit_length())]
    for kept, level in [*((dims, level) for level in _LEVELS), *fewer]:
        step = float(f"{reach / level:.6g}")  # as the page will read it
        codes = np.clip(np.rint(turned[:, :kept] / step), -127, 127).astype(np.int8)
        packed = _compress(np.ascontiguousarray(codes).tobytes())
        if len(packed) <= room:
            break
    return packed, codes, step


def _compress(codes: bytes) -> bytes:
    """Runs of equal codes are all that repeats: looking for no more is 60 times as fast, and 6 % smaller."""
    compressor = zlib.compressobj(strategy=zlib.Z_RLE)
    return compressor.compress(codes) + compressor.flush()


def picture_of(
    small: Image.Image, name: str, size: tuple[int, int], box: NDArray[np.float64]
) -> dict[str, Any]:
    """A reduced picture for the page, with its photograph's size and the box that the patches cover."""
    return {
        "id": name,
        "uri": data_uri(small),
        "width": size[0],
        "height": size[1],
        "box": [float(edge) for edge in box],
    }


def text_of(array: NDArray[np.generic]) -> str:
    """The bytes of an array as base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _picture(photograph: Image.Image, image_id: str, box: NDArray[np.float64]) -> dict[str, Any]:
    small = photograph.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture_of(small, image_id, photograph.size, box)


def _keypoints(match: Match) -> list[dict[str, Any]]:
    return [
        {
            "name": readable(name),
            "source": match.source_xy[i].tolist(),
            "truth": match.target_xy[i].tolist(),
            "predicted": {method: xy[i].tolist() for method, xy in match.predicted.items()},
            "right": {method: bool(right[i]) for method, right in match.right.items()},
        }
        for i, name in enumerate(match.names)
    ]
