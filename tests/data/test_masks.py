"""Masks: which detection counts, what replaces it, what is written; Mask R-CNN with random weights."""

import dataclasses
import json
import math
import shutil
import signal
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from data_checks import assert_same, refusal, tables_of
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import detection as tv

from spheremap.cli import main
from spheremap.config.data_sets import DetectedMasks, DetectorWeights, NoMasks, OwnMasks
from spheremap.data.images import load_mask
from spheremap.data.masks import sheet, write_masks
from spheremap.data.masks.detections import COCO_CLASS, Detections, box_iou, choose, coco_classes
from spheremap.data.masks.detector import CLASSES, HUB, MaskRCNNDetector, build_model, locate_weights
from spheremap.data.masks.sheet import COLOURS, COLUMNS, TILE, Entry, choose_entries
from spheremap.data.masks.store import Outcome
from spheremap.data.subjects import Subject
from spheremap.data.tables import FILES, PROVENANCE, read_provenance, read_tables, write_tables

SIZE = (60, 40)  # width, height
BOX, FAR = (10, 10, 30, 30), (0, 0, 9, 9)
# colours that the painted detector knows, with label and score
CAR, DOG, SMALL = (200, 0, 0), (0, 200, 0), (0, 0, 200)
KNOWN = {CAR: ("car", 0.95), DOG: ("dog", 0.92), SMALL: ("car", 0.99)}
PARAMS = DetectedMasks("maskrcnn", "maskrcnn_resnet50_fpn_v2", DetectorWeights("hub"), 64, 0.9, 0.5, {})
Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2
Part = tuple[Rectangle, tuple[int, int, int]]  # painted in a colour


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def found(*rows: tuple[Rectangle, float, str], masks: Sequence[np.ndarray] | None = None) -> Detections:
    """Detections of boxes, which they fill if nothing else is said."""
    return Detections(
        boxes=np.array([box for box, _, _ in rows], dtype=np.float64).reshape(-1, 4),
        scores=np.array([score for _, score, _ in rows]),
        labels=[label for _, _, label in rows],
        mask=lambda k: rectangle(*rows[k][0]) if masks is None else masks[k],
    )


class Painted:
    """A detector that finds the rectangles painted in a colour it knows; counts its calls."""

    classes: Sequence[str] = ("car", "dog", "airplane")
    weights_sha256 = "0" * 64

    def __init__(self, **identity: Any) -> None:
        self.identity = {"model": "painted", **identity}
        self.calls = 0

    def __call__(self, image: np.ndarray) -> Detections:
        self.calls += 1
        rows = []
        for colour, (label, score) in KNOWN.items():
            ys, xs = np.nonzero((image == colour).all(axis=2))
            if len(xs):
                rows.append(((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), score, label))
        return found(*rows)


def paint(path: Path, *parts: Part) -> None:
    pixels = np.full((SIZE[1], SIZE[0], 3), 90, dtype=np.uint8)
    for (x1, y1, x2, y2), colour in parts:
        pixels[y1:y2, x1:x2] = colour
    Image.fromarray(pixels).save(path)


def save_own(path: Path, place: Rectangle) -> None:
    Image.fromarray(rectangle(*place).astype(np.uint8) * np.uint8(7)).save(path)


