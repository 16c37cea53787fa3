"""The report page: self-contained, reproducible, and showing the numbers and places it should."""

import itertools
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spheremap.cache.reader import SCHEMA, FeatureCache
from spheremap.cli import main
from spheremap.errors import InputError, ProvenanceError
from spheremap.evaluation import EvaluateParams, evaluate, write_results
from spheremap.geometry import patch_centres, square_box
from spheremap.head import Head, load_head, save_head
from spheremap.report import ReportParams, ReportSlice, build_report, draw_strip, figures, read_match
from spheremap.report.choice import choose_pairs, choose_views
from spheremap.report.inputs import read_inputs
from spheremap.report.matches import RIGHT, WRONG, Match, _beside, draw_target
from spheremap.report.pictures import Crop
from spheremap.report.scores import Cell, tiles
from spheremap.report.sphere_colours import colours, draw_legend, draw_map, interpolate
from spheremap.tables import Tables, read_tables, write_tables

GRID, DIM = (4, 5), 8
CATEGORIES = ["cat & <b>dog</b>", "plain"]  # the first must be escaped
EVALUATE = EvaluateParams(
    split="test", sphere_weight=0.2, alphas=(0.05, 0.1, 0.01), kap_labels="centre", viewpoint_bins=8, seed=3
)
SLICE = ReportSlice(dataset="toy", report=ReportParams(pairs=3, maps=2, seed=0), evaluate=EVALUATE)
VOID = {"meta", "link", "img"}


class Project:
    """A small data set with features, head and results, in one folder."""

    def __init__(self, folder: Path, *, azimuths: list[float]) -> None:
        self.folder = folder
        self.tables, self.results = folder / "canonical", folder / "results"
        self.cache, self.head = folder / "images.h5", folder / "head.safetensors"
        rng = np.random.default_rng(0)
        tables = _make_tables(folder, rng, azimuths)
        write_tables(self.tables, tables, {"step": "test"})
        _write_cache(self.cache, tables, rng)
        save_head(self.head, Head.initialise(DIM, CATEGORIES, seed=0), {})
        with FeatureCache.open([self.cache]) as cache:
            scores = evaluate(cache, tables, load_head(self.head), EVALUATE, dataset="toy")
        write_results(self.results, scores)
        training = self.results / "training"
        training.mkdir()
        (training / "losses.csv").write_text(
            "step,epoch,total,reconstruction,distance,orientation,viewpoint\n"
            "10,1,1.5,0.9,0.5,1.0,0.4\n20,1,1.2,0.8,0.4,0.7,0.2\n"
        )
        (training / "health.csv").write_text(
            "step,resultant_length,coverage,orientation_kept\n0,0.99,0.1,0.5\n20,0.6,0.5,\n"
        )
        (training / "validation.csv").write_text("step,pck_point\n0,30.0\n10,25.5\n20,24.0\n")

    def build(self, out: Path, params: ReportSlice = SLICE) -> str:
        build_report(
            out, params, tables=self.tables, images=[self.cache], head=self.head, results=self.results
        )
        return out.read_text(encoding="utf-8")

    def arguments(self, params: Path, out: Path) -> list[str]:
        return [
            "report", "--params", str(params), "--tables", str(self.tables), "--images", str(self.cache),
            "--head", str(self.head), "--results", str(self.results), "--out", str(out),
        ]  # fmt: skip


