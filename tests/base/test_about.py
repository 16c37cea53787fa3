"""Licence and credit: what the files say, what the command line prints, and what bundles carry."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from studio import ROOT, Studio, make_studio, run
from tiny import BACKBONE

from spheremap.api.bundle import read_bundle
from spheremap.base.about import HOMEPAGE, PAPER
from spheremap.config import load_params
from spheremap.config.backbone import ModelSpec, WeightsSpec
from spheremap.features.backbones.weights import credit_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_files_agree_on_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert PROJECT["version"] == citation["version"] == newest[1]
    assert PROJECT["license"] == citation["license"] == "MIT"
    assert (
        (ROOT / "LICENSE")
        .read_text()
        .startswith("MIT License\n\nCopyright (c) 2026 spheremap contributors\n")
    )


def test_the_paper_is_the_same_everywhere() -> None:
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    assert paper["url"] == HOMEPAGE
    assert paper["title"] in PAPER
    assert all(author["family-names"] in PAPER for author in paper["authors"])


def test_version_says_licence_and_paper(capsys: pytest.CaptureFixture[str]) -> None:
    run("--version")
    out = capsys.readouterr().out
    assert re.match(r"spheremap \d+\.\d+\.\d+\n  licence: MIT", out)
    assert PAPER in out


def test_every_download_and_backbone_of_the_project_has_its_terms_on_the_page() -> None:
    params, page = load_params(ROOT / "params.yaml"), (ROOT / "docs" / "licences.md").read_text()
    assert all(f"`{name}`" in page for name in params.datasets)
    for backbone in params.backbones.values():
        (credit,) = credit_of(backbone)
        assert credit.licence in ("apache-2.0", "dinov3-license")
        assert credit.homepage


def test_random_weights_owe_nothing() -> None:
    assert credit_of(ModelSpec(BACKBONE["model"], WeightsSpec(source="random", seed=0))) == []


def test_a_bundle_carries_the_terms_of_data_and_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio: Studio = make_studio(tmp_path)
    params = yaml.safe_load(studio.params.read_text())
    params["datasets"]["own"] = params["datasets"]["spair-u"]
    studio.params.write_text(yaml.safe_dump(params))
    run("bundle", "--params", studio.params, "--out", studio.bundle)
    credits = read_bundle(studio.bundle).about.credits
    assert [credit.part for credit in credits] == [
        "method and spheremap", "data set spair-u", "data set spair-71k",
    ]  # fmt: skip
    capsys.readouterr()
    run("match", "--about", "--model", studio.bundle)
    out = capsys.readouterr().out
    assert out == "\n".join(map(str, credits)) + "\n"
    assert params["downloads"]["spair-u"]["citation"].strip() in out
