"""Each kernel against its twin, the same in plain PyTorch, and against the floor that the hardware sets.

The floor is the larger of the bytes that must be moved over the measured copy bandwidth, and the operations
of the matrix products over the measured matmul rate; `share_with_launches` takes the launches themselves as a
third floor, which small kernels cannot get below. On a GPU calls are captured in CUDA graphs where they can
be, so that the host's part does not count, and go round sets of inputs that no cache holds. On a CPU the
kernels would be interpreted, and only the twins are timed: they are what runs there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from common import Options, Timing, alternate, copy_bandwidth, matmul_rate, read_options, write_rows
from torch import Tensor

from spheremap.features.geometry import patch_centres
from spheremap.kernels import Backend, Whereabouts, cosine_reconstruction, draw_key, match, sphere_geometry
from spheremap.model.losses import patch_coordinates

COLD = 256e6  # bytes of inputs to go round: several times what GPUs cache
GRAPH_CALLS = 64  # calls in a graph, at least
TRIPLETS = 32
ALPHAS = (0.10, 0.05, 0.01)

Call = Callable[[int], object]  # takes the number of a set of inputs


@dataclass(frozen=True)
class Size:
    """Of the training step: B images of side² patches, a fifth of them foreground, width D; of matching."""

    batch: int
    side: int
    dim: int
    pairs: int
    keypoints: int  # per pair, on average
    target_side: int  # patches along a target


TINY = Size(3, 6, 64, 2, 3, 5)
SMALL = Size(16, 32, 384, 4, 10, 24)
PAPER = Size(64, 32, 768, 64, 10, 60)


@dataclass(frozen=True)
class Case:
    """One kernel at one size and precision."""

    name: str
    make: Callable[[int], Any]  # inputs from a seed
    run: Callable[[Any, Backend], object]
    bytes: float  # that one call must move
    launches: int
    operations: float = 0.0  # of its matrix products
    precision: torch.dtype = torch.float32  # of these
    twin_waits: bool = False  # for the host, so that it cannot be captured
    input_bytes: float = field(default=0.0)  # of one set; `bytes` if 0


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
    half = torch.float16
    return [
        *(reconstruction_case(size, options, kind) for kind in (torch.bfloat16, torch.float32)),
        geometry_case(size, options),
        matching_case(size, options, half, window=1),
        matching_case(size, options, half, window=15),
        matching_case(size, options, torch.float32, window=1),
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
        loss = cosine_reconstruction(features, reconstruction, rows, backend=backend)
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
        return torch.autograd.grad(sphere_geometry(points, *rest, backend=backend).sum(), points)

    drawn = size.batch * TRIPLETS * 2 * 3
    return Case(
        f"sphere_geometry, {size.batch} images of {count} points",
        make,
        run,
        bytes=2 * drawn * (12 + 8) + 12 * count * size.batch,
        launches=4,
    )


def matching_case(size: Size, options: Options, precision: torch.dtype, window: int) -> Case:
    """Best patch, range, best inside and outside three radii; each pair with a target of its own."""
    grid = (size.target_side, size.target_side)
    patches, queries = grid[0] * grid[1], size.pairs * size.keypoints

    def make(seed: int) -> tuple[tuple[Tensor, ...], Whereabouts, int]:
        generator = torch.Generator(options.device).manual_seed(seed)
        draw = partial(torch.randn, generator=generator, device=options.device)
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(queries - size.pairs, np.full(size.pairs, 1 / size.pairs)) + 1
        places = patch_centres(np.array([0.0, 0.0, 500.0, 500.0]), grid)

        def put(array: Any) -> Tensor:
            return torch.from_numpy(array).to(options.device)

        where = Whereabouts(
            put(rng.uniform(0, 500, (queries, 2))),
            put(places).expand(size.pairs, -1, -1).contiguous(),
            put(rng.uniform(200, 400, (size.pairs, 1)) * ALPHAS),
        )
        tensors = (
            draw(queries, size.dim).to(precision),
            draw(queries, 3),
            draw(size.pairs, patches, size.dim).to(precision),
            draw(size.pairs, patches, 3),
            put(np.concatenate([[0], np.cumsum(counts)])),
            torch.arange(size.pairs, device=options.device),
        )
        return tensors, where, int(counts.max())

    def run(inputs: tuple[tuple[Tensor, ...], Whereabouts, int], backend: Backend) -> object:
        tensors, where, longest = inputs
        options_of_match = {"window": window, "whereabouts": where, "longest": longest}
        return match(*tensors, grid, **options_of_match, backend=backend)  # type: ignore[arg-type]

    of_patch = size.dim * precision.itemsize + 3 * 4
    target = size.pairs * patches * (of_patch + 2 * 8)
    return Case(
        f"matching {_short(precision)}, {size.pairs} pairs of {size.keypoints} x {patches} x {size.dim}, "
        f"window {window}",
        make,
        run,
        bytes=target + queries * of_patch,  # what lies in a window was read before
        operations=2.0 * queries * patches * size.dim,
        precision=precision,
        launches=3,
        twin_waits=True,
        input_bytes=target,
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

    # timed as they are, a few calls of a twin that waits for the host are enough
    twin_calls = sets if case.twin_waits else calls
    functions = {"twin": _repeated(twin, sets, twin_calls, on_gpu and not case.twin_waits)}
    if on_gpu:
        functions["kernel"] = _repeated(kernel, sets, calls, captured=True)
    timings = alternate(functions, repeats=options.repeats, device=device, warm_up=2)
    counts = {"twin": twin_calls, "kernel": calls}
    per_call = {name: _divide(timing, counts[name]) for name, timing in timings.items()}

    floors = {"bytes": case.bytes / copy_bandwidth(device, options.tiny)}
    if case.operations:
        floors["operations"] = case.operations / matmul_rate(
            device, _product_type(case, device), options.tiny
        )
    floor = max(floors.values())
    ours = per_call["kernel" if on_gpu else "twin"].median
    launches = case.launches * launch_time(device) if on_gpu else 0.0
    rows: list[dict[str, Any]] = []
    for name, timing in per_call.items():
        shares = {"share_of_floor": floor / timing.median}
        if on_gpu:
            shares["share_with_launches"] = max(floor, launches) / timing.median
        note = "in a CUDA graph" if on_gpu and not (name == "twin" and case.twin_waits) else ""
        rows.append(
            {"case": case.name, "variant": name, **timing.columns(), **shares}
            | {"times_ours": timing.median / ours, "note": note}
        )
    rows += [
        {"case": case.name, "variant": f"floor: {name}", "median_ms": value * 1e3, "times_ours": value / ours}
        | {"note": f"{case.bytes / 1e6:.4g} MB" if name == "bytes" else f"{case.operations / 1e9:.4g} G"}
        for name, value in floors.items()
    ]
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


def _product_type(case: Case, device: torch.device) -> torch.dtype:
    """The precision in which the matrix products run; on a CPU the twin computes in float32."""
    return case.precision if device.type == "cuda" else torch.float32


def _short(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def _triton_version() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    main()
