"""The report page: self-contained, reproducible, and showing the numbers and places it should."""

import base64
import dataclasses
import hashlib
import itertools
import json
import re
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from caches import write_cache
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from world import PARAMS as USUAL
from world import entries, image_row, keypoint_row, make_tables, methods

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import sha256_file
from spheremap.base.provenance import digest
from spheremap.cli import main
from spheremap.config import Evaluate as EvaluateParams
from spheremap.config import Report as ReportParams
from spheremap.config import ReportSlice
from spheremap.config.slices import read_params
from spheremap.data.tables import Tables, read_tables, write_tables
from spheremap.features.cache.reader import FeatureCache
from spheremap.features.cache.space import feature_space
from spheremap.features.geometry import patch_centres, patch_of, square_box
from spheremap.metrics.evaluate import evaluate
from spheremap.metrics.results import write_results
from spheremap.metrics.score_table import leaves, read_scores
from spheremap.model.head import Head, load_head, save_head, sphere_points
from spheremap.report import figures
from spheremap.report.build import _remarks, _training_charts, build_report
from spheremap.report.choice import choose_extremes, choose_methods, choose_pairs, choose_views
from spheremap.report.confusion import Confusion, confusions
from spheremap.report.explorer import build_explorer, mixtures, pack
from spheremap.report.gains import gain_intervals
from spheremap.report.gallery import matched_pairs
from spheremap.report.inputs import Inputs, check_results, check_tables, read_inputs
from spheremap.report.keypoint_spheres import KeypointSphere, keypoint_spheres, mirrored, side_of
from spheremap.report.marks import apart
from spheremap.report.matches import RIGHT, WRONG, Match, draw_target, read_match
from spheremap.report.names import readable
from spheremap.report.pictures import Crop
from spheremap.report.scores import (
    Cell,
    by_category,
    by_gap,
    by_likes,
    gains,
    headline,
    nearer_to_mirror,
    tiles,
)
from spheremap.report.sphere_colours import colours, draw_legend, draw_map, interpolate
from spheremap.report.sphere_figures import draw_sphere

GRID, DIM = (4, 5), 8
CATEGORIES = ["cat & <b>dog</b>", "plain"]  # the first must be escaped
EVALUATE = replace(USUAL, alphas=(0.05, 0.1, 0.01), confidence=0.95, seed=3)
COMPARED = ("features", "fused")
REPORT = {"compare": COMPARED, "pairs": 3, "extremes": 1, "maps": 2, "explorer_mb": 0.01, "seed": 0}
SLICE = ReportSlice(dataset="toy", report=ReportParams(**REPORT), evaluate=EVALUATE, methods=entries())
BARE = replace(SLICE, report=ReportParams(COMPARED, 0, 0, 0, 1, 0))  # no pictures
VOID = {"meta", "link", "img", "br", "source", "input"}
ALPHAS = ("0.10", "0.05", "0.01")
ROWS = ("features", "sphere", "fused")
KEYS = [
    f"{metric}@{alpha}" for metric in ("pck_point", "pck_image", "pck_category", "kap") for alpha in ALPHAS
]


class Project:
    """A small data set with features, head and results, in one folder."""

    def __init__(self, folder: Path, *, azimuths: list[float], params: EvaluateParams = EVALUATE) -> None:
        self.folder = folder
        self.tables, self.results = folder / "canonical", folder / "results"
        self.cache, self.head = folder / "images.h5", folder / "head.safetensors"
        rng = np.random.default_rng(0)
        tables = _make_tables(folder, rng, azimuths)
        write_tables(self.tables, tables, {"step": "test"})
        _write_cache(self.cache, tables, rng)
        with FeatureCache.open([self.cache]) as cache:
            trained = {"params": {"train": {"seed": 41}}, "best_step": 20}
            trained["inputs"] = {"features": digest(feature_space(cache.provenance))}
            save_head(self.head, Head.initialise(DIM, CATEGORIES, seed=0), trained)
            made = methods(*params.methods, params.sweep.method)
            scores = evaluate(cache, tables, load_head(self.head), params, dataset="toy", methods=made)
        write_results(self.results, scores, {"inputs": {"head": sha256_file(self.head)}})
        training = self.results / "training"
        training.mkdir()
        (training / "losses.csv").write_text(
            "step,epoch,total,reconstruction,distance,orientation,viewpoint\n"
            "10,1,1.5,0.9,0.5,1.0,0.4\n20,1,1.2,0.8,0.4,0.7,0.2\n"
        )
        (training / "diagnostics.csv").write_text(
            "step,resultant_length,coverage,orientation_kept,upright,chirality\n0,0.99,0.1,0.5,0.3,-0.2\n20,0.6,0.5,,0.9,0.9\n"
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
    pairs: list[tuple[str, str]] = []
    for c, category in enumerate(CATEGORIES):
        ids = [f"{category}/{i}" for i in range(len(azimuths))]
        for i, (image_id, azimuth) in enumerate(zip(ids, azimuths, strict=True)):
            width, height = (50, 40) if i % 2 else (40, 60)
            path, mask = folder / f"{c}-{i}.png", folder / f"{c}-{i}-mask.png"
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
            inside = np.zeros((height, width), dtype=np.uint8)
            inside[10:30, 10:30] = 7
            Image.fromarray(inside).save(mask)
            row = image_row(image_id, width, height, (10.0, 10.0, 30.0, 30.0), azimuth)
            row |= {"path": str(path), "mask_path": str(mask) if i else "", "mask_value": 7}
            images.append(row | {"category": category})
            keypoints += [
                keypoint_row(image_id, str(k), rng.uniform(10, 30, 2)) | {"name": f"part_{k}"}
                for k in range(12)
            ]
        pairs += itertools.permutations(ids, 2)
    return make_tables(images, keypoints, pairs)


def _write_cache(path: Path, tables: Tables, rng: np.random.Generator) -> None:
    sizes = tables.images[["width", "height"]].to_numpy()
    tokens = rng.normal(size=(len(sizes), GRID[0] * GRID[1], DIM)).astype(np.float16)
    boxes = np.stack([square_box(int(width), int(height)) for width, height in sizes])
    entry = {"model": "vit_test", "block": 3, "norm": False, "facet": "token"}
    made = {"params": {"features": {"backbone": "tiny"}, "backbone": entry}, "inputs": {"weights": "0"}}
    write_cache(path, tokens, list(tables.images["image_id"]), boxes, GRID, made)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"), azimuths=[0.0, 90.0, 180.0, 315.0])


@pytest.fixture(scope="module")
def html(project: Project) -> str:
    return project.build(project.folder / "report.html")


@pytest.fixture(scope="module")
def tables(project: Project) -> Tables:
    return read_tables(project.tables)


@pytest.fixture(scope="module")
def inputs(project: Project) -> Inputs:
    return read_inputs(project.results, "toy", EVALUATE, COMPARED)


def svg_of(uri: str) -> str:
    return base64.b64decode(uri.partition(",")[2]).decode()


def texts_of(drawing: figures.Drawing) -> list[str]:
    """What is written in a chart; the same in both themes."""
    light, dark = svg_of(drawing.light), svg_of(drawing.dark)
    assert light != dark
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", light)
    assert texts == re.findall(r"<text[^>]*>([^<]*)</text>", dark)
    return texts


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
            assert not (name.startswith("on") and tag != "svg"), "no scripts in attributes"
            if name in ("src", "href", "xlink:href", "srcset", "poster", "action"):
                assert value is not None
                assert value.startswith("data:") or value[1:] in ids, f"<{tag} {name}={value[:60]!r}>"
    data = [{"type": "application/json", "id": name} for name in ("gain-intervals", "explorer-data")]
    assert page.all("script") == [data[0], {}, data[1], {}]
    assert not re.search(r"https?://|//cdn|@import|url\((?!#)", html)
    # the page itself forbids requests, and all scripts but its own
    scripts = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}'"
    )
    for target in re.findall(r"url\(#([^)]+)\)", html):
        assert target in ids