def write_world(
    root: Path, *pictures: tuple[str, Sequence[float], Sequence[Part], Rectangle | None], empty: str = ""
) -> Path:
    """Tables of painted pictures: id, box, parts, own mask; the mask of `empty` has no pixel of its value."""
    rows = []
    for image_id, box, parts, own in pictures:
        path, mask = (root / folder / f"{image_id}.png" for folder in ("pictures", "own"))
        for place in (path, mask):
            place.parent.mkdir(parents=True, exist_ok=True)
        paint(path, *parts)
        if own:
            save_own(mask, own)
        named = [image_id, str(path), str(mask) if own else "", 9 if image_id == empty else 7]
        rows.append([*named, image_id.split("/")[0], math.nan, *box, *SIZE, "train", image_id])
    first, last = pictures[0][0], pictures[-1][0]
    points = [[first, "0", "nose", 3.5, 4.0, 1], [first, "1", "tail", math.nan, math.nan, 0]]
    pairs = [["train", first, first], ["train", last, last]]
    write_tables(root / "tables", tables_of(rows, points, pairs), {"step": "test"})
    return root / "tables"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Three cars, of which one is found, one has its own mask only and one its box only; and a zebu."""
    return write_world(
        tmp_path,
        ("car/b", BOX, [((9, 11, 30, 31), CAR)], (0, 0, 5, 5)),
        ("car/a", BOX, [((0, 0, 9, 9), SMALL)], (12, 12, 28, 28)),
        ("car/c", (10.5, 10, 29.2, 30), [], (12, 12, 28, 28)),
        ("zebu/d", (30, 5, 50, 25), [((30, 5, 50, 25), DOG)], None),
        empty="car/c",
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write the masks of the tables into `out`, by the painted detector if nothing else is said."""

    def run(params: Any = PARAMS, detector: Any = None, out: str = "out", work: str = "work") -> str:
        return write_masks(
            params, tmp_path / "tables", tmp_path / out, tmp_path / work, detector or Painted()
        )

    return run


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


def test_box_iou_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [30, 30, 31, 31]])
    expected = [1, 50 / 150, 0, 4 / 100, 0]
    np.testing.assert_allclose(box_iou(boxes.astype(np.float64), (0, 0, 10, 10)), expected)
    assert box_iou(np.zeros((0, 4)), (0, 0, 1, 1)).shape == (0,)


@pytest.mark.parametrize(
    ("rows", "wanted", "min_iou", "counts", "iou"),
    [
        # the detection in the box, of the class
        ([(FAR, 0.99, "car"), ((11, 10, 30, 30), 0.91, "car"), (BOX, 0.95, "dog")], "car", 0.5, 1, 0.95),
        # without min_iou the highest score, wherever it is
        ([(BOX, 0.91, "car"), (FAR, 0.99, "car")], "car", None, 1, 0.0),
        ([(BOX, 0.95, "dog")], "any", 0.5, 0, 1.0),
        # equal overlap is decided by the score
        ([(BOX, 0.91, "car"), (BOX, 0.93, "car")], "car", 0.5, 1, 1.0),
    ],
)
def test_which_detection_counts(
    rows: list[Any], wanted: str, min_iou: float | None, counts: int, iou: float
) -> None:
    choice = choose(found(*rows), wanted, BOX, min_iou)
    np.testing.assert_array_equal(choice.mask, rectangle(*rows[counts][0]))
    assert (choice.reason, choice.score, choice.iou) == ("", rows[counts][1], pytest.approx(iou))


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
        ([(BOX, 0.99, "dog")], "no car detected", None),
        ([((0, 0, 12, 12), 0.99, "car")], "no detection agrees with the box (best 0.01)", 0.99),
    ],
)
def test_why_nothing_counts(rows: list[Any], reason: str, score: float | None) -> None:
    choice = choose(found(*rows), "car", BOX, 0.5)
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
    with refusal(*parts):
        coco_classes(["car"], given, ["car", "dog"])


# --- what is written ----------------------------------------------------------------------------------------


def test_detected_masks_and_their_fallbacks(tables: Path, tmp_path: Path, write: Callable[..., str]) -> None:
    assert write() == "4 images: Mask R-CNN 2, own mask 1, whole box 1"
    out, rows = tmp_path / "out", outcomes(tmp_path / "out")
    assert rows["used"].tolist() == ["own", "maskrcnn", "box", "maskrcnn"]
    assert rows["reason"].to_dict() == {
        **{"car/a": "no detection agrees with the box (best 0.00)", "car/b": ""},
        **{"car/c": "no car detected; its own mask is empty", "zebu/d": ""},
    }
    assert rows.loc["car/b", ["score", "iou"]].astype(float).tolist() == pytest.approx([0.95, 380 / 440])
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
    assert_same(after, read_tables(tables), "mask_path", "mask_value")
    record = read_provenance(out)
    assert record["step"] == "masks"
    assert set(record["inputs"]) == {*FILES, PROVENANCE, "weights"}
    assert record["params"]["min_iou"] == 0.5


