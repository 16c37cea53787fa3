"""Hostile data sets, checkpoints, caches and parameter files: nothing runs, nothing is written outside.

Each is tried in a sandbox whose files are compared before and after, with a canary that any code in the
hostile file would leave. docs/security.md says what is defended against. What belongs to one reader alone is
tested there: archives in test_archive.py, the pickles of AwA-Pose in test_awa_pose.py, MAT-files in
test_pf_pascal.py, the local server in test_explore.py.
"""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import jsonschema
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml
from caches import write_cache
from faulty_server import Fault, FaultyServer, Resource, faulty_server
from layouts_ap10k import write_ap10k
from layouts_folder import write_table
from onnx import TensorProto, helper
from PIL import Image
from project import Project
from safetensors.torch import save
from tiny import BACKBONE, TINY

from spheremap.api.bundle import read_bundle, write_bundle
from spheremap.base.errors import InputError, ProvenanceError, SpheremapError
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.cli import main
from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.config.backbone import ModelSpec, WeightsSpec
from spheremap.config.presets import apply_preset
from spheremap.config.slices import parse
from spheremap.data.adapters import ingest
from spheremap.data.download import client
from spheremap.data.images import load_mask, load_photograph, load_rgb
from spheremap.data.masks.detector import _read_state
from spheremap.data.tables import IMAGES, KEYPOINTS, PAIRS, Tables, read_tables, write_tables
from spheremap.features.backbones.weights import create_vit, fetch_weights
from spheremap.features.backbones.wheel import dinov2_state_dict
from spheremap.features.cache.index import write_index
from spheremap.features.cache.reader import INDEX_SCHEMA, FeatureCache
from spheremap.model.head import Head, load_head, save_head


class Sandbox:
    """A folder to work in, one outside of it with a secret, and a canary that hostile code leaves."""

    def __init__(self, top: Path) -> None:
        self.inside, self.outside = top / "inside", top / "outside"
        self.canary = self.outside / "pwned"
        for folder in (self.inside, self.outside, top / "bin"):
            folder.mkdir()
        (self.outside / "secret.png").write_bytes(picture())
        ghostscript = top / "bin" / "gs"
        ghostscript.write_text(f"#!/bin/sh\ntouch {self.canary}\n")
        ghostscript.chmod(0o755)
        self.top = top

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        """Whatever happens in the block, outside all must be as before."""
        before = self.tree()
        yield
        assert self.tree() == before
        assert not list(self.top.rglob("pwned*"))

    def tree(self) -> dict[str, bytes]:
        """All files and folders but those inside."""
        paths = [path for path in self.top.rglob("*") if not path.is_relative_to(self.inside)]
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    box = Sandbox(tmp_path)
    monkeypatch.chdir(box.inside)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return box


def picture(size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (90, 120, 200)).save(stream, "PNG")
    return stream.getvalue()


