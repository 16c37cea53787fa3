"""All methods in one pass: similarities of source keypoints to all target patches, reading each image once.

No mask is used, unless a method asks for `Images.foreground`: tokens of the background and of the padding
take part like all others.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.geometry import Grid, patches_of_picture
from spheremap.methods.engine.descriptors import at_unit_length, interpolate, weighted_sum
from spheremap.methods.engine.method import Method
from spheremap.methods.engine.queries import Queries
from spheremap.model.head import Head

NARROW = 4  # descriptors of so few dimensions are always kept


@dataclass(frozen=True, eq=False)
class Images:
    """B images of one category, as methods see them when they describe patches.

    Attributes:
        ids: of the images.
        tokens: `(B, N, D)` float16, from the cache.
        inside: `(B, N)` bool, patches of the picture itself; the others are padding.
        foreground: `(B, N)` bool, patches of the object, by its mask.
        grid: rows and columns of patches.
        category: of the images.
    """

    ids: Sequence[str]
    tokens: NDArray[np.float16]
    inside: NDArray[np.bool_]
    foreground: NDArray[np.bool_]
    grid: Grid
    category: str
    _head: Head | None
    _fitted: Mapping[Method, nn.Module]
    _companion: Callable[[str], "Images"]
    _made: dict[Hashable, Tensor] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        """The trained head.

        Raises:
            InputError: if none was given.
        """
        if self._head is None:
            raise InputError("a method needs the sphere", expected="a trained head", found="none")
        return self._head

    def fitted(self, method: Method) -> Any:
        """The network that a method has fitted.

        Raises:
            InputError: if it was not given.
        """
        if method not in self._fitted:
            raise InputError("a method must be fitted with these parameters first", found=repr(method))
        return self._fitted[method]

    @cached_property
    def mirrored(self) -> "Images":
        """The mirror images of the same, for methods that need "mirrored"."""
        return self._companion("mirrored")

    @cached_property
    def blank(self) -> "Images":
        """A picture of the mean colour of their size, for methods that need "blank"; one for all images."""
        return self._companion("blank")

    def once(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What `make` returns, computed once for a key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def described(self, part: Method) -> Tensor:
        """Descriptors `(B, N, D')` by a method, computed once.

        Raises:
            ProvenanceError: if they are not finite.
        """

        def describe() -> Tensor:
            descriptors = part.describe(self)
            if not bool(torch.isfinite(descriptors).all()):
                raise ProvenanceError(
                    f"the method {type(part).__name__} gives descriptors that are not finite",
                    where=f"image {self.ids[0]} or one of the next {len(self.ids) - 1}",
                    fix="train again what it has learned, with a lower learning rate",
                )
            return descriptors

        return self.once(part, describe)


@dataclass(frozen=True)
class Pair:
    """A pair of images in a block: their records in the cache, their ids, and its keypoints' rows."""

    source: int
    target: int
    source_id: str
    target_id: str
    rows: slice


@dataclass(frozen=True)
class Block:
    """R consecutive queries, all those of one or more pairs that share a target: what methods compare.

    Attributes:
        queries: which ones.
        target: index of the target's record in the cache.
        pairs: the pairs, in order.
        patch: `(R,)` patch of the source in which each keypoint lies, on the device.
        grid: rows and columns of patches.
    """

    queries: slice
    target: int
    pairs: list[Pair]
    patch: Tensor
    grid: Grid
    _share: Tensor
    _sources: "_Sources"
    _held: "_Held"
    _products: dict[tuple[Method, Method], Tensor] = field(default_factory=dict)

    def product(self, part: Method, source: Method | None = None) -> Tensor:
        """Dot products `(R, N)` of the keypoints' descriptors with all of the target's.

        Args:
            source: what describes the keypoints in the place of `part`, one of `Method.further_parts`.
        """
        source = part if source is None else source
        if (part, source) not in self._products:
            about = self._sources.of(source, self.queries).to(self._share.device)
            product = interpolate(about, self._share) @ self.whole(self.target, part).T
            self._products[part, source] = product
        return self._products[part, source]

    def similarity(
        self,
        parts: Mapping[Method, float],
        rows: slice = slice(None),
        source: Callable[[Method], Method] | None = None,
    ) -> Tensor:
        """Dot products of a concatenation of descriptors, of some rows: `Σ w <d, d'>`.

        Args:
            source: from a part to what describes the keypoints in its place.
        """
        return weighted_sum(
            (weight, self.product(part, source and source(part))[rows])
            for part, weight in parts.items()
            if weight
        )

    def by_pair(self, compare: Callable[[Pair], Tensor]) -> Tensor:
        """Similarities `(R, N)` from those `(K, N)` of each pair."""
        return torch.cat([compare(pair) for pair in self.pairs]).to(self._share.device)

    def whole(self, image: int, part: Method) -> Tensor:
        """Descriptors `(N, D')` of all patches of the target, or of a source for `whole_sources`."""
        return self._held.of(image, part)

    def summary(self, method: Method, image: int) -> Tensor:
        """What the method's `summarise` said of an image."""
        return self._held.summaries[method, image]