def test_own_masks_pass_through(tmp_path: Path, write: Callable[..., str]) -> None:
    tables = write_world(tmp_path, ("car/a", BOX, [], (12, 12, 28, 28)), ("car/b", BOX, [], None))
    assert write(OwnMasks("own")) == "2 images: own mask 1, whole box 1"
    assert_same(read_tables(tmp_path / "out"), read_tables(tables))
    rows = outcomes(tmp_path / "out")
    assert rows["used"].tolist() == ["own", "box"]
    assert rows["reason"].tolist() == ["", "the data set has no mask of it"]
    assert not (tmp_path / "out" / "masks").exists()


@pytest.mark.usefixtures("tables")
def test_no_masks(tmp_path: Path, write: Callable[..., str]) -> None:
    assert write(NoMasks("none")) == "4 images: whole box 4"
    assert set(read_tables(tmp_path / "out").images["mask_path"]) == {""}
    assert set(outcomes(tmp_path / "out")["used"]) == {"box"}
    # the box counts to the last pixel that it touches: 19 × 20 of 60 × 40
    assert outcomes(tmp_path / "out").loc["car/c", "area"] == pytest.approx(400 / 2400, abs=1e-4)


@pytest.mark.usefixtures("tables")
def test_the_sheet_shows_masks_boxes_and_where_they_come_from(
    tmp_path: Path, write: Callable[..., str]
) -> None:
    write()
    with Image.open(tmp_path / "out/contact_sheet.jpg") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[1] == COLUMNS * (TILE + 4) + 4
    for row, column, used in ((0, 0, "own"), (0, 1, "maskrcnn"), (0, 2, "box"), (1, 0, "maskrcnn")):
        x, y = 4 + column * (TILE + 4), 20 + 20 + row * (20 + TILE + 4)
        frame = pixels[y + 1, x + 10 : x + 110].mean(axis=0)
        assert np.abs(frame - COLOURS[used]).max() < 20, (row, column)
    # car/b, the second: its red object is bright, the grey about it dimmed
    x, y, scale = 4 + TILE + 4 + 3, 40 + (TILE - 81) // 2, 122 / 60
    inside, outside = (pixels[y + int(r * scale), x + int(c * scale)] for c, r in ((20, 20), (45, 35)))
    assert np.abs(inside - CAR).max() < 20
    assert np.abs(outside - 0.35 * 90).max() < 12


def test_the_sheet_goes_from_doubtful_to_good(tmp_path: Path) -> None:
    entries = [
        Entry(
            Subject(f"car/{i:02d}", "car", tmp_path, None, 1, (0, 0, 1, 1), (1, 1)),
            Outcome("own", "", None, None, i / 50, 0.1),
        )
        for i in (*range(25, 50), *range(25))
    ]
    agreements = [entry.outcome.agreement for entry in choose_entries(entries, 24)]
    assert len(agreements) == 24
    assert agreements == sorted(agreements)
    assert (agreements[0], agreements[-1]) == (0, 0.98)
    assert len(choose_entries(entries[:5], 24)) == 5


# --- resuming -----------------------------------------------------------------------------------------------


