"""The head's file: round trip, the authors' layout, and everything that can be wrong with it."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spheremap.base.errors import ProvenanceError
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.model import heads
from spheremap.model.head import Head, Prototypes, SphereMapper, checkpoint, load_head, save_head

NAMES = ["bicycle", "car", "chair"]
BLOCKS = ("prototypes.blocks.0", "prototypes.blocks.1")
PROVENANCE = {"step": "train", "params": {"b": 1, "a": [0.1, 2]}}


@pytest.fixture
def head() -> Head:
    head = Head.initialise(128, NAMES, seed=3)
    head.leftover = torch.randn(1024, 3)
    return head


def copies(head: Head) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}


def expected_names() -> set[str]:
    layers = ("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2")
    modules = ["prototypes.proj", *(f"sphere_mapper.{i}" for i in (0, 3))]
    modules += [f"{block}.{layer}" for block in ("sphere_mapper.2", *BLOCKS) for layer in layers]
    names = {f"{module}.{part}" for module in modules for part in ("weight", "bias")}
    names |= {f"{block}.attn.{x}.weight" for block in BLOCKS for x in "qkv"}
    return names | {"sphere.weight", "sphere_mapper.2.attn.qkv.weight"}


def test_round_trip(tmp_path: Path, head: Head) -> None:
    save_head(tmp_path / "head.safetensors", head, PROVENANCE)
    found = load_head(tmp_path / "head.safetensors")
    assert (found.dim, found.categories, found.provenance) == (128, NAMES, PROVENANCE)
    expected = head.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert found.trainable().keys() == head.trainable().keys()


def test_the_authors_names_and_nothing_else(tmp_path: Path, head: Head) -> None:
    save_head(tmp_path / "head.safetensors", head, {})
    state = load_file(tmp_path / "head.safetensors")
    assert set(state) == expected_names()
    # as the authors would read it: strictly, the two blocks being one module
    theirs = nn.Module()
    theirs.sphere_mapper, theirs.prototypes = SphereMapper(128), Prototypes(128, 3)
    theirs.sphere = nn.Linear(3, 1024, bias=False)
    theirs.load_state_dict(state, strict=True)
    assert torch.equal(theirs.prototypes.blocks[1].mlp.fc1.weight, head.prototypes.blocks[0].mlp.fc1.weight)


def test_a_file_in_the_authors_layout_loads(tmp_path: Path, head: Head) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file(copies(head), path)
    found = load_head(path)
    assert found.categories == ["0", "1", "2"]
    assert torch.equal(found.mapper[2].attn.qkv.weight, head.mapper[2].attn.qkv.weight)
    assert torch.equal(found.leftover, head.leftover)
    assert load_head(path, categories=NAMES).categories == NAMES
    torch.save(copies(head), tmp_path / "theirs.pth")
    assert torch.equal(load_head(tmp_path / "theirs.pth").prototypes.proj.weight, head.prototypes.proj.weight)
    state = copies(head)
    del state["sphere.weight"]
    save_file(state, path)
    assert load_head(path).leftover.shape == (1024, 3)


def test_equal_heads_are_equal_bytes(tmp_path: Path, head: Head) -> None:
    save_head(tmp_path / "a.safetensors", head, {"x": 1, "y": 2, "z": 3})
    save_head(tmp_path / "b.safetensors", head, {"z": 3, "y": 2, "x": 1})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    _, content = read_tensors(tmp_path / "a.safetensors")
    assert content == {
        "schema": "spheremap-head-1",
        "head": "spherical_map",
        "dim": 128,
        "categories": NAMES,
        "provenance": {"x": 1, "y": 2, "z": 3},
    }


def test_a_head_of_before_heads_had_names_loads(tmp_path: Path, head: Head) -> None:
    save_head(tmp_path / "head.safetensors", head, PROVENANCE)
    state, content = read_tensors(tmp_path / "head.safetensors")
    assert content is not None
    del content["head"]
    write_tensors(tmp_path / "old.safetensors", state, content)
    found = load_head(tmp_path / "old.safetensors")
    assert (found.name, found.categories, found.provenance) == ("spherical_map", NAMES, PROVENANCE)
    for name, tensor in head.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


OTHER = """
from torch import nn

def build(dim, categories):
    blocks = nn.Module()
    blocks.blocks = nn.ModuleList([nn.Linear(3, dim), nn.Linear(dim, dim)])
    return nn.Linear(dim, 3), blocks
