"""Triplets: uniform over each image's foreground, the same for the same seed and step."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spheremap.kernels import draw_key, draw_triplets, patch_coordinates


def offsets_of(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = torch.tensor(counts)
    return sizes.cumsum(0) - sizes, sizes


def is_uniform(observed: np.ndarray) -> bool:
    """Chi-square test at four standard deviations of the statistic (mean k - 1, variance 2 (k - 1))."""
    expected, freedom = observed.mean(), len(observed) - 1
    return bool(((observed - expected) ** 2).sum() / expected < freedom + 4 * (2 * freedom) ** 0.5)


def test_each_corner_is_uniform_and_independent() -> None:
    assert not is_uniform(np.array([1000, 1000, 1200]))
    offsets, counts = offsets_of([7, 0, 1, 12])
    triplets, valid = draw_triplets(offsets, counts, 20_000, draw_key(0, 1), stream=0)
    triplets = triplets.view(4, 20_000, 3)
    assert valid.view(4, -1).all(1).tolist() == [True, False, True, True]
    assert (triplets[2] == 7).all()
    for image, start, size in ((0, 0, 7), (3, 8, 12)):
        local = (triplets[image] - start).numpy()
        for corner in range(3):
            observed = np.bincount(local[:, corner], minlength=size)
            assert len(observed) == size
            assert is_uniform(observed)
        joint = np.bincount(local[:, 0] * size + local[:, 1], minlength=size**2)
        assert is_uniform(joint)  # with replacement: b = a as often as any other


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 2**31), st.integers(1, 10**6))
@settings(max_examples=50, deadline=None)
def test_triplets_stay_in_their_image(sizes: list[int], seed: int, step: int) -> None:
    offsets, counts = offsets_of(sizes)
    triplets, valid = draw_triplets(offsets, counts, 5, draw_key(seed, step), stream=1)
    assert triplets.shape == (5 * len(sizes), 3)
    for i, size in enumerate(sizes):
        own = triplets[5 * i : 5 * i + 5]
        assert valid[5 * i : 5 * i + 5].eq(size > 0).all()
        if size:
            assert ((own >= offsets[i]) & (own < offsets[i] + size)).all()
        else:
            assert (own == 0).all()


def test_seed_step_and_stream_alone_decide() -> None:
    offsets, counts = offsets_of([30, 40])

    def drawn(seed: int, step: int, stream: int) -> torch.Tensor:
        return draw_triplets(offsets, counts, 32, draw_key(seed, step), stream)[0]

    assert torch.equal(drawn(3, 5, 0), drawn(3, 5, 0))
    for other in ((3, 6, 0), (4, 5, 0), (5, 3, 0), (3, 5, 1)):
        assert not torch.equal(drawn(3, 5, 0), drawn(*other))


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
