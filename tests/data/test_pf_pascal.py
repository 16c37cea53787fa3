"""The adapter for PF-PASCAL, and the reader of MAT-files."""

import math
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from layouts_pf_pascal import annotation, element, mat_file, matrix, write_pf_pascal
from PIL import Image

from spheremap.base.errors import InputError
from spheremap.config.slices import parse
from spheremap.data.adapters.matfile import MAX_BYTES, read_arrays
from spheremap.data.adapters.pf_pascal import PFPascalParams, read_pf_pascal
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, Tables, read_tables, write_tables

WIDTH, HEIGHT = 40, 30
NAN = math.nan
KPS = np.array([[3, 4], [NAN, NAN], [40, 29.5]])
BBOX = np.array([[1.0, 2, 30, 29]])
HEADER = "source_image,target_image,class"


def write_image(
    root: Path, category: str, name: str, kps: Any = KPS, bbox: Any = BBOX, **options: Any
) -> None:
    variables = annotation(category, [], (1, 1, 2, 2), (WIDTH, HEIGHT)) | {"kps": kps, "bbox": bbox}
    for folder in (f"Annotations/{category}", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / f"Annotations/{category}/{name}.mat").write_bytes(mat_file(variables, **options))
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 200)).save(root / f"JPEGImages/{name}.jpg")