class Harmful:
    """Its pickle leaves the canary when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.canary),)


# --- the source ---------------------------------------------------------------------------------------------

# what executes, or loads what may execute
BANNED = (
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle", "dill", "joblib", "marshal"),
    *("pandas.read_pickle", "pandas.eval", "shelve", "torch.hub.load", "torch.jit.load", "PIL.Image.open"),
    *("os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "pty", "code", "shutil.unpack_archive"),
    *(f"subprocess.{n}" for n in ("run", "Popen", "call", "check_call", "check_output", "getoutput")),
    *(f"yaml.{n}" for n in ("load", "load_all", "full_load", "unsafe_load")),
    *(f"h5py.{n}_dtype" for n in ("special", "vlen", "string")),
)
RULES = "S102,S202,S301,S302,S307,S506,S602,S604,S605,S606,TID251"  # of Ruff, which resolves names
UNSAFE = re.compile(
    r"torch\.load\((?!.*weights_only=True\))|np\.load\((?!.*allow_pickle=False\))|allow_pickle=(?!False)"
    r"|dtype=[\"'](O|object)\b|__import__\(|(?<![.\w])compile\("
)
# what has one well-guarded place
ALLOWED = {
    ("api/project.py", "subprocess.Popen"),  # Snakemake
    ("cli/init.py", "subprocess.run"),  # Git
    ("config/methods.py", "S102"),  # imports and
    ("config/methods.py", "S307"),  # descriptions of fields, from spheremap's own files
    ("data/download/archive.py", "S202"),
    ("data/images.py", "PIL.Image.open"),
    ("data/pickles.py", "pickle.Unpickler"),
    ("features/backbones/wheel.py", "subprocess.Popen"),  # pip
}


def test_the_source_executes_nothing_that_it_reads(root: Path) -> None:
    package = root / "src" / "spheremap"
    banned = ", ".join(f'"{name}" = {{msg = ""}}' for name in BANNED)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--ignore-noqa"]
    command += ["--select", RULES, "--config", f"lint.flake8-tidy-imports.banned-api = {{{banned}}}"]
    done = subprocess.run([*command, "--output-format", "json", package], capture_output=True, text=True)
    found = set()
    for one in json.loads(done.stdout):
        what = one["message"].split("`")[1] if one["code"] == "TID251" else one["code"]
        found.add((Path(one["filename"]).relative_to(package).as_posix(), what))
    assert found == ALLOWED
    for unsafe in ("torch.load(path)", "np.load(path)", "x(allow_pickle=True)", "x(dtype='O')"):
        assert UNSAFE.search(unsafe)
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert {path: match[0] for path, text in texts.items() if (match := UNSAFE.search(text))} == {}


def test_templates_escape_what_they_show(root: Path) -> None:
    """`|safe` stands only behind what the package itself draws or ships."""
    texts = [path.read_text(encoding="utf-8") for path in (root / "src" / "spheremap").rglob("*.[jh]*")]
    assert {name for text in texts for name in re.findall(r"\{\{\s*([\w.]+)\s*\|\s*safe", text)} == {"svg"}
    for text in texts:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)


# --- data sets ----------------------------------------------------------------------------------------------


def test_names_for_a_shell_are_but_names(sandbox: Sandbox) -> None:
    """A data set whose names are commands, from archive to canonical tables and back to files."""
    commands = [
        "$(touch pwned)",
        "`touch pwned`",
        ";touch pwned;",
        "a'b\"c",
        "&& touch pwned",
        "| sh -",
        "-rf *",
    ]
    write_table(Path("images.csv"), [{"image": f"{name}.png", "category": "mug"} for name in commands])
    with zipfile.ZipFile("archive", "w") as package:
        package.write("images.csv")
        for name in commands:
            package.writestr(f"{name}.png", picture())
    assert fetch(urls=[Path("archive").absolute().as_uri()], sandbox=sandbox) == 0
    with sandbox.unharmed():
        Path("entry.json").write_text(json.dumps(folder_entry("data/set")))
        assert main(["ingest", "--params", "entry.json", "--out", "tables"]) == 0
        Path("masks.json").write_text(json.dumps({"source": "none"}))
        options = ["--tables", "tables", "--out", "canonical", "--work", "work", "--device", "cpu"]
        assert main(["masks", "--params", "masks.json", *options]) == 0
    assert set(read_tables(Path("canonical")).images["instance"]) == {f"mug/{name}" for name in commands}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(
            (column, f"{up}outside/secret.png")
            for column in ("image", "mask")
            for up in ("../", "a/../../", "{}/")
        ),
        *(("image", name) for name in ("a\nb.png", "..", "a\\..\\b.png", "a\0.png")),
        *(("category", name) for name in ("../../pwned", "/pwned", "a\\b", "..", "a\nb", "$(touch pwned)")),
    ],
)
def test_tables_that_lead_outside(sandbox: Sandbox, column: str, value: str) -> None:
    Path("set").mkdir()
    Path("set/a.png").write_bytes(picture())
    row = {"image": "a.png", "category": "mug", "mask": "", column: value.format(sandbox.top)}
    write_table(Path("set/images.csv"), [row])
    Path("entry.json").write_text(json.dumps(folder_entry("set")))
    with sandbox.unharmed(), pytest.raises(InputError, match=re.escape("images.csv")):
        ingest(Path("entry.json"))


def folder_entry(root: str) -> dict[str, Any]:
    shares = {"train": 1.0, "val": 0.0, "test": 0.0}
    limits = {"bins": None, "shares": shares, "max_pairs": 1, "min_shared_keypoints": 1, "seed": 0}
    return {"layout": "folder", "root": root, **limits}


@pytest.mark.parametrize("name", ["../../../outside/secret.png", "{}/outside/secret.png", "..", "a/b.jpg"])
def test_annotations_that_lead_outside(sandbox: Sandbox, name: str) -> None:
    name = name.format(sandbox.top)
    write_ap10k(Path("ap-10k"))
    for path in Path("ap-10k/annotations").glob("*.json"):
        values = json.loads(path.read_text())
        for image in values["images"]:
            image["file_name"] = name
        path.write_text(json.dumps(values))
    entry = {"layout": "ap10k", "root": "ap-10k", "crowd_list": None, "pairs": "intra", "splits": ["test"]}
    Path("entry.json").write_text(json.dumps(entry | {"outside": "error", "seed": 0}))
    with sandbox.unharmed(), pytest.raises(InputError, match="file_name"):
        ingest(Path("entry.json"))


@pytest.mark.parametrize(
    "line", ["1-../x-b:car", "1-a-b:../car", "1-a-b:..", "1-/a-b:car", "1-a-$(touch pwned)/b:car"]
)
def test_lists_of_pairs_that_lead_outside(sandbox: Sandbox, line: str) -> None:
    for folder in ("Layout/large", "ImageAnnotation/car", "JPEGImages/car"):
        (Path("spair") / folder).mkdir(parents=True)
    for split in ("trn", "val", "test"):
        Path(f"spair/Layout/large/{split}.txt").write_text(line + "\n")
    Path("entry.json").write_text(json.dumps({"layout": "spair", "root": "spair", "class_ids": {}}))
    with sandbox.unharmed(), pytest.raises(InputError, match=r"trn\.txt, line 1"):
        ingest(Path("entry.json"))


@pytest.mark.parametrize(
    "image_id", ["../../outside/pwned", "/outside/pwned", "a/../../b", "a//b", "a/.", "a\\b"]
)
def test_canonical_tables_of_others_name_no_file_outside(sandbox: Sandbox, image_id: str) -> None:
    """`masks` and `export-spair` name files by image ids; a remote may bring tables that no adapter made."""
    row = dict.fromkeys(IMAGES, "x") | {"mask_value": 1, "azimuth": 0.0, "split": "train"}
    row |= {"x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0, "width": 10, "height": 10}
    images = pd.DataFrame([row | {"image_id": image_id}], columns=list(IMAGES))
    tables = Tables(images, pd.DataFrame(columns=list(KEYPOINTS)), pd.DataFrame(columns=list(PAIRS)))
    with sandbox.unharmed(), pytest.raises(InputError, match="image_id"):
        write_tables(Path("tables"), tables, {})
    broken = pd.DataFrame([{"image_id": "a/b", "keypoint_id": "0", "name": "", "x": 0, "y": 0, "visible": 2}])
    honest = Tables(images.assign(image_id="a/b"), broken, tables.pairs)
    with pytest.raises(InputError, match="visible"):  # the id was all that was wrong with the images
        write_tables(Path("tables"), honest, {})


def test_postscript_is_no_picture(sandbox: Sandbox) -> None:
    """Pillow would hand it to Ghostscript, whatever the file's name."""
    program = ("%!PS-Adobe-3.0 EPSF-3.0", "%%BoundingBox: 0 0 40 30", "%%EndComments", "showpage", "")
    Path("a.png").write_text("\n".join(program))
    with sandbox.unharmed():
        for read in (load_rgb, load_photograph, lambda path: load_mask(path, 1, (40, 30))):
            with pytest.raises(InputError, match=r"a\.png"):
                read(Path("a.png"))
        write_table(Path("images.csv"), [{"image": "a.png", "category": "mug", "mask": "a.png"}])
        Path("entry.json").write_text(json.dumps(folder_entry(".")))
        with pytest.raises(InputError, match="of no kind that is read"):
            ingest(Path("entry.json"))
    with Image.open("a.png") as found:  # it is a file that runs a program where the format is not restricted
        assert found.format == "EPS"
        with pytest.raises(OSError, match="identify"):  # the stand-in for Ghostscript draws nothing
            found.load()
    assert sandbox.canary.exists()