def test_pictures_have_alternative_texts_and_headings_are_nested(html: str) -> None:
    page = Reader(html)
    pictures = page.all("img")
    # legend, 2 maps in 2 categories, 3 panels for each of 3 pairs, the best and the worst, 5 of the explorer;
    # charts by gap and category, of training, and confusion in 2 categories
    assert len(pictures) == 1 + 2 * 2 + 3 * 5 + 5 + (2 + 2 + 4 + 2)
    named = [picture for picture in pictures if picture["src"] != "data:,"]
    assert len(named) == len(pictures) - 5  # the script fills those of the explorer
    assert all(len(picture["alt"] or "") > 10 for picture in named)
    spheres = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert len(spheres) == 2
    assert all(len(sphere["aria-label"] or "") > 10 for sphere in spheres)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str(page.all("meta"))
    assert "prefers-color-scheme: dark" in html


def test_the_headline_table_is_scores_csv(project: Project, html: str) -> None:
    metrics = leaves(read_scores(project.results / "scores.csv"))
    facts = json.loads((project.results / "metrics.json").read_text())
    expected = [metrics[row][key] for row in (*ROWS, "chance") for key in KEYS]
    shown = Reader(html).data_values[: len(expected)]
    assert shown == [(value, f"{value:.1f}") for value in expected]
    assert f"<dt>points</dt><dd>{facts['n_points']:,}</dd>" in html
    assert "<dt>training seed</dt><dd>41</dd>" in html


def test_texts_are_escaped_and_the_backbone_is_named(html: str) -> None:
    assert "<b>dog</b>" not in html
    assert "cat &amp; &lt;b&gt;dog&lt;/b&gt;" in html
    assert "tiny (vit_test, block 3, facet token)" in html


def test_methods_stand_in_their_order_and_are_explained(html: str, tmp_path: Path) -> None:
    listed = ("sphere", "fused", "fused_mutual", "fused_subpatch", "fused_viewpoint", "chance")
    params = replace(EVALUATE, methods=listed, baseline="sphere")
    compared = ("fused", "fused_mutual")
    further = Project(tmp_path, azimuths=[0.0, 90.0, 180.0], params=params)
    report = ReportParams(**REPORT | {"compare": compared})
    page = further.build(tmp_path / "report.html", replace(SLICE, evaluate=params, report=report))
    tables = re.findall("<table>.*?</table>", page, re.DOTALL)
    assert len(tables) == 5  # scores, gains, by gap, and two by category
    for table in tables:
        assert re.findall(r'<tr data-method="(\w+)">', table) == list(listed)
    for row in listed:
        assert f"<b>{row}</b>:" in page
    inputs = read_inputs(further.results, "toy", params, compared)
    for drawn in (
        figures.by_gap(inputs.by_gap, "pck_point@0.10", listed, bins=8),
        figures.by_category(inputs.by_category, "pck_point@0.10", listed),
    ):
        assert re.findall(r'<g id="method-(\w+)">', svg_of(drawn.light)) == list(listed)
    assert "of fused, radius 1.0, penalty 0.5" in page
    assert "<b>fused_mutual</b>" not in html


