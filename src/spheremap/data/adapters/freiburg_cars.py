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
frontal, subtracts 90. All this is from reading: a wrong direction would teach a mirrored
sphere, and a wrong `frontal` one that is off from that of other data sets' cars.

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
from typing import Any

from spheremap.base.errors import short
from spheremap.config.data_sets import FreiburgCars as Params
from spheremap.data.adapter_tools import (
    FileDigest,
    Ingested,
    image_row,
    ingested,
    ingesting,
    is_file_name,
    numbered_lines,
    picture_size,
    read_text,
    refusal,
    require_folders,
    tell_left_out,
)

CATEGORY = "car"
SUFFIXES = (".png", ".jpg", ".jpeg")
FIX = "unpack the data set again, or correct the line"
LINE = re.compile(r"\s*([^\s/]*?([0-9]+))/([^\s/]+)" + r"\s+([0-9]{1,6})" * 5 + r"\s*")
EXPECTED_LINE = "<car>/<frame> x1 y1 x2 y2 azimuth, the numbers whole and the azimuth from 0 to 360"


@dataclass(frozen=True)
class _Frame:
    """One line of an annotation file."""

    car: str
    name: str  # of the frame, as annotated
    box: tuple[int, int, int, int]  # pixels from 1, the last one included
    azimuth: int
    where: str  # file and line


def read(params: Params) -> Ingested:
    """Read Freiburg Static Cars 52 into the canonical tables.

    Raises:
        InputError: naming the file (and line) that is missing or malformed.
    """
    root = Path(params.root)
    require_folders(root, ("annotations",), "Freiburg Static Cars 52")
    pictures = root / "images" if (root / "images").is_dir() else root
    digests = {kind: FileDigest() for kind in ("annotations", "images")}
    frames = _read_annotations(root / "annotations", digests["annotations"])
    files = {car: _pictures(pictures / car) for car in sorted({frame.car for frame in frames})}
    rows: dict[str, dict[str, Any]] = {}  # by image_id
    for frame in ingesting(frames):
        image_id = f"{CATEGORY}/{frame.car}_{_stem(frame.name)}"
        if image_id in rows:
            raise refusal("a frame is annotated twice", frame.where, "each frame once", image_id, FIX)
        path = _picture(pictures / frame.car, frame, files[frame.car])
        size = picture_size(path, "image", digests["images"], named_in=frame.where)
        azimuth = (frame.azimuth - params.frontal) % 360.0
        box = _box(frame, size)
        rows[image_id] = image_row(image_id, path, size, box, "train", azimuth=azimuth, instance=frame.car)
    _tell_frames_left_out(pictures, files, len(rows))
    image_ids = sorted(rows)
    pairs = [("train", image_id, image_id) for image_id in image_ids]
    return ingested([rows[image_id] for image_id in image_ids], [], pairs, digests)


# --- annotations --------------------------------------------------------------------------------------------


def _read_annotations(folder: Path, digest: FileDigest) -> list[_Frame]:
    """The lines of all annotation files, by the files' numbers."""
    files = [
        (int(match[1]), path.name, path)
        for path in folder.iterdir()
        if (match := re.fullmatch(r"([0-9]{1,6})_annot\.txt", path.name))
    ]
    frames: list[_Frame] = []
    for number, _, path in sorted(files):
        lines = numbered_lines(path, read_text(path, "annotation file", digest, fix=FIX))
        if not lines:
            raise refusal("empty annotation file", path, "one line per frame", "none", FIX)
        frames += [_read_line(line, number, where) for where, line in lines]
    if not frames:
        raise refusal("no annotations", folder, "files such as 1_annot.txt", "none", FIX)
    return frames


def _read_line(line: str, number: int, where: str) -> _Frame:
    match = LINE.fullmatch(line)
    if match is None or not (is_file_name(match[1]) and is_file_name(match[3])) or int(match[8]) > 360:
        raise refusal("malformed annotation", where, EXPECTED_LINE, short(line), FIX)
    if int(match[2]) != number:
        raise refusal("annotation of another car", where, f"frames of car{number:03d}", short(match[1]), FIX)
    x1, y1, x2, y2, azimuth = (int(match[i]) for i in range(4, 9))
    return _Frame(match[1], match[3], (x1, y1, x2, y2), azimuth, where)


def _box(frame: _Frame, size: tuple[int, int]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = frame.box
    if not (1 <= x1 <= x2 <= size[0] and 1 <= y1 <= y2 <= size[1]):
        expected = f"1 <= x1 <= x2 <= {size[0]} and 1 <= y1 <= y2 <= {size[1]}"
        raise refusal("box outside the image, or empty", frame.where, expected, f"{x1} {y1} {x2} {y2}", FIX)
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


def _picture(folder: Path, frame: _Frame, files: Mapping[str, list[str]]) -> Path:
    """The file of an annotated frame, whatever its suffix."""
    names = files.get(_stem(frame.name), [])
    if frame.name in names:
        return folder / frame.name
    if len(names) != 1:
        problem = f"{'several pictures' if names else 'no picture'} of an annotated frame"
        expected = f"one file {_stem(frame.name)}{{{','.join(SUFFIXES)}}} in {folder}"
        raise refusal(problem, frame.where, expected, ", ".join(names) or "none", FIX)
    return folder / names[0]


def _tell_frames_left_out(pictures: Path, files: Mapping[str, Mapping[str, list[str]]], used: int) -> None:
    others = [p for p in pictures.iterdir() if p.is_dir() and p.name not in files and p.name != "annotations"]
    of_others = sum(len(names) for folder in others for names in _pictures(folder).values())
    of_these = sum(len(names) for car in files.values() for names in car.values()) - used
    tell_left_out(of_these, "frames without annotation left out")
    tell_left_out(of_others, "frames of cars without annotations left out")
