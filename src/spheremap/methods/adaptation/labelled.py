"""Training of the bottleneck from annotated points (Zhang et al., Telling Left from Right, CVPR 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.data.tables import Tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.geometry import Grid
from spheremap.methods.adaptation.training import Course, fit
from spheremap.methods.engine.descriptors import interpolate, unit
from spheremap.methods.engine.fitting import Fitted, Fitting
from spheremap.methods.engine.sampling import sample_patches
from spheremap.model.training.batches import noisy, records_of_step
from spheremap.model.training.store import choose_store

if TYPE_CHECKING:
    from spheremap.methods.supervised import Labelled, Supervised

# of one cycle: share of the steps, rates as shares of the peak
_RISE, _FIRST, _LAST = 0.3, 1 / 25, 1 / 250_000


@dataclass(frozen=True)
class Points:
    """The keypoints that K of an image's are seen in a view.

    Attributes:
        ids: `(K,)`.
        patch: `(K, 4)` patches that describe each.
        share: `(K, 4)` their shares.
        place: `(K, 2)` (row, column) in patches, 0 being the centre of the first one.
    """

    ids: NDArray[np.object_]
    patch: NDArray[np.int64]
    share: NDArray[np.float32]
    place: NDArray[np.float64]

    def of(self, ids: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Patches, shares and places of some of them."""
        row = {own: i for i, own in enumerate(self.ids.tolist())}
        chosen = [row[own] for own in ids]
        return (
            torch.from_numpy(self.patch[chosen]),
            torch.from_numpy(self.share[chosen]),
            torch.from_numpy(self.place[chosen]).float(),
        )


def learn(config: "Supervised", fitting: Fitting) -> Fitted:
    """Train a bottleneck from the keypoints that training pairs have in common; see `fit`.

    The curve has the columns step, loss, contrastive, dense (means per step since the row before) and
    pck_point.

    Raises:
        InputError: if no two views of a training pair show two keypoints in common.
    """
    network = config.untrained(fitting.views.dim).to(fitting.device)
    cache, device = fitting.views, fitting.device
    points = points_of(cache, fitting.tables)
    pairs = view_pairs(cache, fitting.tables, points)
    store = choose_store(cache, device, fitting.memory)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )

    def step(number: int) -> Tensor:
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * one_cycle(number, config.steps)
        drawn = records_of_step(number, np.arange(len(pairs)), min(config.batch, len(pairs)), config.seed)
        records = pairs[drawn]  # (B, 2)
        tokens = store.gather(records.T.reshape(-1))  # first all sources, then all targets
        seen = dropped(
            noisy(tokens, config.noise, (config.seed, number), 0).float(), config.dropout, config.seed, number
        )
        refined = unit(network.of_tokens(seen, cache.grid))
        contrastive, dense = losses(network, refined, records, points, cache.grid, config.temperature)
        (contrastive + config.dense_weight * dense).backward()
        optimiser.step()
        optimiser.zero_grad()
        return torch.tensor([float(contrastive.detach()), float(dense.detach())], dtype=torch.float64)

    def row(sums: Sequence[float], steps: int) -> dict[str, float]:
        contrastive, dense = (value / steps for value in sums)
        loss = contrastive + config.dense_weight * dense
        return {"loss": loss, "contrastive": contrastive, "dense": dense}

    course = Course("learning", ("loss", "contrastive", "dense"), 2, step, row)
    return fit(
        network,
        optimiser,
        course,
        config,
        fitting,
        fitting.validation(config, config.validation, config.seed),
    )


def points_of(cache: FeatureCache, tables: Tables) -> list[Points]:
    """The keypoints that each view of a cache shows."""
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    by_image = {str(image): rows for image, rows in visible.groupby("image_id")}
    empty, found = visible.iloc[:0], []
    for image_id, box in zip(cache.image_ids, cache.boxes, strict=True):
        rows = by_image.get(image_id, empty)
        xy = rows[["x", "y"]].to_numpy(dtype=np.float64)
        where = (xy - box[:2]) / (box[2:] - box[:2])  # shares of width and height
        inside = ((where >= 0) & (where < 1)).all(axis=1)
        patch, share = sample_patches(xy[inside], box, cache.grid, "bilinear")
        place = where[inside, ::-1] * cache.grid - 0.5
        ids = rows["keypoint_id"].to_numpy(dtype=object)[inside]
        found.append(Points(ids, patch, share, place))
    return found