def write_lists(root: Path, trn: list[str], val: list[str], test: list[str]) -> None:
    (root / "pairs").mkdir(exist_ok=True)
    for split, lines in (("trn", trn), ("val", val), ("test", test)):
        header = HEADER + ",flip" if split == "trn" else HEADER
        (root / f"pairs/{split}_pairs.csv").write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cars: a and b in the train split, b and c in the test split; and a dog of the name of a car."""
    root = tmp_path / "pf"
    write_image(root, "car", "a")
    write_image(root, "car", "b", np.array([[NAN, NAN], [7.5, 8], [1, 1]]), np.array([[0, 0, 40, 30]], "u2"))
    write_image(root, "car", "c", compressed=False)
    write_image(root, "dog", "a")
    train = ["x/JPEGImages/b.jpg,x/JPEGImages/a.jpg,7,0", "JPEGImages/b.jpg,JPEGImages/a.jpg,7,1"]
    write_lists(root, train, [], ["b.jpg,c.jpg,7"])
    return root


def read(root: Path, box: str = "object") -> Tables:
    entry = {"layout": "pf_pascal", "root": str(root), "pairs": str(root / "pairs"), "box": box}
    return read_pf_pascal(parse(entry, PFPascalParams, where="test")).tables


def refused(root: Path, *parts: str) -> str:
    """The one error that reading ends with, which must hold all `parts`."""
    with pytest.raises(InputError) as caught:
        read(root)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


# --- reading ------------------------------------------------------------------------------------------------


def test_reads_every_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = read(folder)
    ids = ["car/a", "car/b", "car/c"]
    images = pd.DataFrame(
        {
            "image_id": ids,
            "path": [f"{folder}/JPEGImages/{name}.jpg" for name in "abc"],
            "mask_path": [""] * 3,
            "mask_value": [7] * 3,
            "category": ["car"] * 3,
            "azimuth": [NAN] * 3,
            "x1": [1.0, 0, 1],
            "y1": [2.0, 0, 2],
            "x2": [30.0, 40, 30],
            "y2": [29.0, 30, 29],
            "width": [40] * 3,
            "height": [30] * 3,
            "split": ["train", "train+test", "test"],
            "instance": ids,
        }
    )
    pd.testing.assert_frame_equal(tables.images, images)
    rows = [
        *[["car/a", "0", "0", 3, 4, 1], ["car/a", "1", "1", NAN, NAN, 0], ["car/a", "2", "2", 40, 29.5, 1]],
        *[["car/b", "0", "0", NAN, NAN, 0], ["car/b", "1", "1", 7.5, 8, 1], ["car/b", "2", "2", 1, 1, 1]],
        *[["car/c", "0", "0", 3, 4, 1], ["car/c", "1", "1", NAN, NAN, 0], ["car/c", "2", "2", 40, 29.5, 1]],
    ]
    expected = pd.DataFrame(rows, columns=list(KEYPOINTS))
    pd.testing.assert_frame_equal(tables.keypoints, expected, check_dtype=False)
    pairs = [["train", "car/b", "car/a"], ["test", "car/b", "car/c"]]
    pd.testing.assert_frame_equal(tables.pairs, pd.DataFrame(pairs, columns=list(PAIRS)))
    assert dict(tables.images.dtypes.astype(str)) == IMAGES
    assert dict(tables.keypoints.dtypes.astype(str)) == KEYPOINTS
    told = capsys.readouterr().err
    assert "mirrored copies of training pairs (flip = 1): 1" in told
    assert "left out as images that no pair names: 1" in told  # the dog
    assert "moved" not in told


def test_the_box_may_be_the_picture(folder: Path) -> None:
    images = read(folder, "image").images
    assert images[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[0, 0, 40, 30]] * 3


def test_a_mirrored_pair_without_its_original_becomes_the_original(folder: Path) -> None:
    write_lists(folder, ["a.jpg,c.jpg,7,1", "a.jpg,c.jpg,7,1", "b.jpg,a.jpg,7,0"], [], [])
    pairs = read(folder).pairs[["source", "target"]].to_numpy().tolist()
    assert pairs == [["car/b", "car/a"], ["car/a", "car/c"]]


def test_points_up_to_a_pixel_outside_are_moved_onto_the_border(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(folder, "car", "a", np.array([[-0.5, 30.5], [41, 3], [1, 2]]), np.array([[-1.0, 0, 41, 31]]))
    tables = read(folder)
    points = tables.keypoints.set_index(["image_id", "keypoint_id"])
    assert points.loc["car/a", ["x", "y"]].to_numpy().tolist() == [[0, 30], [40, 3], [1, 2]]
    assert tables.images.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == [0, 0, 40, 30]
    assert "moved onto its border: 3" in capsys.readouterr().err  # two points and a box
    for far in ([[41.1, 3]], [[3, -1.1]], [[math.inf, 1]], [[NAN, 1]], [[1, NAN]]):
        write_image(folder, "car", "a", np.array(far, float))
        refused(folder, "car/a.mat", "row 1 of 'kps'", "outside")


@pytest.mark.parametrize(
    "names",
    [
        ("train_pairs_pf_pascal.csv", "val_pairs_pf_pascal.csv", "test_pairs_pf_pascal.csv"),
        ("train_pairs.csv", "val_pairs.csv", "test_pairs.csv"),
    ],
)
def test_lists_under_their_other_names(folder: Path, names: tuple[str, str, str]) -> None:
    expected = read(folder)
    for split, name in zip(("trn", "val", "test"), names, strict=True):
        path = folder / f"pairs/{split}_pairs.csv"
        content = path.read_bytes().replace(b"\n", b"\r\n").replace(b",7", b",7.0")
        path.unlink()
        # further columns are passed over, a byte order mark is no part of the first one
        header, _, lines = content.partition(b"\r\n")
        (folder / "pairs" / name).write_bytes(
            b"\xef\xbb\xbf" + header + b",XA\r\n" + lines.replace(b"\r\n", b",1;2\r\n")
        )
    found = read(folder)
    for table in ("images", "keypoints", "pairs"):
        pd.testing.assert_frame_equal(getattr(found, table), getattr(expected, table))


def test_fixture_in_the_archives_layout(tmp_path: Path) -> None:
    write_pf_pascal(tmp_path)
    top = tmp_path / "PF-dataset-PASCAL"
    params = PFPascalParams("pf_pascal", str(top), str(tmp_path / "pairs"), "object")
    ingested = read_pf_pascal(params)
    write_tables(tmp_path / "tables", ingested.tables, {})  # validates
    tables = read_tables(tmp_path / "tables")
    assert tables.categories == ["aeroplane", "car"]
    assert tables.images["split"].value_counts().to_dict() == {"train": 8, "val": 4, "test": 4}
    assert tables.pairs["split"].value_counts().to_dict() == {"train": 24, "val": 4, "test": 4}
    assert 0 < (tables.keypoints["visible"] == 0).sum() < 20


def test_digests_follow_content_not_place(folder: Path, tmp_path: Path) -> None:
    def inputs() -> dict[str, str]:
        return read_pf_pascal(PFPascalParams("pf_pascal", str(folder), f"{folder}/pairs", "object")).inputs

    before = inputs()
    assert set(before) == {"pairs", "annotations", "images"}
    folder = folder.rename(tmp_path / "moved")
    assert inputs() == before
    write_image(folder, "car", "c", compressed=True)
    after = inputs()
    assert {kind for kind in before if before[kind] != after[kind]} == {"annotations"}


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_parts(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "Annotations", "params.yaml")
    for part, word in [
        ("Annotations/car/c.mat", "test_pairs.csv, line 2"),
        ("JPEGImages/b.jpg", "trn_pairs.csv, line 2"),
        ("pairs/val_pairs.csv", "no list of val pairs"),
        ("JPEGImages", "PF-PASCAL"),
    ]:
        (folder / part).rename(tmp_path / "aside")
        refused(folder, part.removesuffix("/val_pairs.csv"), word)
        (tmp_path / "aside").rename(folder / part)
    (folder / "pairs/train_pairs.csv").write_text(HEADER)
    refused(folder, "several lists of train pairs", "trn_pairs.csv, train_pairs.csv")
    (folder / "pairs/train_pairs.csv").unlink()
    write_lists(folder, [], [], [])
    refused(folder, "empty", "pairs")
    (folder / "JPEGImages/a.jpg").write_bytes(b"no picture")
    write_lists(folder, ["a.jpg,a.jpg,7,0"], [], [])
    refused(folder, "unreadable image", "a.jpg")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("a.jpg,b.jpg", "2 fields"),
        ("a.jpg,b.jpg,7,0,0", "5 fields"),
        ("a.jpg,b.jpg,0,0", "'class'"),
        ("a.jpg,b.jpg,21,0", "'class'"),
        ("a.jpg,b.jpg,7.5,0", "'class'"),
        ("a.jpg,b.jpg,car,0", "'class'"),
        ("a.jpg,b.jpg,7,2", "'flip'"),
        ("a.jpg,b.jpg,7,", "'flip'"),
        ("a.png,b.jpg,7,0", "'source_image'"),
        ("a.jpg,,7,0", "'target_image'"),
        ("a.jpg,x/..,7,0", "'target_image'"),
        ("a.jpg,.jpg,7,0", "'target_image'"),
        ('a.jpg,"b.jpg,7,0', "malformed line"),
        ("a.jpg,z.jpg,7,0", "car/z.mat"),
        ("a.jpg,b.jpg,12,0", "dog/b.mat"),
    ],
)
def test_malformed_pairs(folder: Path, line: str, part: str) -> None:
    write_lists(folder, ["b.jpg,a.jpg,7,0", "", line], [], [])
    refused(folder, "trn_pairs.csv, line 4", part)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"a,b,c\n", b"class,class,source_image,target_image\n"])
def test_malformed_headers(folder: Path, content: bytes) -> None:
    (folder / "pairs/val_pairs.csv").write_bytes(content)
    refused(folder, "val_pairs.csv", "header", "source_image, target_image, class")


def test_a_list_that_is_no_text(folder: Path) -> None:
    (folder / "pairs/val_pairs.csv").write_bytes(b"\xff\xfe0")
    refused(folder, "val_pairs.csv", "UTF-8")


@pytest.mark.parametrize(
    ("kps", "bbox", "part"),
    [
        (np.zeros((3, 3)), BBOX, "(3, 3)"),
        (np.zeros((2, 2, 1)), BBOX, "(2, 2, 1)"),
        (np.zeros((1001, 2)), BBOX, "(1001, 2)"),
        (KPS, np.zeros((1, 3)), "'bbox'"),
        (KPS, np.array([[5.0, 2, 5, 20]]), "'bbox'"),
        (KPS, np.array([[1.0, 2, 41.5, 20]]), "x2 <= 40"),
        (KPS, np.array([[1.0, 2, NAN, 20]]), "'bbox'"),
        (KPS, np.array([[40.5, 2, 41, 20]]), "'bbox'"),
    ],
)
def test_malformed_annotations(folder: Path, kps: Any, bbox: Any, part: str) -> None:
    write_image(folder, "car", "a", kps, bbox)
    refused(folder, "Annotations/car/a.mat", part)


def test_an_image_may_have_no_keypoints(folder: Path) -> None:
    write_image(folder, "car", "a", np.zeros((0, 0)))
    assert set(read(folder).keypoints["image_id"]) == {"car/b", "car/c"}


# --- MAT-files ----------------------------------------------------------------------------------------------

WHERE = Path("some.mat")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stored", [None, "u1", "i2", "u2", "i4", "f4"])
def test_arrays_of_every_storage(compressed: bool, order: str, stored: str | None) -> None:
    array = np.arange(12.0).reshape(3, 4)
    stores = {"a": stored} if stored else None
    content = mat_file(
        {"text": "abc", "a": array, "b": np.array([[7]], "i8")},
        compressed=compressed,
        order=order,
        stored=stores,
    )
    found = read_arrays(content, ("a", "b"), WHERE)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], array)
    np.testing.assert_array_equal(found["b"], [[7.0]])
    assert found["a"].dtype == np.float64


def good() -> bytes:
    return mat_file({"a": np.arange(4.0).reshape(2, 2)}, compressed=False)


def with_class(word: int) -> bytes:
    """`good` with another word of flags and class."""
    content = good()
    return content.replace(struct.pack("<IIII", 6, 8, 6, 0), struct.pack("<IIII", 6, 8, word, 0))


def bomb() -> bytes:
    packed = zlib.compress(bytes(MAX_BYTES + 1))
    return good()[:128] + struct.pack("<II", 15, len(packed)) + packed


def compressed_stump() -> bytes:
    packed = zlib.compress(matrix("a", np.arange(4.0).reshape(2, 2)))[:-6]
    return good()[:128] + struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no MAT-file header"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "no MAT-file header"),
        (good()[:124] + b"\0\2IM" + good()[128:], "version 0x0200"),
        (good()[:128], "lacks the variable 'a'"),
        (good()[:132], "inside a tag"),
        (good()[:160], "are left"),
        (good()[:128] + element(9, bytes(8)), "type 9"),
        (good()[:128] + element(14, b""), "without flags"),
        (good()[:128] + struct.pack("<II", 5 << 16 | 1, 0), "small element of 5 bytes"),
        (with_class(1), "not a real numeric array"),  # a cell
        (with_class(5), "not a real numeric array"),  # sparse
        (with_class(0x0806), "not a real numeric array"),  # complex
        (good() + matrix("a", np.zeros((1, 1))), "occurs twice"),
        (mat_file({"a": "text"}), "not a real numeric array"),
        (mat_file({"b": np.zeros((1, 1))}), "lacks the variable 'a'"),
        (good().replace(struct.pack("<ii", 2, 2), struct.pack("<ii", 2, 3)), "of shape (2, 3)"),
        (good().replace(struct.pack("<ii", 2, 2), struct.pack("<ii", -2, -2)), "of shape (-2, -2)"),
        (good().replace(struct.pack("<ii", 2, 2), struct.pack("<ii", 2**31 - 1, 2**31 - 1)), "of shape"),
        (good().replace(struct.pack("<II", 9, 32), struct.pack("<II", 8, 32)), "numbers of type 8"),
        (bomb(), "more than"),
        (compressed_stump(), "breaks off"),
        (good()[:128] + struct.pack("<II", 15, 5) + b"xxxxx", "Error -3"),
    ],
)
def test_damaged_mat_files(content: bytes, part: str) -> None:
    with pytest.raises(InputError) as caught:
        read_arrays(content, ("a",), WHERE)
    assert part in str(caught.value)
    assert "some.mat" in str(caught.value)


# --- mutated files ------------------------------------------------------------------------------------------


def outcome(root: Path, culprit: str) -> Tables | None:
    """The tables; or None if reading ends with the one kind of error that is allowed."""
    try:
        return read(root)
    except InputError as error:
        message = str(error)
    assert culprit in message
    return None


def flip_bytes(rng: random.Random, content: bytes) -> bytes:
    """One to three bytes changed, inserted or removed, or the end cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        kind = rng.choice(["bit", "bit", "byte", "insert", "remove", "cut"])
        if kind == "bit":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            data[at] = rng.choice([0, 10, 13, 32, 34, 44, 46, 47, 48, 57, 255, rng.randrange(256)])
        elif kind == "insert":
            data.insert(at, rng.randrange(256))
        elif kind == "remove" and len(data) > 1:
            del data[at]
        elif rng.random() < 0.2:
            del data[max(at, 1) :]
    return bytes(data)


