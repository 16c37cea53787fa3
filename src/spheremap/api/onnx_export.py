"""The head as ONNX models, written node by node.

The sphere mapper and the prototypes are a dozen layers each, so their graphs are spelled out here: this needs
the package onnx alone, no tracer, and leaves numbers of images and of patches open. Every model is checked
against PyTorch before it is written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import atomic_path
from spheremap.model.head import Head, Prototypes, SphereMapper
from spheremap.model.head.checkpoint import NoPrototypes

Part = Literal["mapper", "prototypes"]
Inputs = Mapping[str, NDArray[Any]]
OPSET = 17  # the first with LayerNormalization
TOLERANCE = 1e-4  # absolute, of numbers about 1


@dataclass
class _Graph:
    """Nodes and weights in the making; each method adds a layer and returns its output's name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        out = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def constant(self, value: Tensor | float | list[int]) -> str:
        if isinstance(value, Tensor):
            array = value.detach().cpu().numpy()
        else:
            array = np.array(value, dtype=np.int64 if isinstance(value, list) else np.float32)
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def linear(self, x: str, layer: nn.Linear) -> str:
        product = self.op("MatMul", x, self.constant(layer.weight.T))
        return product if layer.bias is None else self.op("Add", product, self.constant(layer.bias))

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        scale, shift = self.constant(layer.weight), self.constant(layer.bias)
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=layer.eps)

    def gelu(self, x: str) -> str:
        """`x (1 + erf(x / sqrt 2)) / 2`"""
        erf = self.op("Erf", self.op("Mul", x, self.constant(2**-0.5)))
        half = self.op("Mul", x, self.constant(0.5))
        return self.op("Mul", half, self.op("Add", erf, self.constant(1.0)))

    def attention(self, x: str, attention: Any) -> str:
        """Self-attention, `(B, N, W)` to the same."""
        width = attention.qkv.in_features
        q, k, v = (
            self.heads(self.op("MatMul", x, self.constant(weight.T)), attention.heads)
            for weight in attention.qkv.weight.split(width)
        )
        logits = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        scaled = self.op("Mul", logits, self.constant((width // attention.heads) ** -0.5))
        attended = self.op("MatMul", self.op("Softmax", scaled, axis=-1), v)
        merged = self.op("Transpose", attended, perm=[0, 2, 1, 3])
        return self.linear(self.op("Reshape", merged, self.constant([0, 0, width])), attention.proj)

    def heads(self, x: str, count: int) -> str:
        """`(B, N, W)` to `(B, heads, N, W / heads)`."""
        return self.op(
            "Transpose", self.op("Reshape", x, self.constant([0, 0, count, -1])), perm=[0, 2, 1, 3]
        )

    def perceptron(self, x: str, mlp: Any) -> str:
        return self.linear(self.gelu(self.linear(x, mlp.fc1)), mlp.fc2)


def export_onnx(head: Head, path: Path, part: Part = "mapper") -> float:
    """Write a part of the head as an ONNX model of float32, checked against PyTorch.

    The mapper takes `tokens (images, patches, D)`, not normalised, of all patches of an image, and gives
    `points (images, patches, 3)` of unit length. The prototypes take `points (points, 3)` and `category
    (points)` int64, and give `features (points, D)`. Metadata: part, dim, categories.

    Returns:
        The largest difference to PyTorch on random input.

    Raises:
        InputError: if the part is not the paper's.
        ProvenanceError: if that difference is above `TOLERANCE`.
    """
    head = head.to("cpu")
    model = _part(head, path, part)
    helper.set_model_props(
        model, {"part": part, "dim": str(head.dim), "categories": "\n".join(head.categories)}
    )
    onnx.checker.check_model(model, full_check=True)
    difference = compare(head, part, lambda inputs: ReferenceEvaluator(model).run(None, dict(inputs)))
    if not difference <= TOLERANCE:  # NaN does not pass either
        raise ProvenanceError(
            "the exported model differs from PyTorch's",
            where=path,
            expected=f"a difference of at most {TOLERANCE:g}",
            found=f"{difference:g}",
            fix="check that the head holds finite numbers",
        )
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return difference


def compare(head: Head, part: Part, run: Callable[[Inputs], Any], seed: int = 0) -> float:
    """The largest difference between PyTorch and a runtime's list of outputs, on random input."""
    generator = torch.Generator().manual_seed(seed)
    inputs: dict[str, Tensor]
    with torch.inference_mode():
        if part == "mapper":
            inputs = {"tokens": torch.randn(2, 37, head.dim, generator=generator)}
            expected = head.mapper(inputs["tokens"])
        else:
            points = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=-1)
            category = torch.randint(len(head.categories), (50,), generator=generator)
            inputs = {"points": points, "category": category}
            expected = head.prototypes(points, category)
    found = run({name: tensor.numpy() for name, tensor in inputs.items()})[0]
    return float(np.abs(found - expected.numpy()).max())


def _part(head: Head, path: Path, part: Part) -> onnx.ModelProto:
    module = head.mapper if part == "mapper" else head.prototypes
    if isinstance(module, NoPrototypes):
        raise InputError(
            "a compact bundle has no prototypes", where=path, fix="name the trained head with --head"
        )
    if isinstance(module, SphereMapper):
        return _mapper(module, head.dim)
    if isinstance(module, Prototypes):
        return _prototypes(module, head.dim)
    raise InputError(
        f"the {part} of this head cannot be exported",
        where=path,
        expected="SphereMapper or Prototypes, whose layers are spelled out here",
        found=f"{type(module).__name__} of the head {head.name!r}",
        fix="spell out its layers in src/spheremap/api/onnx_export.py",
    )


def _mapper(mapper: SphereMapper, dim: int) -> onnx.ModelProto:
    layers: tuple[Any, ...] = tuple(mapper)
    embed, _, block, project = layers
    graph = _Graph()
    x = graph.gelu(graph.linear("tokens", embed))
    x = graph.op("Add", x, graph.attention(graph.norm(x, block.norm1), block.attn))
    x = graph.op("Add", x, graph.perceptron(graph.norm(x, block.norm2), block.mlp))
    x = graph.linear(x, project)
    length = graph.op("ReduceL2", x, axes=[-1], keepdims=1)
    points = graph.op("Div", x, graph.op("Max", length, graph.constant(1e-12)))
    return _model(
        graph,
        "sphere_mapper",
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["images", "patches", dim])],
        (points, "points", ["images", "patches", 3]),
    )


