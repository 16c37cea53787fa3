"""The index of a feature cache: one small HDF5 file whose virtual data sets present all shards as one.

It names the shards, which lie beside it, so that the folder can be moved. The module `reader` describes its
data sets and reads it. To other programs a missing shard shows as NaN in `tokens` and `boxes`, -1 in `view`,
255 in `masks` and empty image ids: values that no shard holds.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from spheremap.base.errors import InputError
from spheremap.base.files import atomic_path
from spheremap.features.cache.reader import DTYPES, INDEX_SCHEMA, FeatureCache, record_shapes

FILL = {"tokens": np.nan, "masks": 255, "boxes": np.nan, "view": -1}


def write_index(shards: Sequence[Path], out: Path) -> int:
    """Write the index of a cache.

    Args:
        shards: all shards of the cache, in any order.
        out: HDF5 file to write; equal caches give equal bytes.

    Returns:
        The number of records.

    Raises:
        InputError: if a shard lies in another folder than the index.
        ProvenanceError: if the shards are not one whole, undamaged cache.
    """
    with FeatureCache.open(shards) as cache:
        files = [(path.name, records) for path, records in cache.files]
        elsewhere = [path for path, _ in cache.files if path.parent.resolve() != out.parent.resolve()]
        if elsewhere:
            problem, expected = "the shards of a cache lie beside its index", f"a file in {out.parent}"
            raise InputError(problem, where=elsewhere[0], expected=expected)
        n = len(cache)
        shapes = record_shapes(n, cache.grid[0] * cache.grid[1], cache.dim)
        longest = max((len(image_id.encode()) for image_id in cache.image_ids), default=1)
        types = {**DTYPES, "image_id": f"S{longest}"}
        kind, grid, provenance = cache.kind, cache.grid, cache.provenance
    with atomic_path(out) as temporary, h5py.File(temporary, "w", libver=("v110", "v110")) as file:
        for name, shape in shapes.items():
            _create_virtual(file, name, shape, np.dtype(types[name]), files)
        file.attrs["schema"] = np.bytes_(INDEX_SCHEMA)
        file.attrs["kind"] = np.bytes_(kind)
        file.attrs["grid"] = np.array(grid, dtype=np.int64)
        file.attrs["provenance"] = np.bytes_(json.dumps(provenance, sort_keys=True).encode())
        spans = [(path, records.start, records.stop) for path, records in files]
        file.attrs["shards"] = np.bytes_(json.dumps(spans).encode())
    return n


def _create_virtual(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, files: Sequence[tuple[str, range]]
) -> None:
    """Put the data sets `name` of all files one behind the other."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)  # h5py's own function for this would leave the time in the file
    # texts are filled with zero bytes anyway, and h5py 3.16 stores any other fill value wrongly
    if name in FILL:
        properties.set_fill_value(np.array(FILL[name], dtype))
    space = h5py.h5s.create_simple(shape)
    for path, records in files if shape[0] else ():
        own = (len(records), *shape[1:])
        space.select_hyperslab((records.start, *[0] * (len(shape) - 1)), own)
        properties.set_virtual(space, os.fsencode(path), name.encode(), h5py.h5s.create_simple(own))
    space.select_all()
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype), space, properties)
