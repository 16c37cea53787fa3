"""Similarities of source keypoints to all target patches, reading each image once or nearly so.

The matcher takes tokens from a feature cache and sphere points from any callable; it does not know how
either was learned. No mask is used: tokens of the background and of the padding take part like all others,
with the sphere points that the mapper gives them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.descriptors import CHANCE, chance_similarity, mix, mixture, mixture_of_points, unit
from spheremap.methods.mutual import best_sources
from spheremap.methods.queries import Queries
from spheremap.methods.rows import Rows

SphereMap = Callable[[NDArray[np.float16]], Tensor]  # tokens (B, N, D) -> sphere points (B, N, 3)
Refinement = Callable[[NDArray[np.float16]], Tensor]  # tokens (B, N, D) -> the same shape
# tokens (B, N, D), their sphere points (B, N, 3) and the images' category -> mean directions (B, 3)
Facing = Callable[[NDArray[np.float16], Tensor, str], Tensor]


@dataclass(frozen=True)
class Block:
    """The queries of one or more pairs that share a target, and how similar they are to its patches."""

    queries: slice  # R consecutive queries, all those of their pairs
    target: int  # index of the target's record in the cache
    similarity: Mapping[str, Tensor]  # row -> (R, N) float32


@dataclass(frozen=True)
class Matcher:
    """Compares every query with every patch of its target (matching as in Mariotti et al. 2024).

    Pairs are taken category by category. Each image of a category is read and mapped to the sphere once; its
    tokens are kept, in float16, until the category is done, as far as `kept_bytes` reach, and only targets
    beyond that are read a second time. Besides these, one descriptor per source keypoint and the targets'
    sphere points are held: about a hundredth of the category's part of the cache. Rows with a mutual filter
    compare whole images: sources are kept as well, and those beyond `kept_bytes` are read for each pair.

    A keypoint of the source is described by its sampled tokens, mixed as they are and then brought to unit
    length; likewise by its sphere points.

    Args:
        rows: of the table, see `rows.table_rows`.
        sphere: maps tokens to the sphere; may be None if no row uses it.
        refine: what the tokens go through before they are compared, such as an adapter; None: nothing. The
            sphere is mapped from the cache's own tokens.
        facing: gives each image's mean direction on the sphere; may be None if no row goes by viewpoint.
        chance_seed: adds the row `chance` with this seed.
        batch: images per call of `sphere`.
        max_rows: queries per block, exceeded only by a single pair that has more.
    """

    cache: FeatureCache
    rows: Rows
    sphere: SphereMap | None = None
    facing: Facing | None = None
    refine: Refinement | None = None
    chance_seed: int | None = None
    device: torch.device | str = "cpu"
    batch: int = 8
    kept_bytes: int = 2**30
    max_rows: int = 1024

    def __post_init__(self) -> None:
        rows = self.rows.values()
        for needed, given, what in (
            (any(row.on_sphere for row in rows), self.sphere, "sphere points"),
            (any(row.viewpoint for row in rows), self.facing, "mean directions on the sphere"),
        ):
            if needed and given is None:
                raise InputError(f"a row of the table needs {what}", expected="a trained head", found="none")

    def blocks(self, queries: Queries) -> Iterator[Block]:
        """Yield each query exactly once, in order.

        Raises:
            ProvenanceError: if tokens or sphere points are not finite.
        """
        for pairs in _runs(queries.category, slice(0, len(queries.category))):
            yield from self._category(queries, pairs)

    def _category(self, queries: Queries, pairs: slice) -> Iterator[Block]:
        sources = _Descriptors.allocate(self.cache, queries, pairs)
        whole = set(queries.target[pairs].tolist())  # images of which all patches are compared
        asked = set(queries.source[pairs].tolist())
        images = sorted(whole | asked, key=lambda i: (self.cache.image_ids[i], i))
        if any(row.mutual for row in self.rows.values()):
            whole |= asked
        held = _Images(self._compared, self.device, self.kept_bytes)
        for start in range(0, len(images), self.batch):
            indices = images[start : start + self.batch]
            tokens = self.cache.tokens(indices)
            points = self._map(tokens, indices)
            directions = None
            if self.facing is not None:
                directions = self.facing(tokens, points, str(queries.category[pairs.start])).cpu()
            tokens = self._refined(tokens, indices)
            for position, i in enumerate(indices):
                sources.fill(i, tokens[position], points[position])
                if i in whole:
                    held.keep(i, tokens[position], points[position])
                if directions is not None:
                    held.directions[i] = directions[position]

        for same_target in _runs(queries.target, pairs):
            target = int(queries.target[same_target.start])
            described = held.describe(target)
            for block in _split(queries.first, same_target, self.max_rows):
                yield self._compare(queries, block, sources, held, target, described)

    def _compare(
        self,
        queries: Queries,
        pairs: slice,
        sources: "_Descriptors",
        held: "_Images",
        target: int,
        described: tuple[Tensor, Tensor],  # the target's unit features (N, D) and sphere points (N, 3)
    ) -> Block:
        features, points = described
        own = slice(int(queries.first[pairs.start]), int(queries.first[pairs.stop]))
        source_features, source_points = sources.of(own)
        share = torch.from_numpy(queries.share[own]).to(self.device)
        on_features = unit(mixture(source_features.to(self.device), share)) @ features.T  # (R, N)
        on_sphere = mixture_of_points(source_points.to(self.device), share) @ points.T
        of_pair = [
            (int(queries.source[pair]), slice(*(queries.first[[pair, pair + 1]] - own.start).tolist()))
            for pair in range(pairs.start, pairs.stop)
        ]
        similarity = {}
        for name, row in self.rows.items():
            if row.viewpoint is None and row.mutual is None:
                similarity[name] = mix(on_features, on_sphere, row.weights)
                continue
            patch = torch.from_numpy(queries.patch[own]).to(self.device)
            parts = []
            for source, part in of_pair:
                weights = row.weights
                if row.viewpoint is not None:
                    weights = row.viewpoint.weights(float(held.directions[source] @ held.directions[target]))
                found = mix(on_features[part], on_sphere[part], weights)
                if row.mutual is not None:
                    back = best_sources(held.describe(source), described, weights)
                    found = row.mutual.lower(found, patch[part], back, self.cache.grid)
                parts.append(found)
            similarity[name] = torch.cat(parts)
        if self.chance_seed is not None:
            chance = [
                chance_similarity(
                    self.chance_seed,
                    str(queries.source_id[pair]),
                    str(queries.target_id[pair]),
                    (int(queries.first[pair + 1] - queries.first[pair]), len(features)),
                )
                for pair in range(pairs.start, pairs.stop)
            ]
            similarity[CHANCE] = torch.cat(chance).to(self.device)
        return Block(own, target, similarity)

    def _compared(self, image: int) -> NDArray[np.float16]:
        """Tokens `(N, D)` of an image as they are compared, read anew."""
        return self._refined(self.cache.tokens([image]), [image])[0]

    def _refined(self, tokens: NDArray[np.float16], indices: list[int]) -> NDArray[np.float16]:
        if self.refine is None:
            return tokens
        refined = self.refine(tokens).half()
        if not bool(torch.isfinite(refined).all()):
            raise ProvenanceError(
                "the adapter gives numbers that are not finite",
                where=f"image {self.cache.image_ids[indices[0]]} or one of the next {len(indices) - 1}",
                fix="train the adapter again, with a lower learning rate",
            )
        return refined.cpu().numpy()

    def _map(self, tokens: NDArray[np.float16], indices: list[int]) -> Tensor:
        """Sphere points `(B, N, 3)` on the CPU, or zeros where no row needs them."""
        finite = np.isfinite(tokens).all(axis=(1, 2))
        if not finite.all():
            raise ProvenanceError(
                "the feature cache holds numbers that are not finite",
                where=f"image {self.cache.image_ids[indices[int(np.argmin(finite))]]}",
                fix="delete the cache file and run `snakemake --cores all` to rebuild it",
            )
        if self.sphere is None:
            return torch.zeros(*tokens.shape[:2], 3)
        points = unit(self.sphere(tokens)).cpu()
        if not bool(torch.isfinite(points).all()):
            raise ProvenanceError(
                "the head gives sphere points that are not finite",
                where=f"image {self.cache.image_ids[indices[0]]} or one of the next {len(indices) - 1}",
                fix="train again, with a lower learning rate",
            )
        return points


class _Images:
    """What is held of a category's images that are compared as a whole."""

    def __init__(
        self, read: Callable[[int], NDArray[np.float16]], device: torch.device | str, kept_bytes: int
    ) -> None:
        self._read, self._device, self._room = read, device, kept_bytes
        self._tokens: dict[int, NDArray[np.float16]] = {}  # (N, D)
        self._points: dict[int, Tensor] = {}  # (N, 3)
        self.directions: dict[int, Tensor] = {}  # (3,)

    def keep(self, image: int, tokens: NDArray[np.float16], points: Tensor) -> None:
        """Hold an image's points, and its tokens while there is room."""
        self._points[image] = points.clone()  # a view would keep the whole batch alive
        if tokens.nbytes <= self._room:
            self._room -= tokens.nbytes
            self._tokens[image] = tokens.copy()

    def describe(self, image: int) -> tuple[Tensor, Tensor]:
        """Unit features `(N, D)` and sphere points `(N, 3)`, on the device."""
        tokens = self._tokens[image] if image in self._tokens else self._read(image)
        return unit(torch.from_numpy(tokens).to(self._device)), self._points[image].to(self._device)


