"""Presets: what they set, and that params.yaml as shipped is the demonstration's."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from spheremap.base.errors import InputError
from spheremap.cli import main
from spheremap.config import EvaluateSlice
from spheremap.config.presets import WHOLE, apply_preset
from spheremap.config.slices import parse, read_params
from spheremap.methods import make_methods


@pytest.fixture
def params(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(root / "params.yaml", tmp_path / "params.yaml"))


def test_params_are_shipped_with_the_demo(root: Path, params: Path) -> None:
    assert apply_preset(root / "presets" / "demo.yaml", params) == []
    assert params.read_bytes() == (root / "params.yaml").read_bytes()


def test_what_dvc_writes_changes_one_line(root: Path, params: Path) -> None:
    """By `dvc exp run -S`, which writes the file anew: it is kept in the form that DVC writes."""
    apply_overrides(params, ["train.seed=1"])
    before, after = (path.read_text().splitlines() for path in (root / "params.yaml", params))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [("  seed: 0", "  seed: 1")]


def test_the_paper_s_settings(root: Path, params: Path) -> None:
    changes = apply_preset(root / "presets" / "spair-71k.yaml", params)
    assert "dataset: shapes → spair-71k" in changes
    now = yaml.safe_load(params.read_text())
    backbone = now["backbones"][now["features"]["backbone"]]
    for section, expected in (
        (now["train"], {
            "learning_rate": 1e-3, "batch": 64, "triplets": 32, "gradient_clip": None, "distance_margin": 0.5,
            "orientation_threshold": 0.7, "viewpoint_bins": 8,
            "weights": {"reconstruction": 1.0, "distance": 0.3, "orientation": 0.3, "viewpoint": 0.1},
        }),
        (now["methods"]["fused"], {"sphere_weight": 0.2}),
        (now["features"], {"crop_scale": [0.5, 1.5]}),
        (backbone, {
            "model": "vit_base_patch14_dinov2.lvd142m", "image_size": {"train": 448, "eval": 840},
            "norm": False, "facet": "token", "block": 11,
        }),
    ):  # fmt: skip
        assert {key: section[key] for key in expected} == expected


@pytest.mark.parametrize("name", ["spair-71k", "spair-71k-small", "every-method", "every-method-dinov2-b14"])
def test_there_and_back_keeps_every_value_and_comment(root: Path, params: Path, name: str) -> None:
    before = params.read_text()
    assert apply_preset(root / "presets" / f"{name}.yaml", params)
    apply_preset(root / "presets" / "demo.yaml", params)
    assert yaml.safe_load(params.read_text()) == yaml.safe_load(before)
    assert params.read_text().count("#") == before.count("#")


def test_every_method_stands_in_a_preset(root: Path, params: Path) -> None:
    theirs = ["diy_sc", "diy_sc_fused"]  # for one backbone alone
    for name, without in (("every-method", theirs), ("every-method-dinov2-b14", [])):
        apply_preset(root / "presets" / f"{name}.yaml", params)
        now = yaml.safe_load(params.read_text())
        every = list(make_methods(now["methods"], now["methods"]))
        assert now["evaluate"]["methods"] == [method for method in every if method not in without]
    apply_preset(root / "presets" / "spair-71k.yaml", params)
    now = yaml.safe_load(params.read_text())
    assert now["evaluate"]["methods"] == ["features", "sphere", "fused", "chance"]


def test_whole_presets_leave_nothing_of_other_presets(root: Path) -> None:
    keys = {path.stem: set(_keys(yaml.safe_load(path.read_text()))) for path in (root / "presets").iterdir()}
    assert keys["demo"] == keys["spair-71k"] == keys["spair-71k-small"] == set.union(*keys.values())


def _keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        name = prefix + key
        yield from _keys(value, f"{name}.") if isinstance(value, dict) and name not in WHOLE else [name]


@pytest.mark.parametrize(
    "preset",
    [
        *("train: {learning_rat: 1}", "- 1", "a: [", "nothing: {a: 1}", "train:", "train: {steps: many}"),
        *("features: {backbone: nix}", "dataset: {a: 1}"),
    ],
)
def test_a_bad_preset_changes_nothing(preset: str, params: Path, tmp_path: Path) -> None:
    before = params.read_bytes()
    (tmp_path / "bad.yaml").write_text(preset)
    with pytest.raises(InputError, match=r"bad\.yaml"):
        apply_preset(tmp_path / "bad.yaml", params)
    assert params.read_bytes() == before


def test_a_link_to_the_parameters_stays_one(root: Path, params: Path, tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to(params)
    changes = apply_preset(root / "presets" / "spair-71k.yaml", tmp_path / "link.yaml")
    assert "train.gradient_clip: 1.0 → null" in changes
    assert (tmp_path / "link.yaml").is_symlink()
    assert read_params(params)["dataset"] == "spair-71k"


def test_an_unknown_preset_names_the_known(
    root: Path, params: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["preset", "spair", "--params", str(params), "--presets", str(root / "presets")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "demo, every-method, every-method-dinov2-b14, photographs, protocol-default" in error
    assert "spair-71k" in error


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "presets").glob("protocol-*.yaml")))
def test_protocols_set_every_choice_and_nothing_else(root: Path, params: Path, path: Path) -> None:
    choices = {"threshold", "frame", "source", "readout", "candidates", "kap_labels", "alphas"}
    preset = yaml.safe_load(path.read_text())
    assert {"features", "evaluate"} <= set(preset) <= {"features", "evaluate", "methods"}
    assert set(preset["features"]) == {"fit"}
    assert choices <= set(preset["evaluate"]) <= choices | {"window", "sigma", "temperature"}
    apply_preset(path, params)
    now = yaml.safe_load(params.read_text())
    told = {"dataset": "x", "evaluate": now["evaluate"], "methods": now["methods"]}
    parse(told, EvaluateSlice, where=path)
    apply_preset(root / "presets" / "protocol-default.yaml", params)
    assert yaml.safe_load(params.read_text()) == yaml.safe_load((root / "params.yaml").read_text())
