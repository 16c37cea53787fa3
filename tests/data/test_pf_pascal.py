"""The adapter for PF-PASCAL, and its reader of MATLAB files."""

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_checks import assert_same, refusal, tables_of
from layouts_pf_pascal import annotation, mat_file
from PIL import Image
from small_sets import DataSet

from spheremap.data.adapters.pf_pascal import MAX_BYTES, read_arrays

WIDTH, HEIGHT = 40, 30
NAN = math.nan
KPS = np.array([[3, 4], [NAN, NAN], [40, 29.5]])
BBOX = np.array([[1.0, 2, 30, 29]])
HEADER = "source_image,target_image,class"


def write_image(
    root: Path, category: str, name: str, kps: Any = KPS, bbox: Any = BBOX, **options: Any
) -> None:
    for folder in (f"Annotations/{category}", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    content = annotation(category, kps, bbox, (WIDTH, HEIGHT), **options)
    (root / f"Annotations/{category}/{name}.mat").write_bytes(content)
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 200)).save(root / f"JPEGImages/{name}.jpg")


def write_lists(root: Path, trn: list[str], val: list[str], test: list[str]) -> None:
    (root / "pairs").mkdir(exist_ok=True)
    for split, lines in (("trn", trn), ("val", val), ("test", test)):
        header = HEADER + ",flip" if split == "trn" else HEADER
        (root / f"pairs/{split}_pairs.csv").write_text("\n".join([header, *lines]) + "\n")


