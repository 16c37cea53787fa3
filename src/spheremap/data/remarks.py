"""What a user should know of a data set before training on it, though nothing in it is an error.

Each function takes canonical tables and returns lines; none where all is well. Only images of the split train
count for what training needs: a data set that is for tests alone gives no such line.
"""

from pathlib import Path

import pandas as pd

from spheremap.data.tables import Tables, in_split

LISTED = 3  # examples named in a line
LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif")


def data_remarks(tables: Tables) -> list[str]:
    """Lines about azimuths and categories; no choice of masks changes them."""
    trained = _trained(tables)
    known = trained["azimuth"].notna()
    return [
        *_share(known, "an azimuth", "left and right cannot be told apart", _without(trained, known)),
        *_twins(tables.categories),
    ]


def mask_remarks(tables: Tables) -> list[str]:
    """Lines about masks; for tables whose masks were not left out by choice."""
    masked = _trained(tables)["mask_path"] != ""
    paths = sorted({path for path in tables.images["mask_path"] if Path(path).suffix.lower() in LOSSY})
    examples = ", ".join(paths[:LISTED]) + (", …" if len(paths) > LISTED else "")
    count = "1 mask is a JPEG file" if len(paths) == 1 else f"{len(paths)} masks are JPEG files"
    return [
        *_share(
            masked, "a mask", "the whole box counts as the object", "for the others the whole box counts"
        ),
        *([f"{count}: {examples} (JPEG blurs the edge values)"] if paths else []),
    ]


def _trained(tables: Tables) -> pd.DataFrame:
    """The images that training uses."""
    return in_split(tables.images, "train")


def _share(has: pd.Series, what: str, if_none: str, if_some: str) -> list[str]:
    """How many training images have something, unless all do."""
    if has.all():
        return []
    consequence = if_some if has.any() else if_none
    return [f"{has.sum()} of {len(has)} training images have {what}: {consequence}"]


def _without(trained: pd.DataFrame, known: pd.Series) -> str:
    """What follows where some training images have no azimuth; names the categories of which none has one."""
    some = known.groupby(trained["category"]).any()
    none = "" if some.all() else f" (all of {', '.join(some.index[~some])})"
    return f"the others{none} sit out the losses on viewpoint"


def _twins(categories: list[str]) -> list[str]:
    """Categories that may be one, since only their capitals differ."""
    alike: dict[str, list[str]] = {}
    for category in categories:
        alike.setdefault(category.casefold(), []).append(category)
    return [
        f"categories differ only in upper and lower case: {', '.join(names)}"
        for names in alike.values()
        if len(names) > 1
    ]