def test_a_data_set_without_viewpoints_and_validation(tmp_path: Path) -> None:
    project = Project(tmp_path, azimuths=[float("nan")] * 3)
    training = project.results / "training"
    (training / "validation.csv").write_text("step,pck_point\n")
    (training / "diagnostics.csv").write_text(
        "step,resultant_length,coverage,orientation_kept,upright,chirality\n0,1,0.1,0.5,0.4,\n"
    )
    html = project.build(
        tmp_path / "report.html", replace(SLICE, report=ReportParams(COMPARED, 2, 0, 1, 0, 0))
    )
    page = Reader(html)
    assert 'id="viewpoint"' not in html
    assert "#viewpoint" not in html
    assert "unknown azimuth gap" in html
    charts = [picture for picture in page.all("img") if str(picture["src"]).startswith("data:image/svg")]
    assert len(charts) == 2 + 2 + 2  # by category; losses and diagnostics; confusion
    assert page.all("script") == [{"type": "application/json", "id": "gain-intervals"}, {}]
    assert 'id="explorer' not in html
    assert "Best and worst" not in html


def test_remarks_on_the_data_stand_near_the_top(project: Project, html: str, tmp_path: Path) -> None:
    assert "Remarks on the data" not in html  # images for tests alone need neither azimuths nor masks
    tables = read_tables(project.tables)
    images = tables.images.assign(split="train+test", azimuth=float("nan"), mask_path="")
    poor = replace(tables, images=images)
    write_tables(tmp_path / "tables", poor, {"step": "masks", "params": {"source": "own"}})
    files = {"images": [project.cache], "head": project.head, "results": project.results}
    build_report(tmp_path / "report.html", BARE, tables=tmp_path / "tables", **files)
    page = (tmp_path / "report.html").read_text()
    assert len(Reader(page).all("img")) == 2 + 2 + 4 + 2  # charts alone
    box = page[page.index('<aside class="remarks"') : page.index("</aside>")]
    shown = re.findall("<li>(.*)</li>", box)
    assert shown == [
        "0 of 8 training images have an azimuth: left and right cannot be told apart",
        "0 of 8 training images have a mask: the whole box counts as the object",
    ]
    assert (
        _remarks(poor, {"step": "masks", "params": {"source": "none"}}) == shown[:1]
    )  # without masks by choice
    assert page.index("</aside>") < page.index('id="scores"')


def test_the_command_writes_the_same_bytes_or_nothing(
    project: Project, html: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    params, out = tmp_path / "report.json", tmp_path / "page.html"
    content = {"dataset": "toy", "report": REPORT, "evaluate": dataclasses.asdict(EVALUATE)}
    content |= {"methods": entries()}
    params.write_text(json.dumps(content))
    assert main(project.arguments(params, out)) == 0
    assert out.read_text(encoding="utf-8") == html

    out.unlink()
    params.write_text(json.dumps(content | {"dataset": "another"}))
    assert main(project.arguments(params, out)) == 1
    assert "another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    torch.set_num_threads(threads)


@pytest.fixture
def copy(tmp_path: Path, project: Project) -> Path:
    """The results, to be damaged."""
    return Path(shutil.copytree(project.results, tmp_path / "results"))


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("scores.csv", lambda _: None, r"scores\.csv"),
        ("scores.csv", lambda _: "row,gap\nfused,1\n", r"scores\.csv"),
        (
            "scores.csv",
            lambda old: old.replace("kap,category,0.05", "kap,category,0.5"),
            r"features\.kap@0\.05",
        ),
        ("training/losses.csv", lambda _: "step,total\n1,high\n", r"losses\.csv"),
        ("training/diagnostics.csv", lambda _: "", r"diagnostics\.csv"),
    ],
)
def test_what_is_missing_or_malformed_is_named(
    copy: Path, file: str, content: Callable[[str], str | None], named: str
) -> None:
    text = content((copy / file).read_text())
    (copy / file).unlink()
    if text is not None:
        (copy / file).write_text(text)
    with pytest.raises(InputError, match=named):
        read_inputs(copy, "toy", EVALUATE, COMPARED)


@pytest.mark.parametrize("file", ["metrics.json", "predictions.csv.gz", "training/losses.csv"])
def test_a_changed_file_of_results_is_refused(copy: Path, project: Project, file: str) -> None:
    made = {"curves": {"losses.csv": sha256_file(copy / "training" / "losses.csv")}}
    check_results(copy, project.head, made)
    (copy / file).write_bytes((copy / file).read_bytes()[:-1])
    with pytest.raises(ProvenanceError, match=Path(file).name):
        check_results(copy, project.head, made)


def test_results_of_other_parameters_or_tables_are_refused(
    project: Project, tables: Tables, inputs: Inputs
) -> None:
    with pytest.raises(ProvenanceError, match="protocol"):
        read_inputs(project.results, "toy", replace(EVALUATE, kap_labels="corner"), COMPARED)
    check_tables(inputs.predictions, tables)
    image = tables.images["image_id"][1]
    hidden = tables.keypoints.assign(visible=(tables.keypoints["image_id"] != image).astype(int))
    with pytest.raises(InputError, match=image):
        check_tables(inputs.predictions, replace(tables, keypoints=hidden))


def test_tiles_pool_the_far_gaps_by_points(inputs: Inputs) -> None:
    frame = inputs.by_gap
    far = tiles(inputs, 2, "far")[1]
    for row, value in (("features", far.before), ("fused", far.after)):
        own = frame[(frame["method"] == row) & (frame["gap"] >= 2)]
        assert value == pytest.approx((own["pck_point@0.10"] * own["n_points"]).sum() / own["n_points"].sum())
    assert far.gain.value == pytest.approx(far.after - far.before)


def test_gains_are_differences_of_scores(project: Project, inputs: Inputs) -> None:
    scores = leaves(read_scores(project.results / "scores.csv"))
    table = gains(inputs)
    assert list(table.rows) == list(scores)
    for method, cells in table.rows.items():
        found = [cell.value for cell in cells]
        if method == EVALUATE.baseline:
            assert np.isnan(found).all()
        else:
            expected = [scores[method][key] - scores["features"][key] for key in KEYS]
            np.testing.assert_allclose(found, expected, atol=2e-6)


