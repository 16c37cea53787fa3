"""Hostile data sets, checkpoints, caches and parameter files: nothing runs, nothing is written outside.

Each is tried in a sandbox whose files are compared before and after, with a canary that any code in the
hostile file would leave. docs/security.md says what is defended against. What belongs to one reader alone is
tested there: archives in test_archive.py, the pickles of AwA-Pose in test_awa_pose.py, MAT-files in
test_pf_pascal.py, the local server in test_explore.py.
"""

import ast
import io
import json
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import tarfile
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
from spheremap.features.cache.reader import INDEX_SCHEMA, SCHEMA, FeatureCache
from spheremap.model.head import Head, Prototypes, SphereMapper, load_head, save_head


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

FORBIDDEN_IMPORTS = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "code", "pty"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "subprocess.getoutput"),
    *("subprocess.call", "subprocess.check_output", "subprocess.check_call", "subprocess.Popen"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "pd.read_pickle", "pd.eval"),
    *("torch.hub.load", "torch.jit.load", "shutil.unpack_archive", "Image.open"),
    *("h5py.special_dtype", "h5py.vlen_dtype", "h5py.string_dtype"),
}
# call -> the keyword that it must have
REQUIRED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
# what has one well-guarded place
ALLOWED = {
    ("api/project.py", "subprocess.Popen"),  # Snakemake
    ("cli/init.py", "subprocess.run"),  # Git
    ("config/methods.py", "exec"),  # imports and
    ("config/methods.py", "eval"),  # descriptions of fields, from spheremap's own files
    ("data/download/archive.py", "package.extractall"),
    ("data/images.py", "Image.open"),
    ("data/pickles.py", "pickle"),
    ("features/backbones/wheel.py", "subprocess.run"),
}


def findings(source: str, name: str = "x.py") -> list[str]:
    """Ways in which a module could execute what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported = [alias.name.split(".")[0] for alias in node.names]
            found += [of for of in imported if of in FORBIDDEN_IMPORTS and (name, of) not in ALLOWED]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_IMPORTS:
            # the name of an error is no way to load
            found += [alias.name for alias in node.names if alias.name != "UnpicklingError"]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            wanted, value = REQUIRED.get(called, (None, None))
            bad = (
                called in FORBIDDEN_CALLS
                or called == "subprocess.run"
                or called.endswith(".extractall")
                or keywords.get("shell", False) is not False
                or keywords.get("allow_pickle", False) is not False
                or keywords.get("dtype") in ("O", "object")
                or (wanted is not None and keywords.get(wanted) is not value)
            )
            if bad and (name, called) not in ALLOWED:
                found.append(called)
    return found


def test_the_source_executes_nothing_that_it_reads(root: Path) -> None:
    package = root / "src" / "spheremap"
    paths = sorted(package.rglob("*.py"))
    assert len(paths) > 100
    found = {
        name: bad
        for path in paths
        if (bad := findings(path.read_text(encoding="utf-8"), name := path.relative_to(package).as_posix()))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "os.system(command)",
        "subprocess.run(command)",
        "x.call(shell=True)",
        "yaml.load(stream, Loader=yaml.FullLoader)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "archive.extractall(folder)",
        "Image.open(path)",
        "file.create_dataset('x', (1,), dtype='O')",
    ],
)
def test_such_source_would_be_found(source: str) -> None:
    assert findings(source)


def test_templates_escape_what_they_show(root: Path) -> None:
    """`|safe` stands only behind what the package itself draws or ships."""
    marked = set()
    for path in (root / "src" / "spheremap").rglob("*.html"):
        marked |= set(re.findall(r"\{\{\s*([\w.]+)\s*\|\s*safe", path.read_text(encoding="utf-8")))
    assert marked == {"svg"}
    for path in (root / "src" / "spheremap").rglob("*.[jh]*"):
        if path.suffix in (".js", ".html"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)


# --- data sets ----------------------------------------------------------------------------------------------


def member(name: str, kind: bytes, target: str = "") -> bytes:
    """A tar file with a picture and one member of a kind."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as package:
        for info in (tarfile.TarInfo("set/a.png"), tarfile.TarInfo(name)):
            info.size = 4 if info.name == "set/a.png" or kind == tarfile.REGTYPE else 0
            info.mode = 0o6777
            if info.name == name:
                info.type, info.linkname = kind, target
            package.addfile(info, io.BytesIO(b"evil" * (info.size > 0)))
    return stream.getvalue()


