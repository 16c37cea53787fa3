"""The leaderboard: every line says where it is from, and what was run here can be computed again."""

import math
from pathlib import Path

import benchmark_table
import pages
import pandas as pd
import pytest
import run as leaderboard
import yaml
from project import Project
from studio import run

from spheremap.base.files import sha256_file
from spheremap.base.template import lay_project
from spheremap.metrics.score_table import read_scores

ROOT = Path(__file__).parents[2]

RUNS = yaml.safe_load((ROOT / "leaderboard" / "runs.yaml").read_text())


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return benchmark_table.read_table()


def test_every_line_says_where_it_is_from(table: pd.DataFrame) -> None:
    reported, here = (
        table[table["source"] == source] for source in (benchmark_table.REPORTED, benchmark_table.RUN_HERE)
    )
    assert len(reported) > 0
    assert len(here) > 0
    assert len(reported) + len(here) == len(table)
    for column in ("by", "url"):
        assert (reported[column] != "").all()
    for column in ("implementation", "protocol", "commit", "parameters", "seeds", "hardware", "predictions"):
        assert (here[column] != "").all()
    assert not table.duplicated([*benchmark_table.KEY, "source", "by"]).any()
    assert table["supervision"].isin(list(RUNS["supervision"])).all()


def test_what_was_run_here_has_three_seeds_or_is_preliminary(table: pd.DataFrame) -> None:
    here = table[table["source"] == benchmark_table.RUN_HERE]
    seeds = here["seeds"].str.split().str.len()
    assert (seeds[here["data_set"].isin(benchmark_table.STORED)] >= pages.ENOUGH).all()
    few = here[seeds < pages.ENOUGH].drop_duplicates(["data_set", *pages.ENTRY])
    assert pages.leaderboard(table).count("preliminary") == len(few)
    assert here[["value", "low", "high", "n_pairs", "n_points"]].notna().all().all()
    assert ((here["low"] <= here["value"]) & (here["value"] <= here["high"])).all()


@pytest.mark.parametrize("data_set", benchmark_table.STORED)
def test_scores_of_stored_predictions_are_those_of_the_table(table: pd.DataFrame, data_set: str) -> None:
    """By plain means, from the places that were predicted."""
    here = table[(table["source"] == benchmark_table.RUN_HERE) & (table["data_set"] == data_set)]
    here = here[here["group"] == "all"]
    assert len(here) > 0
    for method, lines in here.groupby("method"):
        path = benchmark_table.PREDICTIONS / data_set / f"{method}.csv.xz"
        assert {sha256_file(path)} == set(lines["predictions"])
        own = pd.read_csv(path)
        distance = ((own["x"] - own["target_x"]) ** 2 + (own["y"] - own["target_y"]) ** 2) ** 0.5
        side = distance / own["error"]  # the same for all points of a target, where it is a number
        assert (side.groupby(own["target"]).agg(lambda s: s.max() - s.min()) < 1e-2).all()
        own["right"] = 100.0 * (own["error"] < float(lines["threshold"].iloc[0]))
        own["category"] = own["source"].str.split("/").str[0]
        for line in lines.to_dict("records"):
            keys = {"point": [], "image": ["source", "target"], "category": ["category"]}[line["average"]]
            means = [
                one["right"].mean() if not keys else one.groupby(keys)["right"].mean().mean()
                for _, one in own.groupby("seed")
            ]
            assert line["value"] == pytest.approx(sum(means) / len(means), abs=1e-4)
            assert len(means) == len(line["seeds"].split())


