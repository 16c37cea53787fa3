"""Masks: which detection counts, what replaces it, what is written; Mask R-CNN with random weights."""

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import detection as tv

from spheremap.base.errors import InputError
from spheremap.cli import main
from spheremap.data.images import load_mask
from spheremap.data.masks import DetectedMasks, DetectorWeights, NoMasks, OwnMasks, write_masks
from spheremap.data.masks.detections import COCO_CLASS, Detections, box_iou, choose, coco_classes
from spheremap.data.masks.detector import CLASSES, HUB, MaskRCNNDetector, build_model, locate_weights
from spheremap.data.masks.sheet import COLOURS, COLUMNS, ROWS, TILE, Entry, choose_entries
from spheremap.data.masks.store import Outcome, Subject
from spheremap.data.tables import (
    FILES,
    IMAGES,
    KEYPOINTS,
    PAIRS,
    Tables,
    read_provenance,
    read_tables,
    write_tables,
)

SIZE = (60, 40)  # width, height
CAR, DOG, SMALL = (200, 0, 0), (0, 200, 0), (0, 0, 200)  # colours that the painted detector knows
PARAMS = DetectedMasks(
    source="maskrcnn",
    model="maskrcnn_resnet50_fpn_v2",
    weights=DetectorWeights("hub"),
    image_size=64,
    score=0.9,
    min_iou=0.5,
    classes={},
)
Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2


class Painted:
    """A detector that finds everything painted in a colour it knows; counts its calls."""

    labels = {CAR: "car", DOG: "dog", SMALL: "car"}  # noqa: RUF012
    scores = {CAR: 0.95, DOG: 0.92, SMALL: 0.99}  # noqa: RUF012

    def __init__(self, **identity: Any) -> None:
        self.classes: Sequence[str] = ["car", "dog", "airplane"]
        self.identity = {"model": "painted", **identity}
        self.weights_sha256 = "0" * 64
        self.calls = 0

    def __call__(self, image: np.ndarray) -> Detections:
        self.calls += 1
        found = {colour: (image == colour).all(axis=2) for colour in self.labels}
        found = {colour: mask for colour, mask in found.items() if mask.any()}
        boxes = [extent(mask) for mask in found.values()]
        return Detections(
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            scores=np.array([self.scores[colour] for colour in found]),
            labels=[self.labels[colour] for colour in found],
            mask=lambda k: list(found.values())[k],
        )


def extent(mask: np.ndarray) -> Rectangle:
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def paint(path: Path, *parts: tuple[Rectangle, tuple[int, int, int]]) -> None:
    pixels = np.full((SIZE[1], SIZE[0], 3), 90, dtype=np.uint8)
    for (x1, y1, x2, y2), colour in parts:
        pixels[y1:y2, x1:x2] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