def expected_points(kps: np.ndarray) -> np.ndarray | None:
    """What the table must hold for `kps`, or None if it must be refused."""
    if kps.size == 0:
        return np.zeros((0, 2)) if kps.ndim == 2 else None
    if kps.ndim != 2 or kps.shape[1] != 2:
        return None
    limits = np.array([WIDTH, HEIGHT])
    hidden = np.isnan(kps).all(axis=1)
    if not (hidden | ((kps >= -1) & (kps <= limits + 1)).all(axis=1)).all():
        return None
    return np.clip(kps, 0, limits)


def points_of(tables: Tables, image_id: str) -> np.ndarray:
    rows = tables.keypoints[tables.keypoints["image_id"] == image_id]
    points = rows[["x", "y"]].to_numpy()
    np.testing.assert_array_equal(rows["visible"] == 0, np.isnan(points).any(axis=1))
    return points


def test_mutated_mat_files(folder: Path) -> None:
    rng = random.Random(1)
    write_lists(folder, ["a.jpg,a.jpg,7,0"], [], [])
    path = folder / "Annotations/car/a.mat"
    accepted = 0
    variables = annotation("car", [], (1, 1, 2, 2), (WIDTH, HEIGHT)) | {"kps": KPS, "bbox": BBOX}
    for number in range(900):
        content = mat_file(variables, compressed=number % 3 == 0)
        mutant = flip_bytes(rng, content)
        path.write_bytes(mutant)
        tables = outcome(folder, str(path))
        if tables is None:
            continue
        accepted += 1
        kps = KPS
        payload = KPS.tobytes(order="F")
        if len(mutant) == len(content) and payload in content:
            # only a change of the numbers themselves may change the table
            at = content.index(payload)
            kps = np.frombuffer(mutant[at : at + len(payload)]).reshape(KPS.shape, order="F")
        np.testing.assert_array_equal(points_of(tables, "car/a"), expected_points(kps))
    assert 90 < accepted < 810