# --- checkpoints and bundles --------------------------------------------------------------------------------


def head() -> Head:
    return Head.initialise(8, ["a", "b"], seed=0)


def header(content: bytes, length: int | None = None) -> bytes:
    """A safetensors file with four bytes of values."""
    return struct.pack("<Q", len(content) if length is None else length) + content + bytes(4)


def tensor(shape: list[int], offsets: list[int]) -> bytes:
    return header(json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode())


NESTED = json.dumps("[" * 100_000 + "]" * 100_000)
VAST = ("sphere_mapper.0.weight", "prototypes.blocks.0.attn.v.weight")
SAFETENSORS = {
    "endless header": header(b"{}", length=2**63),
    "header longer than the file": header(b"{}", length=10_000),
    "no JSON": header(b"\x80\x04cos\nsystem\n."),
    "bytes of the header": tensor([1], [-8, 4]),
    "beyond the end": tensor([9], [0, 36]),
    "shape too large": tensor([2**62, 4], [0, 4]),
    "nested metadata": header(f'{{"__metadata__": {{"spheremap": {NESTED}}}}}'.encode()),
    "metadata of another kind": save({"x": torch.zeros(1)}, {"spheremap": "[1]"}),
    "a vast head of no bytes": save({name: torch.zeros(0, 10**12) for name in VAST}),
}


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_hostile_safetensors(sandbox: Sandbox, kind: str) -> None:
    path = Path("head.safetensors")
    path.write_bytes(SAFETENSORS[kind])
    spec = ModelSpec(BACKBONE["model"], WeightsSpec("file", path=str(path)))
    with sandbox.unharmed():
        for read in (load_head, read_bundle, lambda path: fetch_weights(spec, Path("out.safetensors"))):
            with pytest.raises(SpheremapError):
                read(path)
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("name", ["head.pth", "head.safetensors"])
@pytest.mark.parametrize("form", ["torch", "torch before 1.6", "pickle"])
def test_pickled_checkpoints_run_nothing(sandbox: Sandbox, name: str, form: str) -> None:
    path, value = Path(name), {"sphere_mapper.0.weight": Harmful(sandbox.canary)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(value, protocol=2))  # torch warns of others
    else:
        torch.save(value, path, _use_new_zipfile_serialization=form == "torch")
    spec = ModelSpec(BACKBONE["model"], WeightsSpec("file", path=name))
    readers = (load_head, read_bundle, _read_state, lambda path: fetch_weights(spec, Path("out.safetensors")))
    with sandbox.unharmed():
        for read in readers:
            with pytest.raises(SpheremapError):
                read(path)
    assert not Path("out.safetensors").exists()
    if form == "pickle":  # the file does what it says where it is loaded
        pickle.loads(path.read_bytes())
        assert sandbox.canary.exists()


