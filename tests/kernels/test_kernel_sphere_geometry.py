"""The fused geometric losses against their definition, and the random numbers that choose their triplets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import DEVICE, FLOATS, assert_agrees, broken, relative_error
from torch import Tensor

from spheremap.kernels import draw_key, draw_triplets, patch_coordinates, sphere_geometry
from spheremap.kernels.philox import below, philox
from spheremap.kernels.sphere_geometry import drawn, fused, reference

GRID = (9, 11)
SEEDS = st.integers(-(2**63), 2**63 - 1)
COUNTS = st.lists(st.one_of(st.just(0), st.just(1), st.integers(2, 80)), min_size=0, max_size=3)
Scene = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def scene(seed: int, counts: list[int], precision: torch.dtype = torch.float32, padding: int = 0) -> Scene:
    """Points (with some rows of padding behind), their places, offsets, counts and key."""
    generator = torch.Generator().manual_seed(seed)
    everywhere = (torch.randperm(GRID[0] * GRID[1], generator=generator) for _ in counts)
    patches = [order[:count].sort().values for order, count in zip(everywhere, counts, strict=True)]
    patches.append(torch.zeros(padding, dtype=torch.int64))
    places = patch_coordinates(GRID)[torch.cat(patches)]
    points = F.normalize(torch.randn(len(places), 3, generator=generator), dim=-1)
    sizes = torch.tensor(counts, dtype=torch.int64)
    tensors = (
        points.to(precision),
        places,
        sizes.cumsum(0) - sizes,
        sizes,
        draw_key(seed, seed % 1000, first=seed % 7),
    )
    return tuple(tensor.to(DEVICE) for tensor in tensors)  # type: ignore[return-value]


def value_and_gradient(result: tuple[Tensor, Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    losses, _ = result
    (gradient,) = torch.autograd.grad(losses @ losses.new_tensor([0.3, 0.9]), points)
    return losses.detach(), gradient


def compare(
    inputs: Scene,
    per_image: int = 32,
    margin: float = 0.5,
    threshold: float = 0.7,
    operator: Callable[..., Any] = sphere_geometry,
) -> None:
    points, *rest = inputs
    options = {"per_image": per_image, "margin": margin, "threshold": threshold}
    p = points.clone().requires_grad_()
    found = operator(p, *rest, **options, backend="triton")
    expected = sphere_geometry(p, *rest, **options, backend="reference")
    assert torch.equal(found[1], expected[1].float())
    actual, twin = value_and_gradient(found, p), value_and_gradient(expected, p)
    p = points.double().requires_grad_()
    exact = value_and_gradient(reference(p, *rest, per_image, margin, threshold), p)
    for results in zip(actual, twin, exact, strict=True):
        assert_agrees(*results, points.dtype)


@given(st.integers(0, 2**31), COUNTS, st.sampled_from(FLOATS), st.integers(1, 40), st.integers(0, 3))
@settings(max_examples=6, deadline=None)
def test_agrees_with_its_twin(
    seed: int, counts: list[int], precision: torch.dtype, per_image: int, padding: int
) -> None:
    compare(scene(seed, counts, precision, padding), per_image)


def test_agrees_at_the_size_of_training() -> None:
    compare(scene(1, [99, 0, 64, 33, 97]))


@pytest.mark.parametrize("margin", [0.0, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.95])
def test_agrees_with_other_parameters(margin: float, threshold: float) -> None:
    compare(scene(2, [40, 3]), 16, margin, threshold)


@pytest.mark.parametrize("counts", [[], [0, 0], [1], [1, 1, 0]])
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_without_geometry_there_is_no_orientation_and_no_gradient(counts: list[int], backend: str) -> None:
    points, *rest = scene(3, counts, padding=2)
    points.requires_grad_()
    losses, gradient = value_and_gradient(sphere_geometry(points, *rest, backend=backend), points)
    margin = 0.5 if 1 in counts else 0.0  # of a triplet that is one patch three times, distances are equal
    assert losses.tolist() == [margin, 0.0]
    assert not gradient.any()


def test_points_that_coincide_have_finite_gradients() -> None:
    points, *rest = scene(4, [60, 20])
    points[:60] = points[0]
    points[70] = -points[65]
    compare((points, *rest))
    points.requires_grad_()
    _, gradient = value_and_gradient(sphere_geometry(points, *rest, backend="triton"), points)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_a_tiny_faithful_map_costs_nothing(backend: str) -> None:
    places = patch_coordinates((4, 4)).to(DEVICE)
    points = F.normalize(torch.cat([1e-4 * places, torch.ones(16, 1, device=DEVICE)], dim=1), dim=-1)
    sizes = torch.tensor([16], device=DEVICE)
    losses, _ = sphere_geometry(points, places, sizes - 16, sizes, draw_key(0, 1, DEVICE), backend=backend)
    assert float(losses[1]) < 0.1  # as far apart as neighbours may be, they have a direction


def test_nan_is_not_hidden() -> None:
    points, *rest = scene(5, [20])
    points[:] = torch.nan
    points.requires_grad_()
    losses, gradient = value_and_gradient(sphere_geometry(points, *rest, backend="triton"), points)
    assert losses.isnan().all()
    assert gradient.isnan().any()


def test_strided_inputs_are_read_right() -> None:
    inputs = scene(10, [30, 12])
    strided = tuple(torch.stack([tensor, tensor + 1], dim=-1)[..., 0] for tensor in inputs)
    assert not any(tensor.is_contiguous() for tensor in strided)
    compare(strided)  # type: ignore[arg-type]
    _, _, offsets, counts, key = strided
    assert torch.equal(drawn(offsets, counts, 8, key, 0), draw_triplets(*inputs[2:4], 8, inputs[4], 0)[0])


def test_padding_gets_a_zero_gradient() -> None:
    points, *rest = scene(6, [30, 0, 12], padding=5)
    points.requires_grad_()
    _, gradient = value_and_gradient(sphere_geometry(points, *rest, backend="triton"), points)
    assert not gradient[-5:].any()
    assert gradient[:42].any(dim=1).float().mean() > 0.5


def test_runs_repeat_bit_by_bit() -> None:
    points, *rest = scene(7, [70, 50])
    points.requires_grad_()
    first, second = (
        value_and_gradient(sphere_geometry(points, *rest, backend="triton"), points) for _ in range(2)
    )
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_key_must_not_change_before_the_backward_pass() -> None:
    points, *rest = scene(8, [10])
    points.requires_grad_()
    loss = sphere_geometry(points, *rest, backend="triton")[0].sum()
    rest[-1][1] += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- the draw


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known answers that come with the authors' library, Random123
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    c0, c1, c2, c3 = map(torch.tensor, counter)
    k0, k1 = map(torch.tensor, key)
    assert [int(word) for word in philox((c0, c1, c2, c3), (k0, k1))] == expected


@given(st.integers(1, 2**31 - 1), st.data())
@settings(max_examples=50)
def test_every_index_has_its_share_of_words(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n - 1))
    first, stop = -(-k * 2**32 // n), -(-(k + 1) * 2**32 // n)  # words that give k
    words = torch.tensor([first - 1, first, stop - 1, stop])
    assert below(words, torch.tensor(n)).tolist() == [k - 1, k, k, k + 1]
    assert abs((stop - first) / 2**32 - 1 / n) <= 2**-32


WORDS = st.integers(0, 2**32 - 1)


@given(SEEDS, WORDS, WORDS, COUNTS, st.integers(1, 40), st.sampled_from([0, 1]))
@settings(max_examples=12, deadline=None)
def test_kernel_draws_the_same_triplets(
    seed: int, step: int, first: int, counts: list[int], per_image: int, stream: int
) -> None:
    sizes = torch.tensor(counts, dtype=torch.int64, device=DEVICE)
    arguments = (sizes.cumsum(0) - sizes, sizes, per_image, draw_key(seed, step, DEVICE, first), stream)
    triplets, valid = draw_triplets(*arguments)
    assert torch.equal(drawn(*arguments), triplets)
    assert valid.tolist() == [count > 0 for count in counts for _ in range(per_image)]


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_draw_is_uniform_and_stays_in_its_image(count: int) -> None:
    draws = 30_000
    offsets, counts = torch.tensor([0, 5]), torch.tensor([5, count])
    triplets, valid = draw_triplets(offsets, counts, draws, draw_key(11, 3), 0)
    assert valid.all()
    own = triplets[draws:] - 5
    assert own.min() >= 0
    assert own.max() < count
    for column in own.T:
        expected = draws / count
        chi_square = float(((torch.bincount(column, minlength=count) - expected) ** 2 / expected).sum())
        # mean count - 1, standard deviation sqrt(2 (count - 1)): five of these are allowed
        assert abs(chi_square - (count - 1)) <= 5 * (2 * (count - 1)) ** 0.5
    if count == 7:  # the three are independent of each other
        pairs = torch.bincount(own[:, 0] * 7 + own[:, 1], minlength=49)
        assert abs(float(((pairs - draws / 49) ** 2 / (draws / 49)).sum()) - 48) <= 5 * 96**0.5


def test_draws_differ_by_seed_step_image_and_loss_alone() -> None:
    def draw(seed: int = 1, step: int = 1, stream: int = 0, before: int = 9) -> Tensor:
        offsets, counts = torch.tensor([0, before]), torch.tensor([before, 1000])
        triplets, _ = draw_triplets(offsets, counts, 20, draw_key(seed, step), stream)
        return triplets[20:] - before

    assert torch.equal(draw(), draw(before=500))  # other images play no part
    for other in (draw(seed=2), draw(seed=1 + 2**32), draw(step=2), draw(stream=1)):
        assert (other == draw()).float().mean() < 0.1
    alike = draw_triplets(torch.tensor([0, 1000]), torch.tensor([1000, 1000]), 20, draw_key(1, 1), 0)[0]
    assert (alike[:20] == alike[20:] - 1000).float().mean() < 0.1


def test_a_part_of_a_batch_draws_what_the_whole_batch_draws() -> None:
    sizes = torch.tensor([5, 0, 9, 30, 2])
    whole, _ = draw_triplets(sizes.cumsum(0) - sizes, sizes, 8, draw_key(3, 4), 1)
    for first, last in ((0, 2), (2, 5), (4, 5)):
        own = sizes[first:last]
        part, valid = draw_triplets(own.cumsum(0) - own, own, 8, draw_key(3, 4, first=first), 1)
        before = int(sizes[:first].sum())
        expected = whole[8 * first : 8 * last] - before
        assert torch.equal(part[valid], expected[valid])


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 4), (4, 1), (1, 1), (60, 45)])
def test_coordinates_are_linspace_up_to_a_common_factor(grid: tuple[int, int]) -> None:
    rows, columns = grid
    expected = torch.stack(
        torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns), indexing="ij"), dim=-1
    ).reshape(-1, 2)
    found = patch_coordinates(grid)
    assert found.shape == (rows * columns, 2)
    assert torch.equal(found, found.round())
    torch.testing.assert_close(found / found.max().clamp(min=1), expected)


# --- the operator


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_operators_are_registered_in_full() -> None:
    points, places, offsets, counts, key = scene(10, [7, 0])
    arguments = (points.requires_grad_(), places, offsets, counts, key, 4, 0.5, 0.7)
    torch.library.opcheck(fused, arguments)
    torch.library.opcheck(drawn, (offsets, counts, 4, key, 1))


def test_compiles_without_breaks_and_draws_anew_each_step() -> None:
    points, *rest = scene(11, [9])
    points.requires_grad_()

    def loss(p: Tensor) -> tuple[Tensor, Tensor]:
        return sphere_geometry(F.normalize(p * 2, dim=-1), *rest, per_image=4, backend="triton")

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    seen = []
    for _ in range(2):
        actual = value_and_gradient(compiled(points), points)
        for a, b in zip(actual, value_and_gradient(loss(points), points), strict=True):
            assert relative_error(a, b) < 1e-6
        seen.append(actual[0])
        rest[-1][1] += 1
    assert not torch.equal(*seen)


@pytest.mark.skipif(DEVICE == "cpu", reason="CUDA graphs need a GPU")
def test_is_captured_in_a_cuda_graph() -> None:
    points, *rest = scene(12, [60, 0, 31])
    points.requires_grad_()

    def step() -> tuple[Tensor, Tensor]:
        return value_and_gradient(sphere_geometry(points, *rest, backend="triton"), points)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses, gradient = step()
    rest[-1][1] += 1
    graph.replay()
    expected = step()
    assert torch.equal(losses, expected[0])
    assert torch.equal(gradient, expected[1])


def to_break() -> Scene:
    points, *rest = scene(13, [30])
    return points * 1.2, *rest  # of unit points some terms vanish


def test_an_intact_program_passes() -> None:
    compare(to_break())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("b_is_nearer, 1.0, -1.0", "b_is_nearer, -1.0, 1.0"),
        ("c = offset + tl.umulhi(word_c", "c = offset + tl.umulhi(word_b"),
        ("zero + number", "zero + image"),
        ("ax * by - ay * bx", "ax * by + ay * bx"),
        ("tl.sum(hinge * hinge)", "tl.sum(hinge)"),
        ("a_x = -vx * along - (bx - ax) * av - dx", "a_x = -vx * along - dx"),
        ("position, b, -gcx, -gcy, -gcz", "position, b, gcx, gcy, gcz"),
        ("tile_y, 1)", "tile_x, 1)"),
        ("slope * ax, slope * ay, slope * az", "slope * ax, slope * ay, slope * float('nan')"),
    ],
)
def test_a_broken_program_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    module = broken(tmp_path, "sphere_geometry", right, wrong)
    with pytest.raises(AssertionError):
        compare(to_break(), operator=module.sphere_geometry)