@dataclass(frozen=True)
class Comparison:
    """Compares every query with every patch of its target (matching as in Mariotti et al. 2024).

    Pairs are taken category by category. Each image of a category is read and described once; its descriptors
    are kept until the category is done, as far as `kept_bytes` reach, and only targets beyond that are read a
    second time. Besides these, the descriptors of source keypoints and narrow ones (sphere points) are held:
    about a hundredth of the category's part of the cache. For methods that compare whole images sources are
    kept as well, and those beyond `kept_bytes` are read for each pair.

    A keypoint of the source is described by its sampled descriptors, mixed as they are and then brought to
    unit length.

    Args:
        methods: to be compared.
        head: for methods that need the sphere.
        fitted: the networks of methods that learn, on the device.
        batch: images described at a time.
        max_rows: queries per block, exceeded only by a single pair that has more.
    """

    cache: FeatureCache
    methods: Iterable[Method]
    head: Head | None = None
    fitted: Mapping[Method, nn.Module] = field(default_factory=dict)
    device: torch.device | str = "cpu"
    batch: int = 8
    kept_bytes: int = 2**30
    max_rows: int = 1024

    def blocks(self, queries: Queries) -> Iterator[Block]:
        """Yield each query exactly once, in order.

        Raises:
            InputError: if a head or what a method has learned is missing.
            ProvenanceError: if tokens or descriptors are not finite.
        """
        reader = _Reader(self.cache, self.head, self.fitted)
        for pairs in _runs(queries.category, slice(0, len(queries.category))):
            yield from self._category(queries, pairs, reader)

    def _category(self, queries: Queries, pairs: slice, reader: "_Reader") -> Iterator[Block]:
        members = list(dict.fromkeys(each for method in self.methods for each in method.made_of()))
        parts = list(dict.fromkeys(part for method in self.methods for part in method.parts()))
        of_sources = dict.fromkeys([*parts, *(part for each in members for part in each.further_parts())])
        category = str(queries.category[pairs.start])
        whole = set(queries.target[pairs].tolist())  # images of which all patches are compared
        asked = set(queries.source[pairs].tolist())
        indices = sorted(whole | asked, key=lambda i: (self.cache.image_ids[i], i))
        if any(method.whole_sources for method in members):
            whole |= asked

        sources = _Sources(self.cache, queries, pairs)
        held = _Held(
            lambda image, part: reader.read([image], category).described(part)[0],
            self.device,
            self.kept_bytes,
        )
        for start in range(0, len(indices), self.batch):
            records = indices[start : start + self.batch]
            images = reader.read(records, category)
            for part in of_sources:
                for i, descriptors in zip(records, images.described(part), strict=True):
                    sources.fill(part, i, descriptors)
                    if i in whole and part in parts:
                        held.keep(i, part, descriptors)
            for method in members:
                summary = method.summarise(images)
                if summary is not None:
                    held.summaries |= {(method, i): own for i, own in zip(records, summary, strict=True)}

        for same_target in _runs(queries.target, pairs):
            held.turn_to(int(queries.target[same_target.start]))
            for block in _split(queries.first, same_target, self.max_rows):
                yield self._block(queries, block, sources, held)

    def _block(self, queries: Queries, pairs: slice, sources: "_Sources", held: "_Held") -> Block:
        own = slice(int(queries.first[pairs.start]), int(queries.first[pairs.stop]))
        bounds = (queries.first[pairs.start : pairs.stop + 1] - own.start).tolist()
        return Block(
            queries=own,
            target=int(queries.target[pairs.start]),
            pairs=[
                Pair(
                    int(queries.source[pair]),
                    int(queries.target[pair]),
                    str(queries.source_id[pair]),
                    str(queries.target_id[pair]),
                    slice(*rows),
                )
                for pair, rows in zip(range(pairs.start, pairs.stop), pairwise(bounds), strict=True)
            ],
            patch=torch.from_numpy(queries.patch[own]).to(self.device),
            grid=self.cache.grid,
            _share=torch.from_numpy(queries.share[own]).to(self.device),
            _sources=sources,
            _held=held,
        )


