"""Measure how far a score moves with choices that tables of PCK differ in (docs/why-numbers-differ.md).

    python leaderboard/differences.py PROJECT DATA_SET …

PROJECT holds params.yaml and the trained heads of the data sets. Places that were predicted once are scored
in different ways; where the choice changes the places, they are predicted again.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pages import DOCS, between

from spheremap.config.slices import read_params
from spheremap.data.tables import Tables, read_tables

METHODS = ("features", "fused")
ALPHA = 0.1
DRAWS, PER_CATEGORY = 1000, 20  # subsets of pairs; GeoAware-SC's quick test takes 20 of a category
OTHER_PLACES: dict[str, dict[str, Any]] = {  # settings under which places are predicted again
    "soft-argmax in a window of 15 patches, temperature 0.02": {"evaluate": {"readout": "window"}},
    "soft-argmax under a Gaussian of 7 patches, temperature 0.04": {
        "evaluate": {"readout": "kernel", "sigma": 7.0, "temperature": 0.04}
    },
    "source descriptor interpolated from four patches": {"evaluate": {"source": "bilinear"}},
    "no answers in the black padding": {"evaluate": {"candidates": "inside"}},
    "pictures stretched to the square instead of padded": {"features": {"fit": "stretch"}},
}


def main(project: Path, data_sets: list[str]) -> None:
    """Measure on each data set, and write the page's table."""
    columns = {name: dict(measure(project, name)) for name in data_sets}
    head = ["choice", *(f"`{name}`: {method}" for name in data_sets for method in METHODS)]
    lines = [head, ["---"] * len(head)]
    for choice in columns[data_sets[0]]:
        lines.append([choice, *(text for name in data_sets for text in columns[name][choice])])
    page = DOCS / "why-numbers-differ.md"
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    page.write_text(between(page.read_text(), "differences", table))


def measure(project: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """Choices and, by method: PCK@0.10 per point under the first, the differences to it under the others."""
    tables = read_tables(project / "data" / name / "canonical")
    predicted = predict(project, name, {})
    lengths = Lengths(tables, predicted, read_params(project / "params.yaml"))
    base = {method: lengths.of(method) for method in METHODS}

    def score(right: Callable[[pd.DataFrame], pd.Series]) -> list[float]:
        return [100 * float(right(own).mean()) for own in base.values()]

    def row(values: list[float]) -> list[str]:
        return [f"{value - start:+.1f}" for value, start in zip(values, plain, strict=True)]

    plain = score(lambda own: own["distance"] < ALPHA * own["box"])
    yield "PCK@0.10 per point: argmax, box, `<`", [f"{value:.1f}" for value in plain]
    for average, weights in (
        ("mean over pairs (per image)", lambda own: own["pair"]),
        ("mean over categories", lambda own: own["category"]),
    ):
        values = []
        for own in base.values():
            right = own["distance"] < ALPHA * own["box"]
            values.append(100 * float(right.groupby(weights(own)).mean().mean()))
        yield average, row(values)
    yield "`<=` for `<`", row(score(lambda own: own["distance"] <= ALPHA * own["box"]))
    yield (
        "radius a share of the picture, not of the box",
        row(score(lambda own: own["distance"] < ALPHA * own["image"])),
    )
    larger = score(lambda own: own["distance"] * own["scale"] < ALPHA * own["box"])
    yield "distance in the input's pixels, radius in the photograph's", row(larger)
    smaller = score(lambda own: own["distance"] < ALPHA * own["box"] * own["scale"])
    yield "radius in the input's pixels, distance in the photograph's", row(smaller)
    yield (
        "a patch's place is its upper left corner",
        row(score(lambda own: own["corner"] < ALPHA * own["box"])),
    )
    yield (
        f"{PER_CATEGORY} pairs of each category, 95 % of {DRAWS:,} draws",
        [
            "{:+.1f} to {:+.1f}".format(*(subsets(own) - start))
            for own, start in zip(base.values(), plain, strict=True)
        ],
    )
    for choice, settings in OTHER_PLACES.items():
        again = Lengths(tables, predict(project, name, settings), read_params(project / "params.yaml"))
        others = [again.of(method) for method in METHODS]
        yield choice, row([100 * float((own["distance"] < ALPHA * own["box"]).mean()) for own in others])


class Lengths:
    """Distances and lengths of predictions, in pixels of the target."""

    def __init__(self, tables: Tables, predicted: pd.DataFrame, params: dict[str, Any]) -> None:
        backbone = params["backbones"][params["features"]["backbone"]]
        self.side = backbone["image_size"]["eval"]
        self.patch = 16 if "patch16" in backbone["model"] else 8 if "patch8" in backbone["model"] else 14
        self.images, self.predicted = tables.images.set_index("image_id"), predicted

    def of(self, method: str) -> pd.DataFrame:
        """A line per point: pair, category, distances of the patch's centre and corner, sides, scale."""
        own = self.predicted[self.predicted["method"] == method].reset_index(drop=True)
        images = self.images.loc[own["target"]].reset_index(drop=True)
        image = images[["width", "height"]].max(axis=1)
        scale = self.side / image
        x, y = own["x"] - own["target_x"], own["y"] - own["target_y"]
        half = self.patch / 2 / scale
        return pd.DataFrame(
            {
                "pair": own["source"] + " " + own["target"],
                "category": images["category"],
                "distance": np.hypot(x, y),
                "corner": np.hypot(x - half, y - half),
                "box": np.maximum(images["x2"] - images["x1"], images["y2"] - images["y1"]),
                "image": image,
                "scale": scale,
            }
        )


def subsets(own: pd.DataFrame) -> np.ndarray:
    """The 2.5 and 97.5 percent points of PCK per point over random subsets of pairs of each category."""
    own = own.assign(right=own["distance"] < ALPHA * own["box"])
    pairs = own.groupby(["category", "pair"])["right"].agg(["sum", "count"])
    draw = np.random.default_rng(0)
    values = []
    for _ in range(DRAWS):
        taken = pairs.groupby(level=0, group_keys=False).sample(PER_CATEGORY, random_state=draw)
        values.append(100 * taken["sum"].sum() / taken["count"].sum())
    return np.quantile(values, [0.025, 0.975])


def predict(project: Path, name: str, settings: dict[str, Any]) -> pd.DataFrame:
    """The predictions on the test pairs with other settings than those of params.yaml."""
    path = project / "params.yaml"
    before = path.read_text()
    params = read_params(path)
    params["dataset"] = name
    params["evaluate"] |= {"methods": list(METHODS), "bootstrap": 0} | settings.get("evaluate", {})
    params["evaluate"]["sweep"]["values"] = []
    params["features"] |= settings.get("features", {})
    out = project / "differences"
    try:
        path.write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))
        weight = str(params["methods"]["fused"]["sphere_weight"])
        bundle = ("spheremap", "bundle", "--out", "differences.spheremap", "--sphere-weight", weight)
        subprocess.run(bundle, cwd=project, check=True)
        evaluate = ("spheremap", "evaluate", "--model", "differences.spheremap", "--dataset", name)
        subprocess.run([*evaluate, "--out", out.name], cwd=project, check=True)
    finally:
        path.write_text(before)
    predicted = pd.read_csv(out / "predictions.csv.gz")
    shutil.rmtree(out)
    return predicted


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
