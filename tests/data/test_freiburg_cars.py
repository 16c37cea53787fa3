"""The adapter for Freiburg Static Cars 52."""

import random
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from layouts_freiburg_cars import write_freiburg_cars
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.config.slices import parse
from spheremap.data.adapters.freiburg_cars import FreiburgCarsParams, read_freiburg_cars
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, Tables, read_tables, write_tables

LINES = [
    "car001/0001.jpg\t1 1 40 30\t0",
    "car001/0002.jpg\t2 3 20 29\t95",
    "car001/0003.jpg\t5 5 5 5\t360",
]


def write_car(root: Path, number: int, lines: list[str], *, folder: str = "", suffix: str = ".png") -> None:
    """Write an annotation file, and pictures of 40 x 30 pixels for its lines."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / f"annotations/{number}_annot.txt").write_text("".join(line + "\n" for line in lines))
    for line in lines:
        path = root / folder / Path(line.split("\t")[0]).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (90, 120, 200)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames of car 1, one of car 12."""
    root = tmp_path / "fcars"
    write_car(root, 12, ["car012/0001.png\t1 2 3 4\t180"])
    write_car(root, 1, LINES)
    return root


def read(root: Path, frontal: float = 90.0) -> Tables:
    entry = {"layout": "freiburg_cars", "root": str(root), "frontal": frontal}
    return read_freiburg_cars(parse(entry, FreiburgCarsParams, where="test")).tables


def refused(root: Path, *parts: str, frontal: float = 90.0) -> str:
    """The one error that reading ends with, which must hold all `parts`."""
    with pytest.raises(InputError) as caught:
        read(root, frontal)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = read(folder)
    names = ["car001_0001", "car001_0002", "car001_0003", "car012_0001"]
    images = pd.DataFrame(
        {
            "image_id": [f"car/{name}" for name in names],
            "path": [f"{folder}/{name.replace('_', '/')}.png" for name in names],
            "mask_path": [""] * 4,
            "mask_value": [1] * 4,
            "category": ["car"] * 4,
            "azimuth": [270.0, 5, 270, 90],
            "x1": [0.0, 1, 4, 0],
            "y1": [0.0, 2, 4, 1],
            "x2": [40.0, 20, 5, 3],
            "y2": [30.0, 29, 5, 4],
            "width": [40] * 4,
            "height": [30] * 4,
            "split": ["train"] * 4,
            "instance": ["car001"] * 3 + ["car012"],
        }
    )
    pd.testing.assert_frame_equal(tables.images, images)
    pairs = [["train", f"car/{name}", f"car/{name}"] for name in names]
    pd.testing.assert_frame_equal(tables.pairs, pd.DataFrame(pairs, columns=list(PAIRS)))
    assert tables.keypoints.empty
    assert dict(tables.images.dtypes.astype(str)) == IMAGES
    assert dict(tables.keypoints.dtypes.astype(str)) == KEYPOINTS
    assert "left out" not in capsys.readouterr().err


def test_frontal_is_the_zero_of_azimuth(folder: Path) -> None:
    assert read(folder, 0).images["azimuth"].tolist() == [0, 95, 0, 180]
    assert read(folder, 95).images["azimuth"].tolist() == [265, 0, 265, 85]
    assert read(folder, 0.5).images["azimuth"].tolist() == [359.5, 94.5, 359.5, 179.5]
    for wrong in (-1.0, 360.0):
        refused(folder, "'frontal'", "[0, 360)", frontal=wrong)


def test_frames_may_lie_in_a_folder_images(tmp_path: Path) -> None:
    write_car(tmp_path, 1, LINES, folder="images", suffix=".jpg")
    assert read(tmp_path).images["path"].tolist() == [
        f"{tmp_path}/images/car001/000{i}.jpg" for i in (1, 2, 3)
    ]


