"""A small data set of each layout that can be ingested, and what the tests of adapters do with one."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import layouts_ap10k
import layouts_awa_pose
from data_checks import refusal
from layouts_folder import write_folder
from layouts_freiburg_cars import write_freiburg_cars
from layouts_pf_pascal import write_pf_pascal
from layouts_spair_u import write_spair_71k, write_spair_u

from spheremap.data.adapter_tools import Ingested
from spheremap.data.adapters import read_entry
from spheremap.data.tables import Tables


@dataclass(frozen=True)
class DataSet:
    """Files in `folder`, and their entry in params.yaml."""

    folder: Path
    entry: dict[str, Any]

    def ingest(self, **changes: Any) -> Ingested:
        """What the adapter returns, after some changes of the entry."""
        return read_entry({**self.entry, **changes}, "test")[1]

    def read(self, **changes: Any) -> Tables:
        """The tables, after some changes of the entry."""
        return self.ingest(**changes).tables

    def refused(self, *parts: object, **changes: Any) -> None:
        """Reading ends with an error that holds all `parts`."""
        with refusal(*parts):
            self.read(**changes)

    @contextlib.contextmanager
    def without(self, part: str) -> Iterator[None]:
        """A file or folder is gone while the block runs."""
        aside = self.folder.with_name("aside")
        (self.folder / part).rename(aside)
        yield
        aside.rename(self.folder / part)

    def edit(self, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change a JSON file in place."""
        values = json.loads((self.folder / name).read_text())
        change(values)
        (self.folder / name).write_text(json.dumps(values))


class Small(NamedTuple):
    """How the small data set of a layout is written, and where its parts lie (patterns)."""

    write: Callable[[Path], None]
    entry: Callable[[Path], dict[str, Any]]
    annotations: tuple[str, ...]
    pictures: str

    def make(self, folder: Path) -> DataSet:
        """Write it."""
        folder.mkdir()
        self.write(folder)
        return DataSet(folder, self.entry(folder))


def _spair_u(folder: Path) -> None:
    write_spair_71k(folder / "SPair-71k")
    write_spair_u(folder, folder / "SPair-71k")


def _ap10k(folder: Path) -> None:
    layouts_ap10k.write_ap10k(folder, 5, dict(list(layouts_ap10k.SPECIES.items())[:2]))


SMALL = {
    "ap10k": Small(
        _ap10k, lambda at: {**layouts_ap10k.ENTRY, "root": str(at)}, ("annotations/*.json",), "data/*01.jpg"
    ),
    "awa_pose": Small(
        layouts_awa_pose.write_awa_pose,
        lambda at: {**layouts_awa_pose.ENTRY, "root": str(at)},
        (f"{layouts_awa_pose.ANNOTATIONS}/[ag]*/*.pickle",),
        f"{layouts_awa_pose.IMAGES}/*/*1.jpg",
    ),
    "folder": Small(
        write_folder,
        lambda at: {
            **{"layout": "folder", "root": str(at), "bins": None, "max_pairs": 20, "min_shared_keypoints": 1},
            **{"shares": {"train": 0.6, "val": 0.2, "test": 0.2}, "seed": 0},
        },
        ("*.csv",),
        "photos/*/*.png",
    ),
    "freiburg_cars": Small(
        write_freiburg_cars,
        lambda at: {"layout": "freiburg_cars", "root": str(at), "frontal": 90.0},
        ("annotations/*.txt",),
        "car001/*.png",
    ),
    "pf_pascal": Small(
        write_pf_pascal,
        lambda at: {
            **{"layout": "pf_pascal", "root": str(at / "PF-dataset-PASCAL")},
            **{"pairs": str(at / "pairs"), "box": "object"},
        },
        ("PF-dataset-PASCAL/Annotations/*/*.mat", "pairs/*.csv"),
        "PF-dataset-PASCAL/JPEGImages/*.jpg",
    ),
    "spair": Small(
        write_spair_71k,
        lambda at: {"layout": "spair", "root": str(at), "class_ids": {}},
        ("ImageAnnotation/*/*.json", "Layout/large/*.txt"),
        "JPEGImages/*/*.jpg",
    ),
    "spair_u": Small(
        _spair_u,
        lambda at: {
            **{"layout": "spair_u", "root": str(at / "datasets/SPair-U")},
            "spair": str(at / "SPair-71k"),
        },
        ("datasets/SPair-U/*/*/*.json",),
        "SPair-71k/JPEGImages/*/*007.jpg",
    ),
}
