"""Rendering the embedded data set: parameters in, canonical tables with pictures and masks out.

Every picture depends on the seed, its category, split, instance and view alone, never on the order or the
number of processes. The data set appears when it is complete; an interrupted run begins it again.
"""

import dataclasses
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spheremap.base.errors import InputError, SpheremapError
from spheremap.base.files import atomic_path, refuse_foreign, sha256_file
from spheremap.base.interruption import held_interrupts
from spheremap.base.progress import progress
from spheremap.base.provenance import provenance
from spheremap.config.data_sets import Shapes as ShapesParams
from spheremap.data.adapter_tools import image_row, ingested, keypoint_row
from spheremap.data.images import extent
from spheremap.data.shapes.camera import BIN_WIDTH, BINS, draw_camera
from spheremap.data.shapes.models import keypoint_names, make_instance
from spheremap.data.shapes.pairs import draw_pairs
from spheremap.data.shapes.scene import render, solid, visible_points
from spheremap.data.tables import SPLITS, WRITERS, Tables, fill_tables, made_by

# object's value in the masks: Pascal VOC's class ids where VOC has the class
CLASS_IDS = {"aeroplane": 1, "bicycle": 2, "car": 7, "chair": 9, "quadruped": 21}
JPEG_QUALITY = 95

Record = dict[str, Any]  # of one picture: box, keypoints, digests of its files


@dataclass(frozen=True)
class View:
    """One picture to render; `name` is its image_id."""

    category: str
    split: str
    instance: int
    view: int

    @property
    def instance_name(self) -> str:
        return f"{self.category}/{self.split}_{self.instance:03d}"

    @property
    def name(self) -> str:
        return f"{self.instance_name}_{self.view:02d}"

    @property
    def bin(self) -> int:
        return self.view % BINS

    def image(self, root: Path) -> Path:
        return root / "images" / f"{self.name}.jpg"

    def mask(self, root: Path) -> Path:
        return root / "masks" / f"{self.name}.png"


def render_dataset(params: ShapesParams, out: Path, jobs: int) -> None:
    """Render the data set; `out` appears complete or not at all.

    Args:
        params: what to render.
        out: directory for the canonical tables, `images/` and `masks/`; one that spheremap wrote is replaced.
        jobs: number of processes. The result does not depend on it.

    Raises:
        InputError: if the parameters do not allow what they ask for, or spheremap did not write `out`.
    """
    if jobs < 1:
        raise InputError("wrong number of jobs", expected="1 or more", found=str(jobs), fix="give --jobs 1")
    rest = [f"{kind}/{category}" for kind in ("images", "masks") for category in CLASS_IDS]
    refuse_foreign(out, made_by(out, *WRITERS), rest)
    views = list(all_views(params))
    with atomic_path(out) as staged:
        tables = _tables(params, dict(_render_all(params, views, staged, jobs)), out)
        fill_tables(staged, tables, provenance("render", dataclasses.asdict(params)))


def all_views(params: ShapesParams) -> Iterator[View]:
    """Every picture of the data set, in the order of the tables."""
    for category in params.categories:
        for split in SPLITS:
            for instance in range(params.instances.of(split)):
                for view in range(params.views_per_instance):
                    yield View(category, split, instance, view)


# --- rendering ----------------------------------------------------------------------------------------------


def generator(seed: int, purpose: str, category: str, split: str, *numbers: int) -> np.random.Generator:
    """An independent stream of random numbers for each thing to be drawn."""
    digests = (hashlib.sha256(text.encode()).digest() for text in (purpose, category, split))
    words = [int.from_bytes(digest[:4], "big") for digest in digests]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=[*words, *numbers]))


def _render_all(
    params: ShapesParams, views: list[View], folder: Path, jobs: int
) -> Iterator[tuple[View, Record]]:
    """Render the pictures, one object per task, and yield their records in order."""
    tasks: dict[str, list[View]] = {}
    for view in views:
        tasks.setdefault(view.instance_name, []).append(view)
        for place in (view.image(folder), view.mask(folder)):
            place.parent.mkdir(parents=True, exist_ok=True)
    work = partial(_render_instance, params, folder)
    with (
        progress(total=len(views), desc="render", unit="images") as bar,
        _mapper(min(jobs, len(tasks))) as run,
    ):
        with held_interrupts():  # the processes start with the first item
            results = run(work, tasks.values())
        for done in results:
            yield from done
            bar.update(len(done))


