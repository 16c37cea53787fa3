"""Writes a small PF-PASCAL: the files, names, nesting and fields of the archive and of the lists of pairs."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from drawing import POINTS, draw_object
from scipy.io import savemat

CLASSES = {"aeroplane": 1, "bicycle": 2, "car": 7, "chair": 9, "dog": 12}


def mat_file(variables: dict[str, Any], *, compressed: bool = True) -> bytes:
    """A MATLAB file of level 5; compressed is what MATLAB's `save` writes by default."""
    stream = io.BytesIO()
    savemat(stream, variables, do_compression=compressed)
    return stream.getvalue()


def annotation(
    category: str, points: Any, box: Any, size: tuple[int, int], *, compressed: bool = True
) -> bytes:
    """An annotation file of PF-PASCAL."""
    variables = {
        "kps": np.asarray(points),
        "class": category,
        "bbox": np.atleast_2d(box),
        "imsize": np.array([[size[1], size[0], 3.0]]),
        **{flag: np.zeros((1, 1)) for flag in ("truncated", "occluded", "difficult")},
    }
    return mat_file(variables, compressed=compressed)


def all_pairs(names: list[str]) -> Iterator[tuple[str, str, str]]:
    """All pairs (split, source, target), of the first half, and of the third and the fourth quarter."""
    half, most = len(names) // 2, 3 * len(names) // 4
    for split, part in (("trn", names[:half]), ("val", names[half:most]), ("test", names[most:])):
        yield from ((split, *pair) for pair in itertools.permutations(part, 2))


def write_pf_pascal(
    root: Path,
    *,
    images: int = 8,
    categories: tuple[str, ...] = ("aeroplane", "car"),
    lists: str = "pairs",
    size: tuple[int, int] = (96, 72),
) -> None:
    """Write a small data set.

    Args:
        root: gets what PF-dataset-PASCAL.zip holds: PF-dataset-PASCAL (and the Macintosh's litter), and the
            lists of pairs in `lists` with the names of HPF.
        images: per category; half of them in training pairs, a quarter each in validation and test pairs.
        categories: some of `CLASSES`.
    """
    top = root / "PF-dataset-PASCAL"
    rows: dict[str, list[str]] = {"trn": [], "val": [], "test": []}
    for category in categories:
        names = [f"2008_{CLASSES[category]:03d}{i:03d}" for i in range(images)]
        (top / "Annotations" / category).mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(names):
            points, box, _ = draw_object(
                top / "JPEGImages" / f"{name}.jpg", 100 * CLASSES[category] + i, size
            )
            if i % 3 == 1:
                points[i % POINTS] = (np.nan, np.nan)
            content = annotation(category, points, np.array(box, float), size, compressed=i % 2 == 0)
            (top / "Annotations" / category / f"{name}.mat").write_bytes(content)
        for split, source, target in all_pairs(names):
            line = f"JPEGImages/{source}.jpg,JPEGImages/{target}.jpg,{CLASSES[category]}"
            rows[split] += [f"{line},0", f"{line},1"] if split == "trn" else [line]
    (root / lists).mkdir(exist_ok=True)
    for split, lines in rows.items():
        header = "source_image,target_image,class" + (",flip" if split == "trn" else "")
        (root / lists / f"{split}_pairs.csv").write_text("\n".join([header, *lines]) + "\n")
    (top / "Annotations" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    litter = root / "__MACOSX" / "PF-dataset-PASCAL"
    litter.mkdir(parents=True)
    (litter / "._Annotations").write_bytes(b"\0\5\x16\7")
