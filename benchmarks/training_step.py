"""The training step against a plain transcription of the paper's, and against what the hardware allows.

Both do a whole step: fetch a batch, four losses, gradients, Adam. Before anything is timed, losses and
gradients are checked to be equal. Cases: features cached in both; and the backbone in the transcription's
loop, as in the paper, on pictures that are already decoded.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Options, alternate, copy_bandwidth, matmul_rate, read_options, write_rows
from floors import step_bytes, step_operations
from synthetic import Views as SyntheticViews
from torch import Tensor
from transcription import Draw, PlainHead, plain_losses

from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.config.backbone import ImageSizes, WeightsSpec
from spheremap.config.learning import PAPERS_TRAIN
from spheremap.features.backbones.extractor import Extractor
from spheremap.features.backbones.weights import fetch_weights
from spheremap.kernels import draw_key, draw_triplets, patch_coordinates
from spheremap.model.head import Head
from spheremap.model.training import TrainConfig, Views
from spheremap.model.training.batches import Batch, batches, records_of_step
from spheremap.model.training.distributed import mean_over_processes
from spheremap.model.training.step import Losses, build_losses

LIMIT = 1e-4  # relative difference of losses and gradients that float32 may make


@dataclass(frozen=True)
class Workload:
    """Size of a step."""

    model: str  # backbone, of timm
    block: int  # its last block
    patch: int  # its patch size
    dim: int
    batch: int
    side: int  # patches per row and column
    categories: int
    records: int  # in the cache


TINY = Workload("vit_tiny_patch16_224", 0, 16, 192, batch=3, side=5, categories=2, records=8)
SMALL = Workload("vit_small_patch14_dinov2", 9, 14, 384, batch=16, side=32, categories=18, records=64)
PAPER = Workload("vit_base_patch14_dinov2", 11, 14, 768, batch=64, side=32, categories=18, records=512)


def choose_workload(options: Options) -> Workload:
    """The paper's size on a GPU, ViT-S and batch 16 on a CPU."""
    if options.tiny:
        return TINY
    return PAPER if options.device.type == "cuda" else SMALL


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
        self._device, self._step = device, 0
        self.sums = torch.zeros(len(config.weights), device=device)

    def step(self) -> None:
        batch = next(self._batches)
        self._step += 1
        weights = torch.tensor(self.config.loss_weights(self._step)).to(self._device, non_blocking=True)
        self._key[1].add_(1)
        losses, values = mean_over_processes(*self._losses(batch, self._key))
        (weights @ losses).backward()
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
        self.config, self.coordinates = engine.config, patch_coordinates(data.grid, device)
        self.model = PlainHead(engine.head)
        self._optimiser = torch.optim.Adam(self.model.parameters(), lr=engine.config.learning_rate)
        self._weights = torch.tensor(engine.config.loss_weights(1), device=device)
        self._tokens = torch.from_numpy(data.data).to(device)
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
    weights = torch.tensor(exact.loss_weights(1), device=engine.head.device)
    found = torch.autograd.grad(weights @ ours, list(parameters.values()))
    expected = torch.autograd.grad(weights @ theirs, [other[name] for name in parameters])
    together = [torch.cat([gradient.flatten() for gradient in of]) for of in (found, expected)]
    differences = []
    for a, b in ((ours.detach(), theirs.detach()), together):
        differences.append(float((a - b).norm() / b.norm()))
        if not differences[-1] < LIMIT:
            raise RuntimeError(f"the two steps differ by {differences[-1]:.1e}: {a} and {b}")
    return differences[0], differences[1]


def backbone_spec(work: Workload) -> BackboneSpec:
    """A backbone of the workload's size with random weights."""
    size = work.side * work.patch
    return BackboneSpec(
        model=work.model,
        weights=WeightsSpec(source="random", seed=0),
        block=work.block,
        norm=False,
        facet="token",
        image_size=ImageSizes(size, size),
    )


