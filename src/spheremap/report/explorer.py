"""The explorer: pairs of pictures, and all the page needs to show where a point of one lies in the other.

What is shown as the match is never computed in the page: for the keypoints it is the evaluation's prediction,
and for every other point the patch of highest similarity, found here from the full descriptors. Only the
similarity maps are computed in the page, from features reduced to fit.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spheremap.cache.reader import FeatureCache
from spheremap.head import Head, sphere_points
from spheremap.matching.descriptors import mix, row_weights, unit
from spheremap.progress import progress
from spheremap.report.matches import Match
from spheremap.report.names import readable
from spheremap.report.pictures import data_uri

SIDE = 384  # px, longer side of a picture
POINT_STEPS = 32767  # of the sphere's coordinates, as int16
_STEPS = 127  # of a feature's coordinates, as int8
_BASE64 = 4 / 3  # bytes on the page per byte


@dataclass(frozen=True)
class Explorer:
    """What the page embeds.

    Attributes:
        data: see `explorer.js`; plain JSON.
        dims: dimensions kept of the features, `full` before.
        error: largest difference between a features' similarity drawn and the true one, over all pairs.
    """

    data: dict[str, Any]
    dims: int
    full: int
    error: float


def build_explorer(
    matches: Sequence[tuple[str, str, str, Match]],
    cache: FeatureCache,
    head: Head,
    *,
    sphere_weight: float,
    megabytes: float,
) -> Explorer:
    """Gather pictures, keypoints, answers and descriptors of some pairs.

    Args:
        matches: (title, source, target, match) of each pair: image ids, and what was drawn of it.
        cache: features of whole images.
        head: the trained head.
        sphere_weight: share of the sphere in the row `fused`.
        megabytes: how much of the page descriptors and answers may take. The features are reduced to fit, to
            one dimension if need be.
    """
    weights = row_weights(sphere_weight)
    patches = cache.grid[0] * cache.grid[1]
    dims = _affordable(megabytes, patches * len(matches), len(weights))
    dims = min(max(dims, 1), cache.dim, 2 * patches)
    pairs, error = [], 0.0
    for title, source, target, match in progress(
        matches, total=len(matches), desc="explorer", unit="pairs", leave=False
    ):
        records = [cache.index(image_id) for image_id in (source, target)]
        tokens = cache.tokens(records)
        features = unit(torch.from_numpy(tokens))  # (2, N, D)
        points = unit(sphere_points(head, tokens).cpu())  # (2, N, 3)
        on_features, on_sphere = features[0] @ features[1].T, points[0] @ points[1].T
        best = {row: mix(on_features, on_sphere, pair).argmax(dim=1) for row, pair in weights.items()}
        codes, steps = reduce(features, dims)
        error = max(error, float((_decoded(codes, steps) - on_features).abs().max()))
        pairs.append(
            {
                "title": title,
                "source": _picture(match.source, source, cache.boxes[records[0]]),
                "target": _picture(match.target, target, cache.boxes[records[1]]),
                "keypoints": _keypoints(match, list(weights)),
                "best": {row: _text(answer.numpy().astype("<u2")) for row, answer in best.items()},
                "features": [_text(part) for part in codes],
                "steps": [float(step) for step in steps],
                "points": [_text(part) for part in _fixed(points)],
            }
        )
    data = {
        "grid": list(cache.grid),
        "dims": dims,
        "weights": {row: list(pair) for row, pair in weights.items()},
        "pairs": pairs,
    }
    return Explorer(data, dims, cache.dim, error)


def _affordable(megabytes: float, patches: int, rows: int) -> int:
    """Dimensions of the features that fit beside sphere points (int16) and answers (uint16 for each row)."""
    room = megabytes * 1e6 / _BASE64 - patches * (2 * 3 * 2 + rows * 2)
    return int(room / (2 * patches))


def reduce(features: Tensor, dims: int) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Features of a pair in few dimensions and 8 bits, so that dot products change least.

    They are projected onto the strongest directions of all 2N vectors together (without centring: it is dot
    products that are to be kept) and rounded to steps of their own for every direction.

    Args:
        features: `(2, N, D)` unit vectors.
        dims: E, how many directions to keep.

    Returns:
        Codes `(2, N, E)` and steps `(E,)`; the vectors are about `codes * steps`.
    """
    both = features.double()
    flat = both.reshape(-1, both.shape[2])
    _, vectors = torch.linalg.eigh(flat.T @ flat)  # in ascending order
    strongest = vectors.flip(1)[:, :dims]
    largest = strongest.gather(0, strongest.abs().argmax(dim=0, keepdim=True))
    projected = (both @ (strongest * largest.sign())).numpy()  # an eigenvector has no sign
    steps = np.abs(projected).max(axis=(0, 1)) / _STEPS
    steps = np.where(steps > 0, steps, 1.0)
    # as the page will read them
    steps = np.array([float(f"{step:.6g}") for step in steps])
    return np.clip(np.rint(projected / steps), -_STEPS, _STEPS).astype(np.int8), steps


def _decoded(codes: NDArray[np.int8], steps: NDArray[np.float64]) -> Tensor:
    """Similarities `(N, N)` of source and target as the page computes them."""
    source, target = torch.from_numpy(codes * steps)
    return (source @ target.T).float()


def _fixed(points: Tensor) -> NDArray[np.int16]:
    return np.rint(points.numpy() * POINT_STEPS).astype("<i2")


def _picture(photograph: Image.Image, image_id: str, box: NDArray[np.float64]) -> dict[str, Any]:
    """A photograph, its size in original pixels, and the region that the patches cover."""
    small = photograph.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return {
        "id": image_id,
        "uri": data_uri(small),
        "width": photograph.width,
        "height": photograph.height,
        "box": [float(edge) for edge in box],
    }


def _keypoints(match: Match, rows: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": readable(name),
            "source": match.source_xy[i].tolist(),
            "truth": match.target_xy[i].tolist(),
            "predicted": {row: match.predicted[row][i].tolist() for row in rows},
            "right": {row: bool(match.right[row][i]) for row in rows},
        }
        for i, name in enumerate(match.names)
    ]


def _text(array: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