class World:
    """Canonical tables of painted pictures, to be written when complete."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[dict[str, Any]] = []

    def add(
        self,
        image_id: str,
        box: Sequence[float],
        *parts: tuple[Rectangle, tuple[int, int, int]],
        own: Rectangle | None = None,
        value: int = 7,
    ) -> None:
        path = self.root / "pictures" / f"{image_id}.png"
        paint(path, *parts)
        mask_path = self.root / "own" / f"{image_id}.png"
        if own is not None:
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rectangle(*own).astype(np.uint8) * np.uint8(7)).save(mask_path)
        x1, y1, x2, y2 = map(float, box)
        row = {
            "image_id": image_id, "path": str(path), "mask_path": str(mask_path) if own else "",
            "mask_value": value, "category": image_id.split("/")[0], "azimuth": math.nan,
            "x1": x1, "y1": y1, "x2": x2, "y2": y2, "width": SIZE[0], "height": SIZE[1],
            "split": "train", "instance": image_id,
        }  # fmt: skip
        self.rows.append(row)

    def write(self) -> Path:
        first, last = (self.rows[i]["image_id"] for i in (0, -1))
        frames = (
            pd.DataFrame(rows, columns=list(schema)).astype(schema)
            for rows, schema in (
                (self.rows, IMAGES),
                ([[first, "0", "nose", 3.5, 4.0, 1], [first, "1", "tail", math.nan, math.nan, 0]], KEYPOINTS),
                ([["train", first, first], ["train", last, last]], PAIRS),
            )
        )
        write_tables(self.root / "tables", Tables(*frames), {"step": "test"})
        return self.root / "tables"


def four_cars(root: Path) -> Path:
    """Of three cars one is found, one falls back to its own mask and one to its box; nobody knows the dog."""
    world = World(root)
    world.add("car/b", (10, 10, 30, 30), ((9, 11, 30, 31), CAR), own=(0, 0, 5, 5))
    world.add("car/a", (10, 10, 30, 30), ((0, 0, 9, 9), SMALL), own=(12, 12, 28, 28))
    world.add("car/c", (10.5, 10, 29.2, 30), own=(12, 12, 28, 28), value=9)
    world.add("zebu/d", (30, 5, 50, 25), ((30, 5, 50, 25), DOG))
    return world.write()


def outcomes(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "masks.csv", keep_default_na=False).set_index("image_id")


def everything(folder: Path) -> dict[str, bytes]:
    """All files by name; tables as if they lay in `folder` of any name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().replace(folder.as_posix().encode(), b"OUT")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- which detection counts ---------------------------------------------------------------------------------


def found(*rows: tuple[Rectangle, float, str], masks: Sequence[np.ndarray] | None = None) -> Detections:
    return Detections(
        boxes=np.array([box for box, _, _ in rows], dtype=np.float64).reshape(-1, 4),
        scores=np.array([score for _, score, _ in rows]),
        labels=[label for _, _, label in rows],
        mask=lambda k: rectangle(*rows[k][0]) if masks is None else masks[k],
    )


def test_box_iou_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [30, 30, 31, 31]])
    expected = [1, 50 / 150, 0, 4 / 100, 0]
    np.testing.assert_allclose(box_iou(boxes.astype(np.float64), (0, 0, 10, 10)), expected)
    assert box_iou(np.zeros((0, 4)), (0, 0, 1, 1)).shape == (0,)


BOX = (10, 10, 30, 30)


@pytest.mark.parametrize(
    ("rows", "wanted", "min_iou", "score", "iou"),
    [
        # the detection in the box, of the class
        (
            [((0, 0, 9, 9), 0.99, "car"), ((11, 10, 30, 30), 0.91, "car"), (BOX, 0.95, "dog")],
            "car",
            0.5,
            0.91,
            0.95,
        ),
        # without min_iou the highest score, wherever it is
        ([((11, 10, 30, 30), 0.91, "car"), ((0, 0, 9, 9), 0.99, "car")], "car", None, 0.99, 0.0),
        ([(BOX, 0.95, "dog")], "any", 0.5, 0.95, 1.0),
        # equal overlap is decided by the score
        ([(BOX, 0.91, "car"), (BOX, 0.93, "car")], "car", 0.5, 0.93, 1.0),
    ],
)
def test_which_detection_counts(
    rows: list[Any], wanted: str, min_iou: float | None, score: float, iou: float
) -> None:
    choice = choose(found(*rows), wanted, BOX, min_iou)
    (place,) = (place for place, found_score, _ in rows if found_score == score)
    np.testing.assert_array_equal(choice.mask, rectangle(*place))
    assert (choice.reason, choice.score, choice.iou) == ("", score, pytest.approx(iou))


def test_empty_masks_never_count() -> None:
    none = np.zeros(SIZE[::-1], dtype=bool)
    rows = ((BOX, 0.99, "car"), ((12, 10, 30, 30), 0.91, "car"))
    assert choose(found(*rows, masks=[none, rectangle(12, 10, 30, 30)]), "car", BOX, 0.5).score == 0.91
    choice = choose(found(*rows, masks=[none, none]), "car", BOX, 0.5)
    assert (choice.mask, choice.reason, choice.score) == (None, "the detection's mask is empty", 0.99)


