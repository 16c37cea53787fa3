"""Which keypoints of an object are alike: groups, mirror pairs and sides, as data (a JSON file per data set).

A file holds, for each category, or for all under "*":

    groups   keypoints that look alike, such as the four wheels of a car: what a matcher confuses
    mirrors  pairs that change places when the object is mirrored
    left, right  the sides that keypoints are on

Keypoints are given by id or by name. The format, and the files here, follow the tables that GeoAware-SC
published (Zhang et al., "Telling Left from Right", CVPR 2024).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd
from pydantic import model_validator
from pydantic.dataclasses import dataclass as strict

from spheremap.base.errors import InputError
from spheremap.config.fields import STRICT, need
from spheremap.config.slices import read_slice
from spheremap.data.tables import Tables

EVERY = "*"  # category
FOLDER = Path(__file__).parent


@strict(frozen=True, config=STRICT)
class Alike:
    """The keypoints of one category."""

    groups: tuple[tuple[str, ...], ...] = ()
    mirrors: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "Alike":
        side = {**dict.fromkeys(self.left, "left"), **dict.fromkeys(self.right, "right")}
        lists = {"groups": chain(*self.groups), "mirrors": chain(*self.mirrors)}
        for name, members in {**lists, "left and right": chain(self.left, self.right)}.items():
            twice = [each for each, count in Counter(members).items() if count > 1]
            need(not twice, f"a keypoint stands twice in {name}: {', '.join(twice)}")
        for pair in self.mirrors:
            opposite = {side.get(each) for each in pair} == {"left", "right"}
            need(
                opposite,
                f"the mirror keypoints {' and '.join(pair)} are not on opposite sides, left and right",
            )
        return self


@strict(frozen=True, config=STRICT)
class _File:
    categories: dict[str, Alike]
    about: str = ""


@dataclass(frozen=True)
class KeypointGroups:
    """Groups and mirror keypoints, by (category, keypoint id)."""

    group: Mapping[tuple[str, str], str]
    mirror: Mapping[tuple[str, str], str]


def packaged() -> list[str]:
    """Names of the files that spheremap brings."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_keypoint_groups(file: str | None, tables: Tables) -> KeypointGroups | None:
    """Read the groups of a data set.

    Args:
        file: the name of a file that spheremap brings, or the path of another; None: nothing is known.
        tables: the data set, whose keypoints a file of one's own must name.

    Raises:
        InputError: if it cannot be read, contradicts itself or names what the data set has not.
    """
    if file is None:
        return None
    path = FOLDER / f"{file}.json" if file in packaged() else Path(file)
    if not path.is_file():
        raise InputError(
            "there are no such keypoint groups",
            where="params.yaml: datasets.….keypoint_groups",
            expected=f"{', '.join(packaged())}, or the path of a JSON file",
            found=file,
        )
    categories = read_slice(path, _File).categories
    points = tables.keypoints.merge(tables.images[["image_id", "category"]], on="image_id")
    points = points[["category", "keypoint_id", "name"]].drop_duplicates()
    if path.parent != FOLDER and (unknown := set(categories) - {EVERY, *tables.categories}):
        raise InputError(
            "a category is not one of the data set",
            where=path,
            expected=f"{', '.join(tables.categories)}, or {EVERY!r}",
            found=", ".join(sorted(unknown)),
        )
    group: dict[tuple[str, str], str] = {}
    mirror: dict[tuple[str, str], str] = {}
    for category, own in points.groupby("category"):
        alike = categories.get(str(category)) or categories.get(EVERY) or Alike()
        # ids come after names, which they win over
        ids = {
            **dict(zip(own["name"], own["keypoint_id"], strict=True)),
            **{i: i for i in own["keypoint_id"]},
        }
        if path.parent != FOLDER:
            _check_known(alike, ids, f"{path}, category {category!r}")
        for number, members in enumerate(alike.groups):
            group |= {(str(category), ids[member]): str(number) for member in members if member in ids}
        for one, other in alike.mirrors:
            if one in ids and other in ids:
                mirror[str(category), ids[one]] = ids[other]
                mirror[str(category), ids[other]] = ids[one]
    return KeypointGroups(group, mirror)


def _check_known(alike: Alike, ids: Mapping[str, str], where: str) -> None:
    named = [*alike.left, *alike.right, *(each for group in alike.groups for each in group)]
    if unknown := [each for each in named if each not in ids]:
        raise InputError(
            "a keypoint is not one of the data set",
            where=where,
            expected=f"ids or names, {', '.join(sorted(ids))}",
            found=", ".join(unknown),
        )


def counts_by_group(visible: pd.DataFrame, groups: KeypointGroups) -> pd.Series:
    """How many keypoints of each group an image shows, by (image_id, group).

    Args:
        visible: columns image_id, category and keypoint_id.
    """
    keys = zip(visible["category"], visible["keypoint_id"], strict=True)
    group = pd.Series([groups.group.get(key) for key in keys], index=visible.index, dtype=object)
    return visible.assign(group=group).dropna(subset="group").groupby(["image_id", "group"]).size()