def test_the_interval_over_seeds_by_hand() -> None:
    scores = pd.DataFrame(
        {
            "n_pairs": 5, "n_points": 9, "value": [10.0, 12.0, 14.0], "low": [7.0, 9.0, 11.0],
            "high": [14.0, 16.0, 18.0], "gain": math.nan, "gain_low": math.nan, "gain_high": math.nan,
        }
    )  # fmt: skip
    found = benchmark_table.over_seeds(scores)
    between = 4.303 * 2 / math.sqrt(3)
    assert found["value"] == 12.0
    assert found["low"] == pytest.approx(12 - math.hypot(3, between), abs=1e-3)
    assert found["high"] == pytest.approx(12 + math.hypot(4, between), abs=1e-3)
    assert found["spread"] == 2.0
    assert math.isnan(found["gain"])
    one = benchmark_table.over_seeds(scores.iloc[:1])
    assert (one["low"], one["high"]) == (7.0, 14.0)


def test_the_pages_hold_the_present_table(table: pd.DataFrame) -> None:
    """`make docs` changes nothing."""
    for name, text in (("leaderboard", pages.leaderboard(table)), ("methods", pages.gains(table))):
        written = (ROOT / "docs" / f"{name}.md").read_text()
        mark = {"leaderboard": "leaderboard", "methods": "gains"}[name]
        assert pages.between(written, mark, text) == written


def test_lines_of_a_data_set_take_the_place_of_its_former_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame
) -> None:
    monkeypatch.setattr(benchmark_table, "TABLE", tmp_path / "b.csv")
    benchmark_table.write_csv(benchmark_table.TABLE, table)
    here = table["source"] == benchmark_table.RUN_HERE
    own = here & (table["data_set"] == table["data_set"][here].iloc[0])
    name, first = table["data_set"][own].iloc[0], own.to_numpy().argmax()
    benchmark_table.enter(name, table[own].tail(1))
    expected = pd.concat([table[:first], table[own].tail(1), table[first:][~own[first:]]])
    pd.testing.assert_frame_equal(benchmark_table.read_table(), expected.reset_index(drop=True))
    new = table[own].head(2).assign(data_set="new")
    benchmark_table.enter("new", new)
    assert benchmark_table.read_table()["data_set"].tolist()[-2:] == ["new", "new"]


def test_uncommitted_changes_are_not_run(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(leaderboard, "_git", lambda *arguments: " M src/spheremap/changed.py")
    with pytest.raises(SystemExit):
        leaderboard.main([])
    assert "changed.py" in capsys.readouterr().err


@pytest.mark.slow
def test_spheremap_score_gives_the_table_s_lines(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test split is drawn; values, intervals, gains, geometry-aware points."""
    lay_project(tmp_path / "project")
    counts = ("instances.train", "instances.val", "pairs.train", "pairs.val")
    Project(tmp_path / "project").edit({f"datasets.shapes.{count}": 0 for count in counts})
    monkeypatch.chdir(tmp_path / "project")
    here = table[(table["source"] == benchmark_table.RUN_HERE) & (table["data_set"] == "shapes")]
    here = here[here["method"].isin(["features", "fused", "supervised"])]
    stored = {
        method: pd.read_csv(benchmark_table.PREDICTIONS / "shapes" / f"{method}.csv.xz")
        for method in here["method"].unique()
    }
    given = pd.concat(own.assign(method=method) for method, own in stored.items())
    scores = []
    given.to_csv("given.csv.gz", index=False)
    for seed in given["seed"].unique():
        run("score", "given.csv.gz", "--dataset", "shapes", "--seed", seed, "--out", "scored")
        found = read_scores(Path("scored/scores.csv")).assign(seed=seed)
        scores.append(found[(found["metric"] == "pck") & (found["threshold"] == "0.10")])
    by = pd.concat(scores).groupby(["method", "average", "group_by", "group"])
    names = {label: key for key, label in benchmark_table.GROUPS.items()}
    for line in here.to_dict("records"):
        group = line["method"], line["average"], *names[line["group"]]
        expected = benchmark_table.over_seeds(by.get_group(group))
        for column in ("value", "low", "high", "gain", "gain_low", "gain_high"):
            assert line[column] == pytest.approx(expected[column], abs=2e-4, nan_ok=True), (line, column)
