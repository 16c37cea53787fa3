"""Rendering the embedded data set: parameters in, canonical tables with pictures and masks out.

Every picture depends on the seed, its category, split, instance and view alone, never on the order or the
number of processes. Finished pictures are kept in a work directory until the data set is complete, so that an
interrupted run continues where it stopped and ends in the same bytes.
"""

import dataclasses
import hashlib
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from spheremap.base.errors import InputError, ProvenanceError, SpheremapError
from spheremap.base.files import atomic_path, exclusive, publish, read_json, sha256_file, write_json
from spheremap.base.interruption import held_interrupts
from spheremap.base.progress import progress
from spheremap.base.provenance import digest, provenance, seal, unseal
from spheremap.config.data_sets import Shapes as ShapesParams
from spheremap.data.shapes.camera import BIN_WIDTH, BINS, draw_camera
from spheremap.data.shapes.models import keypoint_names, make_instance
from spheremap.data.shapes.pairs import draw_pairs
from spheremap.data.shapes.scene import render, solid, visible_points
from spheremap.data.tables import SPLITS, Tables, fill_tables

# object's value in the masks: Pascal VOC's class ids where VOC has the class
CLASS_IDS = {"aeroplane": 1, "bicycle": 2, "car": 7, "chair": 9, "quadruped": 21}
_HERE = Path(__file__).parent
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

    def record(self, root: Path) -> Path:
        return root / "records" / f"{self.name}.json"


def render_dataset(params: ShapesParams, out: Path, work: Path, jobs: int) -> None:
    """Render the data set; `out` appears complete or not at all.

    Args:
        params: what to render.
        out: directory for the canonical tables, `images/` and `masks/`; an existing one is replaced.
        work: directory for unfinished work; what it holds for these parameters is reused.
        jobs: number of processes. The result does not depend on it.

    Raises:
        InputError: if the parameters do not allow what they ask for.
    """
    if jobs < 1:
        raise InputError("wrong number of jobs", expected="1 or more", found=str(jobs), fix="give --jobs 1")
    views = list(all_views(params))
    with exclusive(work / "lock"):
        parts = work / _work_key(params)
        records = {view: record for view in views if (record := _finished(view, parts)) is not None}
        missing = [view for view in views if view not in records]
        records.update(_render_all(params, missing, parts, jobs, len(views)))
        tables = _tables(params, {view: records[view] for view in views}, out)
        with publish(out, parts / "complete") as staged:
            for view in views:
                for place in (view.image, view.mask):
                    _link(place(parts), place(staged))
            fill_tables(staged, tables, provenance("render", dataclasses.asdict(params)))
        shutil.rmtree(parts)


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
    params: ShapesParams, missing: list[View], parts: Path, jobs: int, total: int
) -> Iterator[tuple[View, Record]]:
    """Render the missing pictures, one object per task, and yield their records as they come."""
    tasks: dict[str, list[View]] = {}
    for view in missing:
        tasks.setdefault(view.instance_name, []).append(view)
    work = partial(_render_instance, params, parts)
    with (
        progress(total=total, initial=total - len(missing), desc="render", unit="images") as bar,
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


def _render_instance(params: ShapesParams, parts: Path, views: list[View]) -> list[tuple[View, Record]]:
    """Build one object and render some of its views into the work directory."""
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
        with atomic_path(view.image(parts)) as path:
            Image.fromarray(picture.rgb).save(path, quality=JPEG_QUALITY, subsampling=0)
        with atomic_path(view.mask(parts)) as path:
            Image.fromarray(picture.mask.astype(np.uint8) * np.uint8(CLASS_IDS[view.category])).save(path)
        rows, columns = (np.flatnonzero(picture.mask.any(axis=axis)).tolist() for axis in (1, 0))
        rounded = np.round(pixels, 2).tolist()
        record = {
            "box": [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1],
            "keypoints": [point if shown else None for point, shown in zip(rounded, seen, strict=True)],
            "sha256": _digests(view, parts),
        }
        write_json(view.record(parts), seal(record))  # last: it says that its picture and mask are complete
        result.append((view, record))
    return result


def _digests(view: View, parts: Path) -> dict[str, str]:
    return {"image": sha256_file(view.image(parts)), "mask": sha256_file(view.mask(parts))}


def _finished(view: View, parts: Path) -> Record | None:
    """The record of a picture that an earlier run finished, None if there is none or a file is damaged."""
    if not all(place(parts).exists() for place in (view.image, view.mask, view.record)):
        return None
    path = view.record(parts)
    try:
        record: Record = unseal(read_json(path), where=path, fix="")
    except (InputError, ProvenanceError):
        return None
    return record if record["sha256"] == _digests(view, parts) else None


def _work_key(params: ShapesParams) -> str:
    """Identity of the pictures: the parameters that shape them and the code that draws them."""
    settings = dataclasses.asdict(params)
    for unrelated in ("root", "pairs", "min_shared_keypoints"):
        del settings[unrelated]
    code = {str(path.relative_to(_HERE)): sha256_file(path) for path in sorted(_HERE.rglob("*.py"))}
    return digest({"params": settings, "code": code})[:16]


# ----------------------------------------------------------------------------------------- tables, publishing


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


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes, a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