def test_annotations_of_other_arrays(folder: Path) -> None:
    rng = random.Random(2)
    write_lists(folder, ["a.jpg,a.jpg,7,0"], [], [])
    path = folder / "Annotations/car/a.mat"
    values = [0, 1, 39, 40, 40.5, 41, 41.5, 30, 31, 31.1, -0.5, -1, -1.5, NAN, math.inf, -math.inf, 1e300]
    accepted = 0
    for _ in range(500):
        shape = rng.choice([(3, 2), (3, 2), (3, 2), (1, 2), (0, 2), (2, 3), (2,) * 3, (0, 0), (6, 1)])
        kps = np.array([rng.choice(values[:9]) for _ in range(math.prod(shape))], float).reshape(shape)
        for _ in range(rng.choice([0, 0, 1, 2])):
            if kps.size:
                kps.flat[rng.randrange(kps.size)] = rng.choice(values)
        if kps.ndim == 2 and len(kps) and rng.random() < 0.3:
            kps[rng.randrange(len(kps))] = NAN
        box = np.array([[rng.choice(values[:13]) for _ in range(4)]], float)
        if rng.random() < 0.7:
            box = BBOX
        path.write_bytes(mat_file({"kps": kps, "bbox": box}))
        tables = outcome(folder, str(path))
        points = expected_points(kps)
        inside = np.clip(box[0], 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        near = (np.abs(box[0] - inside) <= 1).all() and inside[0] < inside[2] and inside[1] < inside[3]
        assert (tables is not None) == (points is not None and bool(near))
        if tables is not None:
            accepted += 1
            np.testing.assert_array_equal(points_of(tables, "car/a"), points)
            assert tables.images.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == inside.tolist()
    assert 100 < accepted < 400


def plain_pairs(content: bytes) -> list[list[str]] | None:
    """An independent reading of a list without quotes; None if it must be refused."""
    lines = [line.split(",") for line in content.decode().replace("\r\n", "\n").split("\n") if line.strip()]
    header = [field.strip() for field in lines[0]]
    pairs = []
    for line in lines[1:]:
        if len(line) != len(header):
            return None
        record = {key: field.strip() for key, field in zip(header, line, strict=True)}
        names = [record["source_image"].split("/")[-1], record["target_image"].split("/")[-1]]
        if float(record["class"]) != 7 or not set(names) <= {"a.jpg", "b.jpg", "c.jpg"}:
            return None
        pairs.append([f"car/{name[0]}" for name in names])
    return pairs


def test_mutated_lists(folder: Path) -> None:
    rng = random.Random(3)
    path = folder / "pairs/val_pairs.csv"
    lines = [HEADER, "JPEGImages/a.jpg,JPEGImages/b.jpg,7", "JPEGImages/b.jpg,JPEGImages/c.jpg,7"]
    content = ("\n".join(lines) + "\n").encode()
    accepted = 0
    for _ in range(700):
        mutant = flip_bytes(rng, content)
        path.write_bytes(mutant)
        # the list itself is wrong, or names what is not there, which the message traces back to the list
        tables = outcome(folder, "val_pairs.csv")
        if tables is None:
            continue
        accepted += 1
        if b'"' not in mutant:
            found = tables.pairs_of("val")[["source", "target"]].to_numpy().tolist()
            assert found == plain_pairs(mutant)
    assert 70 < accepted < 500