def _make_tables(folder: Path, rng: np.random.Generator, azimuths: list[float]) -> Tables:
    images: list[dict[str, Any]] = []
    keypoints: list[dict[str, Any]] = []
    pairs: list[dict[str, str]] = []
    for c, category in enumerate(CATEGORIES):
        ids = [f"{category}/{i}" for i in range(len(azimuths))]
        for i, (image_id, azimuth) in enumerate(zip(ids, azimuths, strict=True)):
            width, height = (50, 40) if i % 2 else (40, 60)
            path, mask = folder / f"{c}-{i}.png", folder / f"{c}-{i}-mask.png"
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
            inside = np.zeros((height, width), dtype=np.uint8)
            inside[10:30, 10:30] = 7
            Image.fromarray(inside).save(mask)
            images.append(
                {
                    "image_id": image_id, "path": str(path), "mask_path": str(mask) if i else "",
                    "mask_value": 7, "category": category, "azimuth": azimuth,
                    "x1": 10.0, "y1": 10.0, "x2": 30.0, "y2": 30.0,
                    "width": width, "height": height, "split": "test", "instance": image_id,
                }
            )  # fmt: skip
            keypoints += [
                {
                    "image_id": image_id, "keypoint_id": str(k), "name": f"part_{k}",
                    "x": rng.uniform(10, 30), "y": rng.uniform(10, 30), "visible": 1,
                }
                for k in range(12)
            ]  # fmt: skip
        pairs += [{"split": "test", "source": a, "target": b} for a in ids for b in ids if a != b]
    return Tables(pd.DataFrame(images), pd.DataFrame(keypoints), pd.DataFrame(pairs))


