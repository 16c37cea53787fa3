"""The sphere's weight in a bundle: from validation, or why not, and what the commands say of it."""

import json
from pathlib import Path

import pandas as pd
import pytest
from studio import Studio, run

from spheremap.api.bundle import read_bundle
from spheremap.api.matcher import load
from spheremap.api.server import ExplorerServer
from spheremap.base.files import sha256_file
from spheremap.base.provenance import provenance
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.cli import main
from spheremap.metrics.results import Results, write_results
from spheremap.metrics.score_table import COLUMNS
from spheremap.metrics.sweep import Gain

Capture = pytest.CaptureFixture[str]

SWEEP = pd.DataFrame(
    {
        "sphere_weight": [0.0, 0.3, 0.6],
        "n_points": 70,
        "pck_point@0.05": [9.0, 1.0, 1.0],
        "pck_point@0.10": [20.0, 26.25, 26.25],  # of equals, the first
        "pck_point@0.10_gain": [0.0, 6.25, 6.25],
        "pck_point@0.10_gain_low": [0.0, 5.125, 4.0],
        "pck_point@0.10_gain_high": [0.0, 7.375, 8.0],
        "kap@0.10": [1.0, 2.0, 3.0],
    }
)
CONSTANT = "sphere weight 0.2, that of params.yaml, not chosen on validation"


class Evaluated:
    """The studio's project with the results of an evaluation."""

    def __init__(self, studio: Studio, folder: Path) -> None:
        self.studio, self.folder, self.bundle = studio, folder, folder / "b.spheremap"
        self.params = json.loads(studio.params.read_text())
        (folder / "params.yaml").write_text(json.dumps(self.params))

    def results(self, sweep: pd.DataFrame = SWEEP, head: Path | None = None, **swept: object) -> None:
        evaluate = self.params["evaluate"] | {"sweep": self.params["evaluate"]["sweep"] | swept}
        settings = {"evaluate": evaluate, "methods": self.params["methods"], "dataset": "own"}
        made = provenance("evaluate", settings, {"head": sha256_file(head or self.studio.head)})
        results = Results({}, pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(), sweep)
        write_results(self.folder / "results", results, made)

    def command(self, *options: object) -> list[str]:
        names = ["bundle", "--params", self.folder / "params.yaml", "--out", self.bundle, "--embed"]
        names += ["--head", self.studio.head, "--weights", self.studio.weights, *options]
        return [str(name) for name in names]


@pytest.fixture
def evaluated(studio: Studio, tmp_path: Path) -> Evaluated:
    return Evaluated(studio, tmp_path)


def test_the_best_weight_on_validation_is_used_and_said(
    evaluated: Evaluated, studio: Studio, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "sphere weight 0.3, chosen on validation: +6.2 [5.1, 7.4] points of PCK@0.10 over features\n"
    evaluated.results()
    run(*evaluated.command())
    assert capsys.readouterr().err == said
    about = read_bundle(evaluated.bundle).about
    assert about.sphere_weight == 0.3
    assert about.weight_gain == Gain(0.1, 6.25, 5.125, 7.375)
    matcher = load(evaluated.bundle, device="cpu")
    a, b = studio.photographs[:2]
    found, expected = (matcher.match(a, b, [(30, 40)], sphere_weight=w).similarity for w in (None, 0.3))
    assert found["fused"] == expected["fused"]
    capsys.readouterr()
    monkeypatch.setattr(ExplorerServer, "serve_forever", lambda self: None)
    monkeypatch.setattr("spheremap.api.arguments.load_model", lambda args: matcher)  # once is enough
    model = ("--model", evaluated.bundle, "--device", "cpu")
    for command in (
        ["match", a, b, "--points", "30,40"],
        ["match", a, b, "--warp", evaluated.folder / "w.npz"],
        ["explore", a, b, "--no-browser"],
    ):
        run(*command, *model)
        assert capsys.readouterr().err == said, command
    run("match", a, b, "--points", "30,40", "--sphere-weight", 0.7, *model)
    assert capsys.readouterr().err == "sphere weight 0.7, as asked for\n"


def test_without_a_gain_features_alone_are_used(
    evaluated: Evaluated, studio: Studio, capsys: Capture
) -> None:
    evaluated.results(SWEEP.assign(**{"pck_point@0.10": [20.0, 20.0, 19.0]}))
    run(*evaluated.command())
    assert capsys.readouterr().err == ("sphere weight 0: validation found no gain, features alone are used\n")
    found = load(evaluated.bundle, device="cpu").match(*studio.photographs[:2], [(30, 40), (80, 20)])
    assert (found.xy == found.target_xy["features"]).all()


def test_without_samples_there_is_no_interval(evaluated: Evaluated, capsys: Capture) -> None:
    evaluated.results(SWEEP[[name for name in SWEEP if "_gain" not in name]])
    run(*evaluated.command())
    assert "chosen on validation: +6.2 points of PCK@0.10" in capsys.readouterr().err
    assert read_bundle(evaluated.bundle).about.weight_gain == Gain(0.1, 6.25)


def test_without_validation_it_is_the_constant_and_said_why(evaluated: Evaluated, capsys: Capture) -> None:
    def reason() -> str:
        run(*evaluated.command())
        about = read_bundle(evaluated.bundle).about
        assert (about.sphere_weight, about.weight_gain) == (0.2, None)
        assert str(about.weight) == CONSTANT
        constant, why = capsys.readouterr().err.split(": ", 1)
        assert constant == CONSTANT
        return why

    assert "no evaluation" in reason()
    evaluated.results(head=evaluated.studio.weights)
    assert "of another head" in reason()
    evaluated.results(SWEEP[:0])
    assert "no validation pairs" in reason()
    evaluated.results(SWEEP[1:])
    assert "weight 0 was not tried" in reason()
    evaluated.results(method="fused_mutual", parameter="radius")
    assert "radius of fused_mutual" in reason()
    evaluated.results(method="adapted_fused")  # its weight is that beside other features
    assert "sphere_weight of adapted_fused" in reason()


def test_changed_results_are_refused(evaluated: Evaluated, capsys: Capture) -> None:
    evaluated.results()
    path = evaluated.folder / "results" / "weight_sweep.csv"
    path.write_text(path.read_text().replace("26.25", "99"))
    assert main(evaluated.command()) == 1
    assert f"in: {path}" in capsys.readouterr().err
    assert not evaluated.bundle.exists()


def test_a_weight_by_hand(evaluated: Evaluated, capsys: Capture) -> None:
    evaluated.results()
    run(*evaluated.command("--sphere-weight", 0.45))
    about = read_bundle(evaluated.bundle).about
    assert str(about.weight) == "sphere weight 0.45, chosen by hand when the bundle was made"
    for bad in ("1.5", "nan"):
        assert main(evaluated.command("--sphere-weight", bad)) == 1
        assert f"found: {bad}" in capsys.readouterr().err


def test_a_bundle_of_before_says_what_it_knows(evaluated: Evaluated) -> None:
    run(*evaluated.command())
    state, content = read_tensors(evaluated.bundle)
    assert content is not None
    del content["weight_source"], content["weight_gain"]
    write_tensors(evaluated.bundle, state, content)
    assert str(load(evaluated.bundle, device="cpu").weight) == "sphere weight 0.2, the bundle's"
