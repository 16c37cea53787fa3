"""Typed reading of parameters."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from spheremap.base.errors import InputError
from spheremap.config.slices import parse, read_slice


@dataclass(frozen=True)
class Weights:
    distance: float
    viewpoint: float = 0.1


@dataclass(frozen=True)
class Spec:
    steps: int
    rate: float
    name: str
    fused: bool
    weights: Weights
    mode: Literal["views", "images", 3]
    ids: dict[str, int]
    alphas: list[float]
    scale: tuple[float, float]
    tags: tuple[str, ...] = ()
    limit: int | None = None
    losses: dict[str, Weights] = dataclasses.field(default_factory=dict)


GOOD: dict[str, Any] = {
    "steps": 10,
    "rate": 0.5,
    "name": "x",
    "fused": True,
    "weights": {"distance": 1},
    "mode": "views",
    "ids": {"cow": 10},
    "alphas": [0.1, 1],
    "scale": [0.5, 1.5],
}


def read(tmp_path: Path, value: Any) -> Spec:
    path = tmp_path / "slice.json"
    path.write_text(json.dumps(value))
    return read_slice(path, Spec)


def test_good_values_and_defaults(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD)
    assert spec == Spec(
        steps=10,
        rate=0.5,
        name="x",
        fused=True,
        weights=Weights(1.0, 0.1),
        mode="views",
        ids={"cow": 10},
        alphas=[0.1, 1.0],
        scale=(0.5, 1.5),
    )
    # whole numbers become floats where floats are asked for, so that equal settings are equal bytes
    assert type(spec.weights.distance) is float
    assert type(spec.alphas[1]) is float
    more = read(
        tmp_path, GOOD | {"tags": ["a", "b"], "limit": 3, "losses": {"train": {"distance": 2.5}}, "mode": 3}
    )
    assert (more.tags, more.limit, more.losses, more.mode) == (("a", "b"), 3, {"train": Weights(2.5)}, 3)
    assert read(tmp_path, GOOD | {"limit": None}).limit is None


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"step": 5}, ["unknown parameter 'step'", "did you mean 'steps'?"]),
        ({"zzz": 5}, ["unknown parameter 'zzz'", "steps, rate, name", "remove it"]),
        ({"weights": {"distance": 1, "veiwpoint": 2}}, ["'weights.veiwpoint'", "did you mean 'viewpoint'?"]),
        ({"weights": {}}, ["missing parameter 'weights.distance'"]),
        ({"weights": 3}, ["'weights'", "a mapping", "3"]),
        ({"steps": 1.0}, ["'steps'", "a whole number", "1.0"]),
        ({"steps": True}, ["'steps'", "a whole number", "True"]),
        ({"steps": "10"}, ["'steps'", "a whole number", "'10'"]),
        ({"rate": "3e-4"}, ["'rate'", "a number", "'3e-4'"]),  # how YAML 1.1 reads 3e-4
        ({"rate": False}, ["'rate'", "a number"]),
        ({"rate": None}, ["'rate'", "a number", "None"]),
        ({"rate": float("nan")}, ["'rate'", "a number", "nan"]),
        ({"rate": float("inf")}, ["'rate'", "a number", "inf"]),
        ({"rate": 10**400}, ["'rate'", "a number"]),
        ({"name": 5}, ["'name'", "a text"]),
        ({"fused": 1}, ["'fused'", "true or false"]),
        ({"mode": "view"}, ["'mode'", "'views', 'images'", "'view'"]),
        ({"mode": 3.0}, ["'mode'"]),
        ({"mode": ["views"]}, ["'mode'"]),
        ({"ids": {"cow": "10"}}, ["'ids.cow'", "a whole number"]),
        ({"ids": [1]}, ["'ids'", "a mapping"]),
        ({"alphas": 0.1}, ["'alphas'", "a list"]),
        ({"alphas": [0.1, "x"]}, ["'alphas[1]'", "a number"]),
        ({"scale": [1, 2, 3]}, ["'scale'", "a list of 2 values"]),
        ({"tags": ["a", 2]}, ["'tags[1]'", "a text"]),
        ({"limit": "none"}, ["'limit'", "a whole number or null"]),
        ({"losses": {"train": {"distance": "far"}}}, ["'losses.train.distance'", "a number"]),
    ],
)
def test_bad_values_are_named(tmp_path: Path, change: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, GOOD | change)
    for part in [str(tmp_path / "slice.json"), *parts]:
        assert part in str(caught.value)


def test_all_missing_parameters_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing parameter 'steps', 'name'"):
        read(tmp_path, {key: value for key, value in GOOD.items() if key not in ("steps", "name")})


@pytest.mark.parametrize("value", [[], 3, None, "text"])
def test_a_slice_is_a_mapping(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match="a mapping"):
        read(tmp_path, value)


def test_files_that_are_not_json(tmp_path: Path) -> None:
    path = tmp_path / "slice.json"
    with pytest.raises(InputError, match=r"slice\.json"):
        read_slice(path, Spec)
    path.write_text("steps: 10")
    with pytest.raises(InputError, match=r"(?s)not a JSON file.*slice\.json"):
        read_slice(path, Spec)


def test_parse_says_where_the_value_stands() -> None:
    assert parse(3, int | None, where="somewhere") == 3
    with pytest.raises(InputError, match=r"(?s)'train\.steps'.*somewhere"):
        parse("x", int, where="somewhere", key="train.steps")