@pytest.mark.parametrize(
    ("rows", "reason", "score"),
    [
        ([], "no car detected", None),
        ([((10, 10, 30, 30), 0.99, "dog")], "no car detected", None),
        ([((0, 0, 12, 12), 0.99, "car")], "no detection agrees with the box (best 0.01)", 0.99),
    ],
)
def test_why_nothing_counts(rows: list[Any], reason: str, score: float | None) -> None:
    choice = choose(found(*rows), "car", (10, 10, 30, 30), 0.5)
    assert (choice.mask, choice.reason, choice.score) == (None, reason, score)


# --- classes ------------------------------------------------------------------------------------------------


def test_classes_by_category() -> None:
    assert set(COCO_CLASS.values()) <= set(CLASSES)
    names = {
        **{
            "aeroplane": "airplane",
            "diningtable": "dining table",
            "motorbike": "motorcycle",
            "sofa": "couch",
        },
        **{"polar+bear": "bear", "Polar_Bear": "bear", "german-shepherd": "dog"},  # spellings of data sets
        **{"mouse": "any", "fox": "any"},  # COCO's mouse belongs to a computer
    }
    assert coco_classes(list(names), {}, CLASSES) == names
    given = {"car": "any", "wolf": "dog"}
    assert coco_classes(["car", "wolf", "cat"], given, CLASSES) == {**given, "cat": "cat"}


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"cra": "car"}, ["unknown category", "cra: car", "did you mean 'car'"]),
        ({"car": "carr"}, ["unknown class", "car: carr", "did you mean 'car'"]),
        ({"car": "xylophone"}, ["unknown class", "one of car, dog, any"]),
    ],
)
def test_unknown_classes_are_refused(given: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        coco_classes(["car"], given, ["car", "dog"])
    for part in parts:
        assert part in str(caught.value)


# --- what is written ----------------------------------------------------------------------------------------


def test_detected_masks_and_their_fallbacks(tmp_path: Path) -> None:
    tables, out = four_cars(tmp_path), tmp_path / "out"
    before = read_tables(tables)
    summary = write_masks(PARAMS, tables, out, tmp_path / "work", Painted())
    assert summary == "4 images: Mask R-CNN 2, own mask 1, whole box 1"

    rows = outcomes(out)
    assert rows["used"].tolist() == ["own", "maskrcnn", "box", "maskrcnn"]
    assert rows.loc["car/a", "reason"] == "no detection agrees with the box (best 0.00)"
    assert rows.loc["car/c", "reason"] == "no car detected; its own mask is empty"
    assert rows.loc["car/b", "reason"] == ""
    assert rows.loc["car/b", ["score", "iou"]].astype(float).tolist() == pytest.approx(
        [0.95, 380 / 440], abs=1e-4
    )
    assert rows.loc["car/c", ["score", "iou"]].tolist() == ["", ""]
    assert rows["agreement"].to_dict() == {"car/a": 0.64, "car/b": 0.8636, "car/c": 1.0, "zebu/d": 1.0}
    assert rows.loc["car/a", "area"] == pytest.approx(16 * 16 / 2400, abs=1e-4)

    after = read_tables(out)
    masks = after.images.set_index("image_id")[["mask_path", "mask_value"]]
    expected = {"car/a": (12, 12, 28, 28), "car/b": (9, 11, 30, 31), "zebu/d": (30, 5, 50, 25)}
    for image_id, place in expected.items():
        path, value = masks.loc[image_id]
        assert path == (out / "masks" / f"{image_id}.png").as_posix()
        np.testing.assert_array_equal(load_mask(Path(path), value, SIZE), rectangle(*place))
    assert masks.loc["car/c", "mask_path"] == ""
    assert sorted(path.stem for path in (out / "masks").rglob("*.png")) == ["a", "b", "d"]

    rest = [column for column in IMAGES if column not in ("mask_path", "mask_value")]
    pd.testing.assert_frame_equal(after.images[rest], before.images[rest])
    pd.testing.assert_frame_equal(after.keypoints, before.keypoints)
    pd.testing.assert_frame_equal(after.pairs, before.pairs)
    record = read_provenance(out)
    assert record["step"] == "masks"
    assert set(record["inputs"]) == {*FILES, "provenance.json", "weights"}
    assert record["params"]["min_iou"] == 0.5


def test_own_masks_pass_through(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("car/a", (10, 10, 30, 30), own=(12, 12, 28, 28))
    world.add("car/b", (10, 10, 30, 30))
    tables = world.write()
    told = write_masks(OwnMasks("own"), tables, tmp_path / "out", tmp_path / "work")
    assert told == "2 images: own mask 1, whole box 1"
    for name in ("images.csv", "keypoints.csv", "pairs.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tables / name).read_bytes()
    rows = outcomes(tmp_path / "out")
    assert rows["used"].tolist() == ["own", "box"]
    assert rows["reason"].tolist() == ["", "the data set has no mask of it"]
    assert not (tmp_path / "out" / "masks").exists()


def test_no_masks(tmp_path: Path) -> None:
    tables = four_cars(tmp_path)
    told = write_masks(NoMasks("none"), tables, tmp_path / "out", tmp_path / "work")
    assert told == "4 images: whole box 4"
    assert set(read_tables(tmp_path / "out").images["mask_path"]) == {""}
    assert set(outcomes(tmp_path / "out")["used"]) == {"box"}
    # the box counts to the last pixel that it touches: 19 × 20 of 60 × 40
    assert outcomes(tmp_path / "out").loc["car/c", "area"] == pytest.approx(400 / 2400, abs=1e-4)


def test_the_sheet_shows_masks_boxes_and_where_they_come_from(tmp_path: Path) -> None:
    tables, out = four_cars(tmp_path), tmp_path / "out"
    write_masks(PARAMS, tables, out, tmp_path / "work", Painted())
    with Image.open(out / "contact_sheet.jpg") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[1] == COLUMNS * (TILE + 4) + 4
    for place, used in (((0, 0), "own"), ((0, 1), "maskrcnn"), ((0, 2), "box"), ((1, 0), "maskrcnn")):
        x, y = 4 + place[1] * (TILE + 4), 20 + 20 + place[0] * (20 + TILE + 4)
        frame = pixels[y + 1, x + 10 : x + 110].mean(axis=0)
        assert np.abs(frame - COLOURS[used]).max() < 20, place
    # car/b, the second: its red object is bright, the grey about it dimmed
    x, y, scale = 4 + TILE + 4 + 3, 40 + (TILE - 81) // 2, 122 / 60
    inside, outside = (pixels[y + int(r * scale), x + int(c * scale)] for c, r in ((20, 20), (45, 35)))
    assert np.abs(inside - CAR).max() < 20
    assert np.abs(outside - 0.35 * 90).max() < 12


def test_the_sheet_goes_from_doubtful_to_good(tmp_path: Path) -> None:
    subject = Subject("car/x", "car", tmp_path, None, 1, (0, 0, 1, 1), (1, 1))
    entries = [
        Entry(
            dataclasses.replace(subject, image_id=f"car/{i:02d}"), Outcome("own", "", None, None, i / 50, 0.1)
        )
        for i in (*range(25, 50), *range(25))
    ]
    chosen = choose_entries(entries, COLUMNS * ROWS)
    agreements = [entry.outcome.agreement for entry in chosen]
    assert len(chosen) == 24
    assert agreements == sorted(agreements)
    assert (agreements[0], agreements[-1]) == (0, 0.98)
    assert len(choose_entries(entries[:5], 24)) == 5


# --- resuming -----------------------------------------------------------------------------------------------


def test_finished_masks_are_used_again(tmp_path: Path) -> None:
    tables, out, work = four_cars(tmp_path), tmp_path / "out", tmp_path / "work"
    first = Painted()
    write_masks(PARAMS, tables, out, work, first)
    assert first.calls == 4
    before = everything(out)

    second = Painted()
    write_masks(PARAMS, tables, out, work, second)
    assert second.calls == 0
    assert everything(out) == before

    # what determines one image's mask: its pixels, its own mask, its box, its class, the threshold
    images = read_tables(tables).images.set_index("image_id")
    paint(Path(images.loc["car/b", "path"]), ((9, 11, 30, 31), CAR), ((0, 0, 2, 2), (1, 2, 3)))
    third = Painted()
    write_masks(PARAMS, tables, out, work, third)
    assert third.calls == 1
    Image.fromarray(rectangle(12, 12, 28, 29).astype(np.uint8) * np.uint8(7)).save(
        images.loc["car/a", "mask_path"]
    )
    for changed, calls in (
        ({}, 1),
        ({"classes": {"zebu": "car"}}, 1),
        ({"classes": {"zebu": "car"}, "min_iou": 0.6}, 4),
    ):
        again = Painted()
        write_masks(dataclasses.replace(PARAMS, **changed), tables, out, work, again)
        assert again.calls == calls, changed
    assert outcomes(out).loc["zebu/d", "reason"] == "no car detected"

    # another detector: everything, and nothing of the old one is kept
    other = Painted(score=0.5)
    write_masks(PARAMS, tables, out, work, other)
    assert other.calls == 4
    assert len(list((work / "found").iterdir())) == 1


def test_damaged_work_is_done_again(tmp_path: Path) -> None:
    tables, out, work = four_cars(tmp_path), tmp_path / "out", tmp_path / "work"
    write_masks(PARAMS, tables, out, work, Painted())
    before = everything(out)
    (folder,) = (work / "found").iterdir()
    (folder / "masks/car/a.png").write_bytes(b"")
    (folder / "masks/car/b.png").unlink()
    (folder / "records/car/c.json").write_text('{"content": ')
    record = folder / "records/zebu/d.json"
    text = record.read_text()
    record.write_text(text.replace('"area": ', '"area": 1', 1))
    assert record.read_text() != text
    detector = Painted()
    write_masks(PARAMS, tables, out, work, detector)
    assert detector.calls == 4
    assert everything(out) == before


# a process of its own, without torch: it starts sooner
SLOW = """
import time
from pathlib import Path
import numpy as np
from spheremap.data.masks import DetectedMasks, DetectorWeights, write_masks
from spheremap.data.masks.detections import Detections

class Slow:
    classes, identity, weights_sha256 = ["car", "dog", "airplane"], {{"model": "painted"}}, "0" * 64

    def __call__(self, image):
        time.sleep(0.05)
        mask = (image == {car}).all(axis=2)
        ys, xs = np.nonzero(mask)
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], dtype=np.float64)
        return Detections(box, np.array([0.95]), ["car"], lambda k: mask)

root = Path({root!r})
write_masks({params!r}, root / "tables", root / "out", root / "work", Slow())
"""


def test_kill_and_resume(tmp_path: Path) -> None:
    world = World(tmp_path)
    for i in range(60):
        world.add(f"car/{i:02d}", (10, 10, 30, 30), ((10, 10 + i % 5, 30, 30), CAR))
    tables = world.write()
    code = SLOW.format(car=CAR, params=PARAMS, root=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("work/found/*/records/car/*.json"))) < 5:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "out").exists()
    done = len(list(tmp_path.glob("work/found/*/records/car/[0-9][0-9].json")))
    assert 5 <= done < 60
    detector = Painted()
    write_masks(PARAMS, tables, tmp_path / "out", tmp_path / "work", detector)
    assert detector.calls == 60 - done
    resumed = everything(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    write_masks(PARAMS, tables, tmp_path / "out", tmp_path / "elsewhere", Painted())
    assert everything(tmp_path / "out") == resumed


# --- bad input ----------------------------------------------------------------------------------------------


def refuse(tmp_path: Path, params: Any, *parts: str, out: str = "out", work: str = "work") -> None:
    before = sorted(path for path in tmp_path.rglob("*") if "work" not in path.parts)
    with pytest.raises(InputError) as caught:
        write_masks(params, tmp_path / "tables", tmp_path / out, tmp_path / work, Painted())
    for part in parts:
        assert part in str(caught.value)
    assert sorted(path for path in tmp_path.rglob("*") if "work" not in path.parts) == before


def test_bad_input_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    tables = four_cars(tmp_path)
    images = read_tables(tables).images.set_index("image_id")
    refuse(tmp_path, OwnMasks("own"), "'car/c' is empty", str(images.loc["car/c", "mask_path"]), "equal to 9")
    refuse(tmp_path, PARAMS, "may not lie in the directory to write", out="tables")
    refuse(tmp_path, PARAMS, "may not lie in the directory to write", out=".")
    refuse(tmp_path, PARAMS, "work directory may not lie", work="out/work")
    picture = Path(images.loc["zebu/d", "path"])
    picture.write_bytes(picture.read_bytes()[:80])
    refuse(tmp_path, PARAMS, "cannot read the image", str(picture))
    Image.new("RGB", (3, 3)).save(picture)
    refuse(tmp_path, PARAMS, "'zebu/d' is not of the size", "60×40", "3×3")
    picture.unlink()
    refuse(tmp_path, PARAMS, str(picture), "does not exist")
    mask = Path(images.loc["car/a", "mask_path"])
    Image.new("L", (3, 3)).save(mask)
    refuse(tmp_path, PARAMS, "not of its image's size", str(mask))
    (tables / "provenance.json").unlink()
    refuse(tmp_path, PARAMS, "no provenance", str(tables))


# --- Mask R-CNN ---------------------------------------------------------------------------------------------

MODELS = ["maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn"]


@pytest.fixture(scope="module", params=[pytest.param(MODELS[0], marks=pytest.mark.slow), MODELS[1]])
def weights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Path]]:
    """Random weights of each model as torchvision would publish them."""
    torch.manual_seed(0)
    model = build_model(request.param, image_size=64, score=0.005)
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.05)  # scores that differ
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save(model.state_dict(), path)
    yield request.param, path
    path.unlink()