def make(root: Path, pairs: Path) -> DataSet:
    return DataSet(root, {"layout": "pf_pascal", "root": str(root), "pairs": str(pairs), "box": "object"})


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Three cars: a and b in the train split, b and c in the test split; and a dog of the name of a car."""
    root = tmp_path / "pf"
    write_image(root, "car", "a")
    write_image(root, "car", "b", np.array([[NAN, NAN], [7.5, 8], [1, 1]]), np.array([[0, 0, 40, 30]], "u2"))
    write_image(root, "car", "c", compressed=False)
    write_image(root, "dog", "a")
    train = ["x/JPEGImages/b.jpg,x/JPEGImages/a.jpg,7,0", "JPEGImages/b.jpg,JPEGImages/a.jpg,7,1"]
    write_lists(root, train, [], ["b.jpg,c.jpg,7"])
    return make(root, root / "pairs")


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = ((1.0, 2.0, 30.0, 29.0), (0.0, 0.0, 40.0, 30.0), (1.0, 2.0, 30.0, 29.0))
    splits = ("train", "train+test", "test")
    rows = [
        [f"car/{n}", f"{data.folder}/JPEGImages/{n}.jpg", "", 7, "car", NAN, *box, 40, 30, split, f"car/{n}"]
        for n, box, split in zip("abc", boxes, splits, strict=True)
    ]
    points = [
        *[["car/a", "0", "0", 3, 4, 1], ["car/a", "1", "1", NAN, NAN, 0], ["car/a", "2", "2", 40, 29.5, 1]],
        *[["car/b", "0", "0", NAN, NAN, 0], ["car/b", "1", "1", 7.5, 8, 1], ["car/b", "2", "2", 1, 1, 1]],
        *[["car/c", "0", "0", 3, 4, 1], ["car/c", "1", "1", NAN, NAN, 0], ["car/c", "2", "2", 40, 29.5, 1]],
    ]
    pairs = [["train", "car/b", "car/a"], ["test", "car/b", "car/c"]]
    assert_same(data.read(), tables_of(rows, points, pairs))
    told = capsys.readouterr().err
    assert "1 mirrored copies of train pairs" in told
    assert "1 images left out that no pair names" in told  # the dog
    assert "moved" not in told


def test_the_box_may_be_the_picture_and_keypoints_missing(data: DataSet) -> None:
    write_image(data.folder, "car", "a", np.zeros((0, 0)))
    tables = data.read(box="image")
    assert tables.images[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[0, 0, 40, 30]] * 3
    assert set(tables.keypoints["image_id"]) == {"car/b", "car/c"}


def test_a_mirrored_pair_without_its_original_becomes_the_original(data: DataSet) -> None:
    write_lists(data.folder, ["a.jpg,c.jpg,7,1", "a.jpg,c.jpg,7,1", "b.jpg,a.jpg,7,0"], [], [])
    pairs = data.read().pairs[["source", "target"]].to_numpy().tolist()
    assert pairs == [["car/b", "car/a"], ["car/a", "car/c"]]


def test_points_up_to_a_pixel_outside_are_moved_onto_the_border(
    data: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.array([[-0.5, 30.5], [41, 3], [1, 2]])
    write_image(data.folder, "car", "a", points, np.array([[-1.0, 0, 41, 31]]))
    tables = data.read()
    found = tables.keypoints.set_index(["image_id", "keypoint_id"])
    assert found.loc["car/a", ["x", "y"]].to_numpy().tolist() == [[0, 30], [40, 3], [1, 2]]
    assert tables.images.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == [0, 0, 40, 30]
    assert "3 points and boxes up to a pixel outside" in capsys.readouterr().err  # two points and a box
    for far in ([[41.1, 3]], [[3, -1.1]], [[math.inf, 1]], [[NAN, 1]], [[1, NAN]]):
        write_image(data.folder, "car", "a", np.array(far, float))
        data.refused("car/a.mat", "row 1 of 'kps'", "outside")


@pytest.mark.parametrize("end", ["_pairs_pf_pascal.csv", "_pairs.csv"])
def test_lists_under_their_other_names(data: DataSet, end: str) -> None:
    expected = data.read()
    for split, name in (("trn", f"train{end}"), ("val", f"val{end}"), ("test", f"test{end}")):
        path = data.folder / f"pairs/{split}_pairs.csv"
        content = path.read_bytes().replace(b"\n", b"\r\n").replace(b",7", b",7.0")
        path.unlink()
        # further columns are passed over, a byte order mark is no part of the first one
        header, _, lines = content.partition(b"\r\n")
        lines = lines.replace(b"\r\n", b",1;2\r\n")
        (data.folder / "pairs" / name).write_bytes(b"\xef\xbb\xbf" + header + b",XA\r\n" + lines)
    assert_same(data.read(), expected)


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_parts(data: DataSet) -> None:
    for part, word in [
        ("Annotations/car/c.mat", "test_pairs.csv, line 2"),
        ("JPEGImages/b.jpg", "trn_pairs.csv, line 2"),
        ("pairs/val_pairs.csv", "no list of val pairs"),
        ("JPEGImages", "PF-PASCAL"),
    ]:
        with data.without(part):
            data.refused(part.removesuffix("/val_pairs.csv"), word)
    (data.folder / "pairs/train_pairs.csv").write_text(HEADER)
    data.refused("several lists of train pairs", "trn_pairs.csv, train_pairs.csv")
    (data.folder / "pairs/train_pairs.csv").unlink()
    write_lists(data.folder, [], [], [])
    data.refused("empty", "pairs")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("a.jpg,b.jpg", "2 fields"),
        ("a.jpg,b.jpg,21,0", "'class'"),
        ("a.jpg,b.jpg,7.5,0", "'class'"),
        ("a.jpg,b.jpg,7,2", "'flip'"),
        ("a.png,b.jpg,7,0", "'source_image'"),
        ("a.jpg,x/..,7,0", "'target_image'"),
        ('a.jpg,"b.jpg,7,0', "malformed line"),
        ("a.jpg,z.jpg,7,0", "car/z.mat"),
        ("a.jpg,b.jpg,12,0", "dog/b.mat"),
    ],
)
def test_malformed_pairs(data: DataSet, line: str, part: str) -> None:
    write_lists(data.folder, ["b.jpg,a.jpg,7,0", "", line], [], [])
    data.refused("trn_pairs.csv, line 4", part)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"a,b,c\n", b"class,class,source_image,target_image\n"])
def test_malformed_headers(data: DataSet, content: bytes) -> None:
    (data.folder / "pairs/val_pairs.csv").write_bytes(content)
    data.refused("val_pairs.csv", "header", "source_image, target_image, class")


@pytest.mark.parametrize(
    ("kps", "bbox", "part"),
    [
        (np.zeros((2, 2, 2)), BBOX, "(2, 2, 2)"),
        (np.zeros((1001, 2)), BBOX, "(1001, 2)"),
        (KPS, np.array([[5.0, 2, 5, 20]]), "'bbox'"),
        (KPS, np.array([[1.0, 2, 41.5, 20]]), "x2 <= 40"),
        (KPS, np.array([[1.0, 2, NAN, 20]]), "'bbox'"),
        (KPS, np.array([[40.5, 2, 41, 20]]), "'bbox'"),
    ],
)
def test_malformed_annotations(data: DataSet, kps: Any, bbox: Any, part: str) -> None:
    write_image(data.folder, "car", "a", kps, bbox)
    data.refused("Annotations/car/a.mat", part)


# --- MATLAB files -------------------------------------------------------------------------------------------

WHERE = Path("some.mat")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u4", "i8"])
def test_arrays_as_scipy_writes_them(compressed: bool, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    content = mat_file({"text": "abc", "a": array, "b": np.array([[7]], "i8")}, compressed=compressed)
    a, b = read_arrays(content, ("a", "b"), WHERE)
    np.testing.assert_array_equal(a, array)
    np.testing.assert_array_equal(b, [[7.0]])
    assert a.dtype == b.dtype == np.float64


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def test_a_file_of_a_big_endian_machine() -> None:
    """MATLAB stores whole numbers as small as they are, whatever their class."""
    parts = {
        6: struct.pack(">II", 6, 0),
        5: struct.pack(">ii", 1, 2),
        1: b"a",
        3: struct.pack(">hh", 1, -300),
    }
    variable = b"".join(element(kind, data, ">") for kind, data in parts.items())
    content = good()[:124] + b"\1\0MI" + element(14, variable, ">")
    np.testing.assert_array_equal(read_arrays(content, ("a",), WHERE), [[[1, -300]]])


def good() -> bytes:
    return mat_file({"a": np.arange(4.0).reshape(2, 2)}, compressed=False)


def with_other(old: tuple[int, ...], new: tuple[int, ...]) -> bytes:
    """`good` with other whole numbers somewhere."""
    code = f"<{len(old)}i"
    assert good().count(struct.pack(code, *old)) == 1
    return good().replace(struct.pack(code, *old), struct.pack(code, *new))


def packed(data: bytes, keep: int | None = None) -> bytes:
    """A file with a compressed element."""
    data = zlib.compress(data)[:keep]
    return good()[:128] + struct.pack("<II", 15, len(data)) + data


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no header"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "no header"),
        (good()[:128], "no variable 'a'"),
        (mat_file({"b": np.zeros((1, 1))}), "no variable 'a'"),
        (good()[:132], "8 bytes"),
        (good()[:160], "are left"),
        (good()[:128] + element(9, bytes(8)), "type 9"),
        (good()[:128] + element(14, b""), "not enough values"),
        (good()[:128] + struct.pack("<II", 5 << 16 | 1, 0), "5 bytes"),
        (good() + good()[128:], "'a' twice"),
        (mat_file({"a": "text"}), "not an array of numbers"),
        (mat_file({"a": np.ones((1, 1), complex)}), "too many values"),
        (with_other((6, 8, 6), (6, 8, 1)), "not an array of numbers"),  # a cell
        (with_other((6, 8, 6), (6, 8, 5)), "not an array of numbers"),  # sparse
        (with_other((9, 32), (8, 32)), "not an array of numbers"),  # SciPy's reader crashes
        (with_other((5, 8, 2, 2), (5, 8, 2, 3)), "reshape"),
        (with_other((5, 8, 2, 2), (5, 8, -2, -2)), "reshape"),
        (with_other((5, 8, 2, 2), (5, 8, 2**31 - 1, 2**31 - 1)), "reshape"),
        (packed(bytes(MAX_BYTES + 1)), "more than"),
        (packed(good()[128:], keep=-6), "breaks off"),
        (good()[:128] + struct.pack("<II", 15, 5) + b"xxxxx", "Error -3"),
    ],
)
def test_damaged_mat_files(content: bytes, part: str) -> None:
    with refusal(part, WHERE):
        read_arrays(content, ("a",), WHERE)
