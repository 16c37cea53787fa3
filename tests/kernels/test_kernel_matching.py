"""Matching by tiles against its definition by whole matrices: ties, ragged pairs, radii, windows."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import DEVICE, FLOATS, ROUNDING, SINGLE_LIMIT, break_programs, relative_error
from torch import Tensor

from spheremap.base.errors import InputError
from spheremap.kernels import Matches, Whereabouts, match
from spheremap.kernels.matching import _match, soft_argmax

FIELDS = ("position", "low", "high", "inside", "outside")


class Pairs:
    """Ragged pairs with random descriptors; every eighth keypoint is hidden in the target."""

    def __init__(
        self,
        seed: int,
        counts: list[int],
        grid: tuple[int, int] = (9, 13),
        dim: int = 40,
        precision: torch.dtype = torch.float32,
        radii: int = 2,
    ) -> None:
        rng = np.random.default_rng(seed)
        queries, images, patches = sum(counts), 2, grid[0] * grid[1]

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(rng.normal(size=shape)).float().to(DEVICE)

        self.grid, self.counts = grid, counts
        self.source = normal(queries, dim).to(precision)
        self.target = normal(images, patches, dim).to(precision)
        self.source_points, self.target_points = normal(queries, 3), normal(images, patches, 3)
        self.first = torch.tensor(np.cumsum([0, *counts]), device=DEVICE)
        self.image = torch.from_numpy(rng.integers(0, images, len(counts))).to(DEVICE)
        rows, columns = np.divmod(np.arange(patches), grid[1])
        places = np.stack([columns * 14.0 + 7, rows * 14.0 + 7], axis=1)
        xy = rng.integers(0, 14 * min(grid), (queries, 2)).astype(np.float64)
        xy[::8] = np.nan
        radius = rng.choice([0.5, 14.0, 60.0, 200.0], (len(counts), radii))
        self.whereabouts = Whereabouts(
            torch.from_numpy(xy).to(DEVICE),
            torch.from_numpy(np.stack([places, places + 5])).to(DEVICE),
            torch.from_numpy(radius).to(DEVICE),
        )
        self.options: dict[str, object] = {"whereabouts": self.whereabouts if radii else None, "window": 5}

    def match(self, backend: str, **options: object) -> Matches:
        descriptors = (self.source, self.source_points, self.target, self.target_points)
        options = {**self.options, **options}
        return match(*descriptors, self.first, self.image, self.grid, backend=backend, **options)  # type: ignore[arg-type]

    def exact(self, weights: tuple[float, float] = (0.8, 0.2)) -> list[Tensor]:
        """Similarities `(K, N)` of each pair in float64."""
        result = []
        for pair, rows in enumerate(torch.arange(len(self.source)).split(self.counts)):
            image = int(self.image[pair])
            of = [
                (self.source[rows], self.target[image]),
                (self.source_points[rows], self.target_points[image]),
            ]
            cosines = [F.normalize(a.double(), dim=1) @ F.normalize(b.double(), dim=1).T for a, b in of]
            result.append(weights[0] * cosines[0] + weights[1] * cosines[1])
        return result


def compare(pairs: Pairs, **options: object) -> Matches:
    """Compare all fields of the kernel's matches with the twin's."""
    actual, twin = pairs.match("triton", **options), pairs.match("reference", **options)
    # where two patches are as good as equal, either is right, as long as its similarity is the highest
    for similarity, best, expected in zip(
        pairs.exact(options.get("weights", (0.8, 0.2))),  # type: ignore[arg-type]
        actual.best.split(pairs.counts),
        twin.best.split(pairs.counts),
        strict=True,
    ):
        for row, a, b in zip(similarity, best.tolist(), expected.tolist(), strict=True):
            assert a == b or abs(float(row[a] - row[b])) <= ROUNDING
    for name in FIELDS:
        error = relative_error(getattr(actual, name), getattr(twin, name))
        assert error <= SINGLE_LIMIT, f"{name} differs from the twin by {error:.2e}"
        assert getattr(actual, name).dtype == getattr(twin, name).dtype
    return actual


COUNTS = st.lists(st.one_of(st.just(0), st.just(1), st.integers(2, 40)), min_size=0, max_size=3)
GRIDS = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(st.integers(0, 2**31), COUNTS, GRIDS, st.integers(1, 150), st.sampled_from(FLOATS), st.integers(0, 3))
@settings(max_examples=6, deadline=None)
def test_agrees_with_its_twin(
    seed: int, counts: list[int], grid: tuple[int, int], dim: int, precision: torch.dtype, radii: int
) -> None:
    compare(Pairs(seed, counts, grid, dim, precision, radii))


@pytest.mark.parametrize("precision", FLOATS)
def test_extremes_are_as_exact_as_the_twins(precision: torch.dtype) -> None:
    pairs = Pairs(1, [20, 3], precision=precision)
    actual, twin = pairs.match("triton"), pairs.match("reference")
    for name, reduce in (("high", torch.amax), ("low", torch.amin)):
        exact = torch.cat([reduce(similarity, dim=1) for similarity in pairs.exact()])
        error, of_twin = (relative_error(getattr(result, name), exact) for result in (actual, twin))
        assert error <= 2 * of_twin + ROUNDING


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_weights_are_those_of_the_two_cosines(weights: tuple[float, float]) -> None:
    compare(Pairs(2, [9, 4]), weights=weights)


@pytest.mark.parametrize("count", [16, 17, 33])
def test_many_keypoints_share_a_target(count: int) -> None:
    compare(Pairs(3, [count], grid=(4, 20), radii=1))


@pytest.mark.parametrize("window", [1, 3, 31])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_windows(window: int, temperature: float) -> None:
    actual = compare(Pairs(4, [7]), window=window, temperature=temperature)
    if window == 1:
        rows, columns = actual.position.unbind(1)
        assert torch.equal(rows * 13 + columns, actual.best.float())


def test_soft_argmax_by_hand() -> None:
    similarity = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 0.9, 0.0, 5.0]]).log()  # 2 x 4
    position = soft_argmax(similarity, torch.tensor([4]), columns=4, window=3, temperature=1.0)
    assert position.tolist() == [pytest.approx([1.0, 0.9 / 1.9])]  # patch 7 is the best of all, but too far


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_first_of_equal_patches_is_the_best(backend: str) -> None:
    pairs = Pairs(5, [3], grid=(12, 16))
    # whole numbers: equal patches have equal products, in whatever order these are summed
    pairs.source, pairs.target = pairs.source.round(), pairs.target.round()
    equal = [150, 151, 20, 77]  # in several tiles, whatever the order they are scanned in
    for image in range(2):
        pairs.target[image, equal] = pairs.source[1]
        pairs.target_points[image, equal] = pairs.source_points[1]
    assert pairs.match(backend).best[1] == 20


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_inside_and_outside_by_hand(backend: str) -> None:
    pairs = Pairs(6, [4], grid=(1, 5), radii=1)
    cosine = torch.tensor([0.9, 0.1, 0.5, 0.3, 0.2])
    pairs.source = torch.tensor([[1.0, 0.0]] * 4, device=DEVICE)
    pairs.target = torch.stack([cosine, (1 - cosine**2).sqrt()], dim=1).expand(2, 5, 2).to(DEVICE)
    # in line, 10 apart; keypoints over the third, between the fourth and the fifth, hidden, and far away
    places = torch.tensor([[0.0, 0], [10, 0], [20, 0], [30, 0], [40, 0]]).expand(2, 5, 2)
    xy = torch.tensor([[20.0, 0], [35, 0], [torch.nan, torch.nan], [100, 0]])
    radius = torch.tensor([[10.0]])
    where = Whereabouts(xy.to(DEVICE), places.to(DEVICE), radius.to(DEVICE))
    result = pairs.match(backend, whereabouts=where, weights=(1.0, 0.0))
    # the radius itself is outside; of two equally near patches the first is the nearest
    assert result.inside[0].tolist() == pytest.approx([0.5, 0.3, -np.inf, 0.2])
    assert result.outside[0].tolist() == pytest.approx([0.9, 0.9, 0.9, 0.9])


def test_distances_on_the_edge_are_judged_as_in_float64() -> None:
    rng = np.random.default_rng(7)
    pairs = Pairs(7, [40], grid=(6, 6), radii=3)
    # legs of right triangles with whole sides: many distances fall on, or one rounding beside, a radius
    places = rng.integers(-20, 20, (2, 36, 2)) * 0.1
    xy = rng.integers(-20, 20, (40, 2)) * 0.1
    radius = np.array([[0.5, 1.3, 0.1 * 5]])
    where = Whereabouts(*(torch.from_numpy(array).to(DEVICE) for array in (xy, places, radius)))
    compare(pairs, whereabouts=where)


def test_no_radii() -> None:
    pairs = Pairs(8, [5, 6], radii=0)
    assert compare(pairs).inside.shape == (0, 11)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's, of numpy
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["source", "target", "source_points", "target_points"])
def test_descriptors_that_are_not_finite_are_not_hidden(where: str, value: float) -> None:
    pairs = Pairs(9, [5, 6])
    tensor = getattr(pairs, where)
    pairs.image = torch.tensor([0, 1], device=DEVICE)
    tensor.view(-1, tensor.shape[-1])[2, 1] = value  # of the first pair
    result = compare(pairs)
    broken = [2] if where.startswith("source") else [0, 1, 2, 3, 4]
    assert torch.nonzero(result.best == -1).flatten().tolist() == broken
    assert torch.nonzero(result.high.isnan()).flatten().tolist() == broken
    assert torch.nonzero(result.position.isnan().all(dim=1)).flatten().tolist() == broken


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's, of numpy
@pytest.mark.parametrize(("weights", "part"), [((1.0, 0.0), "points"), ((0.0, 1.0), "")])
def test_descriptors_of_no_weight_take_no_part(weights: tuple[float, float], part: str) -> None:
    pairs = Pairs(9, [5, 6])
    expected = pairs.match("triton", weights=weights)
    for side in ("source", "target"):
        getattr(pairs, f"{side}_{part}" if part else side).view(-1)[::7] = torch.nan
    actual = compare(pairs, weights=weights)
    for name in ("best", *FIELDS):
        assert torch.equal(getattr(actual, name), getattr(expected, name))


def test_nothing_to_match() -> None:
    for counts in ([], [0], [0, 0]):
        result = compare(Pairs(10, counts))
        assert result.best.shape == (0,)


def test_unfit_arguments_are_refused() -> None:
    pairs = Pairs(11, [3])
    for options in ({"window": 4}, {"window": 33}, {"temperature": 0.0}):
        with pytest.raises(InputError, match="bad"):
            pairs.match("reference", **options)
    pairs.grid = (9, 12)
    with pytest.raises(InputError, match="grid"):
        pairs.match("reference")
    pairs.source = pairs.source.half()
    with pytest.raises(InputError, match="precision"):
        pairs.match("reference")
    pairs.first = pairs.first[:1]
    with pytest.raises(InputError, match="do not fit"):
        pairs.match("reference")


def operator_arguments(pairs: Pairs) -> tuple[object, ...]:
    descriptors = (pairs.source, pairs.source_points, pairs.target, pairs.target_points)
    where = pairs.whereabouts
    tensors = (*descriptors, pairs.first, pairs.image, where.xy, where.places, where.radius)
    return (*tensors, pairs.grid[1], 0.8, 0.2, 3, 0.05, max(pairs.counts))


def test_operator_is_registered_in_full() -> None:
    torch.library.opcheck(_match, operator_arguments(Pairs(12, [4, 2], grid=(5, 5))))


def test_compiles_without_breaks() -> None:
    pairs = Pairs(13, [4, 2], grid=(5, 5))

    def high(target: Tensor) -> Tensor:
        pairs.target = target * 2
        return pairs.match("triton", longest=4).high + 1

    target = pairs.target
    compiled = torch.compile(high, fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(target), high(target)) < 1e-6


@pytest.mark.skipif(DEVICE == "cpu", reason="CUDA graphs need a GPU")
def test_is_captured_in_a_cuda_graph() -> None:
    pairs = Pairs(14, [30, 2, 0, 9], precision=torch.float16)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        pairs.match("triton", longest=30)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = pairs.match("triton", longest=30)
    pairs.target.copy_(torch.randn_like(pairs.target))
    graph.replay()
    expected = pairs.match("triton", longest=30)
    for name in ("best", *FIELDS):
        assert torch.equal(getattr(captured, name).nan_to_num(), getattr(expected, name).nan_to_num())


def to_break() -> Pairs:
    pairs = Pairs(15, [8, 3], grid=(4, 20), dim=40, radii=3)
    pairs.whereabouts.radius.copy_(torch.tensor([0.5, 40.0, 120.0]))
    return pairs


def test_an_intact_program_passes() -> None:
    compare(to_break())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("begin + best_here", "best_here"),
        ("high_here > high", "high_here < high"),
        ("ty[:, None] * sy[None, :]", "ty[:, None] * sx[None, :]"),
        ("squares += tl.sum(long * long, 1)", "squares = tl.sum(long * long, 1)"),
        (") | always", ")"),
        ("tl.max(tl.where(near, -INFINITY, candidates), 0)", "tl.max(candidates, 0)"),
        ("tl.min(tl.where(exists[:, None], similarity, INFINITY), 0)", "tl.min(similarity * 0.9, 0)"),
        ("cell % WINDOW - WINDOW // 2", "cell % WINDOW"),
        ("for begin in tl.range(split * BLOCK_N, N,", "for begin in tl.range(split * BLOCK_N, N - BLOCK_N,"),
        ("weight * at_row", "float('nan') * at_row"),
    ],
)
def test_a_broken_program_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, right: str, wrong: str
) -> None:
    pairs = to_break()
    break_programs(monkeypatch, tmp_path, "matching", right, wrong)
    with pytest.raises(AssertionError):
        compare(pairs)