def make_backbone(
    work: Workload, folder: Path, device: torch.device, precision: Any = "float32"
) -> tuple[Extractor, Tensor]:
    """A backbone with random weights and a picture `(records, S, S, 3)` uint8 per record, in main memory."""
    size = work.side * work.patch
    spec = backbone_spec(work)
    file = folder / "backbone.safetensors"
    if not file.exists():
        fetch_weights(spec, file)
    pictures = np.random.default_rng(0).integers(0, 256, (work.records, size, size, 3), dtype=np.uint8)
    return Extractor(spec, file, device=device, precision=precision), torch.from_numpy(pictures)


def floor_rows(engine: Engine, work: Workload, options: Options, ours: float) -> list[dict[str, Any]]:
    """The least time that arithmetic and memory traffic of our step need here, and our share of it."""
    mean = engine.foreground * work.batch
    half = engine.config.precision == "bfloat16"
    rate = matmul_rate(options.device, torch.bfloat16 if half else torch.float32, options.tiny)
    parameters = sum(parameter.numel() for parameter in engine.head.trainable().values())
    size = (work.batch, work.side**2, mean, work.dim)
    floors = {
        "arithmetic": step_operations(*size) / rate,
        "memory": step_bytes(*size, parameters, 2 if half else 4)
        / copy_bandwidth(options.device, options.tiny),
    }
    return [
        {
            "case": "floor",
            "variant": f"{name} of our step",
            "median_ms": seconds * 1e3,
            "times_ours": seconds / ours,
            "note": {
                "arithmetic": f"{step_operations(*size) / 1e9:.1f} GFLOP at {rate / 1e9:.0f} GFLOP/s",
                "memory": f"{step_bytes(*size, parameters, 2 if half else 4) / 1e6:.0f} MB",
            }[name],
        }
        for name, seconds in floors.items()
    ]


def measure(
    options: Options, work: Workload, precisions: Sequence[Any] = ("float32",)
) -> list[dict[str, Any]]:
    """Rows of the table."""
    rows: list[dict[str, Any]] = []
    data = SyntheticViews(work.records, (work.side, work.side), work.dim, work.categories)
    device = options.device
    for precision in precisions:
        config = replace(PAPERS_TRAIN, steps=1, batch=work.batch, precision=precision)
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(work, data, config, device)
            plain = Transcription(work, data, engine, precision=precision)
            if precision == "float32":
                of_losses, of_gradients = check_equal(engine, plain)
            backbone = make_backbone(work, Path(folder), device, precision)
            looped = Transcription(work, data, engine, backbone, precision)
            steps = {"ours": engine.step, "transcription": plain.step}
            for _ in range(40 if device.type == "cuda" else 0):
                engine.step()  # compiles, and records a graph of every shape
            timings = alternate(steps, repeats=options.repeats, device=device, warm_up=2)
            # the backbone takes many times longer: fewer turns, our step again in each
            few = max(2, options.repeats // 3)
            again = alternate({"ours": engine.step, "transcription": looped.step}, repeats=few, device=device)
        note = f"{work.model}, batch {work.batch}, {work.side}x{work.side}, {precision}"
        checked = (
            f"losses differ by {of_losses:.0e}, gradients by {of_gradients:.0e}"
            if precision == "float32"
            else ""
        )
        for case, of in (("features cached", timings), ("backbone in the loop", again)):
            for name, timing in of.items():
                rows.append(
                    {
                        "case": case,
                        "variant": name,
                        **timing.columns(),
                        "times_ours": timing.median / of["ours"].median,
                        "note": note if name == "ours" else checked if case == "features cached" else "",
                    }
                )
        rows += floor_rows(engine, work, options, timings["ours"].median)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments)
    precisions = ("float32", "bfloat16") if options.device.type == "cuda" else ("float32",)
    write_rows("training_step", measure(options, choose_workload(options), precisions), options)


if __name__ == "__main__":
    main()