def test_frames_left_out_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("car001/0009.png", "car006/0001.png", "car006/0002.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / name)
    (folder / "car006/readme.txt").write_text("no frame")
    assert len(read(folder).images) == 4
    told = capsys.readouterr().err
    assert "left out as frames without annotation: 1" in told
    assert "left out as frames of cars without annotations: 2" in told


def test_fixture_in_the_archives_layout(tmp_path: Path) -> None:
    write_freiburg_cars(tmp_path / "data")
    ingested = read_freiburg_cars(FreiburgCarsParams("freiburg_cars", str(tmp_path / "data"), 90.0))
    write_tables(tmp_path / "tables", ingested.tables, {})  # validates
    tables = read_tables(tmp_path / "tables")
    assert tables.images["instance"].value_counts().to_dict() == {"car001": 8, "car002": 7}
    assert tables.images["azimuth"].tolist() == [45.0 * i for i in (*range(8), *range(7))]
    assert tables.pairs_of("train")["source"].tolist() == tables.images["image_id"].tolist()


def test_digests_follow_content_not_place(folder: Path, tmp_path: Path) -> None:
    def inputs() -> dict[str, str]:
        return read_freiburg_cars(FreiburgCarsParams("freiburg_cars", str(folder), 0.0)).inputs

    before = inputs()
    assert set(before) == {"annotations", "images"}
    folder = folder.rename(tmp_path / "moved")
    assert inputs() == before
    Image.new("RGB", (40, 30), (1, 2, 3)).save(folder / "car001/0001.png")
    after = inputs()
    assert {kind for kind in before if before[kind] != after[kind]} == {"images"}


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_parts(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "annotations", "params.yaml")
    for part in ("car001/0002.png", "car012"):
        (folder / part).rename(tmp_path / "aside")
        refused(folder, "no picture of an annotated frame", "_annot.txt, line")
        (tmp_path / "aside").rename(folder / part)
    (folder / "car001/0002.jpeg").write_bytes((folder / "car001/0002.png").read_bytes())
    refused(folder, "several pictures", "1_annot.txt, line 2", "0002.jpeg, 0002.png")
    (folder / "car001/0002.jpeg").rename(folder / "car001/0002.jpg")  # the annotated name itself
    assert read(folder).images["path"][1] == f"{folder}/car001/0002.jpg"
    (folder / "car001/0002.jpg").write_bytes(b"no picture")
    refused(folder, "unreadable image", "car001/0002.jpg")
    for path in (folder / "annotations").iterdir():
        path.unlink()
    refused(folder, "no annotations", "1_annot.txt")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("car001/0001.jpg", "malformed"),
        ("car001/0001.jpg\t1 1 40 30", "malformed"),
        ("car001/0001.jpg\t1 1 40 30\t0\t0", "malformed"),
        ("car001/0001.jpg\t1 1 40 30\t361", "malformed"),
        ("car001/0001.jpg\t1 1 40 30\t-5", "malformed"),
        ("car001/0001.jpg\t1 1 40 30\tNaN", "malformed"),
        ("car001/0001.jpg\t1.5 1 40 30\t7", "malformed"),
        ("car001/0001.jpg\t1 1 40 99999999999\t7", "malformed"),
        ("0001.jpg\t1 1 40 30\t0", "malformed"),
        ("car001/\t1 1 40 30\t0", "malformed"),
        ("car001/../0001.jpg\t1 1 40 30\t0", "malformed"),
        ("../0001.jpg\t1 1 40 30\t0", "malformed"),
        ("car012/0001.jpg\t1 1 40 30\t0", "another car"),
        ("car/0001.jpg\t1 1 40 30\t0", "another car"),
        ("car001/0004.jpg\t1 1 40 30\t0", "no picture"),
        ("car001/0003.jpg\t1 1 40 30\t0", "twice"),
        ("car001/0001.jpg\t0 1 40 30\t0", "box outside"),
        ("car001/0001.jpg\t1 1 41 30\t0", "box outside"),
        ("car001/0001.jpg\t9 1 8 30\t0", "box outside"),
    ],
)
def test_malformed_lines(folder: Path, line: str, part: str) -> None:
    path = folder / "annotations/1_annot.txt"
    path.write_text("\n".join([LINES[2], "", line]))
    refused(folder, "1_annot.txt, line 3", part)


