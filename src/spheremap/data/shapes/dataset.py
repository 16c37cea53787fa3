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
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from spheremap.base.errors import InputError, SpheremapError
from spheremap.base.files import atomic_path, sha256_file
from spheremap.base.interruption import held_interrupts
from spheremap.base.progress import progress
from spheremap.base.provenance import provenance
from spheremap.data.shapes.camera import BIN_WIDTH, BINS, draw_camera
from spheremap.data.shapes.models import CATEGORIES, keypoint_names, make_instance
from spheremap.data.shapes.pairs import draw_pairs
from spheremap.data.shapes.scene import render, solid, visible_points
from spheremap.data.tables import SPLITS, Tables, fill_tables

# object's value in the masks: Pascal VOC's class ids where VOC has the class
CLASS_IDS = {"aeroplane": 1, "bicycle": 2, "car": 7, "chair": 9, "quadruped": 21}
MIN_IMAGE_SIZE = 64
JPEG_QUALITY = 95

Record = dict[str, Any]  # of one picture: box, keypoints, digests of its files


@dataclass(frozen=True)
class SplitCounts:
    """A number for each split."""

    train: int
    val: int
    test: int

    def of(self, split: str) -> int:
        return int(getattr(self, split))


@dataclass(frozen=True)
class ShapesParams:
    """What to render. Angles in degrees, distances in radii of the object's bounding sphere.

    Attributes:
        layout: always "shapes".
        root: where the workflow puts the data set.
        seed: decides everything that is drawn at random.
        categories: which objects.
        image_size: side of the square pictures in pixels.
        instances: objects per category; the splits share none.
        views_per_instance: pictures of each object, a multiple of 8: every azimuth bin equally often.
        azimuth_jitter: the azimuth is drawn this far about the middle of its bin.
        elevation: range of the camera's elevation.
        roll: the camera is tilted sideways by up to this much.
        distance: range of the camera's distance; the nearer, the stronger the perspective.
        object_size: range of the object's longer side in the picture, as a fraction of the picture's side.
        shift: the object is off the middle by up to this fraction of the picture's side, never out of it.
        pairs: image pairs per category.
        min_shared_keypoints: keypoints that both pictures of a pair must show.
    """

    layout: Literal["shapes"]
    root: str
    seed: int
    categories: tuple[str, ...]
    image_size: int
    instances: SplitCounts
    views_per_instance: int
    azimuth_jitter: float
    elevation: tuple[float, float]
    roll: float
    distance: tuple[float, float]
    object_size: tuple[float, float]
    shift: float
    pairs: SplitCounts
    min_shared_keypoints: int

    def __post_init__(self) -> None:
        unknown = sorted(set(self.categories) - set(CATEGORIES))
        distinct = len(set(self.categories)) == len(self.categories)
        self._need("seed", self.seed >= 0, "0 or more")
        self._need(
            "categories",
            bool(self.categories) and distinct and not unknown,
            "some of " + ", ".join(CATEGORIES) + ", each once",
        )
        self._need("image_size", self.image_size >= MIN_IMAGE_SIZE, f"{MIN_IMAGE_SIZE} pixels or more")
        counts = [self.instances.of(split) for split in SPLITS]
        self._need("instances", min(counts) >= 0 and max(counts) > 0, "0 or more per split, 1 or more in all")
        self._need(
            "views_per_instance",
            self.views_per_instance > 0 and self.views_per_instance % BINS == 0,
            f"a multiple of {BINS}, so that every azimuth bin is seen equally often",
        )
        half = BIN_WIDTH / 2
        self._need("azimuth_jitter", 0 <= self.azimuth_jitter <= half, f"0 to {half} degrees: half a bin")
        self._need_range("elevation", self.elevation, 0, 85, "degrees")
        self._need("roll", 0 <= self.roll <= 45, "0 to 45 degrees")
        self._need_range("distance", self.distance, 1.5, 1000, "object radii")
        self._need_range("object_size", self.object_size, 0.2, 1.0, "of the picture's side")
        self._need("shift", 0 <= self.shift <= 0.5, "0 to 0.5 of the picture's side")
        self._need("pairs", all(self.pairs.of(split) >= 0 for split in SPLITS), "0 or more per split")
        self._need("min_shared_keypoints", self.min_shared_keypoints >= 1, "1 or more")

    def _need(self, key: str, ok: bool, expected: str) -> None:
        if not ok:
            raise InputError(
                f"parameter {key!r} is out of range",
                expected=expected,
                found=str(getattr(self, key)),
                fix=f"correct {key!r} of the data set in params.yaml",
            )

    def _need_range(self, key: str, value: tuple[float, float], low: float, high: float, unit: str) -> None:
        ok = low <= value[0] <= value[1] <= high
        self._need(key, ok, f"[least, most] with {low} <= least <= most <= {high} {unit}")


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
        out: directory for the canonical tables, `images/` and `masks/`; an existing one is replaced.
        jobs: number of processes. The result does not depend on it.

    Raises:
        InputError: if the parameters do not allow what they ask for.
    """
    if jobs < 1:
        raise InputError("wrong number of jobs", expected="1 or more", found=str(jobs), fix="give --jobs 1")
    views = list(all_views(params))
    with atomic_path(out) as staged:
        records = dict(_render_all(params, views, staged, jobs))
        tables = _tables(params, {view: records[view] for view in views}, out)
        fill_tables(staged, tables, provenance("render", dataclasses.asdict(params)))


def all_views(params: ShapesParams) -> Iterator[View]:
    """Every picture of the data set, in the order of the tables."""
    for category in params.categories:
        for split in SPLITS:
            for instance in range(params.instances.of(split)):
                for view in range(params.views_per_instance):
                    yield View(category, split, instance, view)


# -------------------------------------------------------------------------------------------------- rendering


def generator(seed: int, purpose: str, category: str, split: str, *numbers: int) -> np.random.Generator:
    """An independent stream of random numbers for each thing to be drawn."""
    words = [_word(purpose), _word(category), _word(split), *numbers]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def _word(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _render_all(
    params: ShapesParams, views: list[View], folder: Path, jobs: int
) -> Iterator[tuple[View, Record]]:
    """Render the pictures, one object per task, and yield their records as they come."""
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
        for done in run(work, tasks.values()):
            yield from done
            bar.update(len(done))


@contextmanager
def _mapper(jobs: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, or its parallel twin that yields results in any order."""
    if jobs <= 1:
        yield map
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, spawn, initializer=_end_with_parent) as pool:

            def parallel(function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
                with held_interrupts():  # the processes start with the first item
                    futures = [pool.submit(function, item) for item in items]
                return (future.result() for future in as_completed(futures))

            try:
                yield parallel
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
    instance = make_instance(
        first.category, generator(params.seed, "instance", first.category, first.split, first.instance)
    )
    subject = solid(instance.mesh)
    names = keypoint_names(first.category)
    points = np.array([instance.keypoints[name] for name in names], dtype=np.float64)
    result = []
    for view in views:
        rng = generator(params.seed, "view", view.category, view.split, view.instance, view.view)
        camera = draw_camera(
            rng,
            instance.mesh.vertices,
            view_bin=view.bin,
            azimuth_jitter=params.azimuth_jitter,
            elevation=params.elevation,
            roll=params.roll,
            distance=params.distance,
            object_size=params.object_size,
            shift=params.shift,
            size=params.image_size,
        )
        picture = render(subject, camera, rng)
        pixels, seen = visible_points(points, camera, picture)
        Image.fromarray(picture.rgb).save(view.image(folder), quality=JPEG_QUALITY, subsampling=0)
        mask = picture.mask.astype(np.uint8) * np.uint8(CLASS_IDS[view.category])
        Image.fromarray(mask).save(view.mask(folder))
        rows, columns = (np.flatnonzero(picture.mask.any(axis=axis)).tolist() for axis in (1, 0))
        rounded = np.round(pixels, 2).tolist()
        record = {
            "box": [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1],
            "keypoints": [point if shown else None for point, shown in zip(rounded, seen, strict=True)],
            "sha256": {
                "image": sha256_file(view.image(folder)),
                "mask": sha256_file(view.mask(folder)),
            },
        }
        result.append((view, record))
    return result


# ----------------------------------------------------------------------------------------- tables


def _tables(params: ShapesParams, records: dict[View, Record], out: Path) -> Tables:
    """Canonical tables of the rendered pictures, with freshly drawn pairs."""
    images = [
        {
            "image_id": view.name,
            "path": view.image(out).as_posix(),
            "mask_path": view.mask(out).as_posix(),
            "mask_value": CLASS_IDS[view.category],
            "category": view.category,
            "azimuth": view.bin * BIN_WIDTH,
            **dict(zip(("x1", "y1", "x2", "y2"), map(float, record["box"]), strict=True)),
            "width": params.image_size,
            "height": params.image_size,
            "split": view.split,
            "instance": view.instance_name,
        }
        for view, record in records.items()
    ]
    keypoints = [
        {
            "image_id": view.name,
            "keypoint_id": str(index),
            "name": name,
            "x": np.nan if point is None else point[0],
            "y": np.nan if point is None else point[1],
            "visible": int(point is not None),
        }
        for view, record in records.items()
        for index, (name, point) in enumerate(
            zip(keypoint_names(view.category), record["keypoints"], strict=True)
        )
    ]
    pairs = [
        pair
        for category in params.categories
        for split in SPLITS
        for pair in _pairs(params, records, category, split)
    ]
    return Tables(
        pd.DataFrame(images),
        pd.DataFrame(keypoints),
        pd.DataFrame(pairs, columns=["split", "source", "target"]).astype("str"),
        {
            place(out).as_posix(): record["sha256"][kind]
            for view, record in records.items()
            for kind, place in (("image", view.image), ("mask", view.mask))
        },
    )


def _pairs(
    params: ShapesParams, records: dict[View, Record], category: str, split: str
) -> Iterator[dict[str, str]]:
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
        yield {"split": split, "source": views[source].name, "target": views[target].name}
