"""Reading a feature cache: several shards as one sequence, refused when damaged or made otherwise.

One HDF5 file per shard, one chunk per record, every data set with fletcher32 checksums:

| name     | shape     | type               | content                                                     |
|----------|-----------|--------------------|-------------------------------------------------------------|
| tokens   | (n, N, D) | float16            | patch tokens, row-major over the grid                       |
| masks    | (n, N)    | uint8              | 1 where the patch centre lies on the object                 |
| boxes    | (n, 4)    | float64            | region (x0, y0, x1, y1) in original pixels that was resized |
| image_id | (n,)      | fixed-length bytes | UTF-8 image ids                                             |
| view     | (n,)      | int32              | number of the training view, 0 for whole images             |

Attributes: schema, kind (one of `KINDS`), grid (rows, columns), shard (index, count), provenance (JSON)
and complete, which is written last.

An index (written by the module `index`) is a small HDF5 file that presents the shards as one: data sets of
the same names and types, but virtual and with all records of the cache, for any program that reads HDF5.
Where a shard is gone, a virtual data set silently returns fill values; and HDF5 keeps the list of its sources
unprotected: one damaged byte there made version 2.0 hang. The reader here therefore takes from the index only
its attributes, which have checksums: kind, grid, provenance and shards, a JSON list of (file, first record,
last record + 1). It reads, checks and, if need be, refuses the shards themselves; these lie beside the index.

HDF5 can also refer to other files (external links, virtual and external storage), hold objects and vast
data sets that take no room, and load filters. A shard is refused unless its data sets are its own, of numbers
or fixed-length bytes, wholly stored, and have fletcher32 as their only filter.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.provenance import check_provenance

SCHEMA = "spheremap-features-1"
INDEX_SCHEMA = "spheremap-feature-index-1"
KINDS = ("views", "images", "mirrored", "blank")
DTYPES = {"tokens": "float16", "masks": "uint8", "boxes": "float64", "view": "int32"}
_REBUILD = "delete the file and run `snakemake --cores all`"


def record_shapes(records: int, patches: int, dim: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the data sets of a shard, or of an index, by name."""
    return {
        "tokens": (records, patches, dim),
        "masks": (records, patches),
        "boxes": (records, 4),
        "view": (records,),
        "image_id": (records,),
    }


@dataclass(frozen=True)
class _Shard:
    """One open file with everything but its tokens in memory."""

    path: Path
    file: h5py.File
    kind: str
    grid: tuple[int, int]
    index: int
    count: int
    provenance: dict[str, Any]
    masks: NDArray[np.bool_]  # (n, N)
    boxes: NDArray[np.float64]  # (n, 4)
    image_ids: list[str]
    view: NDArray[np.int32]  # (n,)

    @property
    def tokens(self) -> h5py.Dataset:
        return self.file["tokens"]


@dataclass(frozen=True)
class _Index:
    """What an index says of its shards, in their order."""

    path: Path
    provenance: dict[str, Any]
    shards: list[Path]
    spans: list[tuple[int, int]]  # records from, to