def test_tables_by_group_have_scores_and_counts_of_all_methods(inputs: Inputs) -> None:
    kinds = {"aware": 3.0, "other": 5.0}, {"both": 7.0, "unpaired": 9.0}
    geometry, mirror = (
        pd.DataFrame(
            [
                {"method": method, "group": group, "n_pairs": 2, "n_points": 4}
                | {f"pck_point@{alpha}": value + i for alpha in ALPHAS}
                for i, method in enumerate(inputs.methods)
                for group, value in values.items()
            ]
        )
        for values in kinds
    )
    metrics = {method: own | {"mirrored": 40.0} for method, own in inputs.metrics.items()}
    known = replace(inputs, by_geometry=geometry, by_mirror=mirror, metrics=metrics)
    tables = {"gap": by_gap(inputs, 8), "geometry": by_likes(known)[0], "mirror": by_likes(known)[1]}
    for table in tables.values():
        assert list(table.rows) == inputs.methods
        assert list(table.groups) == [f"PCK@{alpha} per point" for alpha in ALPHAS]
    assert tables["mirror"].groups["PCK@0.05 per point"] == ["visible", "none"]
    assert [cell.value for cell in tables["mirror"].rows["sphere"]] == [8, 10] * 3
    assert [cell.value for cell in tables["geometry"].counts["points"]] == [4] * 6
    frame = inputs.by_gap[inputs.by_gap["method"] == "fused"].sort_values("gap")
    expected = [value for alpha in ALPHAS for value in frame[f"pck_point@{alpha}"]]
    assert [cell.value for cell in tables["gap"].rows["fused"]] == expected
    assert [cell.value for cell in tables["gap"].counts["pairs"]] == frame["n_pairs"].tolist() * 3
    pck, kap = by_category(inputs)
    frame = inputs.by_category[inputs.by_category["method"] == "chance"]
    assert kap.groups == {"KAP@0.10": CATEGORIES}
    assert [cell.value for cell in kap.rows["chance"]] == frame["kap@0.10"].tolist()
    assert [cell.value for cell in pck.rows["chance"]] == frame["pck_point@0.10"].tolist()
    assert [cell.value for cell in pck.counts["points"]] == frame["n_points"].tolist()
    assert kap.counts == {}  # it asks about more
    assert by_likes(inputs) == []
    assert nearer_to_mirror(inputs) is None
    table = nearer_to_mirror(known)
    assert table is not None
    assert [cell.text for (cell,) in table.rows.values()] == ["40.0"] * 4


@pytest.mark.parametrize("resample", ["clusters", "pairs"])
def test_intervals_of_gains_are_those_that_the_evaluation_would_compute(
    tmp_path: Path, resample: str
) -> None:
    """KAP has some over the evaluation's own baseline alone."""
    params = replace(EVALUATE, bootstrap=40, resample=resample)
    found: dict[str, dict[str, Any]] = {}
    for baseline in ROWS:
        own = replace(params, baseline=baseline)
        (tmp_path / baseline).mkdir()
        project = Project(tmp_path / baseline, azimuths=[0.0, 90.0, 180.0], params=own)
        inputs = read_inputs(project.results, "toy", own, COMPARED)
        found = found or gain_intervals(inputs, read_tables(project.tables), params)  # of the first baseline
        assert list(found[baseline]) == [method for method in params.methods if method != baseline]
        for method, intervals in found[baseline].items():
            assert len(intervals) == 12
            scores = inputs.metrics[method]
            for key, interval in zip(KEYS, intervals, strict=True):
                if baseline != ROWS[0] and key.startswith("kap"):
                    assert interval is None
                else:
                    assert interval == [scores[f"{key}_gain_low"], scores[f"{key}_gain_high"]]


def test_without_samples_there_are_no_intervals(inputs: Inputs, tables: Tables, html: str) -> None:
    assert gain_intervals(inputs, tables, EVALUATE) == {}
    assert "No intervals were computed" in html


def test_a_page_of_many_methods_shows_few_at_first() -> None:
    many = [f"m{i}" for i in range(9)]
    assert choose_methods(many, ("m2", "m8"), "m5") == ["m0", "m1", "m2", "m5", "m8"]
    assert choose_methods(many[:4], ("m2", "m3"), "m2") == many[:4]


def test_cells_as_shown() -> None:
    cells = [Cell(12.345), Cell(float("nan")), Cell(-1.26, "gain"), Cell(1.0, "gain"), Cell(12345.0, "count")]
    assert [cell.text for cell in cells] == ["12.3", "–", "−1.3", "+1.0", "12,345"]


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