@pytest.mark.parametrize("value", [[1, 2], torch.zeros(1).expand(2**20, 2**20)], ids=["a list", "vast"])
def test_a_checkpoint_of_other_objects_is_refused(sandbox: Sandbox, value: Any) -> None:
    """A pickled tensor may repeat one value over any shape: a small file that would take a vast memory."""
    torch.save(head().state_dict() | {"sphere_mapper.0.weight": value}, "head.pth")
    assert Path("head.pth").stat().st_size < 100_000
    with pytest.raises(ProvenanceError, match="not a tensor that is stored whole"):
        load_head(Path("head.pth"))


@pytest.fixture
def bundle(sandbox: Sandbox) -> Path:
    """An honest bundle, and beside it the weights of its backbone."""
    spec = parse(BACKBONE, BackboneSpec, where="test")
    Path("weights.safetensors").write_bytes(b"weights")
    write_bundle(Path("a.spheremap"), head(), spec, Path("weights.safetensors"), where=Path("head"))
    return Path("a.spheremap")


def edit(path: Path, changes: dict[str, Any]) -> None:
    """Change what a file says of its head and backbone, and seal it anew."""
    state, about = read_tensors(path)
    assert about is not None
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (about[section] if section else about)[name] = value
    write_tensors(path, state, about)


