"""The GPU, or the machine, is out of memory in the midst of a step (simulated)."""

import random
from collections.abc import Iterator

from laboratory import Laboratory, Step
from trials import Outcome, Trial, refused

# step -> what computes in it
PLACES = {
    "cache images": ("spheremap.features.backbones.extractor", "Extractor", "__call__"),
    "train": ("spheremap.model.training.batches", "Views", "batch"),
    "evaluate": ("spheremap.model.head.mapper", "SphereMapper", "forward"),
}


def trials(laboratory: Laboratory, repeats: int) -> Iterator[Trial]:
    for number in range(repeats):
        for name in PLACES:
            for what in ("GPU", "main memory"):
                step = laboratory.steps[name]
                yield Trial(
                    "out of memory", f"{what}, {name}", number,
                    lambda lab, rng, s=step, w=what: _run_out(lab, rng, s, w),
                )  # fmt: skip


def _run_out(laboratory: Laboratory, rng: random.Random, step: Step, what: str) -> Outcome:
    module, owner, method = PLACES[step.name]
    calls = rng.randrange(1, 3)

    def prepare() -> None:
        import importlib

        import torch

        cls = getattr(importlib.import_module(module), owner)
        whole, left = getattr(cls, method), [calls]

        def fail(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if not left[0]:
                if what == "GPU":
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
                raise MemoryError
            return whole(*arguments, **options)

        setattr(cls, method, fail)

    workshop = laboratory.workshop()
    workshop.delete(step.outputs)
    outcome = refused(workshop, workshop.finish(step, prepare), [step], names="out of memory")
    workshop.close()
    return outcome
