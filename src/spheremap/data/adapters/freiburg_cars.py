"""Adapter for Freiburg Static Cars 52 (Sedaghat and Brox 2015, *Unsupervised Generation of a Viewpoint
Annotated Car Dataset from Videos*, ICCV).

As unpacked from freiburg_static_cars_52_v1.1.tar.gz:

    annotations/<n>_annot.txt    per frame: <car>/<frame> TAB x1 y1 x2 y2 TAB azimuth
    <car>/<frame>                frames of the video of one parked car; car001 belongs to 1_annot.txt

The lines are those that the authors' generate_dataset_annotations.m (repository
lmb-freiburg/unsup-car-dataset) writes. The frames may also lie in a folder `images`, as the code of
Spherical Maps (Mariotti et al. 2024) has them. Annotations may name a frame with another suffix than its
file has (.jpg for .png): that code and others compare without suffix, and so does this.

Azimuth: the authors take atan2(y, x) of the camera's position about the car, the ground being the plane z =
0 and all cameras above it. Seen from above, the camera moves anticlockwise as the number grows, which is
the direction of the canonical azimuth: from the frontal view, the car comes to face image-left. Their zero
was set by hand and is not documented: `frontal` is the annotated azimuth of the frontal view, and the
canonical azimuth is (annotated − frontal) mod 360. A public evaluation against PASCAL 3D+, where 0 is
frontal, subtracts 90. Only differences of azimuth enter the training.

Rules:

- Boxes count pixels from 1 and include the last one (bbox_from_3d_single_frame.m, which also clips them to
  the frame): x1 and y1 are lessened by 1, so that the box spans these pixels in coordinates from 0.
- The video could not be reconstructed for every car, nor every frame placed: frames without annotation are
  left out, and counted on standard error. An annotated frame without a file is an error.
- There are no keypoints, masks or splits: every frame is a training image, listed as a pair with itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spheremap.base.errors import InputError
from spheremap.base.progress import progress
from spheremap.data.adapters.common import (
    FileDigest,
    Ingested,
    frame,
    is_file_name,
    picture_size,
    read_text,
    require_folders,
    short,
    tell_left_out,
)
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, Tables

CATEGORY = "car"
SUFFIXES = (".png", ".jpg", ".jpeg")
EXPECTED_LINE = "<car>/<frame> x1 y1 x2 y2 azimuth, the numbers whole and the azimuth from 0 to 360"


@dataclass(frozen=True)
class FreiburgCarsParams:
    """Entry of params.yaml's `datasets`: the folder, and the frontal view's annotated azimuth in degrees."""

    layout: Literal["freiburg_cars"]
    root: str
    frontal: float


@dataclass(frozen=True)
class _Frame:
    """One line of an annotation file."""

    car: str
    name: str  # of the frame, as annotated
    box: tuple[int, int, int, int]  # pixels from 1, the last one included
    azimuth: int
    where: str  # file and line


def read_freiburg_cars(params: FreiburgCarsParams) -> Ingested:
    """Read Freiburg Static Cars 52 into the canonical tables.

    Raises:
        InputError: naming the file (and line) that is missing or malformed.
    """
    root = Path(params.root)
    if not 0 <= params.frontal < 360:
        raise InputError(
            "wrong value of 'frontal'",
            where="the data set's entry in params.yaml",
            expected="degrees in [0, 360)",
            found=str(params.frontal),
        )
    require_folders(root, ("annotations",), "Freiburg Static Cars 52")
    pictures = root / "images" if (root / "images").is_dir() else root
    digests = {kind: FileDigest() for kind in ("annotations", "images")}

    frames: list[_Frame] = []
    for path, number in _annotation_files(root / "annotations"):
        frames += _read_annotations(path, number, digests["annotations"])
    files = {car: _pictures(pictures / car) for car in sorted({frame.car for frame in frames})}

    rows: dict[str, dict[str, Any]] = {}  # by image_id
    for annotated in progress(frames, total=len(frames), desc="ingest", unit="images"):
        image_id = f"{CATEGORY}/{annotated.car}_{_stem(annotated.name)}"
        if image_id in rows:
            raise InputError(
                "a frame is annotated twice", where=annotated.where, found=f"{annotated.car}/{annotated.name}"
            )
        path = _picture(pictures / annotated.car, annotated, files[annotated.car])
        width, height = picture_size(path, "image", digests["images"], named_in=annotated.where)
        x1, y1, x2, y2 = _box(annotated, width, height)
        rows[image_id] = {
            "image_id": image_id,
            "path": path.as_posix(),
            "mask_path": "",
            "mask_value": 1,
            "category": CATEGORY,
            "azimuth": (annotated.azimuth - params.frontal) % 360.0,
            "x1": x1,
            "y1": y1,
            "x2": x2,
            "y2": y2,
            "width": width,
            "height": height,
            "split": "train",
            "instance": annotated.car,
        }
    _tell_frames_left_out(pictures, files, len(rows))
    image_ids = sorted(rows)
    tables = Tables(
        images=frame([rows[image_id] for image_id in image_ids], IMAGES),
        keypoints=frame([], KEYPOINTS),
        pairs=frame([{"split": "train", "source": i, "target": i} for i in image_ids], PAIRS),
    )
    return Ingested(tables, {kind: digest.hexdigest() for kind, digest in digests.items()})


# --- annotations --------------------------------------------------------------------------------------------


def _annotation_files(folder: Path) -> list[tuple[Path, int]]:
    """The annotation files with their numbers, by number."""
    found = []
    for path in folder.iterdir():
        match = re.fullmatch(r"([0-9]{1,6})_annot\.txt", path.name)
        if match is not None:
            found.append((path, int(match[1])))
    if not found:
        raise InputError(
            "no annotations",
            where=folder,
            expected="files such as 1_annot.txt",
            found="no such file",
            fix="unpack the data set again",
        )
    return sorted(found, key=lambda item: (item[1], item[0].name))


def _read_annotations(path: Path, number: int, digest: FileDigest) -> list[_Frame]:
    text = read_text(path, "annotation file", digest, fix="unpack the data set again")
    frames = []
    for i, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {i}"
        fields = line.split()
        numbers = [_whole(field) for field in fields[1:]]
        car, _, name = fields[0].partition("/")
        if (
            len(fields) != 6
            or not (is_file_name(car) and is_file_name(name))
            or any(value is None for value in numbers)
            or numbers[4] not in range(361)
        ):
            raise InputError(
                "malformed annotation",
                where=where,
                expected=EXPECTED_LINE,
                found=short(line),
                fix="restore or correct the line",
            )
        digits = re.fullmatch(r"[^0-9]*([0-9]+)", car)
        if digits is None or int(digits[1]) != number:
            raise InputError(
                "annotation of another car",
                where=where,
                expected=f"frames of car{number:03d}",
                found=short(fields[0]),
                fix="restore or correct the line",
            )
        x1, y1, x2, y2, azimuth = (value for value in numbers if value is not None)
        frames.append(_Frame(car, name, (x1, y1, x2, y2), azimuth, where))
    if not frames:
        raise InputError("empty annotation file", where=path, expected="one line per frame")
    return frames


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _box(annotated: _Frame, width: int, height: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = annotated.box
    if not (1 <= x1 <= x2 <= width and 1 <= y1 <= y2 <= height):
        raise InputError(
            "box outside the image, or empty",
            where=annotated.where,
            expected=f"1 <= x1 <= x2 <= {width} and 1 <= y1 <= y2 <= {height}",
            found=f"{x1} {y1} {x2} {y2}",
            fix="restore or correct the line",
        )
    return float(x1 - 1), float(y1 - 1), float(x2), float(y2)


# --- pictures -----------------------------------------------------------------------------------------------


def _pictures(folder: Path) -> dict[str, list[str]]:
    """Names of a car's pictures by their stem; none if there is no such folder."""
    found: dict[str, list[str]] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in SUFFIXES and path.name[0] != ".":
                found.setdefault(_stem(path.name), []).append(path.name)
    return found


def _stem(name: str) -> str:
    """A file name without its suffix, if it has one."""
    return name.rpartition(".")[0] or name


def _picture(folder: Path, annotated: _Frame, files: Mapping[str, list[str]]) -> Path:
    """The file of an annotated frame, whatever its suffix."""
    names = files.get(_stem(annotated.name), [])
    if annotated.name in names:
        return folder / annotated.name
    if len(names) != 1:
        raise InputError(
            "no picture of an annotated frame" if not names else "several pictures of an annotated frame",
            where=annotated.where,
            expected=f"one file {_stem(annotated.name)}{{{','.join(SUFFIXES)}}} in {folder}",
            found=", ".join(names) or "none",
            fix="unpack the data set again",
        )
    return folder / names[0]


def _tell_frames_left_out(pictures: Path, files: Mapping[str, Mapping[str, list[str]]], used: int) -> None:
    others = [p for p in pictures.iterdir() if p.is_dir() and p.name not in files and p.name != "annotations"]
    of_others = sum(len(names) for folder in others for names in _pictures(folder).values())
    of_these = sum(len(names) for car in files.values() for names in car.values()) - used
    tell_left_out(of_these, "left out as frames without annotation")
    tell_left_out(of_others, "left out as frames of cars without annotations")
