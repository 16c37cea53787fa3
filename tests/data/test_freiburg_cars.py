"""The adapter for Freiburg Static Cars 52."""

from pathlib import Path

import pytest
from data_checks import assert_same, tables_of
from layouts_freiburg_cars import write_freiburg_cars
from PIL import Image
from small_sets import DataSet

LINES = [
    f"car001/000{i}.jpg\t{numbers}"
    for i, numbers in enumerate(("1 1 40 30\t0", "2 3 20 29\t95", "5 5 5 5\t360"), 1)
]


def write_car(root: Path, number: int, lines: list[str], *, folder: str = "", suffix: str = ".png") -> None:
    """Write an annotation file, and pictures of 40 x 30 pixels for its lines."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / f"annotations/{number}_annot.txt").write_text("".join(line + "\n" for line in lines))
    for line in lines:
        path = root / folder / Path(line.split("\t")[0]).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (90, 120, 200)).save(path)


def make(folder: Path) -> DataSet:
    return DataSet(folder, {"layout": "freiburg_cars", "root": str(folder), "frontal": 90.0})


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Three frames of car 1, one of car 12."""
    write_car(tmp_path / "fcars", 12, ["car012/0001.png\t1 2 3 4\t180"])
    write_car(tmp_path / "fcars", 1, LINES)
    return make(tmp_path / "fcars")


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["car001_0001", "car001_0002", "car001_0003", "car012_0001"]
    boxes = ((0, 0, 40, 30), (1, 2, 20, 29), (4, 4, 5, 5), (0, 1, 3, 4))
    rows = [
        [
            *(f"car/{name}", f"{data.folder}/{name.replace('_', '/')}.png", "", 1, "car"),
            *(azimuth, *box, 40, 30, "train", name.split("_")[0]),
        ]
        for name, azimuth, box in zip(names, (270, 5, 270, 90), boxes, strict=True)
    ]
    pairs = [["train", f"car/{name}", f"car/{name}"] for name in names]
    assert_same(data.read(), tables_of(rows, [], pairs))
    assert "left out" not in capsys.readouterr().err


def test_frontal_is_the_zero_of_azimuth(data: DataSet) -> None:
    assert data.read(frontal=0).images["azimuth"].tolist() == [0, 95, 0, 180]
    assert data.read(frontal=95).images["azimuth"].tolist() == [265, 0, 265, 85]
    assert data.read(frontal=0.5).images["azimuth"].tolist() == [359.5, 94.5, 359.5, 179.5]


def test_frames_may_lie_in_a_folder_images(tmp_path: Path) -> None:
    write_car(tmp_path, 1, LINES, folder="images", suffix=".jpg")
    paths = [f"{tmp_path}/images/car001/000{i}.jpg" for i in (1, 2, 3)]
    assert make(tmp_path).read().images["path"].tolist() == paths


def test_frames_left_out_are_counted(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    (data.folder / "car006").mkdir()
    for name in ("car001/0009.png", "car006/0001.png", "car006/0002.png"):
        Image.new("RGB", (40, 30)).save(data.folder / name)
    (data.folder / "car006/readme.txt").write_text("no frame")
    assert len(data.read().images) == 4
    told = capsys.readouterr().err
    assert "1 frames without annotation" in told
    assert "2 frames of cars without annotations" in told


def test_the_archive_s_layout(tmp_path: Path) -> None:
    write_freiburg_cars(tmp_path)
    images = make(tmp_path).read().images
    assert images["instance"].value_counts().to_dict() == {"car001": 8, "car002": 7}
    assert images["azimuth"].tolist() == [45.0 * i for i in (*range(8), *range(7))]


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_parts(data: DataSet) -> None:
    for part in ("car001/0002.png", "car012"):
        with data.without(part):
            data.refused("no picture of an annotated frame", "_annot.txt, line")
    picture = data.folder / "car001/0002.png"
    other = picture.with_suffix(".jpeg")
    other.write_bytes(picture.read_bytes())
    data.refused("several pictures", "1_annot.txt, line 2", "0002.jpeg, 0002.png")
    other.rename(picture.with_suffix(".jpg"))  # the annotated name itself
    assert data.read().images["path"][1] == f"{data.folder}/car001/0002.jpg"
    for path in (data.folder / "annotations").iterdir():
        path.unlink()
    data.refused("no annotations", "1_annot.txt")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("car001/0001.jpg", "malformed"),
        ("car001/0001.jpg\t1 1 40 30\t0\t0", "malformed"),
        ("car001/0001.jpg\t1 1 40 30\t361", "malformed"),
        ("car001/0001.jpg\t1 1 40 99999999999\t7", "malformed"),
        ("car001/../0001.jpg\t1 1 40 30\t0", "malformed"),
        ("car012/0001.jpg\t1 1 40 30\t0", "another car"),
        ("car001/0004.jpg\t1 1 40 30\t0", "no picture"),
        ("car001/0003.jpg\t1 1 40 30\t0", "twice"),
        ("car001/0001.jpg\t0 1 40 30\t0", "box outside"),
        ("car001/0001.jpg\t1 1 41 30\t0", "box outside"),
        ("car001/0001.jpg\t9 1 8 30\t0", "box outside"),
    ],
)
def test_malformed_lines(data: DataSet, line: str, part: str) -> None:
    (data.folder / "annotations/1_annot.txt").write_text("\n".join([LINES[2], "", line]))
    data.refused("1_annot.txt, line 3", part)


@pytest.mark.parametrize(("content", "part"), [(b"", "empty"), (b"\n \n", "empty"), (b"\xff", "UTF-8")])
def test_annotation_files_without_lines(data: DataSet, content: bytes, part: str) -> None:
    (data.folder / "annotations/1_annot.txt").write_bytes(content)
    data.refused("1_annot.txt", part)