def test_finished_masks_are_used_again(tables: Path, tmp_path: Path, write: Callable[..., str]) -> None:
    def calls(detector: Painted | None = None, **changes: Any) -> int:
        detector = detector or Painted()
        write(dataclasses.replace(PARAMS, **changes), detector)
        return detector.calls

    assert calls() == 4
    before = everything(tmp_path / "out")
    assert calls() == 0
    assert everything(tmp_path / "out") == before
    # what determines one image's mask: its pixels, its own mask, its class, the threshold
    images = read_tables(tables).images.set_index("image_id")
    paint(Path(images.loc["car/b", "path"]), ((9, 11, 30, 31), CAR), ((0, 0, 2, 2), (1, 2, 3)))
    assert calls() == 1
    save_own(Path(images.loc["car/a", "mask_path"]), (12, 12, 28, 29))
    assert calls() == 1
    assert calls(classes={"zebu": "car"}) == 1
    assert calls(classes={"zebu": "car"}, min_iou=0.6) == 4
    assert outcomes(tmp_path / "out").loc["zebu/d", "reason"] == "no car detected"
    # another detector: everything, and nothing of the old one is kept
    assert calls(Painted(score=0.5)) == 4
    assert len(list((tmp_path / "work/found").iterdir())) == 1


@pytest.mark.usefixtures("tables")
def test_damaged_work_is_done_again(tmp_path: Path, write: Callable[..., str]) -> None:
    write()
    before = everything(tmp_path / "out")
    (folder,) = (tmp_path / "work/found").iterdir()
    (folder / "masks/car/a.png").write_bytes(b"")
    (folder / "masks/car/b.png").unlink()
    (folder / "records/car/c.json").write_text('{"content": ')
    record = folder / "records/zebu/d.json"
    text = record.read_text()
    assert text.count('"area": ') == 1
    record.write_text(text.replace('"area": ', '"area": 1'))
    detector = Painted()
    write(PARAMS, detector)
    assert detector.calls == 4
    assert everything(tmp_path / "out") == before


# a process of its own, without torch, that is killed while it looks at the 21st picture
MORTAL = """
import os, signal
from pathlib import Path
import numpy as np
from spheremap.config.data_sets import DetectedMasks, DetectorWeights
from spheremap.data.masks import sheet, write_masks
from spheremap.data.masks.detections import Detections

class Mortal:
    classes, identity, weights_sha256 = ["car", "dog", "airplane"], {{"model": "painted"}}, "0" * 64
    calls = 0

    def __call__(self, image):
        self.calls += 1
        if self.calls == 21:
            os.kill(os.getpid(), signal.SIGKILL)
        mask = (image == {car}).all(axis=2)
        ys, xs = np.nonzero(mask)
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], dtype=np.float64)
        return Detections(box, np.array([0.95]), ["car"], lambda k: mask)

root = Path({root!r})
write_masks({params!r}, root / "tables", root / "out", root / "work", Mortal())
"""


