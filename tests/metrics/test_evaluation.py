"""The whole evaluation, its files, its table, and the quick validation; plain loops are in test_protocols."""

import gzip
import itertools
import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from caches import write_cache
from hypothesis import given, settings
from hypothesis import strategies as st
from world import (
    PARAMS,
    FakeCache,
    FakeHead,
    entries,
    groups_of,
    image_row,
    keypoint_row,
    leaves_of,
    make_tables,
    make_world,
    methods,
    random_rotation,
    scored,
)

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import sha256_file, write_json
from spheremap.base.provenance import digest, seal
from spheremap.cli import main
from spheremap.config import EvaluateSlice
from spheremap.config.learning import Validation
from spheremap.config.slices import parse
from spheremap.data.tables import tables_digest, write_tables
from spheremap.features.cache.space import feature_space
from spheremap.methods.engine.queries import build_questions
from spheremap.metrics import bootstrap, pck
from spheremap.metrics.agreement import check_agreement
from spheremap.metrics.answers import macro
from spheremap.metrics.catalogue import METRICS, alpha_label
from spheremap.metrics.evaluate import score
from spheremap.metrics.given import Given, answer
from spheremap.metrics.results import write_results
from spheremap.metrics.score_table import headline, read_scores
from spheremap.metrics.scores import Scores
from spheremap.metrics.table import format_file, format_gaps, format_intervals, format_metrics
from spheremap.metrics.validation import make_validation
from spheremap.model.head import Head, save_head

RESAMPLED = replace(PARAMS, bootstrap=30, resample="pairs")


@pytest.fixture(scope="module")
def plain():
    """Scores of the first world, without intervals."""
    return scored(*make_world(0))


@pytest.fixture(scope="module")
def results():
    """Scores of the first world, with intervals."""
    return scored(*make_world(0), RESAMPLED)


def assert_scores(found: dict[str, float], expected: dict[str, float]) -> None:
    """Equal, but for two scores that differ by a rounding error, whose order may move an AP a little."""
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=0.3 if key.startswith("kap") else 1e-3), key


def test_metrics_say_what_they_are_averages_of(plain) -> None:
    _, tables, _ = make_world(0)
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    places = {image: set(own["keypoint_id"]) for image, own in visible.groupby("image_id")}
    points = sum(len(places[s] & places[t]) for s, t in tables.pairs[["source", "target"]].to_numpy())
    assert plain.facts == {"dataset": "made up", "split": "test", "n_pairs": len(tables.pairs),
                           "n_images": 8, "n_points": points, "protocol": PARAMS.protocol,
                           "intervals": "none", "baseline": "features"}  # fmt: skip
    rows = ["features", "sphere", "fused", "chance"]
    assert list(leaves_of(plain)) == rows
    by_method = groups_of(plain, "category").groupby("method")
    assert by_method["n_points"].sum().to_dict() == dict.fromkeys(rows, points)
    assert by_method["n_pairs"].sum().to_dict() == dict.fromkeys(rows, len(tables.pairs))
    gaps = groups_of(plain, "azimuth_gap").groupby("method")["n_points"].sum()
    assert (gaps < points).all()  # some azimuths are unknown
    assert groups_of(plain, "viewpoint").groupby("method")["n_points"].sum().equals(gaps)
    assert len(plain.predictions) == 4 * points


def place(content: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """Tokens `(side * side, D)` of a padded image: zeros around the content `(rows, columns, D)`."""
    padded = np.zeros((side, side, content.shape[2]), dtype=np.float16)
    padded[top : top + content.shape[0], left : left + content.shape[1]] = content
    return padded.reshape(-1, content.shape[2])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 2), st.integers(0, 1))
