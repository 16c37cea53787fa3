"""Writes a small PF-PASCAL: the files, names, nesting and fields of the archive and of the lists of pairs."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CLASSES = {"aeroplane": 1, "bicycle": 2, "car": 7, "chair": 9, "dog": 12}
POINTS = 6  # of an object; the last one is its front


def draw_object(
    path: Path, seed: int, size: tuple[int, int] = (96, 72)
) -> tuple[list[tuple[float, float]], tuple[int, int, int, int], NDArray[np.uint8]]:
    """Draw a car-like shape on a noisy ground.

    Returns:
        Its six points (x, y), its box (x1, y1, x2, y2) and its mask as `(H, W)` of 0 and 1.
    """
    width, height = size
    rng = np.random.default_rng(seed)
    ground = rng.integers(90, 150, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize(size, Image.Resampling.NEAREST)
    x1, y1 = (int(rng.integers(4, side // 5)) for side in size)
    x2, y2 = (int(side - rng.integers(4, side // 5)) for side in size)
    across, down = x2 - x1, y2 - y1
    outline = [(0.0, 0.55), (0.25, 0.5), (0.4, 0.0), (0.75, 0.1), (1.0, 0.6), (0.9, 1.0), (0.1, 1.0)]
    if seed % 2:  # it faces the other way
        outline = [(1 - x, y) for x, y in outline]
    corners = [(x1 + x * across, y1 + y * down) for x, y in outline]
    wheels = [
        (x1 + across * 0.25, y2 - down * 0.1, "black"),
        (x1 + across * 0.75, y2 - down * 0.1, "white"),
    ]
    mask = Image.new("L", size)
    for canvas, colour in ((picture, tuple(rng.integers(0, 255, 3).tolist())), (mask, 1)):
        draw = ImageDraw.Draw(canvas)
        draw.polygon(corners, fill=colour)
        for x, y, shade in wheels:
            box = (x - across * 0.08, y - across * 0.08, x + across * 0.08, y + across * 0.08)
            draw.ellipse(box, fill=shade if canvas is picture else 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    points = [*corners[1:4], corners[4], *((x, y) for x, y, _ in wheels)]
    return points[:POINTS], (x1, y1, x2, y2), np.asarray(mask).copy()


# --- MAT-files ----------------------------------------------------------------------------------------------

MI = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
MX = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14, "u8": 15}
MX_CHAR = 4


def element(kind: int, data: bytes, order: str = "<", *, small: bool = True) -> bytes:
    """A data element; up to four bytes go into the tag, as MATLAB does."""
    if small and 0 < len(data) <= 4:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(name: str, array: Any, order: str = "<", *, stored: str | None = None) -> bytes:
    """A variable: a numeric array, or a text; `stored` is the type of the numbers on disk if another."""
    if isinstance(array, str):
        shape, mx, kind = (1, len(array)), MX_CHAR, 16  # miUTF8
        data = array.encode()
    else:
        shape = array.shape
        code = array.dtype.str[1:]
        mx, kind = MX[code], MI[stored or code]
        data = array.astype(order + (stored or code)).tobytes(order="F")
    parts = [
        element(6, struct.pack(f"{order}II", mx, 0), order),
        element(5, np.array(shape, f"{order}i4").tobytes(), order),
        element(1, name.encode(), order),
        element(kind, data, order),
    ]
    return element(14, b"".join(parts), order)


def mat_file(
    variables: dict[str, Any],
    *,
    compressed: bool = True,
    order: str = "<",
    stored: dict[str, str] | None = None,
) -> bytes:
    """A MAT-file of level 5; compressed is what MATLAB's `save` writes by default."""
    text = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(116, b" ") + b"\0" * 8
    header = text + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    body = b""
    for name, array in variables.items():
        whole = matrix(name, array, order, stored=(stored or {}).get(name))
        if compressed:
            packed = zlib.compress(whole)
            whole = struct.pack(f"{order}II", 15, len(packed)) + packed
        body += whole
    return header + body


def annotation(
    category: str, points: list[tuple[float, float]], box: tuple[float, ...], size: tuple[int, int]
) -> dict[str, Any]:
    """The variables of an annotation file of PF-PASCAL."""
    return {
        "kps": np.array(points, np.float64).reshape(-1, 2),
        "class": category,
        "bbox": np.array([box], np.float64),
        "imsize": np.array([[size[1], size[0], 3]], np.float64),
        "truncated": np.zeros((1, 1)),
        "occluded": np.zeros((1, 1)),
        "difficult": np.zeros((1, 1)),
    }


# --- the data set -------------------------------------------------------------------------------------------


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
            content = mat_file(annotation(category, points, box, size), compressed=i % 2 == 0)
            (top / "Annotations" / category / f"{name}.mat").write_bytes(content)
        parts = {
            "trn": names[: images // 2],
            "val": names[images // 2 : 3 * images // 4],
            "test": names[3 * images // 4 :],
        }
        for split, part in parts.items():
            for source in part:
                for target in part:
                    if source != target:
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