def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 70, 3), dtype=np.uint8)


def test_detections_are_those_of_torchvision(
    weights: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights loaded torchvision's own way into its own model, whose forward pass pastes every mask."""
    name, path = weights
    state = torch.load(path, weights_only=True)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_args, **_options: state)
    theirs = getattr(tv, name)(weights=HUB[name], min_size=64, max_size=107, box_score_thresh=0.01).eval()
    image = photograph()
    with torch.inference_mode():
        (expected,) = theirs([torch.from_numpy(image).permute(2, 0, 1) / 255])
    params = dataclasses.replace(PARAMS, model=name, weights=DetectorWeights("file", str(path)), score=0.01)
    detector = MaskRCNNDetector(params, torch.device("cpu"))
    ours = detector(image)
    assert len(ours.labels) == len(expected["labels"]) >= 5
    assert ours.labels == [CLASSES[i] for i in expected["labels"]]
    np.testing.assert_array_equal(ours.boxes, expected["boxes"])
    np.testing.assert_array_equal(ours.scores, expected["scores"])
    masks = (expected["masks"][:, 0] >= 0.5).numpy()
    assert 0 < masks.mean() < 1
    for k in range(len(masks)):
        np.testing.assert_array_equal(ours.mask(k), masks[k])
    again = detector(image)
    np.testing.assert_array_equal(again.boxes, ours.boxes)


