"""What artifacts say of how they were made."""

import hashlib
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from spheremap.base.errors import ProvenanceError
from spheremap.base.files import read_json, write_json
from spheremap.base.provenance import check_provenance, digest, provenance

WHERE = Path("some/cache.h5")


def check(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """The message of the refusal."""
    with pytest.raises(ProvenanceError) as caught:
        check_provenance(found, expected=expected, where=WHERE, fix="run `snakemake`")
    message = str(caught.value)
    assert str(WHERE) in message
    assert "run `snakemake`" in message
    return message


def test_record() -> None:
    record = provenance("cache", {"b": 2, "a": [1]}, {"tables": "ff"})
    canonical = hashlib.sha256(b'{"a":[1],"b":2}').hexdigest()
    assert record == {
        "step": "cache",
        "params": {"a": [1], "b": 2},
        "params_sha256": canonical,
        "inputs": {"tables": "ff"},
        "versions": {package: version(package) for package in ("spheremap", "torch", "timm", "numpy")},
    }
    assert provenance("cache", {})["inputs"] == {}


def test_digest_sees_every_change() -> None:
    values: list[Any] = [{}, {"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": [1]}, {"a": {"b": 1}}, {"a": None}]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": "ü"}) == digest({"a": "ü"})


def test_agreement_passes_and_more_than_expected_is_no_matter() -> None:
    found = provenance("cache", {"block": 9, "more": True}, {"tables": "ff"})
    check_provenance(found, expected={}, where=WHERE, fix="-")
    check_provenance(found, expected=found, where=WHERE, fix="-")
    expected = {"step": "cache", "params": {"block": 9}, "inputs": {"tables": "ff"}}
    check_provenance(found, expected=expected, where=WHERE, fix="-")


def test_every_difference_is_named() -> None:
    found = provenance("cache", {"block": 9, "norm": False, "grid": {"rows": 4}}, {"tables": "ff"})
    expected = {
        "step": "cache",
        "params": {"block": 11, "norm": False, "grid": {"rows": 5}, "facet": "token"},
        "inputs": {"tables": "00"},
    }
    message = check(found, expected)
    for part in ("params.block = 11", "params.block = 9", "params.grid.rows = 5", "params.grid.rows = 4"):
        assert part in message
    assert "params.facet = token" in message
    assert "params.facet = nothing" in message
    assert "inputs.tables = 00" in message
    assert "norm" not in message
    assert "step" not in message


def test_values_of_other_types_differ() -> None:
    assert "params = {}" in check({"params": 3}, {"params": {}})
    assert "a = 1" in check({"a": {"b": 1}}, {"a": 1})
    assert "a = None" in check({}, {"a": None})


@dataclass(frozen=True)
class Params:
    scale: tuple[float, float]


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    """Tuples of parameters come back from a file as lists, which is no difference."""
    record = provenance("cache", asdict(Params((0.5, 1.5))))
    write_json(tmp_path / "provenance.json", record)
    found = read_json(tmp_path / "provenance.json")
    assert found == record
    check_provenance(found, expected={"params": asdict(Params((0.5, 1.5)))}, where=WHERE, fix="-")
    assert "params.scale" in check(found, {"params": asdict(Params((0.5, 2.0)))})
