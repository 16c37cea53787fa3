"""Which keypoints of an object are alike: groups, mirror pairs and sides, as data (a JSON file per data set).

A file holds, for each category, or for all under "*":

    groups   keypoints that look alike, such as the four wheels of a car: what a matcher confuses
    mirrors  pairs that change places when the object is mirrored
    left, right  the sides that keypoints are on

Keypoints are given by id or by name. The format, and the files here, follow the tables that GeoAware-SC
published (Zhang et al., "Telling Left from Right", CVPR 2024).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic.dataclasses import dataclass as strict

from spheremap.base.errors import InputError
from spheremap.config.fields import STRICT
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
        InputError: if it cannot be read, contradicts itself or names a keypoint that there is not.
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
    for name, alike in categories.items():
        _check(alike, f"{path}, category {name!r}")
    points = tables.keypoints.merge(tables.images[["image_id", "category"]], on="image_id")
    points = points[["category", "keypoint_id", "name"]].drop_duplicates()
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


def _check(alike: Alike, where: str) -> None:
    """Whether groups are disjoint, and mirror pairs are pairs of the two sides.

    Raises:
        InputError: if not.
    """
    side = {**dict.fromkeys(alike.left, "left"), **dict.fromkeys(alike.right, "right")}
    lists: dict[str, Iterable[str]] = {
        "groups": [each for group in alike.groups for each in group],
        "mirrors": [each for pair in alike.mirrors for each in pair],
        "left and right": [*alike.left, *alike.right],
    }
    for name, members in lists.items():
        if twice := [each for each, count in Counter(members).items() if count > 1]:
            raise InputError(
                f"a keypoint stands twice in {name}", where=where, expected="once", found=", ".join(twice)
            )
    for pair in alike.mirrors:
        if {side.get(each) for each in pair} != {"left", "right"}:
            raise InputError(
                f"the mirror keypoints {' and '.join(pair)} are not on opposite sides",
                where=where,
                expected="one of them in left, the other in right",
                found=", ".join(f"{each}: {side.get(each, 'neither')}" for each in pair),
            )


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