def zipped(name: str, mode: int = stat.S_IFREG) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        info = zipfile.ZipInfo(name)
        info.external_attr = (mode | 0o6777) << 16
        package.writestr(info, b"../../../outside/secret.png")
    return stream.getvalue()


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("a.png", bytes(50_000_000))
    return stream.getvalue()


ARCHIVES = {
    "up": lambda: member("../../../outside/pwned", tarfile.REGTYPE),
    "absolute": lambda: member("/tmp/spheremap/pwned", tarfile.REGTYPE),
    "symlink": lambda: member("set/x", tarfile.SYMTYPE, "../../../../outside"),
    "hard link": lambda: member("set/x", tarfile.LNKTYPE, "../../../../outside/secret.png"),
    "device": lambda: member("set/x", tarfile.CHRTYPE),
    "pipe": lambda: member("set/x", tarfile.FIFOTYPE),
    "zip, up": lambda: zipped("../../../outside/pwned"),
    "zip, symlink": lambda: zipped("x", stat.S_IFLNK),
    "bomb": bomb,
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_hostile_archives(sandbox: Sandbox, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    Path("archive").write_bytes(ARCHIVES[kind]())
    assert fetch(urls=[Path("archive").absolute().as_uri()], sandbox=sandbox) == 1
    error = capsys.readouterr().err
    assert "refused" in error or "too large" in error
    assert not Path("data/set").exists()


def test_names_for_a_shell_are_but_names(sandbox: Sandbox) -> None:
    """A data set whose names are commands, from archive to canonical tables and back to files."""
    stream = io.BytesIO()
    commands = [
        "$(touch pwned)",
        "`touch pwned`",
        ";touch pwned;",
        "a'b\"c",
        "&& touch pwned",
        "| sh -",
        "-rf *",
    ]
    with zipfile.ZipFile(stream, "w") as package:
        for name in commands:
            package.writestr(f"{name}.png", picture())
        table = io.StringIO()
        table.write("image,category\n")
        for name in commands:
            quoted = name.replace('"', '""')
            table.write(f'"{quoted}.png",mug\n')
        package.writestr("images.csv", table.getvalue())
    Path("archive").write_bytes(stream.getvalue())
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
        *(
            ("category", name)
            for name in ("../../pwned", "/pwned", "a/b", "a\\b", "..", "a\nb", "$(touch pwned)")
        ),
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
        with pytest.raises(InputError, match="unreadable image"):
            ingest(Path("entry.json"))
    with Image.open("a.png") as found:  # it is a file that runs a program where the format is not restricted
        assert found.format == "EPS"
        with pytest.raises(OSError, match="identify"):  # the stand-in for Ghostscript draws nothing
            found.load()
    assert sandbox.canary.exists()


# --- checkpoints and bundles --------------------------------------------------------------------------------


def head() -> Head:
    return Head.initialise(8, ["a", "b"], seed=0)


def header(content: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    """A safetensors file."""
    return struct.pack("<Q", len(content) if length is None else length) + content + body


def nested(depth: int = 100_000) -> bytes:
    metadata = json.dumps("[" * depth + "]" * depth)
    return header(b'{"__metadata__": {"spheremap": %s}}' % metadata.encode())


SAFETENSORS = {
    "endless header": lambda: header(b"{}", length=2**63),
    "header longer than the file": lambda: header(b"{}", length=10_000),
    "no JSON": lambda: header(b"\x80\x04cos\nsystem\n."),
    "bytes of the header": lambda: header(
        b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [-8, 4]}}', body=bytes(4)
    ),
    "beyond the end": lambda: header(
        b'{"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', body=bytes(4)
    ),
    "shape too large": lambda: header(
        b'{"x": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 4]}}', body=bytes(4)
    ),
    "nested metadata": nested,
    "metadata of another kind": lambda: save({"x": torch.zeros(1)}, {"spheremap": "[1]"}),
    "a vast head of no bytes": lambda: save(
        {
            "sphere_mapper.0.weight": torch.zeros(0, 10**12),
            "prototypes.blocks.0.attn.v.weight": torch.zeros(0, 10**12),
        }
    ),
}


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_hostile_safetensors(sandbox: Sandbox, kind: str) -> None:
    path = Path("head.safetensors")
    path.write_bytes(SAFETENSORS[kind]())
    spec = ModelSpec(BACKBONE["model"], WeightsSpec("file", path=str(path)))
    with sandbox.unharmed():
        for read in (load_head, read_bundle, lambda path: fetch_weights(spec, Path("out.safetensors"))):
            with pytest.raises(SpheremapError):
                read(path)
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("name", ["head.pth", "head.pt", "head.safetensors"])
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


def test_a_checkpoint_of_other_objects_is_refused(sandbox: Sandbox) -> None:
    torch.save(head().state_dict() | {"sphere_mapper.0.weight": [1, 2]}, "head.pth")
    with pytest.raises(ProvenanceError, match="not a tensor that is stored whole"):
        load_head(Path("head.pth"))


def test_a_small_file_takes_no_vast_memory(sandbox: Sandbox) -> None:
    """A pickled tensor may repeat one value over any shape."""
    width = 2**20
    one = torch.zeros(1)
    torch.save({name: one.expand(*shape) for name, shape in shapes_of(width).items()}, "head.pth")
    assert Path("head.pth").stat().st_size < 100_000
    with pytest.raises(ProvenanceError, match="not a tensor that is stored whole"):
        load_head(Path("head.pth"))


def shapes_of(dim: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = Head(SphereMapper(dim), Prototypes(dim, 2), ["a", "b"], dim).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.fixture
def bundle(sandbox: Sandbox) -> Path:
    """An honest bundle, and beside it the weights of its backbone."""
    spec = parse(BACKBONE, BackboneSpec, where="test")
    Path("weights.safetensors").write_bytes(b"weights")
    write_bundle(Path("a.spheremap"), head(), spec, Path("weights.safetensors"), where=Path("head"))
    return Path("a.spheremap")


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a bundle says of itself, and seal it anew."""
    state, about = read_tensors(path)
    assert about is not None
    change(about)
    write_tensors(path, state, about)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.update(weights_sha256="../../../outside/pwned"), "weights_sha256"),
        (lambda about: about.update(weights_sha256="/tmp/pwned"), "weights_sha256"),
        (lambda about: about["backbone"].update(model="hf-hub:evil/model"), r"backbone\.model"),
        (lambda about: about["backbone"].update(model="local-dir:../outside"), r"backbone\.model"),
        (lambda about: about["backbone"].update(weights={"source": "run"}), "source"),
        (
            lambda about: about["backbone"].update(
                weights={"source": "wheel", "requirement": "--index-url=http://evil.example", "member": "x",
                         "wheel_sha256": "0" * 64, "sha256": "0" * 64}
            ),
            r"backbone\.weights\.requirement",
        ),
        (lambda about: about.update(dim=10**12), "no head has this size"),
        (lambda about: about.update(dim=2**20), "another shape"),
        (lambda about: about.update(categories=["a"] * 100_000), "another shape"),
        (lambda about: about.update(run="touch pwned"), "unknown parameter"),
        (lambda about: about.update(head="checkpoint"), "code that is not here"),
        (lambda about: about.update(head="..losses.distance"), "code that is not here"),
        (lambda about: about.update(head=["spherical_map"]), "head: "),
    ],
)  # fmt: skip
def test_hostile_bundles(
    sandbox: Sandbox, bundle: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(sandbox.outside / "cache"))
    edit(bundle, change)
    with sandbox.unharmed(), pytest.raises(SpheremapError, match=message), read_bundle(bundle).weights():
        pass


def test_the_honest_bundle_is_read(bundle: Path) -> None:
    with read_bundle(bundle).weights(Path("weights.safetensors")) as path:
        assert path.read_bytes() == b"weights"


@pytest.mark.parametrize(
    "lie",
    [
        {"head": "os"}, {"head": "../x"}, {"head": 3}, {"dim": "8"}, {"dim": -2}, {"dim": 10**12},
        {"dim": 2**20}, {"categories": 2}, {"categories": ["a"] * 100_000}, {"run": "touch pwned"},
    ],
    ids=lambda lie: str(lie)[:30],
)  # fmt: skip
def test_heads_that_lie_about_themselves(sandbox: Sandbox, lie: dict[str, Any]) -> None:
    path = Path("head.safetensors")
    save_head(path, head(), {})
    assert load_head(path).categories == ["a", "b"]
    edit(path, lambda about: about.update(lie))
    with sandbox.unharmed(), pytest.raises(SpheremapError, match=r"head\.safetensors"):
        load_head(path)


def test_models_are_named_not_addressed() -> None:
    assert create_vit("vit_small_patch16_224") is not None
    for name in ("hf-hub:timm/vit", "local-dir:.", "../vit", "a b", ""):
        with pytest.raises(ValueError, match="pattern"):
            ModelSpec(name, WeightsSpec("hub"))


# --- caches -------------------------------------------------------------------------------------------------


def write_shard(path: Path, change: Callable[[h5py.File], None] | None = None) -> Path:
    """A feature cache of two records of 2 x 2 patches, as one shard."""
    ids = np.array([b"a/a", b"a/b"])
    data = {
        "tokens": np.ones((2, 4, 3), np.float16),
        "masks": np.ones((2, 4), np.uint8),
        "boxes": np.ones((2, 4)),
        "view": np.zeros(2, np.int32),
        "image_id": ids,
    }
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
        file.attrs.update(schema=np.bytes_(SCHEMA), kind=np.bytes_("images"), provenance=np.bytes_("{}"))
        file.attrs.update(grid=[2, 2], shard=[0, 1], complete=True)
        if change is not None:
            change(file)
    return path


def replace(name: str, create: Callable[[h5py.File], None]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        create(file)

    return change


def external_storage(file: h5py.File) -> None:
    file.create_dataset("view", (2,), "i4", external=[("../outside/secret.png", 0, 8)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "i4")
    layout[:] = h5py.VirtualSource("../outside/other.h5", "view", (2,))
    file.create_virtual_dataset("view", layout)


def vast(file: h5py.File) -> None:
    file.create_dataset("view", (2,), "i4", chunks=(2,), fletcher32=True)  # of which nothing is written


def texts(file: h5py.File) -> None:
    kind = h5py.string_dtype()
    file.create_dataset("image_id", (2,), kind, data=["a/a", "a/b"])


def references(file: h5py.File) -> None:
    file.create_dataset("image_id", (2,), h5py.ref_dtype, chunks=(2,), fletcher32=True)


def compressed(file: h5py.File) -> None:
    file.create_dataset("view", data=np.zeros(2, "i4"), chunks=(2,), fletcher32=True, compression="gzip")


def linked(link: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__("view", link)


HDF5 = {
    "external link": ("view", linked(h5py.ExternalLink("../outside/other.h5", "view"))),
    "soft link": ("view", linked(h5py.SoftLink("/masks"))),
    "external storage": ("view", external_storage),
    "virtual": ("view", virtual),
    "a group": ("view", lambda f: f.create_group("view")),
    "not stored": ("view", vast),
    "texts of any length": ("image_id", texts),
    "references": ("image_id", references),
    "compressed": ("view", compressed),
}


@pytest.mark.parametrize("kind", HDF5)
def test_hostile_caches(sandbox: Sandbox, kind: str) -> None:
    write_shard(sandbox.outside / "other.h5")
    name, create = HDF5[kind]
    path = write_shard(Path("images-0of1.h5"), replace(name, create))
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
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned",
    "a b",
    "a'b",
    'a"b',
    "a|b",
    "a\n",
    "a\ntouch pwned",
]
PATHS = ["../a", "/a", "a/../b", "a/b", "..", ".", "-rf", "", "{input}", "${dataset}", "a\0b", "~"]


@pytest.mark.parametrize("name", COMMANDS + PATHS)
def test_names_that_commands_hold_are_plain(root: Path, name: str) -> None:
    schema = yaml.safe_load((root / "workflow/schemas/params.schema.yaml").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    original = (root / "params.yaml").read_text()

    def wrong(change: Callable[[dict[str, Any]], None]) -> bool:
        params = yaml.safe_load(original)
        change(params)
        return bool(list(validator.iter_errors(params)))

    assert not wrong(lambda p: None)
    assert wrong(lambda p: p.update(dataset=name))
    assert wrong(lambda p: p["features"].update(backbone=name))
    for section in ("datasets", "backbones", "downloads"):
        assert wrong(lambda p, s=section: p[s].update({name: next(iter(p[s].values()))}))
    assert wrong(lambda p: p["datasets"]["spair-71k"].update(download=[name]))
    assert wrong(lambda p: p.update(device=name))


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
        *((f"device: {text}", "not a YAML file") for text in HOSTILE_YAML.values()),
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
    entry = folder_entry(evil.replace("{", "(").replace("}", ")")) | {
        "download": ["evil"],
        "masks": {
            "source": "maskrcnn",
            "model": "maskrcnn_resnet50_fpn_v2",
            "weights": {"source": "file", "path": evil},
            "image_size": 64,
            "score": 0.5,
            "min_iou": None,
            "classes": {evil: evil},
        },
    }
    file = {"name": evil, "urls": [evil], "drive": evil, "into": evil, "unpack": True}
    project.edit(
        {
            "dataset": "own",
            "datasets": {"own": entry},
            "downloads": {"evil": {"licence": evil, "citation": evil, "homepage": evil, "files": [file]}},
            "backbones": {"tiny": BACKBONE | {"weights": {"source": "file", "path": evil}}},
        }
    )
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
        (UNKNOWN, UNKNOWN, 0, "SKIPPED"),
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