@dataclass(frozen=True)
class _Descriptors:
    """Tokens and sphere points of the distinct source patches that a category's queries ask about."""

    patches: int  # N
    start: int  # first query of the category
    wanted: NDArray[np.int64]  # (S,) record * N + patch, increasing
    row: NDArray[np.int64]  # (queries of the category, C) rows of a query's own descriptors
    tokens: Tensor  # (S, D) float16: unit length is taken at use, for half the memory
    points: Tensor  # (S, 3)

    @classmethod
    def allocate(cls, cache: FeatureCache, queries: Queries, pairs: slice) -> "_Descriptors":
        patches = cache.grid[0] * cache.grid[1]
        first = queries.first[pairs.start : pairs.stop + 1]
        record = np.repeat(queries.source[pairs], np.diff(first))[:, None]
        sampled = record * patches + queries.sampled[first[0] : first[-1]]
        wanted, row = np.unique(sampled, return_inverse=True)
        row = row.reshape(sampled.shape)
        tokens = torch.full((len(wanted), cache.dim), torch.nan, dtype=torch.float16)
        return cls(patches, int(first[0]), wanted, row, tokens, torch.full((len(wanted), 3), torch.nan))

    def fill(self, record: int, tokens: NDArray[np.float16], points: Tensor) -> None:
        start, stop = np.searchsorted(self.wanted, [record * self.patches, (record + 1) * self.patches])
        patch = torch.from_numpy(self.wanted[start:stop] - record * self.patches)
        self.tokens[start:stop] = torch.from_numpy(tokens)[patch]
        self.points[start:stop] = points[patch]

    def of(self, queries: slice) -> tuple[Tensor, Tensor]:
        """Tokens `(R, C, D)` and sphere points `(R, C, 3)` of some queries."""
        row = torch.from_numpy(self.row[queries.start - self.start : queries.stop - self.start])
        return self.tokens[row], self.points[row]


def _runs(values: NDArray[np.generic], within: slice) -> Iterator[slice]:
    """Cut a range of indices wherever the value changes."""
    if within.start == within.stop:
        return
    part = values[within]
    cuts = within.start + 1 + np.flatnonzero(part[1:] != part[:-1])
    bounds = [within.start, *cuts.tolist(), within.stop]
    for start, stop in pairwise(bounds):
        yield slice(start, stop)


def _split(first: NDArray[np.int64], pairs: slice, max_rows: int) -> Iterator[slice]:
    """Cut a run of pairs into runs of at most `max_rows` queries, or a single pair."""
    start = pairs.start
    while start < pairs.stop:
        fit = int(np.searchsorted(first, first[start] + max_rows, side="right")) - 1
        stop = min(max(fit, start + 1), pairs.stop)
        yield slice(start, stop)
        start = stop
