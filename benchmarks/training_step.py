"""The training step against a plain transcription of the paper's, and against what the hardware allows.

Both do a whole step: fetch a batch, four losses, gradients, Adam. Before anything is timed, losses and
gradients are checked to be equal. Cases: features cached in both; and the backbone in the transcription's
loop, as in the paper, on pictures that are already decoded.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import common
import numpy as np
import torch
from common import Options, Row, Workload
from floors import step_operations
from synthetic import Views as SyntheticViews
from synthetic import make_backbone
from torch import Tensor
from transcription import Draw, PlainHead, plain_losses

from spheremap.config.learning import PAPERS_TRAIN
from spheremap.features.backbones.extractor import Extractor
from spheremap.kernels import draw_key, draw_triplets, patch_coordinates
from spheremap.model.head import Head
from spheremap.model.training import TrainConfig, Views
from spheremap.model.training.batches import Batch, batches, records_of_step
from spheremap.model.training.distributed import mean_over_processes
from spheremap.model.training.step import Losses, build_losses

LIMIT = 1e-4  # relative difference of losses and gradients that float32 may make


class Engine:
    """Our step, as in the loop of `spheremap.model.training`."""

    def __init__(
        self, work: Workload, data: SyntheticViews, config: TrainConfig, device: torch.device
    ) -> None:
        self.config = config
        self.head = Head.initialise(work.dim, data.categories, config.seed).to(device)
        self.foreground = data.masks.sum() / len(data.masks)  # patches per view
        self.views = Views(
            data, data.tables(), self.head.categories, bins=config.viewpoint_bins, memory=16, device=device
        )
        parameters = self.head.trainable().values()
        self._optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
        self._key = draw_key(config.seed, 0, device)
        self._losses, pad_to = build_losses(self.head, config, batch=work.batch, patches=work.side**2)
        self._batches: Iterator[Batch] = batches(
            self.views, batch=work.batch, seed=config.seed, first=1, last=sys.maxsize, pad_to=pad_to
        )
        self._weights = torch.tensor(list(config.weights.values()), device=device)
        self.sums = torch.zeros(len(config.weights), device=device)

    def step(self) -> None:
        batch = next(self._batches)
        self._key[1].add_(1)
        losses, values = mean_over_processes(*self._losses(batch, self._key))
        (self._weights @ losses).backward()
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.sums += values


class Transcription:
    """The plain step, on cached features or with the backbone in the loop."""

    def __init__(
        self,
        work: Workload,
        data: SyntheticViews,
        engine: Engine,
        backbone: tuple[Extractor, Tensor] | None = None,
        precision: str = "float32",
    ) -> None:
        device = engine.head.device
        self.config = engine.config
        self.coordinates = patch_coordinates((work.side, work.side), device)
        self.model = PlainHead(engine.head)
        self._optimiser = torch.optim.Adam(self.model.parameters(), lr=engine.config.learning_rate)
        self._weights = torch.tensor(list(engine.config.weights.values()), device=device)
        self._tokens = torch.from_numpy(np.ascontiguousarray(data.data)).to(device)
        self._masks = torch.from_numpy(data.masks).to(device)
        images = data.tables().images
        names = engine.head.categories
        self._category = torch.tensor([names.index(name) for name in images["category"]], device=device)
        azimuth = np.radians(images["azimuth"].to_numpy())
        self._azimuth = torch.from_numpy(azimuth).float().to(device)
        self._usable, self._batch, self._step = engine.views.usable, work.batch, 0
        self._backbone, self._autocast = backbone, precision == "bfloat16"

    def losses(self, records: np.ndarray, draw: Draw) -> Tensor:
        chosen = torch.from_numpy(records).to(self._tokens.device)
        if self._backbone is None:
            tokens = self._tokens[chosen].float()
        else:
            extractor, pictures = self._backbone
            tokens = extractor(pictures[records]).clone()  # of inference mode: not for autograd
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self._autocast):
            return plain_losses(
                self.model,
                tokens,
                self._masks[chosen],
                self._category[chosen],
                self._azimuth[chosen],
                self.coordinates,
                self.config,
                draw,
            )

    def step(self) -> None:
        self._step += 1
        records = records_of_step(self._step, self._usable, self._batch, self.config.seed)
        losses = self.losses(records, self._draw)
        self._optimiser.zero_grad()
        (self._weights @ losses).backward()
        self._optimiser.step()

    def _draw(self, image: int, count: int, stream: int) -> Tensor:
        return torch.randint(count, (self.config.triplets, 3), device=self.coordinates.device)


def check_equal(engine: Engine, plain: Transcription) -> tuple[float, float]:
    """Compare losses and gradients on one batch and the same triplets, in float32.

    Returns:
        Relative differences of losses and of gradients.

    Raises:
        RuntimeError: if one of them is larger than rounding explains.
    """
    records = engine.views.usable[: engine.config.batch]
    batch, key = engine.views.batch(records), draw_key(5, 1, engine.head.device)
    exact = replace(engine.config, precision="float32")
    ours, _ = Losses(engine.head, exact)(batch, key)

    index = batch.foreground
    drawn = [draw_triplets(index.offsets, index.counts, exact.triplets, key, stream)[0] for stream in (0, 1)]
    local = [(of.view(len(records), -1, 3) - index.offsets.view(-1, 1, 1)) for of in drawn]
    theirs = plain.losses(records, lambda image, _, stream: local[stream][image])
    parameters = engine.head.trainable()
    other = dict(plain.model.named_parameters())
    weights = torch.tensor(list(exact.weights.values()), device=engine.head.device)
    found = torch.autograd.grad(weights @ ours, list(parameters.values()))
    expected = torch.autograd.grad(weights @ theirs, [other[name] for name in parameters])
    together = [torch.cat([gradient.flatten() for gradient in of]) for of in (found, expected)]
    differences = []
    for a, b in ((ours.detach(), theirs.detach()), together):
        differences.append(float((a - b).norm() / b.norm()))
        if not differences[-1] < LIMIT:
            raise RuntimeError(f"the two steps differ by {differences[-1]:.1e}: {a} and {b}")
    return differences[0], differences[1]


def floor_row(engine: Engine, work: Workload, options: Options, ours: float) -> Row:
    """The least time that the arithmetic of our step needs here, and our share of it."""
    precision = torch.bfloat16 if engine.config.precision == "bfloat16" else torch.float32
    rate = common.matmul_rate(options.device, precision, options.tiny)
    operations = step_operations(work.batch, work.side**2, engine.foreground * work.batch, work.dim)
    seconds, note = operations / rate, f"{operations / 1e9:.1f} GFLOP at {rate / 1e9:.0f} GFLOP/s"
    row = {"case": "floor", "variant": "arithmetic of our step", "median_ms": seconds * 1e3}
    return row | {"times_ours": seconds / ours, "note": note}


def measure(options: Options) -> Iterator[Row]:
    work, device = common.choose(options, common.TINY, common.SMALL, common.PAPER), options.device
    data = SyntheticViews(work.records, (work.side, work.side), work.dim, work.categories)
    for precision in ("float32", "bfloat16") if options.on_gpu else ("float32",):
        config = replace(PAPERS_TRAIN, steps=1, batch=work.batch, precision=precision)
        engine = Engine(work, data, config, device)
        plain = Transcription(work, data, engine, precision=precision)
        checked = ""
        if precision == "float32":
            checked = "losses differ by {:.0e}, gradients by {:.0e}".format(*check_equal(engine, plain))
        with tempfile.TemporaryDirectory() as folder:
            backbone = make_backbone(work, Path(folder) / "weights.safetensors", device, precision)
        looped = Transcription(work, data, engine, backbone, precision)
        for _ in range(40 if options.on_gpu else 0):
            engine.step()  # compiles, and records a graph of every shape
        # the backbone takes many times longer: fewer turns, our step again in each
        cases = {
            "features cached": (plain.step, options.repeats, checked),
            "backbone in the loop": (looped.step, max(2, options.repeats // 3), ""),
        }
        fastest = []
        for case, (other, repeats, note) in cases.items():
            steps = {"ours": engine.step, "transcription": other}
            timings = common.alternate(steps, repeats=repeats, device=device, warm_up=2)
            ours = timings["ours"].median
            fastest.append(ours)
            size = f"{work.model}, batch {work.batch}, {work.side}x{work.side}, {precision}"
            for name, timing in timings.items():
                row = {"case": case, "variant": name, **timing.columns(), "times_ours": timing.median / ours}
                yield row | {"note": size if name == "ours" else note}
        yield floor_row(engine, work, options, fastest[0])


main = partial(common.run, "training_step", __doc__, measure)

if __name__ == "__main__":
    main()
