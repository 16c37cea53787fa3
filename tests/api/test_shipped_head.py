"""The head that comes with the package, and the name that stands for it."""

from pathlib import Path

import pytest

from spheremap.api.bundle import read_bundle
from spheremap.api.named_heads import SHIPPED, find_bundle
from spheremap.base.choices import DEFAULT_HEAD
from spheremap.base.errors import InputError
from spheremap.cli import main
from spheremap.config import load_params


def test_it_is_small_says_where_it_is_from_and_knows_its_domain(root: Path) -> None:
    path = find_bundle(DEFAULT_HEAD)
    assert path.parent == SHIPPED
    assert path.stat().st_size < 3_000_000
    bundle = read_bundle(path)
    about, params = bundle.about, load_params(root / "params.yaml")
    assert about.categories == ["horse", "sheep"]
    assert about.backbone.model == params.backbones["dinov2-s14-wheel"].model
    assert about.weight.source == "validation"
    assert about.weight.gain is not None
    assert bundle.domain is not None
    assert any("CC BY 4.0" in credit.licence for credit in about.credits)
    assert b"/home" not in path.read_bytes()


def test_its_terms_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "--about"]) == 0
    said = capsys.readouterr().out
    assert "CC BY 4.0" in said
    assert "LivestockKeypoints" in said


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"quadrupeds, spair-71k[\s\S]*did you mean 'quadrupeds'"):
        find_bundle("quadruped")