def test_where_an_image_lies_in_its_padding_does_not_matter(seed: int, top: int, left: int) -> None:
    rng = np.random.default_rng(seed)
    step, side, dim = 10, 6, 5
    contents = np.abs(rng.normal(size=(3, 4, 5, dim))).astype(
        np.float16
    )  # positive: the padding is never the best
    names = [f"c/{i}" for i in range(3)]
    images = [image_row(name, 50, 40, (5, 5, 45, 35)) for name in names]
    keypoints = [keypoint_row(n, str(k), rng.uniform((0, 0), (50, 40)) if rng.random() < 0.8 else None)
                 for n in names for k in range(8)]  # fmt: skip
    keypoints += [keypoint_row(n, "8", (20, 20)) for n in names]
    tables = make_tables(images, keypoints, [(a, b) for a in names for b in names if a != b])
    head = FakeHead(dim)
    head.matrix = np.abs(head.matrix)
    found = []
    for y, x in ((1, 0), (top, left)):
        boxes = np.array([[-x * step, -y * step, (side - x) * step, (side - y) * step]] * 3, dtype=np.float64)
        cache = FakeCache(names, np.stack([place(c, y, x, side) for c in contents]), boxes, (side, side))
        found.append(leaves_of(scored(cache, tables, head)))
    for row in ("features", "sphere", "fused"):
        assert_scores(found[1][row], found[0][row])