def view_pairs(cache: FeatureCache, tables: Tables, points: Sequence[Points]) -> NDArray[np.int64]:
    """Records `(P, 2)` of the views of training pairs that show two keypoints in common or more.

    With several views per image, the i-th of one is paired with the i-th of the other.
    """
    views: dict[str, list[int]] = {}
    for record, image_id in enumerate(cache.image_ids):
        views.setdefault(image_id, []).append(record)
    train = tables.pairs_of("train")
    found = [
        pair
        for source, target in zip(train["source"], train["target"], strict=True)
        for pair in zip(views.get(source, ()), views.get(target, ()), strict=False)
        if len(np.intersect1d(points[pair[0]].ids, points[pair[1]].ids)) > 1
    ]
    if not found:
        raise InputError(
            "no pair of training views shows keypoints in common",
            expected="pairs of the split 'train' with two visible keypoints in common or more",
            found=f"{len(train)} pairs, {len(cache)} views",
            fix="add keypoints of training images, or leave the method out of evaluate.methods",
        )
    return np.array(found, dtype=np.int64)


def losses(
    network: "Labelled",
    refined: Tensor,
    records: NDArray[np.int64],
    points: Sequence[Points],
    grid: Grid,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """The contrastive and the dense loss of B pairs.

    The first is the cross-entropy, in both directions, between the keypoints that a pair has in common, with
    a learned temperature; the second the mean distance between the soft-argmax of each keypoint's
    similarities in the other view and its true place there, as a share of the longer side.

    Args:
        network: whose temperature it is.
        refined: unit descriptors `(2B, N, D)`, sources first.
        records: `(B, 2)` of the views.
        points: of all views.
        temperature: of the soft-argmax.
    """
    count = len(records)
    ends: tuple[list[Any], list[Any]] = ([], [])
    for number, (a, b) in enumerate(records.tolist()):
        common = sorted(set(points[a].ids.tolist()) & set(points[b].ids.tolist()))
        for end, (record, view) in zip(ends, ((a, number), (b, count + number)), strict=True):
            end.append((*points[record].of(common), torch.full((len(common),), view)))
    source, target = (
        [torch.cat(column).to(refined.device) for column in zip(*end, strict=True)] for end in ends
    )
    described = [
        interpolate(refined[view.unsqueeze(1), patch], share) for patch, share, _, view in (source, target)
    ]
    sizes = [len(own) for _, _, _, own in ends[0]]

    other = source[3].unsqueeze(1) != source[3]  # of another pair
    logits = (network.logit_scale.exp() * described[0] @ described[1].T).masked_fill(other, -torch.inf)
    same = torch.arange(len(logits), device=logits.device)
    contrastive = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2

    centres = torch.cartesian_prod(*(torch.arange(n, device=refined.device).float() for n in grid))
    opposite = (refined[count:], refined[:count])  # views, of sources and of targets
    similarities = [
        torch.cat([own @ view.T for own, view in zip(own.split(sizes), views, strict=True)])
        for own, views in zip(described, opposite, strict=True)
    ]
    found = (torch.cat(similarities) / temperature).softmax(dim=1) @ centres
    distance = (found - torch.cat([target[2], source[2]])).norm(dim=1).mean()
    return contrastive, distance / max(grid)


def dropped(tokens: Tensor, share: float, seed: int, step: int) -> Tensor:
    """Tokens with a share of their numbers set to zero, the others raised in proportion."""
    draw = torch.Generator(tokens.device)
    draw.manual_seed(int(np.random.SeedSequence([seed, step, 1]).generate_state(1, np.uint64)[0] >> 1))
    kept = torch.rand(tokens.shape, generator=draw, device=tokens.device) >= share
    return tokens * kept / (1 - share)


def one_cycle(step: int, steps: int) -> float:
    """Rate of a step, counted from 1, as a share of the highest: up by a cosine, and down by another."""
    rise = _RISE * steps
    begin, end, done = (
        (_FIRST, 1.0, step / rise) if step <= rise else (1.0, _LAST, (step - rise) / (steps - rise))
    )
    return end + (begin - end) * (1 + cos(pi * done)) / 2