def _write_cache(path: Path, tables: Tables, rng: np.random.Generator) -> None:
    ids = [name.encode() for name in tables.images["image_id"]]
    sizes = tables.images[["width", "height"]].to_numpy()
    patches = GRID[0] * GRID[1]
    arrays = {
        "tokens": rng.normal(size=(len(ids), patches, DIM)).astype(np.float16),
        "masks": np.ones((len(ids), patches), dtype=np.uint8),
        "boxes": np.stack([square_box(int(width), int(height)) for width, height in sizes]),
        "image_id": np.array(ids),
        "view": np.zeros(len(ids), dtype=np.int32),
    }
    entry = {"model": "vit_test", "block": 3, "facet": "token"}
    record = json.dumps({"params": {"features": {"backbone": "tiny"}, "backbone": entry}})
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), fletcher32=True)
        file.attrs.update(
            schema=SCHEMA, kind="images", grid=GRID, shard=(0, 1), provenance=record, complete=True
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"), azimuths=[0.0, 90.0, 180.0, 315.0])


@pytest.fixture(scope="module")
def html(project: Project) -> str:
    return project.build(project.folder / "report.html")


class Reader(HTMLParser):
    """Collects what the tests ask about, and insists that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.data_values: list[tuple[float, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] == "data":
            self.data_values.append((float(self.elements[-1][1]["value"] or "nan"), data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_needs_nothing_outside_itself(html: str) -> None:
    page = Reader(html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not (name.startswith("on") and tag != "svg"), "no scripts"
            if name in ("src", "href", "xlink:href", "srcset", "poster", "action"):
                assert value is not None
                assert value.startswith("data:") or value[1:] in ids, f"<{tag} {name}={value[:60]!r}>"
    assert page.all("script") == []
    assert not re.search(r"https?://|//cdn|@import|url\((?!#)", html)
    for target in re.findall(r"url\(#([^)]+)\)", html):
        assert target in ids


def test_pictures_have_alternative_texts_and_headings_are_nested(html: str) -> None:
    page = Reader(html)
    pictures = page.all("img")
    # legend, 2 maps in 2 categories, 3 panels for each of 3 pairs
    assert len(pictures) == 1 + 2 * 2 + 3 * 3
    assert all(len(picture["alt"] or "") > 10 for picture in pictures)
    assert len(page.all("svg")) == 2 + 2 + 3
    assert len([1 for _, attributes in page.elements if attributes.get("role") == "img"]) == 7
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str(page.all("meta"))
    assert "prefers-color-scheme: dark" in html


def test_the_headline_table_is_metrics_json(project: Project, html: str) -> None:
    metrics = json.loads((project.results / "metrics.json").read_text())
    groups = ("pck_point", "pck_image", "pck_category", "kap")
    expected = [
        metrics[row][f"{group}@{alpha}"]
        for row in ("features", "sphere", "fused", "chance")
        for group in groups
        for alpha in ("0.10", "0.05", "0.01")
    ]
    shown = Reader(html).data_values[: len(expected)]
    assert [value for value, _ in shown] == expected
    assert [text for _, text in shown] == [f"{value:.1f}" for value in expected]
    assert f"<dt>points</dt><dd>{metrics['n_points']:,}</dd>" in html


def test_every_best_cell_is_marked(project: Project, html: str) -> None:
    metrics = json.loads((project.results / "metrics.json").read_text())
    rows = ("features", "sphere", "fused", "chance")
    table = html[html.index("<table>") : html.index("</table>")]
    cells = re.findall(r'<td class="score( best)?"><data value="([^"]+)">', table)
    groups = ("pck_point", "pck_image", "pck_category", "kap")
    keys = [f"{group}@{alpha}" for group in groups for alpha in ("0.10", "0.05", "0.01")]
    assert len(cells) == len(rows) * len(keys)
    for i, (mark, value) in enumerate(cells):
        best = max(metrics[row][keys[i % len(keys)]] for row in rows)
        assert bool(mark) == (float(value) == best)


def test_equal_inputs_give_equal_bytes(project: Project, html: str, tmp_path: Path) -> None:
    assert project.build(tmp_path / "again.html") == html
    other = ReportSlice("toy", ReportParams(pairs=3, maps=2, seed=1), EVALUATE)
    assert project.build(tmp_path / "other.html", other) != html


def test_texts_are_escaped_and_the_backbone_is_named(html: str) -> None:
    assert "<b>dog</b>" not in html
    assert "cat &amp; &lt;b&gt;dog&lt;/b&gt;" in html
    assert "tiny (vit_test, block 3, facet token)" in html


def test_a_data_set_without_viewpoints_and_validation(tmp_path: Path) -> None:
    project = Project(tmp_path, azimuths=[float("nan")] * 3)
    (project.results / "training" / "validation.csv").write_text("step,pck_point\n")
    html = project.build(tmp_path / "report.html", ReportSlice("toy", ReportParams(2, 1, 0), EVALUATE))
    page = Reader(html)
    assert 'id="viewpoint"' not in html
    assert "#viewpoint" not in html
    assert "unknown azimuth gap" in html
    assert len(page.all("svg")) == 2 + 2  # by category; losses and health
    html = project.build(tmp_path / "report.html", ReportSlice("toy", ReportParams(0, 0, 0), EVALUATE))
    assert Reader(html).all("img") == []


def test_the_command_writes_the_page_or_nothing(
    project: Project, html: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    params, out = tmp_path / "report.json", tmp_path / "page.html"
    content = {
        "dataset": "toy",
        "report": {"pairs": 3, "maps": 2, "seed": 0},
        "evaluate": {**vars(EVALUATE), "alphas": list(EVALUATE.alphas)},
    }
    params.write_text(json.dumps(content))
    assert main(project.arguments(params, out)) == 0
    assert out.read_text(encoding="utf-8") == html

    out.unlink()
    params.write_text(json.dumps(content | {"dataset": "another"}))
    assert main(project.arguments(params, out)) == 1
    assert "made with other settings" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["pairs", "maps", "seed"])
def test_negative_parameters_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"report.{name}"):
        ReportParams(**{"pairs": 1, "maps": 1, "seed": 1, name: -1})


def _replace(pattern: str, text: str) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(pattern.encode(), text.encode(), content)


def _write(content: bytes) -> Callable[[bytes], bytes]:
    return lambda _: content


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("metrics.json", _write(b"[1]"), "not the metrics"),
        ("metrics.json", _replace("kap@0.05", "kap@0.5"), "are missing"),
        ("by_category.csv", None, "cannot read"),
        ("by_category.csv", _replace("fused,plain", "fused,odd"), "incomplete"),
        ("by_azimuth_gap.csv", _write(b"row,gap\nfused,1\n"), "lacks columns"),
        ("by_azimuth_gap.csv", _replace(r"fused,2.*\n", ""), "incomplete"),
        ("predictions.csv.gz", lambda content: content[:-40], "not a table|cannot read"),
        ("predictions.csv.gz", _write(b"no archive"), "not a table|cannot read"),
        ("training/losses.csv", _write(b"step,total\n1,high\n"), "malformed"),
        ("training/health.csv", _write(b""), "not a table"),
    ],
)
def test_damaged_results_end_with_a_message(
    tmp_path: Path, project: Project, file: str, change: Callable[[bytes], bytes] | None, message: str
) -> None:
    copy = tmp_path / "results"
    shutil.copytree(project.results, copy)
    assert read_inputs(copy, "toy", EVALUATE).alphas == ["0.10", "0.05", "0.01"]
    if change is None:
        (copy / file).unlink()
    else:
        (copy / file).write_bytes(change((copy / file).read_bytes()))
    with pytest.raises(InputError, match=message):
        read_inputs(copy, "toy", EVALUATE)


def test_results_of_other_parameters_are_refused(project: Project) -> None:
    with pytest.raises(ProvenanceError, match="seed = 4"):
        read_inputs(project.results, "toy", EvaluateParams(**{**vars(EVALUATE), "seed": 4}))


def test_tiles_pool_the_far_gaps_by_points(project: Project) -> None:
    inputs = read_inputs(project.results, "toy", EVALUATE)
    frame = inputs.by_gap
    far = tiles(inputs, 2, "far")[1]
    for row, value in (("features", far.before), ("fused", far.after)):
        own = frame[(frame["row"] == row) & (frame["gap"] >= 2)]
        assert value == pytest.approx((own["pck_point@0.10"] * own["n_points"]).sum() / own["n_points"].sum())
    assert far.gain.value == pytest.approx(far.after - far.before)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(12.345), "12.3"),
        (Cell(float("nan")), "–"),
        (Cell(-1.26, "gain"), "−1.3"),
        (Cell(1.0, "gain"), "+1.0"),
        (Cell(12345.0, "count"), "12,345"),
    ],
)
def test_cells_as_shown(cell: Cell, text: str) -> None:
    assert cell.text == text


def test_views_are_spread_around_the_object() -> None:
    images = pd.DataFrame(
        {"image_id": list("abcdef"), "azimuth": [350.0, 80.0, 95.0, 200.0, 280.0, float("nan")]}
    )
    assert choose_views(images, 4, seed=0) == ["c", "d", "e", "a"]
    assert choose_views(images, 4, seed=0) == choose_views(images.iloc[::-1], 4, seed=0)
    everything = choose_views(images, 10, seed=0)
    assert sorted(everything) == list("abcdef")  # each once
    assert everything[-1] == "f"  # unknown viewpoints last
    equal = pd.DataFrame({"image_id": list("abcdefgh"), "azimuth": [0.0] * 8})
    assert len({tuple(choose_views(equal, 2, seed)) for seed in range(8)}) > 1
    assert choose_views(images, 0, seed=0) == []


def _pairs_table() -> pd.DataFrame:
    cells = [(category, gap, i) for category in "xy" for gap in range(5) for i in range(4)]
    return pd.DataFrame(
        {
            "source": [f"{category}/{gap}-{i}" for category, gap, i in cells],
            "target": "t",
            "category": [category for category, _, _ in cells],
            "gap": [gap for _, gap, _ in cells],
        }
    )


def test_pairs_are_spread_over_gaps_and_categories() -> None:
    pairs = _pairs_table()
    chosen = choose_pairs(pairs, 10, seed=0)
    assert chosen["gap"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert chosen["category"].value_counts().to_dict() == {"x": 5, "y": 5}
    pd.testing.assert_frame_equal(chosen, choose_pairs(pairs.iloc[::-1], 10, seed=0))
    assert not chosen.equals(choose_pairs(pairs, 10, seed=1))
    assert len(choose_pairs(pairs, 0, seed=0)) == 0
    assert len(choose_pairs(pairs, 1, seed=0)) == 1
    assert len(choose_pairs(pairs, 99, seed=0).drop_duplicates()) == 40


def test_a_gap_that_runs_out_is_replaced_by_its_neighbour() -> None:
    pairs = pd.DataFrame({"source": list("abcd"), "target": "t", "category": "x", "gap": [0, 1, 1, 4]})
    assert choose_pairs(pairs, 4, seed=0)["gap"].tolist() == [0, 1, 1, 4]


@given(
    points=st.lists(st.tuples(st.floats(-20, 120), st.floats(-20, 90)), min_size=1, max_size=5),
    margin=st.floats(0, 0.5),
)
def test_a_crop_holds_its_points_without_needless_padding(
    points: list[tuple[float, float]], margin: float
) -> None:
    width, height = 100, 70
    xy = np.array(points)
    crop = Crop.around(xy, (width, height), margin)
    placed = crop.place(xy, 1)
    assert (placed >= -1e-9).all()
    assert (placed <= 1 + 1e-9).all()
    inside = (xy >= 0).all() and (xy <= (width, height)).all()
    if inside:
        assert crop.side <= width
        assert crop.x0 >= 0
        assert crop.x0 + crop.side <= width
        if crop.side <= height:
            assert crop.y0 >= 0
            assert crop.y0 + crop.side <= height


def test_crop_maps_pixels_both_ways() -> None:
    crop = Crop(-3, 5, 20)
    centres = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5), axis=-1)
    np.testing.assert_allclose(crop.place(crop.grid(40).reshape(-1, 2), 40), centres.reshape(-1, 2))
    photograph = np.zeros((30, 30, 3), dtype=np.uint8)
    photograph[10, 4] = 255
    cut = np.asarray(crop.cut(Image.fromarray(photograph), 20))
    assert np.argwhere(cut[..., 0] == 255).tolist() == [[5, 7]]  # one output pixel per original pixel


def test_colours_are_the_three_coordinates() -> None:
    points = np.array([[1, 0, 0], [0, -1, 0], [0.6, 0, -0.8]])
    np.testing.assert_allclose(colours(points), [[1, 0.5, 0.5], [0.5, 0, 0.5], [0.8, 0.5, 0.1]], atol=1e-12)


def test_interpolation_is_exact_at_patch_centres_and_constant_on_constants() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(GRID[0] * GRID[1], 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    box = np.array([-10.0, 4.0, 40.0, 44.0])
    centres = patch_centres(box, GRID)
    np.testing.assert_allclose(interpolate(points, GRID, box, centres[None])[0], points, atol=1e-12)

    same = np.tile(points[0], (len(points), 1))
    anywhere = rng.uniform(-30, 70, size=(6, 7, 2))
    expected = np.broadcast_to(points[0], (6, 7, 3))
    np.testing.assert_allclose(interpolate(same, GRID, box, anywhere), expected, atol=1e-12)


def test_the_mask_only_fades_the_background() -> None:
    rng = np.random.default_rng(2)
    photograph = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    points = np.tile([1.0, 0.0, 0.0], (GRID[0] * GRID[1], 1))
    mask = np.zeros((32, 32), dtype=bool)
    mask[:, :16] = True
    box, crop = square_box(32, 32), Crop(0, 0, 32)
    drawn = np.asarray(draw_map(photograph, mask, points, GRID, box, crop, 32)).astype(int)
    whole = np.asarray(draw_map(photograph, None, points, GRID, box, crop, 32)).astype(int)
    np.testing.assert_array_equal(drawn[:, :15], whole[:, :15])
    assert (np.ptp(drawn[:, 17:], axis=2) == 0).all()  # grey
    assert (whole[..., 0] - whole[..., 1] > 80).all()  # reddish


def test_the_legend_shows_opposite_sides() -> None:
    legend = np.asarray(draw_legend(41)).astype(int)
    height, width, _ = legend.shape
    assert height == 41
    assert legend[0, 0, 3] == 0  # transparent around
    left, right = legend[20, 20, :3], legend[20, width - 21, :3]
    np.testing.assert_allclose(left, [128, 128, 255], atol=4)  # +z
    np.testing.assert_allclose(right, [128, 128, 0], atol=4)  # -z


def test_a_match_is_read_with_what_is_right(project: Project) -> None:
    tables = read_tables(project.tables)
    predictions = read_inputs(project.results, "toy", EVALUATE).predictions
    source, target = tables.pairs[["source", "target"]].iloc[3]
    match = read_match(tables, predictions, source, target, alpha=0.1)
    own = tables.keypoints.set_index(["image_id", "keypoint_id"])
    for i in range(12):
        in_source, in_target = (
            own.loc[(image, str(i)), ["x", "y"]].astype(float) for image in (source, target)
        )
        np.testing.assert_allclose(match.source_xy[i], in_source)
        np.testing.assert_allclose(match.target_xy[i], in_target, atol=1e-3)
    for row in ("features", "fused"):
        distance = np.linalg.norm(match.predicted[row] - match.target_xy, axis=1)
        np.testing.assert_array_equal(match.right[row], distance < 0.1 * 20)  # the boxes are 20 pixels wide
    assert match.names[2] == "part_2"
    assert draw_strip(match, size=120).size == (3 * 120 + 2 * 4, 132)
    with pytest.raises(InputError, match="do not belong together"):
        read_match(tables, predictions.iloc[5:], source, target, alpha=0.1)
    with pytest.raises(InputError, match="do not belong together"):
        read_match(tables, predictions.iloc[:0], source, target, alpha=0.1)


def test_right_and_wrong_are_drawn_where_they_are() -> None:
    grey = Image.new("RGB", (100, 100), (128, 128, 128))
    box = np.array([0.0, 0.0, 100.0, 100.0])
    match = Match(
        source=grey, target=grey, source_box=box, target_box=box, names=["a", "b"],
        source_xy=np.array([[10.0, 10.0], [20.0, 20.0]]), target_xy=np.array([[25.0, 25.0], [75.0, 75.0]]),
        predicted={"fused": np.array([[25.0, 25.0], [75.0, 20.0]])}, right={"fused": np.array([True, False])},
    )  # fmt: skip
    drawn = np.asarray(draw_target(match, "fused", 400)).astype(int)

    def near(x: int, y: int, colour: tuple[int, int, int]) -> bool:
        window = drawn[y - 8 : y + 9, x - 8 : x + 9].reshape(-1, 3)
        return bool((np.abs(window - colour).max(axis=1) < 40).any())

    assert near(100, 100, RIGHT)
    assert not near(100, 100, WRONG)
    assert near(300, 80, WRONG)
    assert near(300, 200, WRONG)  # half way along the line to the truth
    assert near(300, 300, WRONG)  # the ring
    assert not near(300, 80, RIGHT)
    assert (drawn[200, 100] == 128).all()


def test_predictions_of_one_patch_stand_side_by_side() -> None:
    xy = np.array([[5.0, 5.0], [9.0, 5.0], [5.0, 5.0], [5.0, 8.0]])
    np.testing.assert_allclose(_beside(xy, 4.0), [[3, 5], [9, 5], [7, 5], [5, 8]])


def test_charts_follow_the_theme_and_leave_settings_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    rows = ["features", "fused"]
    frame = pd.DataFrame({"row": rows * 2, "gap": [0, 0, 1, 1], "pck_point@0.10": [1.0, 2, 3, 4]})
    svg = figures.by_gap(frame, "pck_point@0.10", rows, bins=8)
    assert dict(mpl.rcParams) == before
    assert svg == figures.by_gap(frame, "pck_point@0.10", rows, bins=8)
    assert "var(--features)" in svg
    assert "var(--fused)" in svg
    assert not any(number in svg for number in figures.THEME.values())
    assert "45°" in svg
    assert "http" not in svg