@contextmanager
def _mapper(jobs: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, or its parallel twin."""
    if jobs <= 1:
        yield map
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, spawn, initializer=_end_with_parent) as pool:
            try:
                yield pool.map
            except BrokenProcessPool as error:
                raise SpheremapError(
                    "a process that draws pictures was killed",
                    found="perhaps the machine was out of memory",
                    fix="run the same command again, with fewer cores if memory is short",
                ) from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _end_with_parent() -> None:
    """End this process when its parent is gone, even if that was killed: else it would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _render_instance(params: ShapesParams, folder: Path, views: list[View]) -> list[tuple[View, Record]]:
    """Build one object and render its views into a directory."""
    first = views[0]
    built = generator(params.seed, "instance", first.category, first.split, first.instance)
    instance = make_instance(first.category, built)
    subject = solid(instance.mesh)
    names = keypoint_names(first.category)
    points = np.array([instance.keypoints[name] for name in names], dtype=np.float64)
    result = []
    for view in views:
        rng = generator(params.seed, "view", view.category, view.split, view.instance, view.view)
        camera = draw_camera(rng, instance.mesh.vertices, params, view.bin)
        picture = render(subject, camera, rng)
        pixels, seen = visible_points(points, camera, picture)
        Image.fromarray(picture.rgb).save(view.image(folder), quality=JPEG_QUALITY, subsampling=0)
        mask = picture.mask.astype(np.uint8) * np.uint8(CLASS_IDS[view.category])
        Image.fromarray(mask).save(view.mask(folder))
        rounded = np.round(pixels, 2).tolist()
        record = {
            "box": extent(picture.mask),
            "keypoints": [point if shown else None for point, shown in zip(rounded, seen, strict=True)],
            "sha256": {"image": sha256_file(view.image(folder)), "mask": sha256_file(view.mask(folder))},
        }
        result.append((view, record))
    return result


# --- tables -------------------------------------------------------------------------------------------------


def _tables(params: ShapesParams, records: dict[View, Record], out: Path) -> Tables:
    """Canonical tables of the rendered pictures, with freshly drawn pairs."""
    size = (params.image_size, params.image_size)
    images = [
        image_row(
            view.name,
            view.image(out),
            size,
            record["box"],
            view.split,
            mask_path=view.mask(out).as_posix(),
            mask_value=CLASS_IDS[view.category],
            azimuth=view.bin * BIN_WIDTH,
            instance=view.instance_name,
        )
        for view, record in records.items()
    ]
    keypoints = [
        keypoint_row(view.name, str(index), name, point)
        for view, record in records.items()
        for index, (name, point) in enumerate(
            zip(keypoint_names(view.category), record["keypoints"], strict=True)
        )
    ]
    pairs = [
        p
        for category in params.categories
        for split in SPLITS
        for p in _pairs(params, records, category, split)
    ]
    pictures = {
        place(out).as_posix(): record["sha256"][kind]
        for view, record in records.items()
        for kind, place in (("image", view.image), ("mask", view.mask))
    }
    return dataclasses.replace(ingested(images, keypoints, pairs, {}).tables, pictures=pictures)


def _pairs(
    params: ShapesParams, records: dict[View, Record], category: str, split: str
) -> Iterator[tuple[str, str, str]]:
    views = [view for view in records if (view.category, view.split) == (category, split)]
    count = params.pairs.of(split)
    if not views and not count:
        return
    shown = [[point is not None for point in records[view]["keypoints"]] for view in views]
    drawn = draw_pairs(
        generator(params.seed, "pairs", category, split),
        instance=np.array([view.instance for view in views], dtype=np.int64),
        view_bin=np.array([view.bin for view in views], dtype=np.int64),
        visible=np.array(shown, dtype=bool).reshape(len(views), len(keypoint_names(category))),
        count=count,
        min_shared=params.min_shared_keypoints,
        where=f"{category}, {split}",
    )
    for source, target in drawn:
        yield split, views[source].name, views[target].name
