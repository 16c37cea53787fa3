"""Labels made by hand: what is written is what the adapter reads, and the work goes on where it was left."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_checks import assert_same, refusal, stored_turned
from layouts_folder import write_folder
from PIL import Image, ImageCms
from small_sets import DataSet

from spheremap.data.labels import SPLITS_IN_TURN, Labels, left_out, turn_upright
from spheremap.data.tables import Tables

NAMES = {"mug": ["handle", "rim"]}
LABEL: dict[str, Any] = {
    "category": "mug",
    "instance": "",
    "azimuth": 90.0,
    "split": None,
    "box": [1, 2, 30, 28.5],
    "points": {"handle": [3.5, 4], "rim": None},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine pictures without tables."""
    root = tmp_path / "mine"
    (root / "photos").mkdir(parents=True)
    for number in range(9):
        Image.new("RGB", (40 + number, 30), (90, 120, 200)).save(root / f"photos/{number}.png")
    return root


def step(number: int, label: dict[str, Any] | None = LABEL, **changes: Any) -> dict[str, Any]:
    """What the page sends."""
    image = f"photos/{number}.png"
    return {"image": image, "label": label and label | changes, "names": NAMES}


def read(root: Path) -> Tables:
    shares = {"train": 0.4, "val": 0.2, "test": 0.4}
    entry = {"layout": "folder", "root": str(root), "bins": None, "shares": shares, "max_pairs": 100}
    return DataSet(root, entry | {"min_shared_keypoints": 1, "seed": 0}).read()


def test_what_is_written_is_what_the_adapter_reads(folder: Path) -> None:
    labels = Labels(folder)
    assert list(labels.sizes) == [f"photos/{number}.png" for number in range(9)]
    for number in range(8):
        labels.save(step(number))
    tables = read(folder)
    assert len(tables.images) == 8  # the ninth has no label
    row = tables.images.loc[3, ["image_id", "azimuth", "x1", "y1", "x2", "y2", "split"]]
    assert row.tolist() == ["mug/photos__3", 90.0, 1.0, 2.0, 30.0, 28.5, "test"]
    points = tables.keypoints[tables.keypoints["image_id"] == "mug/photos__3"].set_index("name")
    assert points["visible"].to_dict() == {"handle": 1, "rim": 0}
    assert points.loc["handle", ["x", "y"]].tolist() == [3.5, 4.0]
    assert tables.pairs["split"].value_counts().to_dict() == {"train": 4, "val": 2, "test": 2}


def test_every_state_on_the_way_is_a_data_set(folder: Path) -> None:
    """Whatever is saved last can be read: labels in part, and labels that are taken back."""
    labels = Labels(folder)
    bare: dict[str, Any] = {"points": {}, "azimuth": None, "box": None}
    for changes in (bare, {"points": {}}, {"points": {"rim": None}}, {}):
        labels.save(step(0, **changes))
        assert len(read(folder).images) == 1
    labels.save(step(1))
    labels.save(step(0, None))
    assert list(read(folder).images["image_id"]) == ["mug/photos__1"]
    labels.save(step(1, None))
    assert list(files(folder)) == ["keypoint_names.json"]


def test_the_work_goes_on_where_it_was_left(folder: Path) -> None:
    labels = Labels(folder)
    names = {"mug": ["rim", "handle", "foot"], "cup": []}
    labels.save(step(0) | {"names": names})
    labels.save(step(4, points={}, azimuth=None, box=None, instance="blue mug") | {"names": names})
    again = Labels(folder)
    assert again.labels == labels.labels
    assert {category: list(own) for category, own in again.names.items()} == names
    stored = files(folder)
    again.save({"image": "photos/8.png", "label": None, "names": names})
    assert files(folder) == stored


def test_tables_of_a_spreadsheet_are_kept(tmp_path: Path) -> None:
    """Masks, objects, degrees and keypoints stay what they are; masks are no photographs."""
    write_folder(tmp_path, ("mug",), 4)
    before = read(tmp_path)
    labels = Labels(tmp_path)
    assert list(labels.sizes) == [f"photos/mug/{number}.png" for number in range(4)]
    assert list(labels.names["mug"]) == ["front", "roof", "back", "wheel"]
    points = {"front": None, "roof": [32.0, 0.2 * 48], "back": [57.6, 24.0], "wheel": [19.2, 40.8]}
    label = LABEL | {"instance": "mug 0", "box": None, "points": points}
    labels.save({"image": "photos/mug/0.png", "label": label, "names": {"mug": list(points)}})
    after = read(tmp_path)
    assert_same(Tables(after.images, after.keypoints, before.pairs), before, "split")