@pytest.mark.parametrize("weights", MODELS[1:], indirect=True)
def test_command_with_weights_from_a_file(
    weights: tuple[Any, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, path = weights
    world = World(tmp_path)
    world.add("car/a", (10, 10, 30, 30), ((10, 10, 30, 30), CAR))
    world.add("fox/b", (10, 10, 30, 30), ((10, 10, 30, 30), DOG))
    tables = world.write()
    entry = {
        "source": "maskrcnn", "model": name, "weights": {"source": "file", "path": str(path)},
        "image_size": 64, "score": 0.005, "min_iou": None, "classes": {"car": "any"},
    }  # fmt: skip
    (tmp_path / "masks.json").write_text(json.dumps(entry))
    places = {
        "params": tmp_path / "masks.json",
        "tables": tables,
        "work": tmp_path / "work",
        "out": tmp_path / "out",
    }
    arguments = [
        "masks",
        "--device",
        "cpu",
        *(word for k, v in places.items() for word in (f"--{k}", str(v))),
    ]
    assert main(arguments) == 0
    assert "2 images: Mask R-CNN 2" in capsys.readouterr().out
    assert read_provenance(tmp_path / "out")["versions"].keys() >= {"torch", "torchvision"}
    rows = outcomes(tmp_path / "out")
    assert (rows["score"].astype(float) > 0.005).all()
    for row in read_tables(tmp_path / "out").images.to_dict("records"):
        mask = load_mask(Path(row["mask_path"]), row["mask_value"], SIZE)
        assert mask.mean() == pytest.approx(rows.loc[row["image_id"], "area"], abs=1e-4)


@pytest.mark.parametrize("weights", MODELS[1:], indirect=True)
def test_weights_that_cannot_be_used(weights: tuple[Any, Path], tmp_path: Path) -> None:
    name, path = weights

    def refused(spec: DetectorWeights, *parts: str, model: Any = name) -> None:
        with pytest.raises(InputError) as caught:
            MaskRCNNDetector(dataclasses.replace(PARAMS, model=model, weights=spec), torch.device("cpu"))
        for part in parts:
            assert part in str(caught.value)

    refused(DetectorWeights("file", str(tmp_path / "no.pth")), "do not exist", "no.pth")
    refused(DetectorWeights("file", str(path), "0" * 64), "wrong SHA-256", str(path))
    other = next(model for model in MODELS if model != name)
    refused(DetectorWeights("file", str(path)), "cannot use", str(path), model=other)
    for content in (b"", b"no weights", path.read_bytes()[:100000]):
        (tmp_path / "bad.pth").write_bytes(content)
        refused(DetectorWeights("file", str(tmp_path / "bad.pth")), "cannot use", "bad.pth")
        (tmp_path / "bad.safetensors").write_bytes(content)
        refused(DetectorWeights("file", str(tmp_path / "bad.safetensors")), "cannot use", "bad.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(DetectorWeights("file", str(tmp_path / "list.pth")), "cannot use", "list.pth")
    state = torch.load(path, weights_only=True)
    state["roi_heads.box_predictor.cls_score.bias"][3] = math.nan
    save_file(state, tmp_path / "nan.safetensors")
    refused(DetectorWeights("file", str(tmp_path / "nan.safetensors")), "NaN", "cls_score.bias")


def test_weights_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"
    asked = []

    def unreachable(url: str, *_args: Any, **_options: Any) -> None:
        asked.append(url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(InputError, match="no route to host") as caught:
        locate_weights("maskrcnn_resnet50_fpn_v2", DetectorWeights("hub"))
    assert name in str(caught.value)
    assert asked == [HUB["maskrcnn_resnet50_fpn_v2"].url]
    (tmp_path / "checkpoints" / name).write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"damaged[\s\S]*73cbd019"):
        locate_weights("maskrcnn_resnet50_fpn_v2", DetectorWeights("hub"))


# --- real pictures ------------------------------------------------------------------------------------------