"""


def test_a_head_of_another_file_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parameters are its own: none of the authors', and blocks of one name need not be one."""
    (tmp_path / "other.py").write_text(OTHER)
    path = tmp_path / "head.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(heads, "__path__", [*heads.__path__, str(tmp_path)])
        patch.setattr(checkpoint, "head_files", lambda: ["other", "spherical_map"])
        head = Head.initialise(6, NAMES, seed=3, name="other")
        save_head(path, head, PROVENANCE)
        found = load_head(path)
    assert (found.name, found.dim, found.categories) == ("other", 6, NAMES)
    assert len(found.state_dict()) == 6
    for name, tensor in head.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    with pytest.raises(ProvenanceError, match=r"(?s)code that is not here.*spherical_map.*'other'"):
        load_head(path)
    torch.save(copies(head), tmp_path / "theirs.pth")
    refused(tmp_path / "theirs.pth", "not a sphere head")


def test_a_failed_write_leaves_nothing(tmp_path: Path, head: Head) -> None:
    with pytest.raises(TypeError):
        save_head(tmp_path / "head.safetensors", head, {"bad": object()})
    assert list(tmp_path.iterdir()) == []


def refused(path: Path, problem: str) -> str:
    """What is said of a file that is no head; never that it should be deleted."""
    with pytest.raises(ProvenanceError) as caught:
        load_head(path)
    message = str(caught.value)
    assert re.search(problem, message)
    assert f"in: {path}" in message
    assert "models/<dataset>/head.safetensors" in message
    assert "to do: name a trained head" in message
    assert "delete" not in message
    return message


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_missing_or_foreign_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"head.{suffix}"
    refused(path, "does not exist")
    for content in (b"", b"not a checkpoint at all", b"dataset: shapes\n" * 99):
        path.write_bytes(content)
        refused(path, "cannot be read")
    path.unlink()
    path.mkdir()
    assert "found: a folder" in refused(path, "cannot be read")


def test_sound_files_of_other_things_are_not_to_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"patch_embed.proj.bias": torch.zeros(8)}, path)
    assert "other tensors: patch_embed.proj.bias" in refused(path, "not a sphere head")
    write_tensors(path, {"down.weight": torch.zeros(8)}, {"schema": "spheremap-fitted-1"})
    refused(path, "not a head of this version")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused(path, "it was damaged")


@pytest.mark.parametrize("what", ["weight", "category", "key", "length"])
def test_a_flipped_bit_and_a_short_file_are_refused(tmp_path: Path, head: Head, what: str) -> None:
    """Also where the file stays a well-formed one, with another number or name in it."""
    path = tmp_path / "head.safetensors"
    save_head(path, head, {})
    content = bytearray(path.read_bytes())
    if what == "length":
        del content[-100:]
    else:
        names = {"category": b"bicycle", "key": b"spheremap"}
        content[content.index(names[what]) if what in names else -2] ^= 1
    path.write_bytes(content)
    if what == "key":  # without the key nothing says what the file once was
        refused(path, "cannot be read")
        return
    message = r"(?s)cannot be read.*head\.safetensors"
    with pytest.raises(
        ProvenanceError, match=message + (".*to do: delete the file" if what != "length" else "")
    ):
        load_head(path)


def test_wrong_parameters(tmp_path: Path, head: Head) -> None:
    path = tmp_path / "head.safetensors"

    def wrong(state: dict[str, Tensor], message: str) -> None:
        save_file(state, path)
        refused(path, message)

    wrong({"something": torch.zeros(2)}, "not a sphere head")
    without = copies(head)
    del without["prototypes.blocks.1.norm2.bias"]
    wrong(without, r"missing: prototypes\.blocks\.1\.norm2\.bias")
    wrong(copies(head) | {"backbone.weight": torch.zeros(1)}, r"also holds: backbone\.weight")
    wrong(copies(head) | {"sphere_mapper.3.weight": torch.zeros(4, 64)}, "another shape")
    wrong(copies(head) | {"prototypes.blocks.1.norm2.bias": torch.ones(128)}, "differs from its second copy")


def test_other_categories_are_refused(tmp_path: Path, head: Head) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, head, {})
    assert load_head(path, categories=NAMES).categories == NAMES
    for other in (["car", "bicycle", "chair"], ["car"]):
        with pytest.raises(ProvenanceError, match="trained on other categories"):
            load_head(path, categories=other)