def test_pairs_are_spread_over_gaps_and_categories() -> None:
    cells = itertools.product("xy", range(5), range(4))
    rows = [(f"{category}/{gap}-{i}", "t", category, gap) for category, gap, i in cells]
    pairs = pd.DataFrame(rows, columns=["source", "target", "category", "gap"])
    chosen = choose_pairs(pairs, 10, seed=0)
    assert chosen["gap"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert chosen["category"].value_counts().to_dict() == {"x": 5, "y": 5}
    pd.testing.assert_frame_equal(chosen, choose_pairs(pairs.iloc[::-1], 10, seed=0))
    assert not chosen.equals(choose_pairs(pairs, 10, seed=1))
    assert [len(choose_pairs(pairs, count, seed=0).drop_duplicates()) for count in (0, 1, 99)] == [0, 1, 40]
    few = pairs.iloc[[0, 4, 5, 16]]  # a gap that runs out is replaced by its neighbour
    assert choose_pairs(few, 4, seed=0)["gap"].tolist() == [0, 1, 1, 4]


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


def test_a_match_is_read_with_what_is_right(tables: Tables, inputs: Inputs) -> None:
    source, target = tables.pairs[["source", "target"]].iloc[3]
    match = read_match(tables, inputs.predictions, source, target, 0.1, ROWS)
    own = tables.keypoints.set_index(["image_id", "keypoint_id"])
    for i in range(12):
        in_source, in_target = (
            own.loc[(image, str(i)), ["x", "y"]].astype(float) for image in (source, target)
        )
        np.testing.assert_allclose(match.source_xy[i], in_source)
        np.testing.assert_allclose(match.target_xy[i], in_target, atol=1e-3)
    for row in ROWS:
        distance = np.linalg.norm(match.predicted[row] - match.target_xy, axis=1)
        np.testing.assert_array_equal(match.right[row], distance < 0.1 * 20)  # the boxes are 20 pixels wide
    assert match.names[2] == "part_2"


def test_right_and_wrong_are_drawn_where_they_are() -> None:
    grey = Image.new("RGB", (100, 100), (128, 128, 128))
    box = np.array([0.0, 0.0, 100.0, 100.0])
    match = Match(
        source=grey, target=grey, source_box=box, target_box=box, names=["a", "b"],
        source_xy=np.array([[10.0, 10.0], [20.0, 20.0]]), target_xy=np.array([[25.0, 25.0], [75.0, 75.0]]),
        predicted=dict.fromkeys(ROWS, np.array([[25.0, 25.0], [75.0, 20.0]])),
        right=dict.fromkeys(ROWS, np.array([True, False])),
    )  # fmt: skip
    drawn = np.asarray(draw_target(match, "fused", 400, ["fused"])).astype(int)

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
    np.testing.assert_allclose(apart(xy, 4.0), [[3, 5], [9, 5], [7, 5], [5, 8]])


def test_charts_are_drawn_for_both_themes_and_leave_settings_alone() -> None:
    before = dict(matplotlib.rcParams)
    rows = ["features", "fused"]
    frame = pd.DataFrame({"method": rows * 2, "gap": [0, 0, 1, 1], "pck_point@0.10": [1.0, 2, 3, 4]})
    drawn = figures.by_gap(frame, "pck_point@0.10", rows, bins=8)
    assert dict(matplotlib.rcParams) == before
    assert drawn == figures.by_gap(frame, "pck_point@0.10", rows, bins=8)
    for uri, theme in ((drawn.light, figures.LIGHT), (drawn.dark, figures.DARK)):
        assert all(theme[name] in svg_of(uri) for name in ("muted", "grid", *rows))
    assert "45°" in texts_of(drawn)


def test_the_dark_theme_follows_from_the_light_one() -> None:
    """Charts are drawn in light colours, which are replaced one by one."""
    assert figures.LIGHT.keys() == figures.DARK.keys()
    pairs = {(figures.LIGHT[name], figures.DARK[name]) for name in figures.LIGHT}
    assert len({light for light, _ in pairs}) == len(pairs)
    line = " ".join(figures.LIGHT.values())
    assert figures._in_dark(line) == " ".join(figures.DARK.values())


@pytest.mark.parametrize("count", [1, 4, 5, 12])
def test_every_curve_has_a_colour_of_its_own(count: int) -> None:
    names = ["total", *(f"loss_{i}" for i in range(count))]
    frame = pd.DataFrame({"step": [1, 2], **{name: [1.0, 0.5] for name in names}})
    drawn = figures.curves(frame, {name: name for name in names})
    assert set(names) <= set(texts_of(drawn))
    for uri, theme in ((drawn.light, figures.LIGHT), (drawn.dark, figures.DARK)):
        colours = set(re.findall(r"stroke: (#[0-9a-f]{6}); stroke-width: 1.8", svg_of(uri)))
        assert len(colours) == len(names)
        assert len(colours & {theme[f"series-{i}"] for i in range(1, 5)}) == min(count, 4)


def test_losses_that_the_report_does_not_know_are_drawn() -> None:
    curves = {name: pd.DataFrame({"step": []}) for name in ("diagnostics", "validation")}
    columns = {"step": [10, 20], "epoch": [1, 1], "total": [1.5, 1.2], "viewpoint": [0.4, 0.2]}
    (chart,) = _training_charts({**curves, "losses": pd.DataFrame(columns | {"left_right": [2.0, 1.0]})}, 20)
    texts = texts_of(chart.drawing)
    assert {"total (weighted)", "relative viewpoint", "left right"} <= set(texts)
    assert "epoch" not in texts


def test_the_head_that_was_kept_is_marked_though_another_was_better() -> None:
    curve = pd.DataFrame({"step": [0, 1000, 2000, 3000], "pck_point": [50.0, 60.0, 58.0, 57.0]})
    assert "kept: step 3000, 57.0 %" in texts_of(figures.validation(curve, 3000))
    assert not any("kept" in text for text in texts_of(figures.validation(curve, None)))


@pytest.mark.parametrize("count", [5, 12])
def test_methods_that_the_report_does_not_know_look_their_own_way(count: int) -> None:
    rows = ["features", *(f"mine_{i}" for i in range(count)), "fused"]
    frame = pd.DataFrame({"method": rows * 2, "gap": [0] * len(rows) + [1] * len(rows), "kap@0.10": 1.0})
    drawn = figures.by_gap(frame, "kap@0.10", rows, bins=8)
    assert len(set(re.findall(r"stroke: (#[0-9a-f]{6}); stroke-width: 2[;\"]", svg_of(drawn.light)))) >= count
    legend = figures.legend(rows)
    assert list(legend) == rows
    assert len({entry.light for entry in legend.values()}) == len({entry.dark for entry in legend.values()})
    for entry in legend.values():
        assert entry.light in svg_of(drawn.light)
        assert entry.dark in svg_of(drawn.dark)


def test_every_method_looks_its_own_way() -> None:
    shipped = read_params(Path(__file__).parents[2] / "params.yaml")["methods"]
    legend = figures.legend(list(shipped))
    assert len({dataclasses.astuple(entry) for entry in legend.values()}) == len(shipped)
    for entry in legend.values():
        outline = np.array([point.split(",") for point in entry.marker.split()], dtype=float)
        assert np.abs(outline).max() <= 8  # half of what is said, and a corner
        assert np.ptp(outline, axis=0).min() >= 5


def test_intervals_are_shown_where_the_evaluation_gives_them(copy: Path, inputs: Inputs) -> None:
    assert "interval" not in headline(inputs).caption
    scores = read_scores(copy / "scores.csv")
    score = leaves(scores)["fused"]["kap@0.10"]
    kap = (scores["method"] == "fused") & (scores["metric"] == "kap") & (scores["average"] == "category")
    kap &= scores["group_by"] == "all"
    ends = {"low": score - 2.25, "high": score + 1.5, "gain_low": -0.26, "gain_high": 4.0}
    scores.loc[kap & (scores["threshold"] == "0.10"), list(ends)] = list(ends.values())
    scores.loc[kap & (scores["threshold"] == "0.05"), "low"] = 1.0
    scores.to_csv(copy / "scores.csv", index=False)
    facts = json.loads((copy / "metrics.json").read_text())
    facts |= {"intervals": "95 % by lot"}
    (copy / "metrics.json").write_text(json.dumps(facts))
    inputs = read_inputs(copy, "toy", EVALUATE, COMPARED)
    assert inputs.interval("fused", "kap@0.10") == (score - 2.25, score + 1.5)
    assert inputs.interval("fused", "kap@0.05") is None  # half an interval is none
    assert [tile.gain.bounds for tile in tiles(inputs, 2, "far")] == ["", "", "−0.3 to +4.0"]
    table = headline(inputs)
    shown = {name: [cell.bounds for cell in cells if cell.bounds] for name, cells in table.rows.items()}
    interval = f"{score - 2.25:.1f}–{score + 1.5:.1f}"
    assert shown == {"features": [], "sphere": [], "fused": [interval], "chance": []}
    assert "intervals, 95 % by lot" in table.caption


def test_extremes_are_the_best_and_the_worst_without_repeating_a_picture() -> None:
    errors = {
        "ab": [0.02, 0.03, 0.01, 0.04],  # all right, least error
        "bc": [0.02, 0.03, 0.01, 0.05],  # all right, but b is taken
        "cd": [0.02, 0.03, 0.09, 0.09],  # all right
        "ef": [0.02, 0.03, 0.50, 0.50],
        "gh": [0.02, 9.00, 9.00, 9.00],
        "ij": [0.11, 0.11, 0.11, 0.11],  # all wrong, yet not far
        "kl": [0.50, 0.60, 0.70, 9.00],  # all wrong and farther
        "mn": [9.00],  # too few points to be the worst
    }
    rows = [(*pair, error) for pair, own in errors.items() for error in own]
    predictions = pd.DataFrame(rows, columns=["source", "target", "error"])
    best, worst = choose_extremes(predictions, 2, alpha=0.1)
    assert best.to_numpy().tolist() == [["a", "b"], ["c", "d"]]
    assert worst.to_numpy().tolist() == [["k", "l"], ["i", "j"]]
    for frame, again in zip((best, worst), choose_extremes(predictions[::-1], 2, alpha=0.1), strict=True):
        pd.testing.assert_frame_equal(frame, again)
    everything = choose_extremes(predictions, 99, alpha=0.1)
    assert sum(map(len, everything)) == 5  # neither the middle one nor the one whose picture is taken
    assert [len(frame) for frame in choose_extremes(predictions, 0, alpha=0.1)] == [0, 0]


def test_confusion_matrices_add_up_to_the_metrics(tables: Tables, inputs: Inputs) -> None:
    found = confusions(tables, inputs.predictions, 0.1, ROWS)
    assert [matrix.category for matrix in found] == CATEGORIES
    assert found[0].ids == [str(k) for k in range(12)]
    assert found[0].names == [f"part {k}" for k in range(12)]
    near = inputs.predictions.assign(error=inputs.predictions["error"] / 2)  # shares of twice the length
    for single, double in zip(found, confusions(tables, near, 0.05, ROWS), strict=True):
        assert all((single.counts[row] == double.counts[row]).all() for row in ROWS)
    for row in ROWS:
        counts = sum(matrix.counts[row] for matrix in found)
        total = inputs.facts["n_points"]
        assert counts.sum() == total
        right = np.trace(counts)
        assert 100 * right / total == pytest.approx(inputs.metrics[row]["pck_point@0.10"], abs=1e-4)
        mixed = counts[:, :-1].sum() - right
        assert 100 * mixed / total == pytest.approx(inputs.metrics[row]["confusion@0.10"], abs=1e-4)
        for matrix in found:
            np.testing.assert_allclose(matrix.shares(row).sum(axis=1), 100)


def test_a_prediction_lands_on_the_nearest_keypoint_in_reach(project: Project) -> None:
    tables = read_tables(project.tables)
    target = tables.keypoints["image_id"].iloc[0]
    own = tables.keypoints["image_id"] == target
    tables.keypoints.loc[own, "x"] = 10.0 + np.arange(12)  # in a row, a pixel apart; the radius is 2
    tables.keypoints.loc[own, "y"] = 20.0
    rows = [
        ("fused", "0", 10.0, 20.0),  # right
        ("fused", "1", 11.9, 20.0),  # right, though another keypoint is nearer
        ("fused", "2", 20.9, 20.0),  # on 11
        ("fused", "3", 10.0, 30.0),  # on none
        ("fused", "3", 24.0, 20.0),  # three pixels beyond 11: on none
        ("other", "4", 10.0, 30.0),
    ]
    predictions = pd.DataFrame(rows, columns=["method", "keypoint_id", "x", "y"]).assign(target=target)
    predictions["target_x"], predictions["target_y"] = 10.0 + predictions["keypoint_id"].astype(int), 20.0
    away = np.hypot(predictions["x"] - predictions["target_x"], predictions["y"] - predictions["target_y"])
    (matrix,) = confusions(tables, predictions.assign(error=away / 20), 0.1, ["fused"])
    expected = np.zeros((12, 13), dtype=int)
    expected[[0, 1, 2], [0, 1, 11]] = 1
    expected[3, 12] = 2
    np.testing.assert_array_equal(matrix.counts["fused"], expected)
    assert matrix.commonest("fused", 5) == [("part 2", "part 11", 100.0, 1)]


def test_matrices_show_ids_and_names_where_these_say_more() -> None:
    counts = np.array([[5, 3, 0, 2], [4, 0, 0, 0], [0, 1, 9, 0]])
    matrix = Confusion("x", ["0", "1", "2"], ["a", "b", "c"], {"fused": counts})
    mixed = [("b", "a", 100.0, 4), ("a", "b", 30.0, 10), ("c", "b", 10.0, 10)]
    assert matrix.commonest("fused", 2) == mixed[:2]
    assert matrix.commonest("fused", 9) == mixed
    two = dict.fromkeys(("features", "fused"), np.eye(2, 3, dtype=int))
    named = Confusion("x", ["3", "7"], ["nose", "ear left"], two)
    texts = texts_of(figures.confusion(named, ["features", "fused"]))
    assert texts.count("3 nose") == texts.count("7 ear left") == texts.count("fused") == 1
    assert texts.count("none") == 2
    texts = texts_of(figures.confusion(replace(named, names=["keypoint 3", "keypoint 7"]), ["fused"]))
    assert texts.count("3") == texts.count("7") == 2  # line and column
    assert [readable(name) for name in ("7", "ear_left", "7_up")] == ["keypoint 7", "ear left", "7 up"]


def test_sides_are_read_from_names() -> None:
    assert [side_of(name) for name in ("wheel_front_left", "Left wheel", "right")] == [
        "left",
        "left",
        "right",
    ]
    assert {side_of(name) for name in ("leftover", "nose", "left or right", "")} == {"neither"}
    assert mirrored("wheel_front_left") == "wheel_front_right"
    assert mirrored("Right wheel") == "Left wheel"
    assert mirrored("leftover_right") == "leftover_left"


def _sphere(left: Any, right: Any, middle: Any) -> KeypointSphere:
    groups = (("ear_left", left), ("ear_right", right), ("nose", middle))
    names = [name for name, points in groups for _ in points]
    points = np.array([point for _, points in groups for point in points], dtype=np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    sides = np.array([side_of(name) for name in names], dtype=object)
    return KeypointSphere("cat", points, np.array(names, dtype=object), sides)


def test_sides_are_told_apart_by_the_means_of_the_others() -> None:
    apart = _sphere([[1, 0.1, 0], [1, 0, 0.1]], [[-1, 0.1, 0], [-1, 0, 0.1]], [[0, 1, 0]])
    assert apart.own_side() == (100.0, 4)
    swapped = _sphere([[1, 0.1, 0], [1, 0, 0.1], [-1, 0, 0]], [[-1, 0.1, 0], [-1, 0, 0.1]], [])
    assert swapped.own_side() == (80.0, 5)
    # a lone keypoint has no others to be compared with
    assert np.isnan(_sphere([[1, 0, 0]], [[-1, 0, 0]], []).own_side()[0])
    assert np.isnan(_sphere([], [], [[0, 1, 0]]).own_side()[0])


def test_spheres_are_turned_so_that_left_and_right_lie_apart() -> None:
    rng = np.random.default_rng(4)
    axis = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5])
    left, right = (sign * axis + 0.1 * rng.normal(size=(20, 3)) for sign in (1, -1))
    for sphere in (_sphere(left, right, [[0, 0, 1]]), _sphere([], [], left)):
        view = sphere.view()
        np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(view) == pytest.approx(1)
        np.testing.assert_allclose(np.abs(view[0] @ axis), 1, atol=0.01)
    assert _sphere(left, right, []).view()[0] @ axis > 0.99  # left parts to the right
    svg = draw_sphere(_sphere(left, right, []))
    first, second = svg.split('<g class="half">')[1:]
    # every keypoint once, on one of the two halves
    for side, count in (("left", 20), ("right", 20)):
        drawn = re.findall(rf'class="{side}" d="([^"]*)"', svg)
        assert sum(path.count("M") for path in drawn) == count
    for half, centre in ((first, 104), (second, 316)):
        for side, sign in (("left", 1), ("right", -1)):
            turned = sign if half is first else -sign  # from behind, left and right change places
            for path in re.findall(rf'class="{side}" d="([^"]*)"', half):
                assert all(turned * (float(x) - centre) > 50 for x in re.findall(r"M([\d.]+) ", path))
    assert draw_sphere(_sphere([], [], [[0, 1, 0]])).count("<path class=") == 1