class FeatureCache:
    """Patch tokens, patch masks and geometry of many images, read from the shards of one cache.

    A record is a whole image padded to a square (kind "images"), its mirror image ("mirrored"), a picture of
    the mean colour ("blank", the only one) or one training view ("views"). Records keep the order of the
    builder: by category, then image id, then view. Tokens stay on disk and are read on demand; everything
    else is loaded when the cache is opened.

    Attributes:
        kind: one of `KINDS`.
        grid: rows and columns of patches; N = rows * columns.
        dim: D, the width of a token.
        image_ids: image of each record, n entries.
        view: view number of each record, `(n,)`; zeros but for kind "views".
        boxes: `(n, 4)` float64, see `spheremap.features.geometry`.
        mirrored: `(n,)` bool, true for mirrored views.
        masks: `(n, N)` bool, true where the patch centre lies on the object.
        provenance: how the cache was made.
    """

    def __init__(self, shards: Sequence[_Shard], resources: ExitStack, companions: Path) -> None:
        first = shards[0]
        self.kind = first.kind
        self.grid = first.grid
        self.dim = int(first.tokens.shape[2])
        self.provenance = first.provenance
        self.image_ids = [image_id for shard in shards for image_id in shard.image_ids]
        self.view = np.concatenate([shard.view for shard in shards])
        self.boxes = np.concatenate([shard.boxes for shard in shards])
        self.mirrored = self.boxes[:, 0] > self.boxes[:, 2]
        self.masks = np.concatenate([shard.masks for shard in shards])
        self._shards = list(shards)
        self._starts = np.cumsum([0, *(len(shard.image_ids) for shard in shards)])
        self._finite = np.zeros(len(self.image_ids), dtype=bool)  # records whose tokens were looked at
        self._first = {image_id: i for i, image_id in reversed(list(enumerate(self.image_ids)))}
        self._resources = resources
        self._folder, self._companions = companions, dict[str, FeatureCache]()

    @classmethod
    def open(
        cls, paths: Sequence[Path], *, expect: Mapping[str, Any] | None = None, companions: Path | None = None
    ) -> Self:
        """Open all shards of a cache.

        Args:
            paths: the index of the cache alone, or all its shards, in any order.
            expect: (nested) keys that the cache's provenance must hold.
            companions: folder of the caches that `companion` opens; None: that of this one.

        Raises:
            ProvenanceError: if a file is missing, damaged, incomplete or of another schema, if shards are
                missing or do not belong together or to the index, or if the provenance is not as expected.
        """
        if not paths:
            raise InputError("no feature cache given", expected="one HDF5 file or more")
        index = _read_index(Path(paths[0])) if len(paths) == 1 else None
        with ExitStack() as stack:
            opened = [_open_shard(Path(path), stack) for path in (index.shards if index else paths)]
            if index is not None:
                _check_index(index, opened)
            shards = sorted(opened, key=lambda shard: shard.index)
            _check_agreement(shards)
            if expect is not None:
                check_provenance(shards[0].provenance, expected=expect, where=shards[0].path, fix=_REBUILD)
            return cls(shards, stack.pop_all(), companions or shards[0].path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; what was loaded at opening stays usable."""
        self._resources.close()

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def files(self) -> list[tuple[Path, range]]:
        """The shards, each with the records that it holds."""
        return [
            (shard.path, range(start, stop))
            for shard, (start, stop) in zip(self._shards, pairwise(self._starts.tolist()), strict=True)
        ]

    def companion(self, kind: str) -> "FeatureCache":
        """The cache of another kind beside this one, "mirrored.h5" for example, opened when first asked for.

        Raises:
            ProvenanceError: if it is missing or damaged, or was made with other settings than this one.
        """
        if kind not in self._companions:
            path = self._folder / f"{kind}.h5"
            expect = {key: self.provenance[key] for key in ("params", "inputs")}
            cache = self._resources.enter_context(FeatureCache.open([path], expect=expect))
            if cache.kind != kind:
                raise _refusal("a feature cache of another kind", path, kind, cache.kind)
            self._companions[kind] = cache
        return self._companions[kind]

    def index(self, image_id: str) -> int:
        """The first record of an image.

        Raises:
            InputError: if the cache does not hold the image.
        """
        try:
            return self._first[image_id]
        except KeyError:
            raise InputError(
                f"image {image_id!r} is not in the feature cache",
                where=self._shards[0].path,
                expected=f"one of {len(self._first)} images, such as {self.image_ids[0]!r}"
                if self._first
                else "no image at all: there were no val or test pairs",
                fix=_REBUILD,
            ) from None

    def tokens(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float16]:
        """Read the tokens of some records: `(k, N, D)` float16, in the order asked.

        The disk is read in ascending order, neighbours in one go and a record asked for twice only once.
        Beside the result, no memory is taken.

        Raises:
            IndexError: for an index outside [0, n).
            ProvenanceError: if a checksum does not match, or if a token is not finite.
        """
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"record {wanted.min()}..{wanted.max()} outside a cache of {len(self)} records")
        result = np.empty((len(wanted), self.grid[0] * self.grid[1], self.dim), dtype=np.float16)
        # where each record asked for stands first, and from there to the places where it is asked for again
        records, places, inverse = np.unique(wanted, return_index=True, return_inverse=True)
        shard_of = np.searchsorted(self._starts, records, side="right") - 1
        # a run is broken by a gap on disk or in the result, or by the border of a shard
        together = (np.diff(records) == 1) & (np.diff(places) == 1) & (np.diff(shard_of) == 0)
        edges = [0, *(np.flatnonzero(~together) + 1).tolist(), len(records)]
        for begin, end in pairwise(edges):
            if begin == end:
                continue
            shard = self._shards[shard_of[begin]]
            start = int(records[begin] - self._starts[shard_of[begin]])
            place = int(places[begin])
            try:
                shard.tokens.read_direct(
                    result, np.s_[start : start + end - begin], np.s_[place : place + end - begin]
                )
            except OSError as error:
                raise _damaged(shard.path, error) from error
            self._require_finite(records[begin:end], result[place : place + end - begin], shard.path)
        for place in np.flatnonzero(places[inverse] != np.arange(len(wanted))).tolist():
            result[place] = result[places[inverse[place]]]
        return result

    def _require_finite(self, records: NDArray[np.int64], tokens: NDArray[np.float16], where: Path) -> None:
        """Refuse infinity and NaN, which no builder of ours writes; each record is looked at once."""
        for record, own in zip(records.tolist(), tokens, strict=True):
            if not self._finite[record] and not _finite(own):
                problem = f"tokens of image {self.image_ids[record]!r} in the feature cache are not finite"
                raise _refusal(problem, where, "finite numbers", "infinity or NaN")
            self._finite[record] = True


def _finite(tokens: NDArray[np.float16]) -> bool:
    """Whether no token is infinite or NaN: no bits from 0x7C00 to 0x7FFF, or from 0xFC00 on.

    Two maxima take no memory, and arithmetic with float16 is slow.
    """
    return bool(tokens.view(np.int16).max() < 0x7C00 and tokens.view(np.uint16).max() < 0xFC00)


def _read_index(path: Path) -> _Index | None:
    """The index in a file; None if there is something else, which is then looked at as a shard."""
    if not path.exists():
        return None
    try:
        with h5py.File(path, "r") as file:
            if _text(file.attrs.get("schema", "")) != INDEX_SCHEMA:
                return None
            listed = json.loads(_text(file.attrs["shards"]))
            outside = [name for name, _, _ in listed if name in ("", ".", "..") or Path(name).name != name]
            if outside:
                problem = "the index of the feature cache names a file elsewhere"
                raise _refusal(problem, path, "shards beside the index", repr(outside[0]))
            return _Index(
                path=path,
                provenance=json.loads(_text(file.attrs["provenance"])),
                shards=[path.parent / name for name, _, _ in listed],
                spans=[(int(start), int(stop)) for _, start, stop in listed],
            )
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        raise _damaged(path, error) from error


def _check_index(index: _Index, shards: Sequence[_Shard]) -> None:
    """Whether the files are still those that the index was written over."""
    start = 0
    for number, (shard, span) in enumerate(zip(shards, index.spans, strict=True)):
        check_provenance(shard.provenance, expected=index.provenance, where=shard.path, fix=_REBUILD)
        stop = start + len(shard.image_ids)
        if (number, span) != (shard.index, (start, stop)):
            problem = "the index of the feature cache and its shard do not agree"
            expected = f"shard {number} with records {span[0]} to {span[1] - 1}, as in {index.path}"
            found = f"shard {shard.index} with records {start} to {stop - 1}"
            raise _refusal(problem, shard.path, expected, found)
        start = stop


def _open_shard(path: Path, stack: ExitStack) -> _Shard:
    if not path.exists():
        fix = "run `snakemake --cores all` to build it"
        raise _refusal("the feature cache does not exist", path, "an HDF5 file", "no file", fix)
    try:
        file = stack.enter_context(h5py.File(path, "r"))
        attributes = dict(file.attrs)
        _check_attributes(path, attributes)
        _check_shapes(path, file, int(np.prod(attributes["grid"])))
        return _Shard(
            path=path,
            file=file,
            kind=_text(attributes["kind"]),
            grid=(int(attributes["grid"][0]), int(attributes["grid"][1])),
            index=int(attributes["shard"][0]),
            count=int(attributes["shard"][1]),
            provenance=json.loads(_text(attributes["provenance"])),
            masks=file["masks"][...].astype(bool),
            boxes=file["boxes"][...],
            image_ids=[name.decode("utf-8") for name in file["image_id"][...]],
            view=file["view"][...],
        )
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        # how HDF5 reports damage depends on the byte hit: any of these can come out of h5py
        raise _damaged(path, error) from error


def _check_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    schema = _text(attributes.get("schema", "no schema"))
    if schema == INDEX_SCHEMA:
        raise ProvenanceError(
            "the index of a feature cache where a shard is expected",
            where=path,
            fix="name the index alone, or all shards and no index",
        )
    if schema != SCHEMA:
        raise _refusal("not a feature cache of this version", path, SCHEMA, schema)
    if not attributes.get("complete", False):
        raise _refusal("the feature cache is incomplete", path, "all records", "an unfinished file")
    if (kind := _text(attributes["kind"])) not in KINDS:
        raise ValueError(f"unknown kind {kind!r}")


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _own(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """A data set whose plain values stand in this very file."""
    link = file.get(name, getlink=True)
    problem = "" if isinstance(link, h5py.HardLink) else "a link"
    if not problem:
        data = file[name]
        filters = data.id.get_create_plist().get_nfilters() if isinstance(data, h5py.Dataset) else 0
        if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
            problem = "values in another file"
        elif data.dtype.kind not in "Suif":
            problem = f"values of type {data.dtype}"
        elif filters > 1:
            problem = "further filters"
        elif data.id.get_storage_size() < data.nbytes:
            problem = "values that are not stored"
    if problem:
        expected = "stored numbers or fixed-length bytes, in the file itself"
        raise _refusal(
            f"data set {name!r} of the feature cache is not as it should be", path, expected, problem
        )
    return data


def _check_shapes(path: Path, file: h5py.File, n_patches: int) -> None:
    n, _, dim = _own(path, file, "tokens").shape
    for name, shape in record_shapes(n, n_patches, dim).items():
        data = _own(path, file, name)
        if data.shape != shape or data.dtype != DTYPES.get(name, data.dtype) or not data.fletcher32:
            problem = f"data set {name!r} of the feature cache is not as it should be"
            expected = f"{shape} {DTYPES.get(name, 'bytes')} with fletcher32"
            found = f"{data.shape} {data.dtype}{'' if data.fletcher32 else ' without fletcher32'}"
            raise _refusal(problem, path, expected, found)


def _check_agreement(shards: Sequence[_Shard]) -> None:
    first = shards[0]
    for shard in shards[1:]:
        check_provenance(shard.provenance, expected=first.provenance, where=shard.path, fix=_REBUILD)
        for name in ("kind", "grid", "count"):
            if getattr(shard, name) != getattr(first, name):
                problem, expected = f"shards of different {name} given together", getattr(first, name)
                raise _refusal(problem, shard.path, f"{expected} as in {first.path}", getattr(shard, name))
    if [shard.index for shard in shards] != list(range(first.count)):
        problem, expected = (
            "the shards given are not the whole feature cache",
            f"shards 0 to {first.count - 1}",
        )
        found = ", ".join(str(shard.index) for shard in shards)
        fix = "name all shards, or run `snakemake --cores all` to build those that are missing"
        raise _refusal(problem, first.path, f"{expected}, each once", found, fix)


def _damaged(path: Path, error: Exception) -> ProvenanceError:
    expected, found = "a whole HDF5 file with matching checksums", str(error) or type(error).__name__
    return _refusal("the feature cache is damaged", path, expected, found)


def _refusal(problem: str, where: Path, expected: str, found: object, fix: str = _REBUILD) -> ProvenanceError:
    return ProvenanceError(problem, where=where, expected=expected, found=str(found), fix=fix)
