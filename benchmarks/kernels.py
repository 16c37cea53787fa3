"""Each kernel against its twin, the same in plain PyTorch, and against the floor that the hardware sets.

The floor is the bytes that must be moved over the measured copy bandwidth; `share_with_launches` takes the
launches themselves as a second floor, which small kernels cannot get below. On a GPU calls are captured in
CUDA graphs, so that the host's part does not count, and go round sets of inputs that no cache holds. On a CPU
the kernels would be interpreted, and only the twins are timed: they are what runs there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import common
import numpy as np
import torch
from common import Options, Row, Timing, Workload
from torch import Tensor

from spheremap.base.choices import Backend
from spheremap.kernels import cosine_reconstruction, draw_key, patch_coordinates, sphere_geometry

COLD = 256e6  # bytes of inputs to go round: several times what GPUs cache
GRAPH_CALLS = 64  # calls in a graph, at least
TRIPLETS = 32

Call = Callable[[int], object]  # takes the number of a set of inputs


@dataclass(frozen=True)
class Case:
    """One kernel at one size and precision."""

    name: str
    make: Callable[[int], Any]  # inputs from a seed
    run: Callable[[Any, Backend], object]
    bytes: float  # that one call must move
    input_bytes: float  # of one set
    launches: int


def measure(options: Options) -> Iterator[Row]:
    triton = {"triton": version("triton") if find_spec("triton") else "none"}
    for case in cases(common.choose(options, common.TINY, common.SMALL, common.PAPER), options):
        yield from (row | triton for row in measure_case(case, options))
    if not options.on_gpu:
        print("no GPU: the kernels were not timed, only their twins, which are what runs on a CPU")


def cases(size: Workload, options: Options) -> list[Case]:
    return [
        *(reconstruction_case(size, options, kind) for kind in (torch.bfloat16, torch.float32)),
        geometry_case(size, options),
    ]


# --- what is measured


def reconstruction_case(size: Workload, options: Options, precision: torch.dtype) -> Case:
    """Loss and gradient, a fifth of the patches foreground; the features are gathered from those of all."""
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

    inputs = (2 + precision.itemsize) * foreground * size.dim
    gradient = precision.itemsize * foreground * size.dim
    index_and_factors = foreground * (2 * 8 + 2 * 8)
    name = f"cosine_reconstruction {str(precision).removeprefix('torch.')}, {foreground} x {size.dim}"
    return Case(name, make, run, 2 * inputs + gradient + index_and_factors, inputs, launches=3)


def geometry_case(size: Workload, options: Options) -> Case:
    """Both losses and their gradient."""
    patches = size.side**2
    count = patches // 5

    def make(seed: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        counts = rng.integers(count // 2, count * 3 // 2, size.batch)
        counts[0] += count * size.batch - counts.sum()  # the same total in all sets
        counts = counts.clip(0, patches)
        where = torch.from_numpy(np.concatenate([np.sort(rng.permutation(patches)[:n]) for n in counts]))
        points = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(len(where), 3))), dim=1)
        coordinates, sizes = patch_coordinates((size.side, size.side))[where], torch.from_numpy(counts)
        tensors = (points.float(), coordinates, sizes.cumsum(0) - sizes, sizes, draw_key(0, seed))
        points, *rest = (tensor.to(options.device) for tensor in tensors)
        return points.requires_grad_(), *rest

    def run(inputs: tuple[Tensor, ...], backend: Backend) -> object:
        points, *rest = inputs
        return torch.autograd.grad(sphere_geometry(points, *rest, backend=backend)[0].sum(), points)

    drawn = size.batch * TRIPLETS * 2 * 3
    moved = 2 * drawn * (12 + 8) + 12 * count * size.batch
    name = f"sphere_geometry, {size.batch} images of {count} points"
    return Case(name, make, run, moved, moved, launches=4)


# --- how


def measure_case(case: Case, options: Options) -> Iterator[Row]:
    """Rows of one case: kernel (on a GPU), twin, and floors."""
    device, on_gpu = options.device, options.on_gpu
    sets = int(max(1, min(-(-COLD // case.input_bytes), GRAPH_CALLS))) if on_gpu else 1
    inputs = [case.make(seed) for seed in range(sets)]
    calls = -(-GRAPH_CALLS // sets) * sets if on_gpu else 1
    backends: dict[str, Backend] = {"twin": "reference"} | ({"kernel": "triton"} if on_gpu else {})

    def repeated(backend: Backend) -> Callable[[], object]:
        return _repeated(lambda i: case.run(inputs[i], backend), sets, calls, captured=on_gpu)

    functions = {name: repeated(backend) for name, backend in backends.items()}
    timings = common.alternate(functions, repeats=options.repeats, device=device, warm_up=2)
    per_call = {name: Timing(tuple(s / calls for s in of.seconds)) for name, of in timings.items()}

    floors = {
        "bytes": (case.bytes / common.copy_bandwidth(device, options.tiny), f"{case.bytes / 1e6:.4g} MB")
    }
    if on_gpu:
        floors["launches"] = (case.launches * launch_time(device), f"{case.launches} launches")
    ours = per_call["kernel" if on_gpu else "twin"].median
    for name, timing in per_call.items():
        shares = {"share_of_floor": floors["bytes"][0] / timing.median}
        if on_gpu:
            shares["share_with_launches"] = max(seconds for seconds, _ in floors.values()) / timing.median
        row = {"case": case.name, "variant": name, **timing.columns(), **shares}
        yield row | {"times_ours": timing.median / ours, "note": "in a CUDA graph" if on_gpu else ""}
    for name, (seconds, note) in floors.items():
        row = {"case": case.name, "variant": f"floor: {name}", "median_ms": seconds * 1e3}
        yield row | {"times_ours": seconds / ours, "note": note}


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
    return common.alternate({"launch": replay}, repeats=9, device=device, warm_up=2)["launch"].median / 1000


main = partial(common.run, "kernels", __doc__, measure)

if __name__ == "__main__":
    main()