def test_keypoints_lie_on_the_sphere_where_their_patches_do(project: Project, tables: Tables) -> None:
    head = load_head(project.head)
    with FeatureCache.open([project.cache]) as cache:
        found = keypoint_spheres(tables, cache, head, "test")
        assert [sphere.category for sphere in found] == CATEGORIES
        for sphere in found:
            own = tables.keypoints[tables.keypoints["image_id"].str.startswith(sphere.category)]
            assert len(sphere.points) == len(own)
            for i in (0, 17, len(own) - 1):
                record = cache.index(own["image_id"].iloc[i])
                points = sphere_points(head, cache.tokens([record]))[0].numpy()
                patch = patch_of(own[["x", "y"]].to_numpy()[i : i + 1], cache.boxes[record], cache.grid)[0]
                np.testing.assert_allclose(sphere.points[i], points[patch], atol=1e-6)


def _decode(text: str, kind: str, width: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind).reshape(-1, width)


def data_of(html: str) -> dict[str, Any]:
    """What the explorer of a page embeds."""
    return json.loads(html.partition('id="explorer-data">')[2].partition("</script>")[0])


def test_the_explorer_answers_as_the_evaluation_did(tables: Tables, inputs: Inputs, html: str) -> None:
    """Keypoints carry the scored predictions, and the stored answers of their patches agree with them."""
    data = data_of(html)
    predictions = inputs.predictions.set_index(["method", "source", "target", "keypoint_id"])
    assert len(data["pairs"]) in (3, 4, 5)  # a pair chosen twice is stored once
    assert data["weights"] == {"features": [1, 0], "sphere": [0, 1], "fused": [0.8, 0.2]}
    checked = 0
    for pair in data["pairs"]:
        source, target = pair["source"], pair["target"]
        own = tables.keypoints[tables.keypoints["image_id"] == source["id"]].set_index("keypoint_id")
        assert [point["name"] for point in pair["keypoints"]] == [
            name.replace("_", " ") for name in own["name"]
        ]
        for (keypoint, place), point in zip(own.iterrows(), pair["keypoints"], strict=True):
            assert point["source"] == [place["x"], place["y"]]
            patch = patch_of(np.array([point["source"]]), np.array(source["box"]), GRID)[0]
            centres = patch_centres(np.array(target["box"]), GRID)
            for row in inputs.methods:
                scored = predictions.loc[(row, source["id"], target["id"], keypoint)]
                assert point["predicted"][row] == [scored["x"], scored["y"]]
                assert point["right"][row] == (scored["error"] < 0.1)
                if row not in data["weights"]:
                    continue
                answer = _decode(pair["best"][row], "<u2", 1)[patch, 0]
                np.testing.assert_allclose(centres[answer], point["predicted"][row], atol=1e-4)
                checked += 1
    assert checked == 36 * len(data["pairs"])