def test_kill_and_resume(tmp_path: Path, write: Callable[..., str]) -> None:
    write_world(
        tmp_path, *((f"car/{i:02d}", BOX, [((10, 10 + i % 5, 30, 30), CAR)], None) for i in range(40))
    )
    code = MORTAL.format(car=CAR, params=PARAMS, root=str(tmp_path))
    child = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False)
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    done = len(list(tmp_path.glob("work/found/*/records/car/[0-9][0-9].json")))
    assert 0 < done <= 20
    detector = Painted()
    write(PARAMS, detector)
    assert detector.calls == 40 - done
    resumed = everything(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    write(work="elsewhere")
    assert everything(tmp_path / "out") == resumed


# --- bad input ----------------------------------------------------------------------------------------------


def test_bad_input_is_named_and_leaves_nothing_behind(
    tables: Path, tmp_path: Path, write: Callable[..., str]
) -> None:
    def refuse(*parts: object, **options: Any) -> None:
        before = sorted(path for path in tmp_path.rglob("*") if "work" not in path.parts)
        with refusal(*parts):
            write(**options)
        assert sorted(path for path in tmp_path.rglob("*") if "work" not in path.parts) == before

    images = read_tables(tables).images.set_index("image_id")
    empty, mask = images.loc[["car/c", "car/a"], "mask_path"]
    refuse("'car/c' is empty", empty, "equal to 9", params=OwnMasks("own"))
    for out in ("tables", "."):
        refuse("may not lie in the directory to write", out=out)
    refuse("work directory may not lie", work="out/work")
    picture = Path(images.loc["zebu/d", "path"])
    picture.write_bytes(picture.read_bytes()[:80])
    refuse("cannot read the image", picture)
    Image.new("RGB", (3, 3)).save(picture)
    refuse("'zebu/d' is not of the size", "60×40", "3×3")
    picture.unlink()
    refuse(picture, "does not exist")
    Image.new("L", (3, 3)).save(mask)
    refuse("not of its image's size", mask)
    (tables / PROVENANCE).unlink()
    refuse("no provenance", tables)


def test_a_sheet_that_cannot_hold_all_shows_the_most_doubtful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "a.png")
    monkeypatch.setattr(sheet, "LARGEST", 1000)
    entries = [
        Entry(
            Subject(f"{name}/a", name, tmp_path / "a.png", None, 1, BOX, SIZE),
            Outcome("own", "", None, None, agreement, 0.5),
        )
        for name, agreement in (("a", 0.9), ("b", 0.1), ("c", 0.8), ("d", 0.2), ("e", 0.3))
    ]
    sheet.draw_sheet(entries, tmp_path / "all.jpg")
    sheet.draw_sheet([entry for entry in entries if entry.subject.category in "bde"], tmp_path / "few.jpg")
    pages = [
        np.asarray(Image.open(tmp_path / name))[20:] for name in ("all.jpg", "few.jpg")
    ]  # but the legend
    assert pages[0].shape == pages[1].shape
    assert np.abs(pages[0].astype(int) - pages[1]).max() < 60


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
    tables = write_world(tmp_path, ("car/a", BOX, [(BOX, CAR)], None), ("fox/b", BOX, [(BOX, DOG)], None))
    entry = {
        "source": "maskrcnn", "model": name, "weights": {"source": "file", "path": str(path)},
        "image_size": 64, "score": 0.005, "min_iou": None, "classes": {"car": "any"},
    }  # fmt: skip
    params = tmp_path / "masks.json"
    params.write_text(json.dumps(entry))
    places = {"params": params, "tables": tables, "work": tmp_path / "work", "out": tmp_path / "out"}
    arguments = ["masks", "--device", "cpu", *(w for k, v in places.items() for w in (f"--{k}", str(v)))]
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

    def refused(file: Path, *parts: str, sha256: str | None = None, model: Any = name) -> None:
        spec = DetectorWeights("file", str(file), sha256)
        with refusal(file, *parts):
            MaskRCNNDetector(dataclasses.replace(PARAMS, model=model, weights=spec), torch.device("cpu"))

    refused(tmp_path / "no.pth", "do not exist")
    refused(path, "wrong SHA-256", sha256="0" * 64)
    refused(path, "cannot use", model=next(model for model in MODELS if model != name))
    for content in (b"", b"no weights", path.read_bytes()[:100000]):
        for bad in (tmp_path / "bad.pth", tmp_path / "bad.safetensors"):
            bad.write_bytes(content)
            refused(bad, "cannot use")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "cannot use")
    state = torch.load(path, weights_only=True)
    state["roi_heads.box_predictor.cls_score.bias"][3] = math.nan
    vast = {"roi_heads.box_predictor.cls_score.bias": torch.zeros(1).expand(10**12)}  # of four bytes
    torch.save(state | vast, tmp_path / "vast.pth")
    refused(tmp_path / "vast.pth", "cls_score.bias")
    save_file(state, tmp_path / "nan.safetensors")
    refused(tmp_path / "nan.safetensors", "NaN", "cls_score.bias")


def test_weights_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"
    asked = []

    def unreachable(url: str, *_args: Any, **_options: Any) -> None:
        asked.append(url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with refusal("no route to host", name):
        locate_weights("maskrcnn_resnet50_fpn_v2", DetectorWeights("hub"))
    assert asked == [HUB["maskrcnn_resnet50_fpn_v2"].url]
    (tmp_path / "checkpoints" / name).write_bytes(b"cut short")
    with refusal("damaged", "73cbd019"):
        locate_weights("maskrcnn_resnet50_fpn_v2", DetectorWeights("hub"))
