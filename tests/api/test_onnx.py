"""The head as ONNX models against PyTorch."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from spheremap.api.onnx_export import Part, compare, export_onnx
from spheremap.base.errors import InputError, ProvenanceError
from spheremap.cli import main
from spheremap.model.head import Head, save_head
from spheremap.model.head.checkpoint import NoPrototypes

PARTS: list[Part] = ["mapper", "prototypes"]


@pytest.fixture(scope="module")
def head() -> Head:
    """A head whose every parameter matters: norms and biases are not at their start."""
    head = Head.initialise(128, ["car", "cat", "dog"], 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in head.trainable().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return head


@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (3, 49)])
def test_mapper_for_any_number_of_images_and_patches(
    head: Head, tmp_path: Path, shape: tuple[int, int]
) -> None:
    export_onnx(head, tmp_path / "m.onnx")
    tokens = 5 * torch.randn(*shape, head.dim, generator=torch.Generator().manual_seed(2))
    (found,) = run(tmp_path / "m.onnx", {"tokens": tokens.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(found, head.mapper(tokens).numpy(), atol=1e-5)


@pytest.mark.parametrize("count", [1, 20])
def test_prototypes_for_any_number_of_points(head: Head, tmp_path: Path, count: int) -> None:
    export_onnx(head, tmp_path / "p.onnx", "prototypes")
    points = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1)
    category = torch.arange(count) % 3
    (found,) = run(tmp_path / "p.onnx", {"points": points.numpy(), "category": category.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(found, head.prototypes(points, category).numpy(), atol=1e-4)


def run(path: Path, inputs: dict[str, np.ndarray]) -> Any:
    return ReferenceEvaluator(str(path)).run(None, inputs)


@pytest.mark.parametrize("part", PARTS)
def test_onnxruntime_agrees(head: Head, tmp_path: Path, part: Part) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    export_onnx(head, tmp_path / "m.onnx", part)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert compare(head, part, lambda inputs: session.run(None, dict(inputs)), seed=3) < 1e-4


@pytest.mark.parametrize("part", PARTS)
def test_command(head: Head, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: Part) -> None:
    save_head(tmp_path / "head.safetensors", head, {})
    out = tmp_path / "m.onnx"
    assert (
        main(["export-onnx", "--head", str(tmp_path / "head.safetensors"), "--out", str(out), "--part", part])
        == 0
    )
    assert "largest difference to PyTorch" in capsys.readouterr().out
    model = onnx.load(str(out))
    assert {item.key: item.value for item in model.metadata_props} == {
        "part": part, "dim": "128", "categories": "car\ncat\ndog",
    }  # fmt: skip
    before = out.read_bytes()
    export_onnx(head, out, part)
    assert out.read_bytes() == before  # equal heads are equal bytes


def test_a_head_by_name(tmp_path: Path) -> None:
    assert main(["export-onnx", "--model", "quadrupeds", "--out", str(tmp_path / "m.onnx")]) == 0


def test_prototypes_that_are_not_there(head: Head, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--head"):
        export_onnx(dataclasses.replace(head, prototypes=NoPrototypes()), tmp_path / "m.onnx", "prototypes")


def test_a_wrong_model_would_be_noticed(head: Head, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from spheremap.api import onnx_export

    monkeypatch.setattr(onnx_export._Graph, "gelu", lambda self, x: self.op("Relu", x))
    for part in PARTS:
        with pytest.raises(ProvenanceError, match="differs from PyTorch"):
            export_onnx(head, tmp_path / "m.onnx", part)
    assert not (tmp_path / "m.onnx").exists()


def test_a_part_that_is_not_the_paper_s_is_refused(head: Head, tmp_path: Path) -> None:
    head.mapper = torch.nn.Sequential(torch.nn.Linear(128, 3))
    with pytest.raises(InputError, match=r"(?s)the mapper of this head cannot.*Sequential of the head"):
        export_onnx(head, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
    assert export_onnx(head, tmp_path / "m.onnx", "prototypes") < 1e-4


def test_a_head_without_finite_numbers_is_refused(tmp_path: Path) -> None:
    head = Head.initialise(64, ["car"], 0)
    with torch.no_grad():
        head.mapper[0].weight.fill_(float("nan"))
    with pytest.raises(ProvenanceError, match="differs from PyTorch"):
        export_onnx(head, tmp_path / "m.onnx")
