"""The fused reconstruction loss against its definition: values and gradients, ragged, padded, degenerate."""

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

from spheremap.kernels import cosine_reconstruction
from spheremap.kernels.cosine_reconstruction import fused, reference

PRECISIONS = st.sampled_from(FLOATS)


def inputs(
    seed: int, rows: int, dim: int, features: torch.dtype, reconstruction: torch.dtype, *, picked: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Features, reconstruction and rows, no two vectors nearly parallel: there the gradient cancels out."""
    generator = torch.Generator().manual_seed(seed)
    wide = rows + 3 if picked else rows
    x = torch.randn(wide, dim, generator=generator)
    index = torch.randint(0, wide, (rows,), generator=generator) if picked else torch.arange(rows)
    along = F.normalize(x[index], dim=1)
    across = torch.randn(rows, dim, generator=generator)
    across = F.normalize(across - along * (across * along).sum(dim=1, keepdim=True), dim=1)
    angle = 0.5 + 2 * torch.rand(rows, 1, generator=generator)
    y = (angle.cos() * along + angle.sin() * across) * (0.2 + torch.rand(rows, 1, generator=generator))
    index[torch.rand(rows, generator=generator) < 0.2] = -1
    return x.to(DEVICE, features) * 3, y.to(DEVICE, reconstruction), index.to(DEVICE) if picked else None


def value_and_gradient(result: tuple[Tensor, Tensor], reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(result[0] * 0.7, reconstruction)
    return result[0].detach(), gradient


def compare(
    features: Tensor,
    reconstruction: Tensor,
    rows: Tensor | None,
    operator: Callable[..., Any] = cosine_reconstruction,
) -> None:
    r = reconstruction.clone().requires_grad_()
    found = operator(features, r, rows, backend="triton")
    expected = cosine_reconstruction(features, r, rows, backend="reference")
    assert found[1] == expected[1]
    actual, twin = value_and_gradient(found, r), value_and_gradient(expected, r)
    r = reconstruction.double().requires_grad_()
    exact = value_and_gradient(reference(features.double(), r, rows), r)
    for results in zip(actual, twin, exact, strict=True):
        assert_agrees(*results, reconstruction.dtype)


@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(2, 600), PRECISIONS, PRECISIONS, st.booleans())
@settings(max_examples=20, deadline=None)
def test_agrees_with_its_twin(
    seed: int, rows: int, dim: int, features: torch.dtype, reconstruction: torch.dtype, picked: bool
) -> None:
    compare(*inputs(seed, rows, dim, features, reconstruction, picked=picked))


@pytest.mark.parametrize("rows", [0, 1, 8, 9])
@pytest.mark.parametrize("dim", [2, 256, 384])
def test_agrees_at_the_edges_of_its_tiles(rows: int, dim: int) -> None:
    compare(*inputs(0, rows, dim, torch.float16, torch.float32, picked=False))


def test_one_channel_has_only_two_cosines() -> None:
    reconstruction = torch.tensor([[2.0], [-0.5], [3.0]], device=DEVICE, requires_grad=True)
    result = cosine_reconstruction(torch.ones(3, 1, device=DEVICE), reconstruction, backend="triton")
    loss, gradient = value_and_gradient(result, reconstruction)
    assert abs(float(loss) - 2 / 3) < 1e-6
    assert gradient.abs().max() < 1e-6


def test_twin_is_the_reference_loss_of_the_rows_that_count() -> None:
    features, reconstruction, rows = inputs(1, 30, 20, torch.float32, torch.float32, picked=True)
    assert rows is not None
    real = rows >= 0
    assert 0 < real.sum() < 30
    expected = reference(features[rows[real]], reconstruction[real])[0]
    found, count = reference(features, reconstruction, rows)
    assert relative_error(found, expected) < 1e-6
    assert count == real.sum()
    everything, count = reference(features, reconstruction, torch.arange(30, device=DEVICE))
    assert relative_error(everything, reference(features[:30], reconstruction)[0]) < 1e-6
    assert count == reference(features[:30], reconstruction)[1] == 30


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_padding_alone_costs_nothing(backend: str) -> None:
    features, reconstruction, _ = inputs(1, 5, 20, torch.float16, torch.float32, picked=False)
    reconstruction.requires_grad_()
    rows = torch.full((5,), -1, device=DEVICE)
    loss, count = cosine_reconstruction(features, reconstruction, rows, backend=backend)
    loss.backward()
    assert loss == count == 0
    assert torch.equal(reconstruction.grad, torch.zeros_like(reconstruction))


def test_zero_vectors_are_orthogonal_and_get_no_gradient() -> None:
    features, reconstruction, _ = inputs(2, 6, 40, torch.float32, torch.float32, picked=False)
    features[1], reconstruction[2] = 0, 0
    compare(features, reconstruction, None)
    reconstruction.requires_grad_()
    loss, _ = cosine_reconstruction(features[1:3], reconstruction[1:3], backend="triton")
    (gradient,) = torch.autograd.grad(loss, reconstruction)
    assert loss == 1
    assert not gradient.any()


def test_large_half_precision_features_do_not_overflow() -> None:
    features = torch.full((3, 700), 60000.0, dtype=torch.float16, device=DEVICE)
    loss, _ = cosine_reconstruction(features, torch.ones(3, 700, device=DEVICE), backend="triton")
    assert abs(float(loss)) < 1e-5


@pytest.mark.parametrize("where", ["features", "reconstruction"])
def test_nan_is_not_hidden(where: str) -> None:
    features, reconstruction, _ = inputs(3, 12, 30, torch.float32, torch.float32, picked=False)
    (features if where == "features" else reconstruction)[7, 3] = torch.nan
    reconstruction.requires_grad_()
    loss, _ = cosine_reconstruction(features, reconstruction, backend="triton")
    (gradient,) = torch.autograd.grad(loss, reconstruction)
    assert loss.isnan()
    assert gradient[7].isnan().all()
    assert gradient[:7].isfinite().all()


def test_features_get_no_gradient() -> None:
    features, reconstruction, _ = inputs(3, 4, 30, torch.float32, torch.float32, picked=False)
    features.requires_grad_()
    reconstruction.requires_grad_()
    for backend in ("reference", "triton"):
        cosine_reconstruction(features, reconstruction, backend=backend)[0].backward()
    assert features.grad is None


def test_strided_inputs_are_read_right() -> None:
    features, reconstruction, _ = inputs(4, 9, 33, torch.float32, torch.float32, picked=False)
    strided = reconstruction.T.contiguous().T
    assert not strided.is_contiguous()
    compare(features[:, :20], strided[:, 5:25], None)
    every_second = torch.tensor([8, 0, 3, 0, 8, 0], device=DEVICE)[::2]
    compare(features, reconstruction[:3], every_second)


def test_runs_repeat_bit_by_bit() -> None:
    features, reconstruction, rows = inputs(5, 50, 100, torch.float16, torch.bfloat16, picked=True)
    reconstruction.requires_grad_()
    first, second = (
        value_and_gradient(
            cosine_reconstruction(features, reconstruction, rows, backend="triton"), reconstruction
        )
        for _ in range(2)
    )
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("picked", [False, True])
def test_operator_is_registered_in_full(picked: bool) -> None:
    features, reconstruction, rows = inputs(6, 10, 50, torch.float16, torch.float32, picked=picked)
    torch.library.opcheck(fused, (features, reconstruction.requires_grad_(), rows))


def test_compiles_without_breaks() -> None:
    features, reconstruction, rows = inputs(7, 10, 50, torch.float16, torch.float32, picked=True)
    reconstruction.requires_grad_()

    def loss(r: Tensor) -> tuple[Tensor, Tensor]:
        mean, count = cosine_reconstruction(features, r * 2, rows, backend="triton")
        return mean * 3, count

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    actual = value_and_gradient(compiled(reconstruction), reconstruction)
    expected = value_and_gradient(loss(reconstruction), reconstruction)
    for a, b in zip(actual, expected, strict=True):
        assert relative_error(a, b) < 1e-6


@pytest.mark.skipif(DEVICE == "cpu", reason="CUDA graphs need a GPU")
def test_is_captured_in_a_cuda_graph() -> None:
    features, reconstruction, rows = inputs(8, 40, 96, torch.float16, torch.float32, picked=True)
    reconstruction.requires_grad_()

    def step() -> tuple[Tensor, Tensor]:
        return value_and_gradient(
            cosine_reconstruction(features, reconstruction, rows, backend="triton"), reconstruction
        )

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss, gradient = step()
    with torch.no_grad():
        reconstruction.copy_(torch.randn_like(reconstruction))
    graph.replay()
    expected = step()
    assert torch.equal(loss, expected[0])
    assert torch.equal(gradient, expected[1])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("dots += f * r", "dots += f * r * 1.001"),
        ("of_f[:, None] * f - of_r[:, None] * r", "of_f[:, None] * f + of_r[:, None] * r"),
        ("tl.store(factors + row * 2, inverse,", "tl.store(factors + row * 2, cosine,"),
        ("scale = -tl.load(gradient)", 'scale = float("nan") * tl.load(gradient)'),
        ("tl.where(counts, 1.0 - cosine, 0.0)", "1.0 - cosine"),
    ],
)
def test_a_broken_program_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    data = inputs(9, 19, 60, torch.float32, torch.float32, picked=True)
    compare(*data)
    module = broken(tmp_path, "cosine_reconstruction", right, wrong)
    with pytest.raises(AssertionError):
        compare(*data, module.cosine_reconstruction)
