"""Predictions that another program made: whether they answer the questions, and what metrics need of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spheremap.base.errors import InputError
from spheremap.config.scoring import Candidates, KapLabels
from spheremap.data.tables import Tables
from spheremap.methods.engine.queries import Questions
from spheremap.metrics.answers import Floats
from spheremap.metrics.kap import MISSING, Inside, inside_radius
from spheremap.metrics.measure import Measured, Measuring, outside_of, patch_labels
from spheremap.metrics.thresholds import Thresholds

KEYS = ["source", "target", "keypoint_id"]
BEYOND = 0.1  # of the longer side: predictions farther out of the padded picture are wild,
WILD = 0.1  # and if so many are, they are in other pixels


@dataclass(frozen=True)
class Given:
    """M predictions of one method.

    Attributes:
        frame: columns source, target, keypoint_id, x and y (pixels of the target); perhaps width and height,
            of the picture that these pixels are of.
        similarity: `(M, R, C)` to the patches of the target, where they are known.
        where: the file, for messages.
    """

    frame: pd.DataFrame
    similarity: NDArray[np.float32] | None
    where: str


def check(given: Given, tables: Tables, pairs: pd.DataFrame, boxes: pd.DataFrame) -> None:
    """Whether predictions are of this data set, in pixels of its pictures.

    Args:
        pairs: of the split, columns source and target.
        boxes: columns x0, y0, x1, y1 by image id: the regions that the network is shown.

    Raises:
        InputError: naming the first that is not.
    """
    frame, images = given.frame, tables.images.set_index("image_id")
    named = pd.unique(frame[["source", "target"]].to_numpy().ravel())
    _reject(given, ~pd.Series(named).isin(images.index), named, "images are not in the data set",
            "image ids such as " + images.index[0],
            "write <category>/<name>, or the path of the picture")  # fmt: skip
    listed = pd.MultiIndex.from_frame(pairs[["source", "target"]])
    unlisted = ~pd.MultiIndex.from_frame(frame[["source", "target"]]).isin(listed)
    _reject(given, unlisted, _pairs(frame), "predictions are of pairs that the split does not list",
            "pairs of the split that is scored",
            "choose another with --split, or leave them out")  # fmt: skip
    unseen = ~_shown(frame, "source", tables)
    _reject(given, unseen, _points(frame), "predictions are of keypoints that their source does not show",
            "keypoints visible in the source", "leave them out")  # fmt: skip
    size = images.loc[frame["target"], ["width", "height"]].to_numpy()
    if {"width", "height"} <= set(frame.columns):
        other = (frame[["width", "height"]].to_numpy() != size).any(axis=1)
        _reject(given, other, _points(frame), "predictions are in pixels of another resolution",
                "width and height of the target as it is stored", "scale them to its pixels")  # fmt: skip
    box, side = boxes.loc[frame["target"]].to_numpy(), size.max(axis=1, keepdims=True)
    padded = np.minimum((size - side) / 2, box[:, :2]), np.maximum((size + side) / 2, box[:, 2:])
    xy = frame[["x", "y"]].to_numpy()
    far = ((xy < padded[0] - BEYOND * side) | (xy > padded[1] + BEYOND * side)).any(axis=1)
    asked = _shown(frame, "target", tables)
    far &= asked
    if far.sum() > WILD * asked.sum():
        _reject(given, far, _points(frame), "predictions lie outside their target and its padding",
                "pixels of the target as it is stored",
                "scale them, if they are of another resolution")  # fmt: skip
    twice = frame.drop_duplicates([*KEYS, "x", "y"]).duplicated(KEYS)
    first = frame.drop_duplicates([*KEYS, "x", "y"])
    _reject(given, twice, _points(first), "keypoints have two predictions", "one for each keypoint of a pair",
            "leave out all but one; name methods apart in a column `method`")  # fmt: skip


def outside(given: Given, tables: Tables) -> int:
    """How many predictions of keypoints that the target shows lie outside it."""
    xy = given.frame[["x", "y"]].to_numpy()
    size = tables.images.set_index("image_id").loc[given.frame["target"], ["width", "height"]].to_numpy()
    return int((((xy < 0) | (xy > size)).any(axis=1) & _shown(given.frame, "target", tables)).sum())


def _shown(frame: pd.DataFrame, end: str, tables: Tables) -> NDArray[np.bool_]:
    """Which lines are of a keypoint that the image at this end of their pair shows."""
    visible = tables.keypoints.loc[tables.keypoints["visible"] == 1, ["image_id", "keypoint_id"]]
    named = pd.MultiIndex.from_frame(frame[[end, "keypoint_id"]])
    return np.asarray(named.isin(pd.MultiIndex.from_frame(visible)))


def answer(given: Given, questions: Questions, allow_missing: bool) -> tuple[Floats, NDArray[np.int64]]:
    """Find the prediction of each of Q questions.

    Returns:
        Predictions `(Q, 2)`, NaN where there is none; their lines in the frame `(Q,)`, or -1.

    Raises:
        InputError: if points that both images show have none, or one that is no number, unless that is
            allowed and others do.
    """
    frame = given.frame.reset_index(names="line")
    pair, asked = questions.pair, _asked(questions)
    found = asked.merge(frame.drop_duplicates(KEYS), on=KEYS, how="left")
    xy = found[["x", "y"]].to_numpy(dtype=np.float64, copy=True)
    xy[~np.isfinite(xy).all(axis=1)] = np.nan
    missing = questions.common & np.isnan(xy[:, 0])
    if not allow_missing:
        broken = missing & found["line"].notna()
        _reject(given, broken, _points(asked), "predictions are not numbers", "x and y in pixels",
                "correct them, or score the others by --allow-missing")  # fmt: skip
    if missing.any() and (not allow_missing or (missing == questions.common).all()):
        without = np.bincount(pair[questions.common & ~missing], minlength=len(questions.source_id)) == 0
        whole = without & (np.bincount(pair[questions.common], minlength=len(without)) > 0)
        raise InputError(
            f"{missing.sum():,} of {questions.common.sum():,} points have no prediction, "
            f"{whole.sum():,} pairs none at all",
            where=given.where,
            expected="one for each keypoint that both images of a pair show",
            found="nothing for " + _some(_points(asked[missing])),
            fix="add them" + ("" if allow_missing else ", or score the others by --allow-missing"),
        )
    return xy, found["line"].fillna(-1).to_numpy(dtype=np.int64)


def measure_given(
    given: Given,
    questions: Questions,
    thresholds: Thresholds,
    boxes: Floats,
    alphas: tuple[float, ...],
    kap_labels: KapLabels,
    candidates: Candidates,
    allow_missing: bool,
) -> Measured:
    """What metrics need of given predictions; KAP only with similarities.

    Args:
        boxes: `(P, 4)` the region of each target that the patches cover.

    Raises:
        InputError: as `answer`; if a keypoint that the source shows has no similarities.
    """
    xy, line = answer(given, questions, allow_missing)
    if given.similarity is None:
        return Measured(xy)
    if (line < 0).any() and not allow_missing:
        raise InputError(
            f"{(line < 0).sum():,} keypoints have no similarities, which KAP needs",
            where=given.where,
            expected="a line for each keypoint that the source shows, x and y of any value if it is hidden",
            found="nothing for " + _some(_points(_asked(questions)[line < 0])),
            fix="add them, leave out `similarity`, or score the others by --allow-missing",
        )
    rows, columns = given.similarity.shape[1:]
    to = Measuring.nothing(len(line), len(alphas))
    to.predicted[:] = 0  # kept beside
    to.low[:], to.high[:], to.positive[:], to.negative[:] = np.inf, MISSING, MISSING, MISSING
    for pair, (start, stop) in enumerate(pairwise(questions.first.tolist())):
        own = start + np.flatnonzero(line[start:stop] >= 0)
        if not len(own):
            to.low[start:stop] = to.high[start:stop] = 0
            continue
        similarity = torch.from_numpy(given.similarity[line[own]].reshape(len(own), -1))
        outside = outside_of(boxes[pair], (rows, columns), candidates)
        labels = patch_labels(boxes[pair], (rows, columns), kap_labels, outside) * thresholds.scale[pair]
        radius = tuple(thresholds.side[pair] * alpha for alpha in alphas)
        inside = inside_radius(questions.xy[own] * thresholds.scale[pair], labels, radius)
        to.take(own, similarity, torch.from_numpy(outside), Inside.of(inside))
    scored = to.finish(questions.first)
    return Measured(xy, scored.positive, scored.negative)


def _asked(questions: Questions) -> pd.DataFrame:
    """The questions as lines: columns source, target and keypoint_id."""
    ids = questions.source_id[questions.pair], questions.target_id[questions.pair], questions.keypoint_id
    return pd.DataFrame(dict(zip(KEYS, ids, strict=True)))


def _points(frame: pd.DataFrame) -> NDArray[np.object_]:
    """Points in words."""
    return (frame["source"] + " → " + frame["target"] + " keypoint " + frame["keypoint_id"]).to_numpy()


def _pairs(frame: pd.DataFrame) -> NDArray[np.object_]:
    return (frame["source"] + " → " + frame["target"]).to_numpy()


def _some(names: Iterable[object], most: int = 3) -> str:
    named = list(dict.fromkeys(str(name) for name in names))
    return ", ".join(named[:most]) + (f" and {len(named) - most:,} more" if len(named) > most else "")


def _reject(
    given: Given,
    bad: NDArray[np.bool_] | pd.Series,
    names: NDArray[np.object_],
    problem: str,
    expected: str,
    fix: str,
) -> None:
    bad = np.asarray(bad)
    if bad.any():
        raise InputError(
            f"{bad.sum():,} {problem}", where=given.where, expected=expected, found=_some(names[bad]), fix=fix
        )
