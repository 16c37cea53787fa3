"""`spheremap score`: predictions of any program score as the same predictions do in an evaluation."""

import csv
import json
import math
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import world
from test_protocols import exact_world
from world import methods

from spheremap.api import score_predictions as api
from spheremap.api.predictions import read_predictions
from spheremap.api.score_predictions import read_protocols, score_given
from spheremap.base.errors import InputError
from spheremap.cli import main
from spheremap.config.slices import read_params
from spheremap.data.keypoint_groups import KeypointGroups
from spheremap.data.tables import Tables, write_tables
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.queries import build_queries
from spheremap.metrics.results import write_results

ROOT = Path(__file__).parents[2]
PROTOCOLS = sorted((ROOT / "presets").glob("protocol-*.yaml"))
# of the made-up data: keypoints 0 to 3 are alike, in two mirror pairs
MIRROR = {"0": "1", "1": "0", "2": "3", "3": "2"}
GROUPS = KeypointGroups(
    {(c, k): "g" for c in "ab" for k in "0123"}, {(c, k): m for c in "ab" for k, m in MIRROR.items()}
)


def boxes_of(cache) -> pd.DataFrame:
    return pd.DataFrame(cache.boxes, index=cache.image_ids, columns=["x0", "y0", "x1", "y1"])