def test_the_maps_of_the_explorer_are_as_exact_as_it_says(
    project: Project, tables: Tables, inputs: Inputs
) -> None:
    head = load_head(project.head)
    source, target = tables.pairs[["source", "target"]].iloc[0]
    match = read_match(tables, inputs.predictions, source, target, 0.1, ROWS)
    patches = GRID[0] * GRID[1]
    errors = []
    with FeatureCache.open([project.cache]) as cache:
        tokens = cache.tokens([cache.index(source), cache.index(target)]).astype(np.float64)
        unit = tokens / np.linalg.norm(tokens, axis=2, keepdims=True)
        points = sphere_points(head, tokens.astype(np.float32)).numpy()
        for room in (1e-6, 0.0008, 0.1):
            pairs = [("one", source, target, match)]
            built = build_explorer(pairs, cache, head, weights=mixtures(methods(*ROWS)), megabytes=room)
            (pair,) = built.data["pairs"]
            texts = [pair["features"], *pair["points"], *pair["best"].values()]
            if room > 1e-6:  # less than the answers alone need
                padded = 4 * len(texts)  # base64 pads each to a multiple of 4
                assert sum(map(len, texts)) <= room * 1e6 + padded
            codes = unpacked(pair["features"], patches)
            found = pair["step"] ** 2 * codes[0].T @ codes[1]
            error = np.abs(found - unit[0] @ unit[1].T).max()
            assert built.error == pytest.approx(error, abs=1e-5)
            errors.append(error)
            decoded = [_decode(text, "<i2", 3) / 32767 for text in pair["points"]]
            np.testing.assert_allclose(decoded, points, atol=1e-4)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03  # the finest steps: only the rounding is left


