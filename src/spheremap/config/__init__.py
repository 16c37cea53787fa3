"""Parameters: every key of params.yaml described once. Schema, table of the docs and messages come from here.

A section is a class of the modules here; a new one is a field of `Params`.
"""

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spheremap.base.errors import InputError
from spheremap.config.backbone import Backbone, Features
from spheremap.config.credit import Credit
from spheremap.config.data_sets import Download, Entry, Terms, without_its_own
from spheremap.config.fields import STRICT, Count, Name, Named, NamedWithoutDot, need, one_of
from spheremap.config.learning import Train
from spheremap.config.methods import Entries, MethodEntry, Methods, learns, made_of
from spheremap.config.scoring import Evaluate, Report
from spheremap.config.slices import parse, read_params


@dataclass(frozen=True, config=STRICT)
class Params:
    """All of params.yaml."""

    dataset: Name = Field(description="Which entry of `datasets` to use.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        description="Where networks run; no property of the result."
    )
    processes: Count = Field(description="Processes that train together, each on a GPU of its own.")
    datasets: NamedWithoutDot[Entry] = Field(
        description="Data sets: how their files are arranged, and where they lie."
    )
    downloads: Named[Download] = Field(description="Where data sets come from; named by their `download`.")
    backbones: NamedWithoutDot[Backbone] = Field(description="ViTs of timm, and what is taken from them.")
    features: Features = Field(description="What is cached of the backbone.")
    train: Train = Field(description="The spherical head.")
    methods: Methods = Field(description="What is compared: a file of spheremap.methods and its parameters.")
    evaluate: Evaluate = Field(description="How to match and score (docs/protocols.md).")
    report: Report = Field(description="How much to draw.")

    def credits(self) -> list[Credit]:
        """Whom the current data set owes something, as its entry and `downloads` say."""
        entry = self.datasets[self.dataset]
        terms: dict[str, Terms] = {name: self.downloads[name] for name in _downloads(entry)}
        own = getattr(entry, "terms", None)
        if own is not None:
            terms[self.dataset] = own
        return [
            Credit(f"data set {name}", of.licence, of.citation, of.homepage) for name, of in terms.items()
        ]

    @model_validator(mode="after")
    def _check(self) -> "Params":
        one_of(self.dataset, self.datasets, "dataset", "datasets")
        one_of(self.features.backbone, self.backbones, "features.backbone", "backbones")
        for name in _downloads(self.datasets[self.dataset]):
            one_of(name, self.downloads, f"datasets.{self.dataset}: the download", "downloads")
        for name in self.evaluate.methods:
            one_of(name, self.methods, "evaluate.methods", "methods")
        one_of(self.evaluate.sweep.method, self.methods, "evaluate.sweep.method", "methods")
        for method, entry in self.methods.items():
            for name in made_of(entry):
                one_of(name, self.methods, f"methods.{method}.of", "methods")
        try:
            TopologicalSorter({name: made_of(entry) for name, entry in self.methods.items()}).prepare()
        except CycleError as error:
            need(False, f"methods: expected none made of itself, found {' of '.join(error.args[1][::-1])}")
        for name in self.report.compare:
            one_of(name, self.evaluate.methods, "report.compare", "evaluate.methods")
        return self


# what a step is handed of them: another key means another file, and the steps that read it run again


@dataclass(frozen=True, config=STRICT)
class CacheSlice:
    """What the command `cache` reads."""

    features: Features
    backbone: Backbone
    dataset: str


@dataclass(frozen=True, config=STRICT)
class TrainSlice:
    """What the command `train` reads."""

    train: Train
    dataset: str


@dataclass(frozen=True, config=STRICT)
class FitSlice:
    """What the command `fit` reads."""

    methods: Entries
    dataset: str


@dataclass(frozen=True, config=STRICT)
class EvaluateSlice:
    """What the command `evaluate` reads."""

    evaluate: Evaluate
    methods: Entries
    dataset: str
    keypoint_groups: str | None = None


@dataclass(frozen=True, config=STRICT)
class ReportSlice:
    """What the command `report` reads."""

    dataset: str
    report: Report
    evaluate: Evaluate
    methods: Entries


def check_params(params: Mapping[str, Any], where: Path | str = "params.yaml") -> Params:
    """Refuse parameters that cannot be used.

    Raises:
        InputError: with a line for every mistake.
    """
    told = dict(params)
    if isinstance(told.get("datasets"), dict):
        told["datasets"] = {name: without_its_own(entry) for name, entry in told["datasets"].items()}
    checked: Params = parse(told, Params, where=where)
    sweep = checked.evaluate.sweep
    kind = checked.methods[sweep.method]["kind"]
    if sweep.values and learns(kind):
        raise InputError(
            "a method that learns would have to be fitted for each value of a sweep",
            where=where,
            expected="evaluate.sweep.method: one that does not learn, or one made of it",
            found=f"{sweep.method}, of kind {kind}",
            fix="name another method, or leave evaluate.sweep.values empty",
        )
    for value in sweep.numbers:  # as if it stood in the method's entry
        entry = checked.methods[sweep.method] | {sweep.parameter: value}
        parse(entry, MethodEntry, where=where, key=f"evaluate.sweep: methods.{sweep.method}")
    return checked


def load_params(path: Path) -> Params:
    """Read params.yaml.

    Raises:
        InputError: if it cannot be read, or used, with a line for every mistake.
    """
    return check_params(read_params(path), path)


def _downloads(entry: Any) -> Iterator[str]:
    yield from getattr(entry, "download", ())
    if getattr(entry, "borrow", None) is not None:
        yield from _downloads(entry.borrow.entry)