@pytest.mark.parametrize(("content", "part"), [(b"", "empty"), (b"\n \n", "empty"), (b"\xff", "UTF-8")])
def test_annotation_files_without_lines(folder: Path, content: bytes, part: str) -> None:
    (folder / "annotations/1_annot.txt").write_bytes(content)
    refused(folder, "1_annot.txt", part)


# --- mutated files ------------------------------------------------------------------------------------------

LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*")


def plain_rows(content: bytes) -> dict[str, tuple[float, ...]] | None:
    """An independent reading: stem -> x1, y1, x2, y2, azimuth; None if the file must be refused."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    rows: dict[str, tuple[float, ...]] = {}
    for line in text.split("\n"):
        if not line.strip():
            continue
        match = LINE.fullmatch(line)
        if match is None or not all(re.fullmatch("[0-9]{1,6}", field) for field in match.groups()[1:]):
            return None
        x1, y1, x2, y2, azimuth = (int(field) for field in match.groups()[1:])
        stem = re.fullmatch(r"car001/(000[123])(\.[^./\\]*)?", match[1])
        inside = 1 <= x1 <= x2 <= 40 and 1 <= y1 <= y2 <= 30 and azimuth <= 360
        if stem is None or not inside or not match[1].isprintable() or stem[1] in rows:
            return None
        rows[stem[1]] = (x1 - 1, y1 - 1, x2, y2, (azimuth - 90) % 360)
    return rows or None


def mutate(rng: random.Random, content: bytes) -> bytes:
    """Some fields changed, lines repeated, or bytes changed."""
    if rng.random() < 0.5:
        lines = [re.split(r"([\t ])", line) for line in content.decode().splitlines()]
        for _ in range(rng.randint(1, 2)):
            fields = rng.choice(lines)
            at = 2 * rng.randrange(6)
            values: list[Any] = [0, 1, 5, 29, 30, 31, 40, 41, 359, 360, 361, -1, 1.5, "NaN", "1e3", "", "x"]
            values += [10**400, fields[0], "car001/0002", "car001/0001.png", "car012/0001.png"]
            fields[at] = str(rng.randint(0, 32) if at and rng.random() < 0.7 else rng.choice(values))
        if rng.random() < 0.2:
            lines.insert(rng.randrange(4), rng.choice(lines))
        return "\n".join("".join(fields) for fields in lines).encode()
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        kind = rng.choice(["bit", "digit", "insert", "remove", "cut"])
        if kind == "bit":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "digit":
            data[at] = rng.choice(b"0123456789 \t\n./")
        elif kind == "insert":
            data.insert(at, rng.choice([*b"0123456789 \t\r\n./", rng.randrange(256)]))
        elif kind == "remove" and len(data) > 1:
            del data[at]
        elif rng.random() < 0.3:
            del data[max(at, 1) :]
    return bytes(data)


def test_mutated_annotations(tmp_path: Path) -> None:
    write_car(tmp_path, 1, LINES)
    path = tmp_path / "annotations/1_annot.txt"
    content = path.read_bytes()
    rng = random.Random(4)
    accepted = 0
    for _ in range(2000):
        mutant = mutate(rng, content)
        path.write_bytes(mutant)
        expected = plain_rows(mutant)
        if expected is None:
            refused(tmp_path, str(path))
            continue
        accepted += 1
        images = read(tmp_path).images
        columns = ["x1", "y1", "x2", "y2", "azimuth"]
        found = {row.image_id: tuple(getattr(row, name) for name in columns) for row in images.itertuples()}
        assert found == {f"car/car001_{stem}": row for stem, row in expected.items()}
    assert 400 < accepted < 1600
