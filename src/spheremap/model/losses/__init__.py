"""The losses, a file each: `loss` in NAME.py is the term NAME that `train.weights` of params.yaml weighs.

It takes the head's `Outputs` for a batch and hands out the term's mean, a scalar with a gradient, and of how
many things (tokens, triplets, pairs) it is the mean: by their number several processes weigh their means.
Curves, report and messages take a term's name from here; nothing else needs to know it.
"""

import importlib
from collections.abc import Callable

from torch import Tensor


def find_loss(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The function of a loss; its argument is a `spheremap.model.training.step.Outputs`."""
    return importlib.import_module(f"{__name__}.{name}").loss