LIES = [
    ({"dim": 10**12}, "no head has this size"),
    ({"dim": 2**20}, "another shape"),
    ({"dim": -2}, "no head has this size"),
    ({"dim": "8"}, "dim"),
    ({"categories": 2}, "categories"),
    ({"categories": ["a"] * 100_000}, "another shape"),
    ({"run": "touch pwned"}, "unknown parameter"),
    ({"head": "checkpoint"}, "code that is not here"),
    ({"head": "..losses.distance"}, "code that is not here"),
    ({"head": ["spherical_map"]}, "head: "),
]
WHEEL = {"source": "wheel", "requirement": "--index-url=http://evil.example", "member": "x",
         "wheel_sha256": "0" * 64, "sha256": "0" * 64}  # fmt: skip
LIES_OF_BUNDLES = [
    ({"weights_sha256": "../../../outside/pwned"}, "weights_sha256"),
    ({"weights_sha256": "/tmp/pwned"}, "weights_sha256"),
    ({"backbone.model": "hf-hub:evil/model"}, r"backbone\.model"),
    ({"backbone.model": "local-dir:../outside"}, r"backbone\.model"),
    ({"backbone.weights": {"source": "run"}}, "source"),
    ({"backbone.weights": WHEEL}, r"backbone\.weights\.requirement"),
]


@pytest.mark.parametrize(("lie", "message"), [*LIES, *LIES_OF_BUNDLES], ids=lambda lie: str(lie)[:30])
def test_hostile_bundles(
    sandbox: Sandbox, bundle: Path, monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(sandbox.outside / "cache"))
    edit(bundle, lie)
    with sandbox.unharmed(), pytest.raises(SpheremapError, match=message), read_bundle(bundle).weights():
        pass


@pytest.mark.parametrize(("lie", "message"), LIES, ids=lambda lie: str(lie)[:30])
def test_hostile_heads(sandbox: Sandbox, lie: dict[str, Any], message: str) -> None:
    path = Path("head.safetensors")
    save_head(path, head(), {})
    assert load_head(path).categories == ["a", "b"]
    edit(path, lie)
    with sandbox.unharmed(), pytest.raises(SpheremapError, match=rf"(?s){message}.*head\.safetensors"):
        load_head(path)


def test_the_honest_bundle_is_read(bundle: Path) -> None:
    with read_bundle(bundle).weights(Path("weights.safetensors")) as path:
        assert path.read_bytes() == b"weights"


def test_models_are_named_not_addressed() -> None:
    assert create_vit("vit_small_patch16_224") is not None
    for name in ("hf-hub:timm/vit", "local-dir:.", "../vit", "a b", ""):
        with pytest.raises(ValueError, match="pattern"):
            ModelSpec(name, WeightsSpec("hub"))


# --- caches -------------------------------------------------------------------------------------------------


def write_shard(path: Path, name: str = "", create: Callable[[h5py.File], object] | None = None) -> Path:
    """A feature cache of two records of 2 x 2 patches, as one shard; one of its data sets made otherwise."""
    write_cache(path, np.ones((2, 4, 3), np.float16), ["a/a", "a/b"], np.ones((2, 4)), (2, 2), {})
    if create is not None:
        with h5py.File(path, "r+") as file:
            del file[name]
            create(file)
    return path


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "i4")
    layout[:] = h5py.VirtualSource("../outside/other.h5", "view", (2,))
    file.create_virtual_dataset("view", layout)


def data_set(name: str, *kind: Any, **options: Any) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset(name, *kind, **options)


