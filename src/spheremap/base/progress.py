"""Progress bars with the same look everywhere."""

import os
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(
    iterable: Iterable[Any] | None = None, *, total: int, desc: str, unit: str, **options: Any
) -> "tqdm[Any]":
    """A bar on standard error that shows the count, the rate in `unit` per second and the time left.

    Of several processes that torchrun started, the first one shows it.
    """
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=f" {unit}",
        dynamic_ncols=True,
        mininterval=0.5,
        disable=os.environ.get("RANK", "0") != "0",
        **options,
    )