def test_splits_go_by_turns_and_objects_stay_together(folder: Path) -> None:
    labels = Labels(folder)

    turns: list[tuple[dict[str, Any], str]] = [
        ({"instance": "blue"}, SPLITS_IN_TURN[0]),
        ({"instance": "red"}, SPLITS_IN_TURN[1]),
        ({"instance": "red"}, SPLITS_IN_TURN[1]),
        ({"instance": "blue"}, SPLITS_IN_TURN[0]),
        ({}, SPLITS_IN_TURN[2]),  # the third object
        ({}, SPLITS_IN_TURN[3]),
        ({}, SPLITS_IN_TURN[0]),
        ({"category": "cup", "points": {}}, SPLITS_IN_TURN[0]),
        ({"instance": "red", "split": "test"}, "test"),  # chosen
    ]
    for number, (changes, split) in enumerate(turns):
        saved = labels.save(step(number, **changes) | {"names": {**NAMES, "cup": []}})
        assert saved is not None
        assert saved.split == split
    lines = "".join(f"photos/{number}.png,mug\n" for number in range(5))
    (folder / "images.csv").write_text("image,category\n" + lines)
    (folder / "keypoints.csv").unlink()
    assert [own.split for own in Labels(folder).labels.values()] == [*SPLITS_IN_TURN, SPLITS_IN_TURN[0]]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([], "what the page sent"),
        (step(0, category="blue mug"), "category"),
        (step(0, category="cup"), "names are missing"),
        (step(0, points={"nose": [1, 2]}), "names are missing"),
        (step(0, points={"rim": [41, 2]}), "40 × 30 px"),
        (step(0, points={"rim": [float("nan"), 2]}), "points"),
        (step(0, box=[5, 5, 5, 9]), "no box"),
        (step(0, box=[0, 0, 50, 9]), "no box"),
        (step(0, azimuth=400.0), "azimuth"),
        (step(0, split="holdout"), "split"),
        (step(0, instance=" a"), "instance"),
        (step(0) | {"names": {"mug": ["rim", "rim", "handle"]}}, "names"),
        (step(0) | {"names": {"../mug": []}}, "names"),
        (step(99), "no photograph"),
        (step(0) | {"image": "../mine/photos/0.png"}, "no photograph"),
        (step(0) | {"image": "/etc/passwd"}, "no photograph"),
    ],
)
def test_a_step_that_does_not_fit_changes_nothing(folder: Path, sent: object, message: str) -> None:
    labels = Labels(folder)
    labels.save(step(1))
    before = files(folder)
    with refusal(message):
        labels.save(sent)
    assert files(folder) == before
    assert list(labels.labels) == ["photos/1.png"]


def test_names_that_other_photographs_have_cannot_go(folder: Path) -> None:
    """As from a page that was open all the while."""
    labels = Labels(folder)
    labels.save(step(1))
    with refusal("photos/1.png"):
        labels.save({"image": "photos/0.png", "label": None, "names": {"mug": ["rim"]}})


def refused(root: Path, *parts: str) -> None:
    with refusal(*parts):
        Labels(root)


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def test_bad_folders_get_a_message(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such folder", "nowhere")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no photographs", ".jpg")
    (folder / "notes.txt").write_text("not a photograph, and not in the way")
    (folder / ".hidden.png").write_text("nor this")
    assert len(Labels(folder).sizes) == 9
    (folder / "photos/a.jpg").write_text("no picture")
    refused(folder, "of no kind", "a.jpg")
    Image.new("RGB", (20, 20)).save(folder / "photos/a.jpg")
    (folder / "photos__a.png").write_bytes((folder / "photos/1.png").read_bytes())
    refused(folder, "photos/a.jpg", "photos__a.png", "rename")
    (folder / "photos__a.png").rename(folder / " b.png")
    refused(folder, "name", "' b.png'")


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("images.csv", "image,category,azimuth_bin\nphotos/0.png,mug,2\n", ["azimuth_bin · 360"]),
        ("images.csv", "image,category\nphotos/nowhere.png,mug\n", ["line 2", "nowhere.png"]),
        ("keypoints.csv", "image,keypoint,x,y\nphotos/0.png,rim,900,3\n", ["line 2", "900"]),
        ("keypoint_names.json", json.dumps({"mug": "rim"}), ["mug"]),
        ("pairs.csv", "split,source,target\n", ["remove"]),
    ],
)
def test_bad_tables_get_a_message(folder: Path, name: str, content: str, parts: list[str]) -> None:
    (folder / "images.csv").write_text("image,category\nphotos/0.png,mug\n")
    (folder / name).write_text(content)
    refused(folder, name, *parts)


@pytest.mark.parametrize("orientation", [3, 6])
def test_photographs_stored_sideways_are_turned_when_asked(folder: Path, orientation: int) -> None:
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:10] = 255  # the upper edge as stored
    stored_turned(folder / "photos/side.png", orientation, Image.fromarray(pixels))
    others = (folder / "photos/0.png").read_bytes()
    refused(folder, "side.png", "--upright")
    assert turn_upright(folder) == 1
    assert turn_upright(folder) == 0
    assert Labels(folder).sizes["photos/side.png"] == ((30, 40) if orientation == 6 else (40, 30))
    with Image.open(folder / "photos/side.png") as picture:
        turned = np.asarray(picture)
    np.testing.assert_array_equal(turned, np.rot90(pixels, {3: 2, 6: -1}[orientation]))
    assert (folder / "photos/0.png").read_bytes() == others


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_what_is_turned_keeps_its_metadata(folder: Path, ending: str) -> None:
    path, exif = folder / f"photos/side.{ending}", Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Apple"  # orientation, maker
    exif[0x8825] = {1: "N"}  # of GPS
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stored = Image.new("RGB", (40, 30))
    stored.paste("red", (0, 0, 40, 10))
    stored.save(path, exif=exif.tobytes(), icc_profile=profile)
    assert turn_upright(folder) == 1
    with Image.open(path) as picture:
        assert picture.size == (30, 40)
        assert [picture.getpixel((x, 20))[0] > 127 for x in (5, 25)] == [False, True]
        assert picture.info["icc_profile"] == profile
        assert (picture.getexif().get(0x0112, 1), picture.getexif()[0x010F]) == (1, "Apple")
        assert picture.getexif().get_ifd(0x8825) == {1: "N"}


def test_what_the_page_cannot_show_is_told(folder: Path) -> None:
    for name in ("IMG_2.HEIC", "photos/b.gif", ".hidden.gif"):
        (folder / name).write_bytes(b"")
    assert left_out(folder) == ["IMG_2.HEIC", "photos/b.gif"]