def test_perfect_features_give_a_perfect_score() -> None:
    grid, names = (10, 10), ["c/a", "c/b"]
    tokens = np.zeros((2, 100, 4), dtype=np.float16)
    keypoints = []
    for k, patch in enumerate((11, 18, 81, 88)):
        tokens[:, patch, k] = 1
        keypoints += [keypoint_row(n, str(k), (patch % 10 * 10 + 5, patch // 10 * 10 + 5)) for n in names]
    images = [
        image_row(n, 100, 100, (0, 0, 100, 100), azimuth) for n, azimuth in zip(names, (0, 180), strict=True)
    ]
    cache = FakeCache(names, tokens, np.array([[0.0, 0, 100, 100]] * 2), grid)
    tables = make_tables(images, keypoints, [("c/a", "c/b"), ("c/b", "c/a")])
    results = scored(cache, tables, FakeHead(4), PARAMS)
    for alpha in ("0.10", "0.05", "0.01"):
        scores = {
            key: leaves_of(results)["features"][f"{key}@{alpha}"] for key in ("pck_point", "kap", "confusion")
        }
        assert scores == {"pck_point": 100, "kap": 100, "confusion": 0}
    assert groups_of(results, "azimuth_gap")["group"].unique().tolist() == ["4"]


def test_swapped_parts_are_counted_as_confusion() -> None:
    cache_tokens = np.zeros((2, 4, 2), dtype=np.float16)
    cache_tokens[0, 0], cache_tokens[0, 3] = [1, 0], [0, 1]
    cache_tokens[1, 0], cache_tokens[1, 3] = [0, 1], [1, 0]
    images = [image_row(n, 20, 20, (0, 0, 20, 20)) for n in ("c/a", "c/b")]
    keypoints = [keypoint_row(n, k, xy) for n in ("c/a", "c/b") for k, xy in (("0", (5, 5)), ("1", (15, 15)))]
    cache = FakeCache(["c/a", "c/b"], cache_tokens, np.array([[0.0, 0, 20, 20]] * 2), (2, 2))
    results = scored(cache, make_tables(images, keypoints, [("c/a", "c/b")]), FakeHead(2), PARAMS)
    found = leaves_of(results)["features"]
    assert (found["pck_point@0.10"], found["confusion@0.10"]) == (0, 100)
    assert set(results.scores["group_by"]) == {"all", "category"}  # no azimuth is known


def test_chance_changes_with_its_seed_and_nothing_else_does(plain) -> None:
    first, second = leaves_of(plain), leaves_of(scored(*make_world(0), seed=1))
    assert [row for row in first if first[row] != second[row]] == ["chance"]


def test_a_split_without_common_keypoints_is_refused() -> None:
    with pytest.raises(InputError, match="split 'val' of data set 'made up'"):
        scored(*make_world(0), replace(PARAMS, split="val"))


# --- parameters ---


def as_json(params=PARAMS) -> dict:
    """The slice of params.yaml that the command reads."""
    return json.loads(json.dumps({"evaluate": asdict(params), "methods": entries(), "dataset": "made up"}))


def test_parameters_are_read() -> None:
    given = as_json()
    assert parse(given, EvaluateSlice, where="here") == EvaluateSlice(PARAMS, entries(), "made up")


def test_thresholds_keep_their_digits() -> None:
    labels = {0.1: "0.10", 0.05: "0.05", 0.01: "0.01", 0.125: "0.125", 0.001: "0.001", 1: "1.00"}
    assert {alpha: alpha_label(alpha) for alpha in labels} == labels


def made_with(block: int, dataset: str = "a", size: int = 224) -> dict:
    """Provenance of a feature cache."""
    backbone = {"model": "m", "block": block, "norm": False, "facet": "token", "image_size": size}
    return {"params": {"backbone": backbone, "dataset": dataset}, "inputs": {"weights": "w"}}


def test_head_and_cache_must_belong_together(tmp_path) -> None:
    cache, _, head = make_world(0)
    cache.provenance = made_with(9)
    check_agreement(cache, head, tmp_path)  # a head without provenance
    head.provenance = {"inputs": {"features": digest(feature_space(cache.provenance))}}
    check_agreement(cache, head, tmp_path)
    check_agreement(replace(cache, provenance=made_with(9, dataset="b", size=448)), head, tmp_path)
    other = SimpleNamespace(dim=9, provenance={}, categories=[])
    for own, trained, error, message in (
        (replace(cache, provenance=made_with(10)), head, ProvenanceError, "trained on other features"),
        (replace(cache, kind="views"), head, InputError, "whole images"),
        (cache, other, ProvenanceError, "another width"),
        (replace(cache, provenance={}), head, ProvenanceError, "does not say"),
    ):
        with pytest.raises(error, match=message):
            check_agreement(own, trained, tmp_path)


# --- intervals ---


def answers_of(cache, tables, head) -> Scores:
    return score(cache, tables, tables.pairs, methods(*PARAMS.methods), PARAMS, head=head, fitted={})


def repeated(scores: Scores, times: np.ndarray) -> Scores:
    """Each pair stands there as often as it was drawn: as if it were another pair each time."""
    q, drawn = scores.questions, np.repeat(np.arange(len(times)), times.astype(int))
    counts = np.diff(q.first)[drawn]
    index = np.concatenate([np.arange(q.first[p], q.first[p + 1]) for p in drawn])
    queries = replace(
        q,
        **{name: getattr(q, name)[drawn] for name in ("source_id", "target_id", "category")},
        first=np.concatenate([[0], np.cumsum(counts)]),
        **{name: getattr(q, name)[index] for name in ("keypoint_id", "asked", "xy")},
    )
    thresholds = replace(
        scores.thresholds, scale=scores.thresholds.scale[drawn], side=scores.thresholds.side[drawn]
    )
    measured = {
        name: type(own)(own.predicted[index], own.positive[:, index], own.negative[:, index])
        for name, own in scores.measured.items()
    }
    return Scores(queries, measured, thresholds, scores.alphas, scores.landmarks[drawn], scores.images)


def test_weights_of_pairs_count_as_if_they_stood_there_so_often() -> None:
    """Overall scores are compared with plain loops; samples, categories and gaps are the same function."""
    scores = answers_of(*make_world(3, images=5))
    (times,) = bootstrap.draws(bootstrap.Pairs(len(scores.points)), 6, seed=1)
    times[1] = np.where(scores.questions.category == "category0", times[1], 0)  # a category is never drawn
    for name, of_weights in scores.statistics.items():
        found = of_weights(times)
        assert list(found) == list(METRICS)
        assert np.isnan(found.pop("mirrored")).all()  # nothing is known of mirror keypoints
        for i, own in enumerate(times):
            again = repeated(scores, own).statistics[name](np.ones((1, int(own.sum()))))
            for metric, values in found.items():
                np.testing.assert_allclose(values[i], again[metric][0], atol=1e-9, err_msg=metric)


def test_intervals_are_quantiles_of_the_samples_and_gains_are_paired(plain, results) -> None:
    metrics, scores = leaves_of(results), answers_of(*make_world(0))
    samples = bootstrap.resample(scores.statistics, bootstrap.Pairs(len(scores.points)), 30, seed=0)
    fused, features = (samples[name]["kap"][:, 1] for name in ("fused", "features"))
    own = metrics["fused"]
    for name, values in (("kap@0.05", fused), ("kap@0.05_gain", fused - features)):
        ends = [own[f"{name}_low"], own[f"{name}_high"]]
        assert ends == pytest.approx(np.quantile(values, [0.05, 0.95]))
    gain = own["kap@0.05"] - metrics["features"]["kap@0.05"]
    assert own["kap@0.05_gain"] == pytest.approx(gain, abs=2e-6)
    assert not any("gain" in name for name in metrics["features"])
    assert {name.partition("@")[0] for name in own if name.endswith("_gain_low")} == {*METRICS} - {"mirrored"}
    without = leaves_of(plain)["fused"]
    assert {key: own[key] for key in without} == without
    assert all(isinstance(value, float) for value in own.values())


def test_the_baseline_can_be_another_row() -> None:
    metrics = leaves_of(scored(*make_world(0), replace(RESAMPLED, baseline="fused")))
    gain = metrics["features"]["pck_point@0.10"] - metrics["fused"]["pck_point@0.10"]
    assert metrics["features"]["pck_point@0.10_gain"] == pytest.approx(gain, abs=2e-6)
    assert "pck_point@0.10_gain" not in metrics["fused"]


def test_intervals_by_clusters_draw_pictures_and_are_the_wider_ones(results) -> None:
    by_clusters = scored(*make_world(0), replace(RESAMPLED, resample="clusters"))
    assert by_clusters.facts["intervals"] == "90 % by 30 samples of pictures, seed 0"
    clusters, pairs = (leaves_of(found)["fused"] for found in (by_clusters, results))
    wide, narrow = (own["kap@0.10_gain_high"] - own["kap@0.10_gain_low"] for own in (clusters, pairs))
    assert wide > narrow
    for name in ("kap@0.10", "kap@0.10_gain"):
        assert clusters[name] == pairs[name]


@pytest.mark.parametrize("resample", ["clusters", "pairs"])
def test_of_too_few_units_there_is_no_interval(resample: str) -> None:
    cache, tables, head = make_world(3)
    params = replace(RESAMPLED, resample=resample)
    scores = scored(cache, replace(tables, pairs=tables.pairs[:1]), head, params).scores
    assert scores[["low", "high", "gain_low", "gain_high"]].isna().all().all()
    assert scores.loc[scores["method"] == "fused", "gain"].notna().all()
    assert format_intervals({}, scores) == ""
    assert scored(cache, replace(tables, pairs=tables.pairs[:4]), head, params).scores["low"].notna().any()


def test_gains_are_of_the_same_points() -> None:
    scores = answers_of(*make_world(0))
    own = scores.measured["features"]
    half = replace(own, predicted=np.where(np.arange(len(own.predicted))[:, None] % 2, np.nan, own.predicted))
    table = replace(scores, measured={"features": own, "same": own, "half": half}).table(RESAMPLED)
    gains = table.groupby("method")["gain"]
    assert gains.count()["half"] == 0
    assert gains.sum()["same"] == 0 < gains.count()["same"]
    counts = groups_of(SimpleNamespace(scores=table), "azimuth_gap").groupby("group")["n_points"]
    ends = [f"{low}–{high}" for low, high in zip(counts.min(), counts.max(), strict=True)]
    assert format_gaps(table).splitlines()[-1].split() == ["points", *ends]


def test_predictions_may_be_one_array() -> None:
    _, tables, _ = make_world(0)
    asked = build_questions(tables, tables.pairs)
    xy = np.arange(2.0 * len(asked.pair)).reshape(-1, 2)
    ids = {"source": asked.source_id[asked.pair], "target": asked.target_id[asked.pair]}
    frame = pd.DataFrame(xy, columns=["x", "y"]).assign(**ids, keypoint_id=asked.keypoint_id)
    np.testing.assert_array_equal(answer(Given(frame, None, "here"), asked, False)[0], xy)


def test_intervals_depend_on_the_seed_alone(results) -> None:
    again, other = (leaves_of(scored(*make_world(0), replace(RESAMPLED, seed=s))) for s in (0, 1))
    assert leaves_of(results) == again
    assert again["fused"]["pck_image@0.10_low"] != other["fused"]["pck_image@0.10_low"]


def test_what_is_undefined_is_left_out() -> None:
    times = np.array([[1.0, 1], [2, 0], [0, 2]])
    part, whole = np.array([[1.0], [0.0]]), np.array([2.0, 0.0])
    for function in (pck.per_point, pck.per_image):
        np.testing.assert_array_equal(function(part, whole, times), [[50], [50], [np.nan]])
    values = [np.array([[10.0], [20], [np.nan]]), np.array([[30.0], [np.nan], [np.nan]])]
    np.testing.assert_array_equal(macro(values), [[20], [20], [np.nan]])
    weights = [np.array([3.0, 1, 1]), np.array([1.0, 1, 1])]
    np.testing.assert_array_equal(macro(values, weights), [[15], [20], [np.nan]])
    low, high = bootstrap.interval(np.array([2.0]), np.array([[1.0], [np.nan], [3.0]]), 0.5)
    assert (low, high) == (1.5, 2.5)


# --- files ---


def test_files_hold_the_results_and_are_reproducible(results, tmp_path) -> None:
    cache, tables, head = make_world(0)
    write_results(tmp_path / "a", results, {})
    write_results(tmp_path / "b", scored(cache, tables, head, RESAMPLED), {})
    names = sorted(str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*.*"))
    assert names == [
        "metrics.json",
        *(f"pck/{name}.json" for name in sorted(PARAMS.methods)),
        "predictions.csv.gz",
        "provenance.json",
        "scores.csv",
        "weight_sweep.csv",
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert metrics == headline(results.facts, results.scores)
    assert json.loads((tmp_path / "a" / "pck" / "fused.json").read_text()) == metrics["fused"]
    pd.testing.assert_frame_equal(read_scores(tmp_path / "a" / "scores.csv"), results.scores)
    packed = (tmp_path / "a" / "predictions.csv.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # no time stamp
    header = gzip.decompress(packed).decode().splitlines()[0]
    assert header == "method,source,target,keypoint_id,x,y,target_x,target_y,error"
    read = pd.read_csv(tmp_path / "a" / "predictions.csv.gz", dtype={"keypoint_id": str})
    pd.testing.assert_frame_equal(read, results.predictions, check_dtype=False)


def test_the_headline_is_a_screenful(results) -> None:
    """Six numbers a method, in full words where they are not to be computed with."""
    found, own = headline(results.facts, results.scores)["fused"], leaves_of(results)["fused"]
    far = groups_of(results, "viewpoint").set_index(["method", "group"]).loc[("fused", "far")]
    expected = {key: round(own[f"pck_{key}@0.10"], 2) for key in ("point", "image", "category")}
    expected["kap"] = round(own["kap@0.10"], 2)
    low, high = own["pck_point@0.10_gain_low"], own["pck_point@0.10_gain_high"]
    gain = f"{own['pck_point@0.10_gain']:+.1f} [{low:.1f}, {high:.1f}]"
    assert found == expected | {"far": round(far["pck_point@0.10"], 2), "gain": gain}
    assert "gain" not in headline(results.facts, results.scores)["features"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"facts": {"n_points": float("nan")}}, ValueError),  # no JSON
        ({"facts": {"dataset": "another"}, "predictions": None}, AttributeError),
    ],
)
def test_no_file_changes_unless_all_are_complete(results, tmp_path, changes, error) -> None:
    write_results(tmp_path, results, {})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    changes = changes | {"facts": results.facts | changes["facts"]}
    with pytest.raises(error):
        write_results(tmp_path, replace(results, **changes), {})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


# --- command line ---


def write_images(path, cache: FakeCache) -> None:
    """The cache as one HDF5 file."""
    write_cache(path, cache.data, cache.image_ids, cache.boxes, cache.grid, cache.provenance)


def test_command_writes_results_and_table_prints_them(tmp_path, capsys) -> None:
    cache, tables, _ = make_world(0, dim=16)
    write_tables(tmp_path / "tables", tables, {})
    cache.provenance = made_with(9)
    cache.provenance["inputs"] |= tables_digest(tmp_path / "tables")
    write_images(tmp_path / "images.h5", cache)
    head = Head.initialise(16, tables.categories, seed=0)
    space = digest(feature_space(cache.provenance))
    save_head(tmp_path / "head.safetensors", head, {"inputs": {"features": space}})
    write_json(tmp_path / "params.json", as_json())
    files = {"params": "params.json", "tables": "tables", "images": "images.h5", "head": "head.safetensors"}
    command = ["evaluate", "--device=cpu", f"--threads={torch.get_num_threads()}"]
    command += [f"--{name}={tmp_path / file}" for name, file in files.items()]
    for out in ("one", "two"):
        assert main([*command, f"--out={tmp_path / out}"]) == 0
    for path in (tmp_path / "one").glob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    found = read_scores(tmp_path / "one" / "scores.csv")
    expected = scored(cache, tables, head)
    pd.testing.assert_frame_equal(found, expected.scores, check_dtype=False)

    capsys.readouterr()
    assert main(["table", str(tmp_path / "one" / "metrics.json")]) == 0
    assert f"{leaves_of(expected)['fused']['pck_point@0.10']:.1f}" in capsys.readouterr().out

    tables.keypoints.loc[0, "name"] = "renamed"  # tables that the cache was not made from
    write_tables(tmp_path / "tables", tables, {})
    assert main([*command, f"--out={tmp_path / 'three'}"]) == 1
    assert "made with other settings" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()


def test_command_names_a_device_that_is_not_there(tmp_path, capsys) -> None:
    write_json(tmp_path / "params.json", as_json())
    paths = [f"--{name}={tmp_path / name}" for name in ("tables", "images", "head", "out")]
    assert main(["evaluate", f"--params={tmp_path / 'params.json'}", *paths, "--device=abacus"]) == 1
    assert "abacus" in capsys.readouterr().err


# --- table ---


def test_table_shows_every_row_and_the_gaps(results, tmp_path) -> None:
    write_results(tmp_path, results, {})
    text, absent = format_file(tmp_path / "metrics.json")
    assert absent == []
    lines = text.splitlines()
    assert f"{results.facts['n_points']} points" in lines[0]
    (fused,) = (line.split() for line in lines[:10] if line.startswith("fused"))
    groups = itertools.product(("pck_point", "pck_image", "pck_category", "kap"), ("0.10", "0.05", "0.01"))
    assert fused[1:] == [f"{leaves_of(results)['fused'][f'{group}@{a}']:.1f}" for group, a in groups]
    below = lines[lines.index("PCK@0.10 per point by azimuth gap, in bins") :]
    gaps = groups_of(results, "azimuth_gap")
    own = gaps[gaps["method"] == "sphere"]
    (sphere,) = (line.split() for line in below if line.startswith("sphere"))
    assert sphere[1:] == [f"{value:.1f}" for value in own["pck_point@0.10"]]
    assert below[-1].split() == ["points", *map(str, own["n_points"])]
    overall = results.scores[results.scores["group_by"] == "all"]
    write_results(tmp_path, replace(results, scores=overall, weight_sweep=results.weight_sweep[:0]), {})
    parts = (show(results.facts, results.scores) for show in (format_metrics, format_intervals))
    assert format_file(tmp_path / "metrics.json") == ("\n\n".join(parts), [])


def test_table_needs_the_record_of_the_evaluation(results, tmp_path, capsys) -> None:
    """What was handed over alone, changed, or comes from another run is not shown."""
    write_results(tmp_path / "whole", results, {})
    facts = {**results.facts, "dataset": "another"}
    write_results(tmp_path / "other", replace(results, facts=facts, scores=results.scores[::-1]), {})

    def refused(change, *parts: str) -> None:
        folder = tmp_path / "results"
        shutil.copytree(tmp_path / "whole", folder)
        change(folder)
        assert main(["table", str(folder / "metrics.json")]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        for part in (str(folder), *parts):
            assert part in err
        shutil.rmtree(folder)

    def of_other_run(name: str):
        return lambda folder: shutil.copy(tmp_path / "other" / name, folder / name)

    refused(lambda folder: (folder / "provenance.json").unlink(), "provenance.json", "no such file")
    for name in ("metrics.json", "scores.csv", "provenance.json"):
        refused(of_other_run(name), "another run")
    refused(
        lambda folder: (folder / "predictions.csv.gz").write_bytes(b""), "predictions.csv.gz", "another run"
    )
    for name in ("metrics.json", "scores.csv", "weight_sweep.csv"):
        refused(lambda folder, name=name: (folder / name).unlink(), name, "No such file")
    refused(lambda folder: (folder / "provenance.json").write_text("{}"), "provenance.json", "sealed record")
    refused(lambda folder: write_json(folder / "provenance.json", seal({})), "provenance.json", "'files'")

    (tmp_path / "whole" / "metrics.json").rename(tmp_path / "whole" / "other.json")
    assert main(["table", str(tmp_path / "whole" / "other.json")]) == 1
    assert "other.json" in capsys.readouterr().err
    (tmp_path / "whole" / "other.json").rename(tmp_path / "whole" / "metrics.json")
    # in a fresh clone the predictions are not there yet; they are not needed
    (tmp_path / "whole" / "predictions.csv.gz").unlink()
    assert main(["table", str(tmp_path / "whole" / "metrics.json")]) == 0
    out, err = capsys.readouterr()
    assert "PCK per point" in out
    assert "predictions.csv.gz" in err


def test_table_shows_intervals_and_gains(results) -> None:
    lines = format_intervals(results.facts, results.scores).splitlines()
    assert "intervals @0.10: 90 % by 30 samples" in lines[0]
    own = leaves_of(results)["fused"]
    (fused,) = (line for line in lines if line.startswith("fused  "))
    low, high = own["pck_image@0.10_low"], own["pck_image@0.10_high"]
    assert f"{own['pck_image@0.10']:.1f} [{low:.1f}, {high:.1f}]" in fused
    (gain,) = (line for line in lines if line.startswith("fused - features"))
    assert gain.split()[3] == f"{own['pck_point@0.10_gain']:+.1f}"
    assert not any(line.startswith("features - ") for line in lines)
    without = results.scores.assign(low=np.nan, high=np.nan)
    assert format_intervals(results.facts, without) == ""


def test_table_shows_the_sweep(results, tmp_path) -> None:
    columns = ("sphere_weight", "n_points", "pck_point@0.10", "pck_point@0.05", "kap@0.10", "kap@0.05")
    lines = [(0, 70, 10, 90, 1, 2), (0.5, 70, 30, 80, 3, 4), (1, 70, 20, 70, 5, 6)]
    weight_sweep = pd.DataFrame(lines, columns=columns, dtype=np.float64).astype({"n_points": int})
    write_results(tmp_path, replace(results, weight_sweep=weight_sweep), {})
    text, _ = format_file(tmp_path / "metrics.json")
    assert "@0.10 on 70 validation points by sphere weight; best PCK at 0.5, +20.0 over 0\n" in text
    weight, points, ap = (line.split() for line in text.splitlines()[-3:])
    assert weight[-3:] == ["0", "0.5", "1"]
    assert points[-3:] == ["10.0", "30.0", "20.0"]
    assert ap[-3:] == ["1.0", "3.0", "5.0"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"fused": {"kap@0.10": 1}}', '{"fused": 3}'])
def test_table_refuses_other_files(content: str, tmp_path) -> None:
    (tmp_path / "metrics.json").write_text(content)
    names = ("scores.csv", "weight_sweep.csv")
    for name in names:
        (tmp_path / name).write_text("")
    written = {name: sha256_file(tmp_path / name) for name in ("metrics.json", *names)}
    write_json(tmp_path / "provenance.json", seal({"files": written}))
    with pytest.raises(InputError, match="not a result of an evaluation"):
        format_file(tmp_path / "metrics.json")


# --- validation ---


def test_validation_equals_the_evaluation(plain) -> None:
    cache, tables, head = make_world(0)
    rotated, other = FakeHead(head.dim, rotation=random_rotation(0)), FakeHead(head.dim)
    other.matrix = -other.matrix[::-1].copy()
    score = make_validation(cache, tables, Validation(0.2, 0.1, 1000), 0, split="test")
    for own, results in ((head, plain), (rotated, plain), (other, scored(cache, tables, other))):
        assert score(own) == pytest.approx(leaves_of(results)["fused"]["pck_point@0.10"], abs=1e-4)
    cache.reads.clear()
    score(head)
    assert set(cache.reads.values()) == {1}


def test_validation_draws_pairs_by_seed() -> None:
    cache, tables, head = make_world(0, images=6)
    settings = Validation(0.2, 0.1, 5)
    scores = [make_validation(cache, tables, settings, seed, split="test")(head) for seed in (0, 0, 1, 2, 3)]
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1


def test_validation_needs_a_common_keypoint() -> None:
    cache, tables, _ = make_world(0)
    with pytest.raises(InputError, match="split 'val'"):
        make_validation(cache, tables, Validation(0.2, 0.1, 10), 0, split="val")


def test_gaps_count_in_the_bins_asked_for() -> None:
    cache, tables, head = make_world(0)
    tables.images["azimuth"] = np.linspace(0, 350, len(tables.images))
    results = scored(cache, tables, head, replace(PARAMS, viewpoint_bins=2))
    assert set(groups_of(results, "azimuth_gap")["group"]) == {"0", "1"}
    fine = scored(cache, tables, head, replace(PARAMS, viewpoint_bins=36))
    gaps = list(map(int, format_gaps(fine.scores).splitlines()[2].split()[1:]))
    assert gaps == sorted(gaps)
    assert max(gaps) > 9