def unpacked(text: str, patches: int) -> np.ndarray:
    """Codes `(2, E, N)` of a pair's features as the page reads them, in float64."""
    raw = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(raw, dtype=np.int8).reshape(2, -1, patches).astype(np.float64)


def test_packed_features_keep_the_strongest_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, 30, 2, generator=generator) @ torch.randn(2, 9, generator=generator)
    features = torch.nn.functional.normalize(plane, dim=-1)
    packed, codes, step = pack(features, 1e6)
    assert codes.shape == (2, 9, 30)
    assert np.abs(codes).max() == 127
    assert (codes[:, 2:] == 0).all()  # they span a plane
    assert zlib.decompress(packed) == codes.tobytes()
    similarity = step**2 * codes[0].T.astype(float) @ codes[1]
    np.testing.assert_allclose(similarity, (features[0] @ features[1].T).numpy(), atol=0.02)
    coarse, codes, _ = pack(features, len(packed) - 1)
    assert len(coarse) < len(packed)
    assert np.abs(codes).max() < 127
    assert pack(features, 0)[1].shape == (2, 1, 30)
    assert (pack(torch.zeros(2, 3, 4), 100)[1] == 0).all()


def test_pairs_drawn_twice_share_their_place_in_the_explorer(tables: Tables, inputs: Inputs) -> None:
    params = replace(SLICE, report=ReportParams(**REPORT | {"pairs": 24, "extremes": 2}))
    drawn = matched_pairs(tables, inputs, params)
    assert len(drawn.typical) == len(drawn.records) == 24  # all there are
    assert [len(drawn.best), len(drawn.worst)] == [2, 2]
    for pair in (*drawn.best, *drawn.worst):
        assert drawn.typical.count(pair) == 1
