"""Foreground masks by choice: the data set's own, those of a detector, or none.

Canonical tables go in, canonical tables with other masks come out, with a table of what each image got and a
contact sheet to look at:

    images.csv, keypoints.csv, pairs.csv, pictures.csv, provenance.json
    masks.csv               per image: used, reason, score, iou, agreement, area; see `store.Outcome`
    contact_sheet.jpg
    masks/<image_id>.png    source "maskrcnn" only: 255 is the object
"""

import dataclasses
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spheremap.base.files import atomic_path, exclusive, refuse_foreign, sha256_file, write_csv
from spheremap.base.progress import progress
from spheremap.base.provenance import provenance
from spheremap.config.data_sets import DetectedMasks, NoMasks, OwnMasks
from spheremap.data.adapter_tools import refusal
from spheremap.data.images import extent, load_rgb
from spheremap.data.masks.detections import Detector, box_iou, choose, coco_classes
from spheremap.data.masks.sheet import NAMES, Entry, count_used, draw_sheet
from spheremap.data.masks.store import FOREGROUND, Outcome, Store, Used
from spheremap.data.subjects import Subject, subjects_of
from spheremap.data.tables import (
    IMAGES,
    PROVENANCE,
    WRITERS,
    Tables,
    fill_tables,
    made_by,
    read_tables,
    tables_digest,
)

MasksParams = OwnMasks | NoMasks | DetectedMasks
_HERE = Path(__file__).parent


def write_masks(
    params: MasksParams, tables: Path, out: Path, work: Path, detector: Detector | None = None
) -> str:
    """Write tables with other masks; `out` appears complete or not at all.

    Args:
        params: which masks.
        tables: directory of canonical tables.
        out: directory to write; one that spheremap wrote is replaced.
        work: directory of finished masks, which later runs use again.
        detector: what finds the objects; needed for source "maskrcnn" and for no other.

    Returns:
        How many images got which mask, in words.

    Raises:
        InputError: for tables, images or masks that are missing, unreadable or do not fit each other, and for
            an own mask without a pixel of the object; for an `out` that spheremap did not write.
    """
    _check_places(tables, out, work)
    refuse_foreign(out, made_by(out, *WRITERS), rest=("images", "masks"))
    before = read_tables(tables)
    subjects = subjects_of(before.images.sort_values("image_id"))
    inputs = {**tables_digest(tables), PROVENANCE: sha256_file(tables / PROVENANCE)}
    with exclusive(work / "lock"):
        if isinstance(params, DetectedMasks):
            assert detector is not None
            code = {path.name: sha256_file(path) for path in sorted(_HERE.glob("*.py"))}
            store = Store(work / "found", {"detector": dict(detector.identity), "code": code})
            entries = _detect(params, subjects, detector, store)
            inputs["weights"] = detector.weights_sha256
        else:
            store = None
            look = _own if isinstance(params, OwnMasks) else _whole_box
            entries = [look(subject) for subject in _with_progress(subjects)]
        record = provenance("masks", dataclasses.asdict(params), inputs)
        pictures = dict(before.pictures)
        with atomic_path(out) as staged:
            staged.mkdir()
            draw_sheet(entries, staged / "contact_sheet.jpg")
            got = [{"image_id": e.subject.image_id, **dataclasses.asdict(e.outcome)} for e in entries]
            write_csv(staged / "masks.csv", pd.DataFrame(got))
            if store is not None:
                record["versions"]["torchvision"] = version("torchvision")
                entries, digests = _publish(entries, staged, out)
                pictures |= digests
            fill_tables(staged, _with_masks(before, entries, pictures), record)
        if store is not None:
            store.forget_others()
    return _summary(entries)


# --- one image's mask ---------------------------------------------------------------------------------------


def _own(subject: Subject) -> Entry:
    """The data set's own mask, or the whole box where there is none."""
    if subject.mask_path is None:
        return _whole_box(subject, "the data set has no mask of it")
    mask = subject.mask()
    if not mask.any():
        fix = "correct the mask, or choose `masks: {source: maskrcnn, …}`, which falls back to the box"
        problem = f"the mask of image {subject.image_id!r} is empty"
        raise refusal(problem, subject.mask_path, f"pixels equal to {subject.mask_value}", "none", fix)
    return Entry(subject, _outcome("own", "", mask, subject))


def _whole_box(subject: Subject, reason: str = "") -> Entry:
    bare = dataclasses.replace(subject, mask_path=None)
    return Entry(bare, dataclasses.replace(_outcome("box", reason, bare.mask(), bare), agreement=1.0))