def linked(link: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__("view", link)


CHUNK = {"chunks": (2,), "fletcher32": True}
HDF5 = {
    "external link": ("view", linked(h5py.ExternalLink("../outside/other.h5", "view"))),
    "soft link": ("view", linked(h5py.SoftLink("/masks"))),
    "external storage": ("view", data_set("view", (2,), "i4", external=[("../outside/secret.png", 0, 8)])),
    "virtual": ("view", virtual),
    "a group": ("view", lambda f: f.create_group("view")),
    "not stored": ("view", data_set("view", (2,), "i4", **CHUNK)),
    "texts of any length": ("image_id", data_set("image_id", (2,), h5py.string_dtype(), data=["a/a", "a/b"])),
    "references": ("image_id", data_set("image_id", (2,), h5py.ref_dtype, **CHUNK)),
    "compressed": ("view", data_set("view", data=np.zeros(2, "i4"), **CHUNK, compression="gzip")),
}


@pytest.mark.parametrize("kind", HDF5)
def test_hostile_caches(sandbox: Sandbox, kind: str) -> None:
    write_shard(sandbox.outside / "other.h5")
    name, create = HDF5[kind]
    path = write_shard(Path("images-0of1.h5"), name, create)
    with sandbox.unharmed(), pytest.raises(ProvenanceError, match=f"{name}.*not as it should be"):
        FeatureCache.open([path])


def test_the_honest_cache_is_read(sandbox: Sandbox) -> None:
    path = write_shard(Path("images-0of1.h5"))
    assert write_index([path], Path("images.h5")) == 2
    with FeatureCache.open([Path("images.h5")]) as cache:
        assert cache.image_ids == ["a/a", "a/b"]


@pytest.mark.parametrize(
    "name", ["../outside/other.h5", "{}/outside/other.h5", "..", "sub/../images-0of1.h5", ""]
)
def test_an_index_names_shards_beside_it_alone(sandbox: Sandbox, name: str) -> None:
    write_shard(sandbox.outside / "other.h5")
    with h5py.File("images.h5", "w") as file:
        file.attrs.update(schema=np.bytes_(INDEX_SCHEMA), provenance=np.bytes_("{}"))
        file.attrs["shards"] = np.bytes_(json.dumps([[name.format(sandbox.top), 0, 2]]))
    with sandbox.unharmed(), pytest.raises(ProvenanceError, match="elsewhere"):
        FeatureCache.open([Path("images.h5")])
    with pytest.raises(InputError, match="beside its index"):
        write_index([sandbox.outside / "other.h5"], Path("images.h5"))


def test_an_onnx_file_refers_to_no_other(sandbox: Sandbox) -> None:
    tensor = TensorProto(name="backbone.layernorm.bias", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../outside/secret.png")
    graph = helper.make_graph([], "g", [], [], initializer=[tensor])
    Path("model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with sandbox.unharmed(), pytest.raises(InputError, match="refers to other files"):
        dinov2_state_dict(Path("model.onnx"))
    assert onnx.load("model.onnx", load_external_data=False).graph.initializer[0].external_data


# --- parameters ---------------------------------------------------------------------------------------------

COMMANDS = [
    *(
        "$(touch pwned)",
        "`touch pwned`",
        "a;touch pwned",
        "a b",
        "a'b",
        'a"b',
        "a|b",
        "a\n",
        "a\ntouch pwned",
    ),
    *("../a", "/a", "a/../b", "a/b", "..", ".", "-rf", "", "{input}", "${dataset}", "a\0b", "~"),
]


def test_names_that_commands_hold_are_plain(root: Path) -> None:
    schema = yaml.safe_load((root / "workflow/schemas/params.schema.yaml").read_text())
    params = yaml.safe_load((root / "params.yaml").read_text())
    validator = jsonschema.Draft202012Validator(schema)

    def accepts(section: str, value: Any) -> bool:
        return validator.evolve(schema=schema["properties"][section]).is_valid(value)

    assert all(accepts(section, value) for section, value in params.items())
    spair = params["datasets"]["spair-71k"]
    for name in COMMANDS:
        assert not accepts("dataset", name)
        assert not accepts("device", name)
        assert not accepts("features", params["features"] | {"backbone": name})
        assert not accepts("datasets", {"spair-71k": spair | {"download": [name]}})
        for section in ("datasets", "backbones", "downloads"):
            assert not accepts(section, {name: next(iter(params[section].values()))}), (section, name)


HOSTILE_YAML = {
    "tag": "!!python/object/apply:os.mkdir [{canary}]",
    "new": "!!python/object/new:os.mkdir [{canary}]",
    "name": "!!python/name:os.mkdir",
    "module": "!!python/module:antigravity",
}


@pytest.mark.parametrize("kind", HOSTILE_YAML)
def test_presets_that_ask_for_more_than_values_are_refused(sandbox: Sandbox, root: Path, kind: str) -> None:
    Path("params.yaml").write_text((root / "params.yaml").read_text())
    Path("preset.yaml").write_text("device: " + HOSTILE_YAML[kind].format(canary=sandbox.canary) + "\n")
    with sandbox.unharmed(), pytest.raises(InputError, match=r"preset\.yaml"):
        apply_preset(Path("preset.yaml"), Path("params.yaml"))
    assert not sandbox.canary.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"device: {HOSTILE_YAML['tag']}", "not a YAML file"),
        ('device: \'?__import__("os").mkdir("{canary}")\'\n__use_yte__: true', "__use_yte__"),
        ('device: \'?__import__("os").mkdir("{canary}")\'', "device: expected 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_hostile_parameter_files_run_nothing(sandbox: Sandbox, root: Path, line: str, message: str) -> None:
    project = Project.copy(root, sandbox.inside / "project", TINY)
    params = project.folder / "params.yaml"
    text, count = re.subn("(?m)^device: .*\n", "", params.read_text())
    assert count == 1
    params.write_text(text + line.format(canary=sandbox.canary) + "\n")
    with sandbox.unharmed():
        assert message in project.snakemake("-n", ok=False)


@pytest.mark.slow
def test_free_texts_reach_no_command(sandbox: Sandbox, root: Path) -> None:
    """Every text that the schema leaves free is a command here; none is in what Snakemake would run."""
    evil = "$(touch pwned); `touch pwned` 'touch pwned' \"touch pwned\" {input} {wildcards.name}\n"
    project = Project.copy(root, sandbox.inside / "project", TINY)
    masks = {"source": "maskrcnn", "model": "maskrcnn_resnet50_fpn_v2", "image_size": 64, "score": 0.5}
    masks |= {"weights": {"source": "file", "path": evil}, "min_iou": None, "classes": {evil: evil}}
    entry = folder_entry(evil.replace("{", "(").replace("}", ")")) | {"download": ["evil"], "masks": masks}
    file = {"name": "evil", "urls": [evil], "drive": evil, "into": evil, "unpack": True}
    download = {"licence": evil, "citation": evil, "homepage": evil, "files": [file]}
    backbone = BACKBONE | {"weights": {"source": "file", "path": evil}}
    project.edit({"dataset": "own", "datasets": {"own": entry}, "downloads": {"evil": download}})
    project.edit({"backbones": {"tiny": backbone}})
    with sandbox.unharmed():
        output = project.snakemake("-n", "--printshellcmds")
    commands = re.findall(r"Shell command: (.*)", output)
    assert len(commands) > 8
    assert "touch pwned" not in output
    assert not [command for command in commands if set(command) & set("$`;|'\"{}")]


# --- addresses and secrets ----------------------------------------------------------------------------------


def fetch(urls: list[str], sandbox: Sandbox, **changes: Any) -> int:
    """The exit status of `spheremap fetch` for one file."""
    file = {"name": "archive", "urls": urls, **changes}
    entry = {"licence": "l", "citation": "c", "homepage": "h", "files": [file]}
    Path("download.json").write_text(json.dumps(entry))
    with sandbox.unharmed():
        options = ["--out", "data/set", "--work", "work", "--digests", "digests.json"]
        return main(["fetch", "--params", "download.json", "--name", "set", *options])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setattr(client, "RETRY", client.RETRY.new(backoff_factor=0))
    with faulty_server() as running:
        yield running


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://127.0.0.1/a", "file://evil.example/etc/passwd", "data:,a", "/etc/passwd"),
        *("http://user:hunter2@127.0.0.1/a", "-o pwned", "http://127.0.0.1/a\nb"),
    ],
)
def test_other_addresses_are_refused(sandbox: Sandbox, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert fetch([url], sandbox) == 1
    error = capsys.readouterr().err
    assert "'files[0].urls'" in error
    assert "hunter2" not in error


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/f", "data:,x"])
def test_redirects_to_files_are_not_followed(sandbox: Sandbox, server: FaultyServer, to: str) -> None:
    server.resources["/a"] = Resource(b"", faults=[Fault(status=302, headers={"Location": to})] * 20)
    assert fetch([server.url("/a")], sandbox, unpack=False) == 1
    assert not Path("data/set").exists()


def test_devices_are_not_read(sandbox: Sandbox) -> None:
    assert fetch(["file:///dev/zero"], sandbox, unpack=False) == 1
    os.mkfifo("pipe")
    assert fetch([Path("pipe").absolute().as_uri()], sandbox, unpack=False) == 1


@pytest.mark.parametrize("status", [403, 302, 200])
def test_secrets_in_addresses_are_not_shown(
    sandbox: Sandbox, server: FaultyServer, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    """Whether the download fails, is sent elsewhere or succeeds."""
    other = "http://user:hunter2@127.0.0.1:9/a?token=hunter2"
    faults = [] if status == 200 else [Fault(status=status, headers={"Location": other})] * 20
    server.resources["/a"] = Resource(b"data", faults=faults)
    done = fetch([server.url("/a?token=hunter2#hunter2")], sandbox, unpack=False)
    shown = "".join(capfd.readouterr())
    assert done == int(status != 200)
    assert "hunter2" not in shown
    assert status == 200 or server.url("/a?…") in shown
    kept = [path for path in Path().rglob("*") if path.is_file() and path.name != "download.json"]
    assert kept
    assert not [path for path in kept if b"hunter2" in path.read_bytes() and "partial" not in path.name]


# --- dependencies -------------------------------------------------------------------------------------------

SOUND = {"name": "numpy", "version": "2", "vulns": []}
AFFECTED = {"name": "pyyaml", "version": "5.3", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.4"]}]}
UNKNOWN = {"name": "numpy", "skip_reason": "not found"}
OFFLINE = "requests.exceptions.ConnectionError: Max retries exceeded"


@pytest.mark.parametrize(
    ("known", "pinned", "status", "message"),
    [
        (AFFECTED, SOUND, 0, "1 packages, 0 known vulnerabilities"),
        (AFFECTED, AFFECTED, 1, "pyyaml 5.3: PYSEC-1, mended in 5.4"),
        (AFFECTED, UNKNOWN, 1, "not in the data base: numpy"),
        (AFFECTED, OFFLINE, 1, "0 packages"),
        (SOUND, SOUND, 0, "SKIPPED"),
        (OFFLINE, OFFLINE, 0, "SKIPPED"),
        ("a bug", SOUND, 1, "pip-audit failed"),
    ],
)
def test_audit_says_what_it_could_not_see(
    root: Path, tmp_path: Path, known: Any, pinned: Any, status: int, message: str
) -> None:
    """With a stand-in for pip-audit: answers for the package known to be vulnerable, and for the pins."""
    program = f"""#!{sys.executable} -S
import json, sys
known, pinned = {known!r}, {pinned!r}
answer = known if "--no-deps" in sys.argv else pinned
if isinstance(answer, str):
    sys.exit(answer)
with open(sys.argv[sys.argv.index("--output") + 1], "w") as stream:
    json.dump({{"dependencies": [answer]}}, stream)
sys.exit(1 if answer.get("vulns") else 0)
"""
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(program)
    stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-S", root / ".ci" / "audit"], env=environment, capture_output=True, text=True
    )
    assert message in done.stdout + done.stderr
    assert done.returncode == status
