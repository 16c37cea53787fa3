"""Each kernel against its twin, the same in plain PyTorch, and against the floor that the hardware sets.

The floor is the bytes that must be moved over the measured copy bandwidth; `share_with_launches` takes the
launches themselves as a second floor, which small kernels cannot get below. On a GPU calls are captured in
CUDA graphs, so that the host's part does not count, and go round sets of inputs that no cache holds. On a CPU
the kernels would be interpreted, and only the twins are timed: they are what runs there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from common import Options, Timing, alternate, copy_bandwidth, read_options, write_rows
from torch import Tensor

from spheremap.kernels import Backend, cosine_reconstruction, draw_key, patch_coordinates, sphere_geometry

COLD = 256e6  # bytes of inputs to go round: several times what GPUs cache
GRAPH_CALLS = 64  # calls in a graph, at least
TRIPLETS = 32

Call = Callable[[int], object]  # takes the number of a set of inputs


@dataclass(frozen=True)
class Size:
    """Of the training step: B images of side² patches, a fifth of them foreground, width D."""

    batch: int
    side: int
    dim: int


TINY = Size(3, 6, 64)
SMALL = Size(16, 32, 384)
PAPER = Size(64, 32, 768)


@dataclass(frozen=True)
class Case:
    """One kernel at one size and precision."""

    name: str
    make: Callable[[int], Any]  # inputs from a seed
    run: Callable[[Any, Backend], object]
    bytes: float  # that one call must move
    launches: int
    input_bytes: float = 0.0  # of one set; `bytes` if 0


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments)
    on_gpu = options.device.type == "cuda"
    size = TINY if options.tiny else PAPER if on_gpu else SMALL
    rows = [
        row | {"triton": _triton_version()} for case in cases(size, options) for row in measure(case, options)
    ]
    write_rows("kernels", rows, options)
    if not on_gpu:
        print("no GPU: the kernels were not timed, only their twins, which are what runs on a CPU")


def cases(size: Size, options: Options) -> list[Case]:
    return [
        *(reconstruction_case(size, options, kind) for kind in (torch.bfloat16, torch.float32)),
        geometry_case(size, options),
    ]


# --- what is measured


def reconstruction_case(size: Size, options: Options, precision: torch.dtype) -> Case:
    """Loss and gradient; the features are gathered from those of all patches."""
    patches = size.batch * size.side**2
    foreground = patches // 5

    def make(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator(options.device).manual_seed(seed)
        draw = partial(torch.randn, generator=generator, device=options.device)
        rows = torch.randperm(patches, generator=generator, device=options.device)[:foreground].sort().values
        reconstruction = draw(foreground, size.dim).to(precision).requires_grad_()
        return draw(patches, size.dim).half(), reconstruction, rows

    def run(inputs: tuple[Tensor, Tensor, Tensor], backend: Backend) -> object:
        features, reconstruction, rows = inputs
        loss, _ = cosine_reconstruction(features, reconstruction, rows, backend=backend)
        return torch.autograd.grad(loss, reconstruction)

    itemsize = precision.itemsize
    both_ways = 2 * (2 + itemsize) * foreground * size.dim + itemsize * foreground * size.dim
    index_and_factors = foreground * (2 * 8 + 2 * 8)
    return Case(
        f"cosine_reconstruction {_short(precision)}, {foreground} x {size.dim}",
        make,
        run,
        bytes=both_ways + index_and_factors,
        launches=3,
        input_bytes=(2 + itemsize) * foreground * size.dim,
    )


def geometry_case(size: Size, options: Options) -> Case:
    """Both losses and their gradient."""
    patches = size.side**2
    count = patches // 5

    def make(seed: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        counts = rng.integers(count // 2, count * 3 // 2, size.batch)
        counts[0] += count * size.batch - counts.sum()  # the same total in all sets
        where = np.concatenate([np.sort(rng.permutation(patches)[:n]) for n in counts.clip(0, patches)])
        points = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(len(where), 3))), dim=1)
        sizes = torch.from_numpy(counts.clip(0, patches))
        tensors = (
            points.float(),
            patch_coordinates((size.side, size.side))[torch.from_numpy(where)],
            sizes.cumsum(0) - sizes,
            sizes,
            draw_key(0, seed),
        )
        points, *rest = (tensor.to(options.device) for tensor in tensors)
        return points.requires_grad_(), *rest

    def run(inputs: tuple[Tensor, ...], backend: Backend) -> object:
        points, *rest = inputs
        return torch.autograd.grad(sphere_geometry(points, *rest, backend=backend)[0].sum(), points)

    drawn = size.batch * TRIPLETS * 2 * 3
    return Case(
        f"sphere_geometry, {size.batch} images of {count} points",
        make,
        run,
        bytes=2 * drawn * (12 + 8) + 12 * count * size.batch,
        launches=4,
    )


# --- how


def measure(case: Case, options: Options) -> list[dict[str, Any]]:
    """Rows of one case: kernel (on a GPU), twin, and floors."""
    device = options.device
    on_gpu = device.type == "cuda"
    sets = int(max(1, min(-(-COLD // (case.input_bytes or case.bytes)), GRAPH_CALLS))) if on_gpu else 1
    inputs = [case.make(seed) for seed in range(sets)]
    calls = -(-GRAPH_CALLS // sets) * sets if on_gpu else 1

    def twin(i: int) -> object:
        return case.run(inputs[i], "reference")

    def kernel(i: int) -> object:
        return case.run(inputs[i], "triton")

    variants = {"twin": twin} | ({"kernel": kernel} if on_gpu else {})
    functions = {name: _repeated(call, sets, calls, captured=on_gpu) for name, call in variants.items()}
    timings = alternate(functions, repeats=options.repeats, device=device, warm_up=2)
    per_call = {name: _divide(timing, calls) for name, timing in timings.items()}

    floor = case.bytes / copy_bandwidth(device, options.tiny)
    ours = per_call["kernel" if on_gpu else "twin"].median
    launches = case.launches * launch_time(device) if on_gpu else 0.0
    rows: list[dict[str, Any]] = []
    for name, timing in per_call.items():
        shares = {"share_of_floor": floor / timing.median}
        if on_gpu:
            shares["share_with_launches"] = max(floor, launches) / timing.median
        note = "in a CUDA graph" if on_gpu else ""
        rows.append(
            {"case": case.name, "variant": name, **timing.columns(), **shares}
            | {"times_ours": timing.median / ours, "note": note}
        )
    rows.append(
        {"case": case.name, "variant": "floor: bytes", "median_ms": floor * 1e3, "times_ours": floor / ours}
        | {"note": f"{case.bytes / 1e6:.4g} MB"}
    )
    if on_gpu:
        rows.append(
            {"case": case.name, "variant": "floor: launches", "median_ms": launches * 1e3}
            | {"times_ours": launches / ours, "note": f"{case.launches} launches"}
        )
    return rows


def _repeated(call: Call, sets: int, calls: int, captured: bool) -> Callable[[], object]:
    """A function that calls for all sets of inputs in turn; as one CUDA graph if it is to be captured."""

    def run() -> None:
        for i in range(calls):
            call(i % sets)

    if not captured:
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for i in range(sets):
            call(i)  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@cache
def launch_time(device: torch.device) -> float:
    """Seconds that the least of all kernels takes within a CUDA graph."""
    one = torch.zeros(1, device=device)
    replay = _repeated(lambda _: one.add_(1), 1, 1000, captured=True)
    return alternate({"launch": replay}, repeats=9, device=device, warm_up=2)["launch"].median / 1000


def _divide(timing: Timing, calls: int) -> Timing:
    return Timing(tuple(seconds / calls for seconds in timing.seconds))


def _short(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def _triton_version() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    main()