def _prototypes(prototypes: Prototypes, dim: int) -> onnx.ModelProto:
    block: Any = prototypes.blocks[0]
    graph = _Graph()
    shift = graph.op("Gather", graph.constant(block.attn.table()), "category", axis=0)
    x = graph.linear("points", prototypes.proj)
    for _ in prototypes.blocks:
        x = graph.op("Add", x, shift)
        x = graph.op("Add", x, graph.perceptron(graph.norm(x, block.norm2), block.mlp))
    return _model(
        graph,
        "prototypes",
        [
            helper.make_tensor_value_info("points", TensorProto.FLOAT, ["points", 3]),
            helper.make_tensor_value_info("category", TensorProto.INT64, ["points"]),
        ],
        (x, "features", ["points", dim]),
    )


def _model(
    graph: _Graph, name: str, inputs: list[onnx.ValueInfoProto], output: tuple[str, str, list[str | int]]
) -> onnx.ModelProto:
    last, out, shape = output
    nodes = [*graph.nodes, helper.make_node("Identity", [last], [out], name=out)]
    outputs = [helper.make_tensor_value_info(out, TensorProto.FLOAT, shape)]
    return helper.make_model(
        helper.make_graph(nodes, name, inputs, outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,  # that of the opset; runtimes refuse versions newer than themselves
        producer_name="spheremap",
    )