def _detect(
    params: DetectedMasks, subjects: Sequence[Subject], detector: Detector, store: Store
) -> list[Entry]:
    """The masks that the detector finds, else the data set's own, else none."""
    categories = sorted({subject.category for subject in subjects})
    wanted = coco_classes(categories, params.classes, detector.classes)
    entries = []
    for subject in _with_progress(subjects):
        rule = {"class": wanted[subject.category], "min_iou": params.min_iou}
        content = {**_content(subject), **rule}
        outcome = store.get(subject.image_id, content)
        if outcome is None:
            outcome, mask = find_mask(subject, detector, wanted[subject.category], params.min_iou)
            store.put(subject.image_id, content, outcome, mask)
        path = None if outcome.used == "box" else store.mask(subject.image_id)
        entries.append(Entry(dataclasses.replace(subject, mask_path=path, mask_value=FOREGROUND), outcome))
    return entries


def find_mask(
    subject: Subject, detector: Detector, wanted: str, min_iou: float | None
) -> tuple[Outcome, NDArray[np.bool_] | None]:
    """The mask `(H, W)` of one image: the detector's, else its own, else None for the whole box.

    Raises:
        InputError: if the image or its own mask cannot be read or is not of the size in the tables.
    """
    image = load_rgb(subject.path)
    width, height = subject.size
    if image.shape[:2] != (height, width):
        problem, found = f"image {subject.image_id!r} is not of the size in the tables", image.shape[1::-1]
        raise refusal(problem, subject.path, f"{width}×{height}", "{}×{}".format(*found))
    choice = choose(detector(image), wanted, subject.box, min_iou)
    mask, reason = choice.mask, choice.reason
    used: Used = "maskrcnn"
    if mask is None and subject.mask_path is not None:
        mask, used = subject.mask(), "own"
        if not mask.any():
            mask, reason = None, f"{reason}; its own mask is empty"
    box = _whole_box(subject, reason).outcome
    outcome = box if mask is None else _outcome(used, reason, mask, subject)
    return dataclasses.replace(outcome, score=choice.score, iou=choice.iou), mask


def _outcome(used: Used, reason: str, mask: NDArray[np.bool_], subject: Subject) -> Outcome:
    """Describe a mask `(H, W)` that is not empty."""
    agreement = round(float(box_iou(np.array([extent(mask)]), subject.box)[0]), 4)
    return Outcome(used, reason, None, None, agreement, area=round(float(mask.mean()), 4))


# --- tables and places --------------------------------------------------------------------------------------


def _content(subject: Subject) -> dict[str, Any]:
    """Everything that an image contributes to its mask."""
    paths = (subject.path, subject.mask_path)  # one that is missing is told of when it is read
    digests = [sha256_file(path) if path and path.is_file() else "" for path in paths]
    settings = {"mask_value": subject.mask_value, "box": list(subject.box), "size": list(subject.size)}
    return {"files": digests, **settings}


def _with_progress(subjects: Sequence[Subject]) -> Iterable[Subject]:
    return progress(subjects, total=len(subjects), desc="masks", unit="images")


def _publish(entries: Sequence[Entry], staged: Path, out: Path) -> tuple[list[Entry], dict[str, str]]:
    """Copy the masks found; returns the entries with theirs in `out`, and SHA-256 by path."""
    published, digests = [], {}
    for entry in entries:
        subject = entry.subject
        if subject.mask_path is not None:
            name = f"masks/{subject.image_id}.png"
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(subject.mask_path, staged / name)
            digests[(out / name).as_posix()] = sha256_file(staged / name)
            subject = dataclasses.replace(subject, mask_path=out / name)
        published.append(Entry(subject, entry.outcome))
    return published, digests


def _with_masks(before: Tables, entries: Sequence[Entry], pictures: Mapping[str, str]) -> Tables:
    """The tables, pointing to the masks that the images got; for `pictures`, see `Tables`."""
    subjects = {entry.subject.image_id: entry.subject for entry in entries}
    in_order = [subjects[image_id] for image_id in before.images["image_id"]]
    images = before.images.assign(
        mask_path=[subject.mask_path.as_posix() if subject.mask_path else "" for subject in in_order],
        mask_value=[subject.mask_value for subject in in_order],
    )
    return Tables(images.astype(IMAGES), before.keypoints, before.pairs, pictures)


def _summary(entries: Sequence[Entry]) -> str:
    counts = count_used([entry.outcome for entry in entries])
    return f"{len(entries)} images: " + ", ".join(f"{NAMES[used]} {n}" for used, n in counts.items())


def _check_places(tables: Path, out: Path, work: Path) -> None:
    """`out` is replaced as a whole, so that nothing needed may lie in it."""
    for what, path in (("the tables read", tables), ("the work directory", work)):
        if path.resolve().is_relative_to(out.resolve()):
            problem = f"{what} may not lie in the directory to write"
            raise refusal(problem, out, "two folders apart", str(path), "choose another --out")