class _Reader:
    """Reads images from the cache, and what methods need of other caches beside it."""

    def __init__(self, cache: FeatureCache, head: Head | None, fitted: Mapping[Method, nn.Module]) -> None:
        self._cache, self._head, self._fitted = cache, head, fitted
        self._blank: Images | None = None

    def read(self, records: Sequence[int], category: str, cache: FeatureCache | None = None) -> Images:
        """Some records of a category: of the cache of whole images, or of another one."""
        cache = self._cache if cache is None else cache
        ids = [cache.image_ids[i] for i in records]
        boxes = cache.boxes[records]
        # the box of a whole image is centred on it: the sum of its corners is the image's size
        inside = np.stack([patches_of_picture(box, cache.grid, box[:2] + box[2:]) for box in boxes])

        def companion(kind: str) -> Images:
            other = self._cache.companion(kind)
            if kind != "blank":
                return self.read([other.index(image_id) for image_id in ids], category, other)
            if self._blank is None:  # one for all images, so that what is learned of it is computed once
                self._blank = self.read([0], category, other)
            return self._blank

        return Images(
            ids, cache.tokens(records), inside, cache.masks[records], cache.grid, category, self._head,
            self._fitted, companion,
        )  # fmt: skip


class _Held:
    """What is held of a category's images that are compared as a whole."""

    def __init__(
        self, describe: Callable[[int, Method], Tensor], device: torch.device | str, kept_bytes: int
    ) -> None:
        self._describe, self._device, self._room = describe, device, kept_bytes
        self._kept: dict[tuple[int, Method], Tensor] = {}  # (N, D')
        self._ready: dict[Method, Tensor] = {}  # of the current target, on the device
        self._target: int | None = None
        self.summaries: dict[tuple[Method, int], Tensor] = {}

    def keep(self, image: int, part: Method, descriptors: Tensor) -> None:
        """Hold descriptors `(N, D')` while there is room."""
        narrow = descriptors.shape[1] <= NARROW
        if narrow or descriptors.nbytes <= self._room:
            self._room -= 0 if narrow else descriptors.nbytes
            self._kept[image, part] = descriptors.clone()  # a view would keep the whole batch alive

    def of(self, image: int, part: Method) -> Tensor:
        """Descriptors `(N, D')` ready to be compared, on the device."""
        if image == self._target and part in self._ready:
            return self._ready[part]
        found = self._kept.get((image, part))
        found = self._describe(image, part) if found is None else found
        ready = at_unit_length(found.to(self._device))
        if image == self._target:
            self._ready[part] = ready
        return ready

    def turn_to(self, target: int) -> None:
        """Hold this image ready on the device, instead of the last one."""
        self._ready.clear()
        self._target = target


class _Sources:
    """Descriptors of the S distinct source patches that a category's queries ask about."""

    def __init__(self, cache: FeatureCache, queries: Queries, pairs: slice) -> None:
        self._patches = cache.grid[0] * cache.grid[1]
        first = queries.first[pairs.start : pairs.stop + 1]
        record = np.repeat(queries.source[pairs], np.diff(first))[:, None]
        sampled = record * self._patches + queries.sampled[first[0] : first[-1]]
        self._wanted, row = np.unique(sampled, return_inverse=True)  # record * N + patch, increasing
        self._row = torch.from_numpy(row.reshape(sampled.shape))  # (queries of the category, C)
        self._start = int(first[0])
        self._descriptors: dict[Method, Tensor] = {}  # (S, D')

    def fill(self, part: Method, record: int, descriptors: Tensor) -> None:
        """Take what is wanted from descriptors `(N, D')` of an image."""
        if part not in self._descriptors:
            shape = len(self._wanted), descriptors.shape[1]
            self._descriptors[part] = torch.full(shape, torch.nan, dtype=descriptors.dtype)
        bounds = [record * self._patches, (record + 1) * self._patches]
        start, stop = np.searchsorted(self._wanted, bounds)
        patch = torch.from_numpy(self._wanted[start:stop] - bounds[0])
        self._descriptors[part][start:stop] = descriptors[patch]

    def of(self, part: Method, queries: slice) -> Tensor:
        """Descriptors `(R, C, D')` of some queries."""
        return self._descriptors[part][self._row[queries.start - self._start : queries.stop - self._start]]


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
