"""Sphere mapper and prototypes against literal transcriptions of their definitions."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.model.head import Foreground, Head, Prototypes, SphereMapper, sphere_points
from spheremap.model.head.dense import linear, linear_gelu, perceptron
from spheremap.model.head.mapper import attend


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random_masks(seed: int, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    masks = rng.random(shape) < rng.uniform(0.05, 0.8, (shape[0], 1))
    masks[1] = False  # an image without foreground
    masks[2] = True
    return masks


class LiteralPrototypes(nn.Module):
    """Cross-attention written out in full, with queries, keys and softmax."""

    def __init__(self, ours: Prototypes) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        x = self.ours.proj(points)
        for block in self.ours.blocks:
            attn = block.attn
            token = F.one_hot(category, attn.k.in_features).to(x.dtype).unsqueeze(1)  # (M, 1, C)

            def heads(y: Tensor, attn: nn.Module = attn) -> Tensor:
                return y.view(len(y), -1, attn.heads, y.shape[-1] // attn.heads).transpose(1, 2)

            q, k, v = heads(attn.q(block.norm1(x)).unsqueeze(1)), heads(attn.k(token)), heads(attn.v(token))
            weights = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1)
            x = x + attn.proj((weights @ v).transpose(1, 2).flatten(1))
            x = x + block.mlp(block.norm2(x))
        return x


def test_parameter_counts_of_the_paper_size() -> None:
    assert count(SphereMapper(768)) == 2_069_763
    assert count(Prototypes(768, 18)) == 5_936_640


@pytest.mark.parametrize(("dim", "mapper_heads", "prototype_heads"), [(768, 6, 12), (384, 3, 6), (192, 1, 3)])
def test_heads_follow_the_width(dim: int, mapper_heads: int, prototype_heads: int) -> None:
    assert SphereMapper(dim)[2].attn.heads == mapper_heads
    assert Prototypes(dim, 2).blocks[0].attn.heads == prototype_heads


@pytest.mark.parametrize("dim", [15, 2 * 129])
def test_widths_that_cannot_be_split_are_refused(dim: int) -> None:
    with pytest.raises(InputError, match="width"):
        SphereMapper(dim)


def test_mapper_is_linear_gelu_block_linear_norm() -> None:
    torch.manual_seed(0)
    mapper = SphereMapper(256).double()
    block = TimmBlock(128, num_heads=2, mlp_ratio=4, qkv_bias=False, norm_layer=nn.LayerNorm).double()
    block.load_state_dict(mapper[2].state_dict(), strict=True)
    tokens = torch.randn(3, 20, 256, dtype=torch.float64)
    x = block(F.gelu(tokens @ mapper[0].weight.T + mapper[0].bias))
    y = x @ mapper[3].weight.T + mapper[3].bias
    expected = y / y.square().sum(-1, keepdim=True).sqrt()
    torch.testing.assert_close(mapper(tokens), expected, rtol=1e-11, atol=1e-12)
    assert mapper[2].norm1.eps == 1e-5


def test_foreground_alone_equals_all_tokens_then_masked() -> None:
    torch.manual_seed(1)
    mapper = SphereMapper(128).double()
    masks = random_masks(0, (5, 30))
    tokens = torch.randn(5, 30, 128, dtype=torch.float64)
    foreground = Foreground.from_masks(masks)
    upstream = torch.randn(int(masks.sum()), 3, dtype=torch.float64)

    full = mapper(tokens)[torch.from_numpy(masks)]
    expected = torch.autograd.grad((full * upstream).sum(), list(mapper.parameters()))
    packed = mapper(tokens, foreground)
    found = torch.autograd.grad((packed * upstream).sum(), list(mapper.parameters()))
    torch.testing.assert_close(packed, full, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_mapper_does_not_depend_on_the_order_of_images_or_patches() -> None:
    torch.manual_seed(3)
    mapper = SphereMapper(128).double()
    tokens = torch.randn(4, 12, 128, dtype=torch.float64)
    images, patches = torch.randperm(4), torch.randperm(12)
    torch.testing.assert_close(mapper(tokens)[images][:, patches], mapper(tokens[images][:, patches]))


def test_no_foreground_at_all() -> None:
    foreground = Foreground.from_masks(np.zeros((2, 6), dtype=bool))
    assert SphereMapper(128)(torch.randn(2, 6, 128), foreground).shape == (0, 3)


@pytest.mark.parametrize(
    ("pad_to", "width", "rows", "image", "patch", "slots"),
    [
        (None, 2, [1, 2, 8], [0, 0, 2], [1, 2, 0], [0, 1, 4]),
        # more than the largest count: the last slots are free
        ((5, 2), 4, [1, 2, 8, -1, -1], [0, 0, 2, 3, 3], [1, 2, 0, 0, 0], [0, 1, 8, 3, 3]),
        ((3, 1), 3, [1, 2, 8], [0, 0, 2], [1, 2, 0], [0, 1, 6]),
    ],
)
def test_foreground_index_by_hand(
    pad_to: Any, width: int, rows: list[int], image: list[int], patch: list[int], slots: list[int]
) -> None:
    masks = np.array([[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    found = Foreground.from_masks(masks, pad_to=pad_to)
    assert (found.width, found.rows.tolist(), found.image.tolist()) == (width, rows, image)
    assert (found.patch.tolist(), found.slots.tolist()) == (patch, slots)
    assert (found.counts.tolist(), found.offsets.tolist()) == ([2, 0, 1], [0, 2, 2])


def test_padding_changes_no_point() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 30, generator=generator).numpy() < 0.4
    masks[1], masks[2] = False, True
    tokens = torch.randn(4, 30, 128, generator=generator)
    mapper = SphereMapper(128)
    expected = mapper(tokens, Foreground.from_masks(masks))
    found = mapper(tokens, Foreground.from_masks(masks, pad_to=(50, 8)))
    assert found.shape == (100, 3)
    torch.testing.assert_close(found[: len(expected)], expected)
    assert found.isfinite().all()


def test_table_equals_full_cross_attention() -> None:
    torch.manual_seed(4)
    ours = Prototypes(128, 4).double()
    points = F.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1).requires_grad_()
    category = torch.arange(50) % 4
    upstream = torch.randn(50, 128, dtype=torch.float64)
    with_gradient = [*(p for p in ours.parameters() if p.requires_grad), points]

    found = ours(points, category)
    gradients = torch.autograd.grad((found * upstream).sum(), with_gradient)

    ours.requires_grad_()
    literal = LiteralPrototypes(ours)(points, category)
    expected = torch.autograd.grad((literal * upstream).sum(), with_gradient, retain_graph=True)
    torch.testing.assert_close(found, literal, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-11)
    assert all(gradient.norm() > 1e-6 for gradient in gradients)


def test_parameters_without_influence_get_zero_gradient_even_literally() -> None:
    torch.manual_seed(5)
    ours = Prototypes(128, 3)
    inert = {name for name, parameter in ours.named_parameters() if not parameter.requires_grad}
    assert inert == {
        f"blocks.0.{name}" for name in ("norm1.weight", "norm1.bias", "attn.q.weight", "attn.k.weight")
    }
    ours.requires_grad_()
    literal = LiteralPrototypes(ours)(F.normalize(torch.randn(9, 3), dim=-1), torch.arange(9) % 3)
    literal.square().sum().backward()
    for name, parameter in ours.named_parameters():
        zero = parameter.grad is not None and float(parameter.grad.abs().max()) < 1e-6
        assert zero == (name in inert), name


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = Head.initialise(128, ["a", "b"], seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    second, third = Head.initialise(128, ["a", "b"], seed=7), Head.initialise(128, ["a", "b"], seed=8)
    same = {name: torch.equal(t, second.state_dict()[name]) for name, t in first.state_dict().items()}
    assert all(same.values())
    assert not torch.equal(first.mapper[0].weight, third.mapper[0].weight)


def test_sphere_points_takes_half_precision_in_any_batches() -> None:
    head = Head.initialise(128, ["a"], seed=0)
    tokens = np.random.default_rng(0).normal(size=(5, 9, 128)).astype(np.float16)
    points = sphere_points(head, tokens, batch=2)
    assert points.shape == (5, 9, 3)
    assert points.dtype == torch.float32
    assert not points.requires_grad
    torch.testing.assert_close(points, sphere_points(head, torch.from_numpy(tokens)))
    torch.testing.assert_close(points.norm(dim=-1), torch.ones(5, 9))
    assert sphere_points(head, tokens[:0]).shape == (0, 9, 3)


def test_sphere_points_of_another_backbone_are_refused() -> None:
    with pytest.raises(ProvenanceError, match="do not fit the head"):
        sphere_points(Head.initialise(128, ["a"], seed=0), torch.zeros(1, 4, 64))


@pytest.mark.parametrize("leading", [(7,), (2, 5), (0,)])
def test_the_faster_matrix_products_are_those_of_linear_layers(leading: tuple[int, ...]) -> None:
    torch.manual_seed(4)
    first, second = nn.Linear(12, 48), nn.Linear(48, 6)
    inputs = torch.randn(*leading, 12)
    functions = {
        "linear": lambda x, a, _: linear(x, a.weight, a.bias),
        "no bias": lambda x, a, _: linear(x, a.weight),
        "linear_gelu": lambda x, a, _: linear_gelu(x, a),
        "perceptron": perceptron,
    }
    literal = {
        "linear": lambda x, a, _: x @ a.weight.T + a.bias,
        "no bias": lambda x, a, _: x @ a.weight.T,
        "linear_gelu": lambda x, a, _: F.gelu(x @ a.weight.T + a.bias),
        "perceptron": lambda x, a, b: F.gelu(x @ a.weight.T + a.bias) @ b.weight.T + b.bias,
    }
    for name, function in functions.items():
        results = []
        for compute, precision in ((function, torch.float32), (literal[name], torch.float64)):
            x = inputs.to(precision).requires_grad_()
            layers = [copy.deepcopy(layer).to(precision) for layer in (first, second)]
            y = compute(x, *layers)
            parameters = [p for layer in layers for p in layer.parameters()]
            upstream = torch.linspace(-1, 1, y.numel(), dtype=precision).view(y.shape)
            gradients = torch.autograd.grad(y, [x, *parameters], upstream, materialize_grads=True)
            results.append([y.detach(), *gradients])
        for found, expected in zip(*results, strict=True):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5, msg=name)


def test_matrix_products_follow_autocast_and_double_precision() -> None:
    layer = nn.Linear(8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(3, 8), layer.weight).dtype == torch.bfloat16
    assert linear(torch.randn(3, 8).double(), layer.weight.double()).dtype == torch.float64


@pytest.mark.parametrize("most", [0, 2**24])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_attention_is_the_mean_of_values_by_the_softmax_of_products(
    monkeypatch: pytest.MonkeyPatch, precision: torch.dtype, most: int
) -> None:
    monkeypatch.setattr("spheremap.model.head.mapper._MAX_WEIGHTS", most)
    torch.manual_seed(5)
    inputs = [torch.randn(2, 3, n, 64).to(precision) for n in (5, 7, 7)]

    def literal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(q @ k.transpose(-2, -1) / 8, dim=-1) @ v

    results = []
    for compute, kind in ((attend, precision), (literal, torch.float64)):
        qkv = [x.to(kind).requires_grad_() for x in inputs]
        y = compute(*qkv)
        gradients = torch.autograd.grad(y, qkv, torch.linspace(-1, 1, y.numel(), dtype=kind).view(y.shape))
        results.append([y.detach(), *gradients])
    tolerance = 1e-5 if precision is torch.float32 else 2e-2
    for found, expected in zip(*results, strict=True):
        assert found.dtype == precision
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