def without_kap(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[scores["metric"] != "kap"].reset_index(drop=True)


@pytest.mark.parametrize("preset", PROTOCOLS, ids=lambda path: path.stem)
def test_an_evaluation_s_predictions_score_the_same_to_the_last_digit(preset: Path, tmp_path: Path) -> None:
    told = read_params(preset)
    section = {key: tuple(v) if isinstance(v, list) else v for key, v in told["evaluate"].items()}
    params = replace(world.PARAMS, **{**section, "window": 3}, bootstrap=10)
    cache, tables, head = exact_world(1, stretched=told["features"]["fit"] == "stretch")
    tables = replace(tables, pairs=pd.concat([tables.pairs, tables.pairs[:2]], ignore_index=True))  # twice
    results = world.scored(cache, tables, head, params, groups=GROUPS)
    write_results(tmp_path, replace(results, weight_sweep=None), {})
    given = read_predictions(tmp_path / "predictions.csv.gz", tables)
    assert list(given) == list(params.methods)
    found = score_given(given, tables, params, boxes_of(cache), "made up", groups=GROUPS)
    pd.testing.assert_frame_equal(found.scores, without_kap(results.scores), check_exact=True)
    pd.testing.assert_frame_equal(found.predictions, results.predictions, check_exact=True)
    assert found.facts == results.facts | {"protocol": f"given predictions; {params.scoring_protocol}"}


@pytest.mark.parametrize("kap_labels", ["centre", "corner"])
def test_similarities_give_kap(kap_labels: str, tmp_path: Path) -> None:
    cache, tables, head = exact_world(2, stretched=False)
    params = replace(world.PARAMS, methods=("fused",), baseline="fused", kap_labels=kap_labels, bootstrap=10)
    results = world.scored(cache, tables, head, params, groups=GROUPS)
    method = methods("fused")["fused"]
    queries = build_queries(cache, tables, tables.pairs)
    blocks = Comparison(cache, [method], head).blocks(queries)
    maps = torch.cat([method.compare(block) for block in blocks]).numpy().reshape(-1, *cache.grid)
    points = results.predictions.set_index(["source", "target", "keypoint_id"])[["x", "y"]]
    asked = pd.MultiIndex.from_arrays(
        [queries.source_id[queries.pair], queries.target_id[queries.pair], queries.keypoint_id]
    )
    xy = points.reindex(asked).fillna(0).to_numpy()
    order = np.random.default_rng(0).permutation(len(asked))
    arrays = {"source": asked.get_level_values(0), "target": asked.get_level_values(1),
              "keypoint_id": asked.get_level_values(2).astype(int), "x": xy[:, 0], "y": xy[:, 1]}  # fmt: skip
    arrays = {name: np.array(list(values))[order] for name, values in arrays.items()}
    np.savez(tmp_path / "fused.npz", **arrays, similarity=maps[order])
    given = read_predictions(tmp_path / "fused.npz", tables)
    found = score_given(given, tables, params, boxes_of(cache), "made up", groups=GROUPS)
    pd.testing.assert_frame_equal(found.scores, results.scores, check_exact=True)
    fewer = {name: values[:-1] for name, values in arrays.items()}
    np.savez(tmp_path / "fused.npz", **fewer, similarity=maps[order][:-1])
    with pytest.raises(InputError, match=r"no similarities|no prediction"):
        score_given(read_predictions(tmp_path / "fused.npz", tables), tables, params, boxes_of(cache), "x")


# --- the same, slowly


def slow_scores(tables: Tables, predictions: dict, alpha: float) -> dict[tuple[str, str, str], float]:
    """Scores by (group_by, group, metric) of predictions by (source, target, keypoint); None: none."""
    images = {image.image_id: image for image in tables.images.itertuples()}
    places = {name: {} for name in images}
    for point in tables.keypoints.itertuples():
        if point.visible:
            places[point.image_id][point.keypoint_id] = (point.x, point.y)
    hits = []
    for number, pair in enumerate(tables.pairs.itertuples()):
        target, own = images[pair.target], places[pair.target]
        radius = alpha * max(target.x2 - target.x1, target.y2 - target.y1)
        for k in places[pair.source].keys() & own.keys():
            found = predictions[pair.source, pair.target, k]
            if found is None:
                continue
            error = math.dist(found, own[k])
            others = [math.dist(found, xy) for other, xy in own.items() if other != k]
            point = {"pair": number, "category": target.category, "pck": error < radius}
            point["confusion"] = error >= radius and min(others, default=math.inf) < radius
            mirror = own.get(MIRROR.get(k))
            point["mirrored"] = None if mirror is None else math.dist(found, mirror) < error
            alike = sum(other in MIRROR for other in own) if k in MIRROR else 0
            point["geometry"] = "aware" if alike >= 2 else "other"
            point["mirror"] = "unpaired" if k not in MIRROR else "one" if mirror is None else "both"
            steps = [math.floor(images[i].azimuth / 45 + 0.5) for i in (pair.source, pair.target)]
            gap = abs(steps[0] - steps[1]) % 8
            point["azimuth_gap"] = str(min(gap, 8 - gap))
            point["viewpoint"] = "far" if min(gap, 8 - gap) >= 2 else "near"
            hits.append(point | {"all": "all"})
    result = {}
    for by in ("all", "category", "azimuth_gap", "viewpoint", "geometry", "mirror"):
        for group in {point[by] for point in hits}:
            own = [point for point in hits if point[by] == group]
            result[by, group, "pck_point"] = percent([p["pck"] for p in own])
            result[by, group, "confusion"] = percent([p["confusion"] for p in own])
            for average, key in (("image", "pair"), ("category", "category")):
                parts = {p[key] for p in own}
                shares = [percent([p["pck"] for p in own if p[key] == part]) for part in parts]
                result[by, group, f"pck_{average}"] = sum(shares) / len(shares)
            sided = [p["mirrored"] for p in own if p["mirrored"] is not None]
            if sided:
                result[by, group, "mirrored"] = percent(sided)
    return result


def percent(values: list[bool]) -> float:
    return 100 * sum(values) / len(values)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_plain_loops_with_ties_missing_points_and_duplicates(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    cache, tables, _ = exact_world(seed, stretched=False)
    tables = replace(tables, pairs=pd.concat([tables.pairs, tables.pairs[:3]], ignore_index=True))
    visible = tables.keypoints[tables.keypoints["visible"] == 1]
    places = {image: own.set_index("keypoint_id")[["x", "y"]].to_dict("index") for image, own in
              visible.groupby("image_id")}  # fmt: skip
    predictions, lines = {}, []
    for source, target in set(zip(tables.pairs["source"], tables.pairs["target"], strict=True)):
        for k in places[source].keys() & places[target].keys():
            if rng.random() < 0.2:
                predictions[source, target, k] = None
                if rng.random() < 0.5:
                    lines.append((source, target, k, math.nan, 1.0))
                continue
            other = places[target][rng.choice(sorted(places[target]))]
            # on keypoints, on circles about them, and half way between two
            near = np.array([other["x"], other["y"]]) + rng.choice([0, 0, 0, 2, 4, 8], size=2)
            predictions[source, target, k] = tuple(near.astype(float).tolist())
            lines += [(source, target, k, *predictions[source, target, k])] * int(rng.integers(1, 3))
    rng.shuffle(lines)
    content = [dict(zip(("source", "target", "keypoint_id", "x", "y"), line, strict=True)) for line in lines]
    (tmp_path / "p.json").write_text(json.dumps(content))
    params = replace(world.PARAMS, methods=("p",), baseline="p", alphas=(0.25, 0.125))
    given = read_predictions(tmp_path / "p.json", tables)
    found = score_given(given, tables, params, boxes_of(cache), "made up", True, GROUPS)
    left_out = sum(predictions[s, t, k] is None for s, t in tables.pairs[["source", "target"]].to_numpy()
                   for k in places[s].keys() & places[t].keys())  # fmt: skip
    assert f"p {left_out}" in found.facts["missing"]
    assert set(found.scores["missing"]) == {left_out}
    for alpha, label in ((0.25, "0.25"), (0.125, "0.125")):
        expected = slow_scores(tables, predictions, alpha)
        lines = found.scores[found.scores["threshold"].isin([label, ""])]
        scores = {
            (line.group_by, line.group, line.metric if line.metric in ("confusion", "mirrored") else
             f"{line.metric}_{line.average}"): line.value
            for line in lines.itertuples()
        }  # fmt: skip
        assert scores == pytest.approx(expected, abs=1e-6)


# --- the command, and its errors


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A project whose data set `shapes` has the tables of a made-up one; returns these."""
    _, tables, _ = exact_world(0, stretched=False)
    numbers = tables.keypoints["keypoint_id"]
    tables = replace(tables, keypoints=tables.keypoints.assign(name="part " + numbers))
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    write_tables(tmp_path / "data/shapes/canonical", tables, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "make_tables", lambda dataset, threads: Path("data", dataset, "canonical"))
    return tables


FOREIGN = """
import csv, math
read = lambda name: list(csv.DictReader(open(f"data/shapes/canonical/{name}.csv")))
boxes = {i["image_id"]: [float(i[k]) for k in ("x1", "y1", "x2", "y2")] for i in read("images")}
points = {(p["image_id"], p["keypoint_id"]): (float(p["x"]), float(p["y"])) for p in read("keypoints")
          if p["visible"] == "1"}
right = total = 0
with open("mine.csv", "w", newline="") as file:
    out = csv.writer(file)
    out.writerow(["source", "target", "keypoint_id", "x", "y"])
    for pair in read("pairs"):
        for (image, keypoint), (x, y) in points.items():
            if pair["split"] == "test" and image == pair["source"] and (pair["target"], keypoint) in points:
                a, b = boxes[pair["source"]], boxes[pair["target"]]
                u = b[0] + (x - a[0]) / (a[2] - a[0]) * (b[2] - b[0])
                v = b[1] + (y - a[1]) / (a[3] - a[1]) * (b[3] - b[1])
                u, v = min(max(u, -4), 52), min(max(v, -4), 52)  # in the padding of either form
                out.writerow([pair["source"], pair["target"] + ".jpg", keypoint, u, v])
                total += 1
                radius = 0.1 * max(b[2] - b[0], b[3] - b[1])
                right += math.dist((u, v), points[pair["target"], keypoint]) < radius
print(100 * right / total)
"""


def run_foreign() -> str:
    """Writes mine.csv; returns the score that it gives itself."""
    return subprocess.run([sys.executable, "-c", FOREIGN], capture_output=True, text=True, check=True).stdout


def test_a_foreign_program_scores_itself(project: Tables, tmp_path: Path, capsys) -> None:
    printed = run_foreign()
    assert main(["score", "mine.csv", "--dataset", "shapes"]) == 0
    out = Path("results/mine-on-shapes")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["mine"]["point"] == pytest.approx(float(printed), abs=0.005)
    assert metrics["protocol"].startswith("given predictions; thresholds of the box")
    shown = capsys.readouterr()
    assert f"{metrics['mine']['point']:.1f}" in shown.out
    assert "predictions lie outside their target" in shown.err
    assert main(["score", "mine.csv", "--dataset", "shapes", "--protocol", "all"]) == 0
    names = {path.stem.removeprefix("protocol-") for path in PROTOCOLS}
    assert {path.name for path in out.iterdir() if path.is_dir()} - {"pck"} == names
    for name, params in read_protocols("all").items():
        own = json.loads((out / name / "metrics.json").read_text())
        assert own["protocol"].endswith(params.evaluate.scoring_protocol)
    assert json.loads((out / "default" / "metrics.json").read_text()) == metrics


def write(lines: list[dict]) -> None:
    with Path("p.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]))
        table.writeheader()
        table.writerows(lines)


@pytest.fixture
def whole(project: Tables) -> list[dict]:
    """A prediction of every point."""
    run_foreign()
    with Path("mine.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_wrong_is_a_clear_line(whole: list[dict], capsys) -> None:
    def refused(change, *parts: str) -> None:
        lines = [dict(line) for line in whole]
        write(change(lines) or lines)
        assert main(["score", "p.csv", "--dataset", "shapes"]) == 1
        err = capsys.readouterr().err
        for part in ("p.csv", *parts):
            assert part in err, err

    def put(**values: str):
        return lambda lines: lines[0].update(values)

    def unlike_the_first(lines: list[dict]) -> list[dict]:
        return [line for line in lines if any(line[end] != whole[0][end] for end in ("source", "target"))]

    refused(lambda lines: lines[3:], "3 of", "have no prediction", "--allow-missing", "keypoint")
    refused(unlike_the_first, "1 pairs none at all")
    refused(put(source="a/9"), "1 images are not in the data set", "a/9")
    refused(put(target=whole[0]["source"]), "pairs that the split does not list")
    refused(put(keypoint_id="99"), "keypoints that their source does not show", "99")
    refused(put(x="nan"), "1 predictions are not numbers", "--allow-missing")
    refused(put(x="many"), "bad value in column 'x'", "many")
    large = [line | {a: float(line[a]) * 13 for a in "xy"} for line in whole]
    refused(lambda lines: large, "outside their target and its padding", "another resolution")
    refused(lambda lines: [*lines, lines[0] | {"x": "3.25"}], "keypoints have two predictions")
    refused(lambda lines: [line | {"width": 840, "height": 840} for line in lines], "another resolution")
    refused(lambda lines: [{"a": 1}], "columns are missing", "keypoint_id")
    for method in ("x y", "", "../p"):
        refused(
            lambda lines, name=method: [line | {"method": name} for line in lines], "method", repr(method)
        )
    refused(lambda lines: [line | {"method": "m" if i else ""} for i, line in enumerate(lines)], "''")
    for name, content in (("p.npz", b"PK"), ("p.txt", b""), ("p.json", b"{}"), ("p.pkl", b"\x80")):
        Path(name).write_bytes(content)
    shapes = ["--dataset", "shapes"]
    for named, arguments in (
        *((name, [name, *shapes]) for name in ("p.npz", "p.txt", "p.json", "p.pkl", "nowhere.csv")),
        ("did you mean 'shapes'", ["mine.csv", "--dataset", "shape"]),
        ("sphericalmaps", ["mine.csv", *shapes, "--protocol", "mine"]),
        ("--out", ["mine.csv", *shapes, "--out", "./results"]),
        ("seed 1", ["mine.csv", *shapes, "--seed", "1"]),
    ):
        assert main(["score", *arguments]) == 1
        assert named in capsys.readouterr().err


def test_the_file_is_looked_at_before_tables_are_made(whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(api, "make_tables")
    Path("p.txt").write_bytes(b"")
    for name in ("nowhere.csv", "p.txt"):
        with pytest.raises(InputError, match=name):
            api.score_predictions(Path(name), "shapes")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mine (1).csv", "mine-1"),
        ("SD+DINOv2.csv", "SD-DINOv2"),
        ("_mine.v2.csv", "mine.v2"),
        ("0.5.csv", "0.5"),
    ],
)
def test_a_file_names_method_and_folder(whole: list[dict], project: Tables, file: str, name: str) -> None:
    shutil.copyfile("mine.csv", file)
    assert list(read_predictions(Path(file), project)) == [name]
    assert main(["score", file, "--dataset", "shapes"]) == 0
    assert name in json.loads(Path(f"results/{name}-on-shapes/metrics.json").read_text())


def test_places_of_keypoints_that_the_target_hides_do_not_count(
    whole: list[dict], project: Tables, capsys
) -> None:
    points = project.keypoints[project.keypoints["visible"] == 1]
    shown = set(zip(points["image_id"], points["keypoint_id"], strict=True))
    pairs = project.pairs_of("test")[["source", "target"]].drop_duplicates().itertuples(index=False)
    hidden = [
        {"source": source, "target": target, "keypoint_id": k}
        for source, target in pairs
        for image, k in shown
        if image == source and (target, k) not in shown
    ]
    assert len(hidden) > 0.1 * len(whole)
    assert main(["score", "mine.csv", "--dataset", "shapes"]) == 0
    outside = re.findall("mine: (.*) lie outside", capsys.readouterr().err)
    for place in ("nan", "1e6"):
        write(whole + [line | {"x": place, "y": place} for line in hidden])
        Path("p.csv").replace("mine.csv")
        assert main(["score", "mine.csv", "--dataset", "shapes", "--out", place]) == 0
        assert re.findall("mine: (.*) lie outside", capsys.readouterr().err) == outside
        files = [Path(folder, "scores.csv") for folder in (place, "results/mine-on-shapes")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_of_several_seeds_one_is_scored(whole: list[dict], project: Tables) -> None:
    frame = pd.DataFrame(whole)
    both = pd.concat([frame.assign(seed=seed, x=seed) for seed in (0, 10)])
    both.to_csv("p.csv.xz", index=False)
    with pytest.raises(InputError, match="--seed"):
        read_predictions(Path("p.csv.xz"), project)
    given = read_predictions(Path("p.csv.xz"), project, seed=10)["p"].frame
    assert (len(given), set(given["x"])) == (len(whole), {10.0})
    assert main(["score", "p.csv.xz", "--dataset", "shapes", "--seed", "0"]) == 0


def test_if_everything_is_missing_nothing_is_written(whole: list[dict], capsys) -> None:
    write([line | {"x": "nan"} for line in whole])
    assert main(["score", "p.csv", "--dataset", "shapes", "--allow-missing", "--out", "out"]) == 1
    assert "p.csv" in capsys.readouterr().err
    assert not Path("out").exists()


def test_what_is_missing_is_said_in_every_output(whole: list[dict], capsys) -> None:
    write([line | {"x": "nan"} for line in whole[:2]] + whole[5:])
    assert main(["score", "p.csv", "--dataset", "shapes", "--allow-missing", "--out", "out"]) == 0
    shown = capsys.readouterr()
    line = f"not scored, of {len(whole)} points: p 5"
    assert line in shown.out
    assert line in shown.err
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert metrics["missing"] == line
    assert metrics["p"]["missing"] == json.loads(Path("out/pck/p.json").read_text())["missing"] == 5
    assert set(pd.read_csv("out/scores.csv")["missing"]) == {5}
    assert len(pd.read_csv("out/predictions.csv.gz")) == len(whole) - 5
    assert json.loads(Path("out/provenance.json").read_text())["params"]["allow_missing"]


def test_results_of_geoaware_sc_are_read_and_run_nothing(whole: list[dict], project: Tables, capsys) -> None:
    side, sizes = 840, project.images.set_index("image_id")[["width", "height"]]
    records = {}
    for line in whole:
        target = line["target"].removesuffix(".jpg")
        width, height = sizes.loc[target]
        scale = side / max(width, height)
        new = [round(side * length / max(width, height)) for length in (width, height)]
        shift = [int((side - length) / 2) for length in new]
        places = records.setdefault((line["source"], target), np.zeros((30, 2), np.float32))
        places[int(line["keypoint_id"])] = [
            float(line[a]) * scale + s for a, s in zip("xy", shift, strict=True)
        ]
    content = [
        {"src_fn": f"data/JPEGImages/{s}.jpg", "trg_fn": f"data/JPEGImages/{t}.jpg", "category": "a",
         "src_kpts_pred": places, "threshold": 1.5, "resize_resolution": side}
        for (s, t), places in records.items()
    ]  # fmt: skip
    Path("sc.pkl").write_bytes(pickle.dumps(content, 4))
    found, expected = (
        read_predictions(Path(name), project)[Path(name).stem].frame.set_index(
            ["source", "target", "keypoint_id"]
        )
        for name in ("sc.pkl", "mine.csv")
    )
    np.testing.assert_allclose(found.sort_index()[["x", "y"]], expected.sort_index()[["x", "y"]], atol=1e-4)
    assert main(["score", "sc.pkl", "--dataset", "shapes"]) == 0

    class Hostile:
        def __reduce__(self):
            return (Path.touch, (Path("touched"),))

    for bad in ([Hostile()], [{"src_fn": "a"}], {"a": 1}):
        Path("bad.pkl").write_bytes(pickle.dumps(bad, 4))
        capsys.readouterr()
        assert main(["score", "bad.pkl", "--dataset", "shapes"]) == 1
        assert "bad.pkl" in capsys.readouterr().err
    assert not Path("touched").exists()
