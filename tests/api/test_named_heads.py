"""Heads that are used by name: fetched from a server on this machine, with a small random backbone."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faulty_server import Fault, FaultyServer, Resource, faulty_server
from safetensors.torch import save_file
from studio import Studio, parsed, run
from tiny import BACKBONE
from torch import Tensor

from spheremap.api import named_heads
from spheremap.api.bundle import read_bundle, write_bundle
from spheremap.api.matcher import load
from spheremap.api.named_heads import find_bundle, read_registry
from spheremap.api.weight import SphereWeight
from spheremap.base.errors import InputError, ProvenanceError, SpheremapError
from spheremap.base.files import sha256_file, write_json
from spheremap.cli import main
from spheremap.data.download import client
from spheremap.model.head import Head, SphereMapper, load_mapper

Capture = pytest.CaptureFixture[str]

CATEGORIES = ["cat", "dog", "horse"]
POINTS = [(30.0, 40.0), (80.5, 20.0)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(client, "RETRY", client.RETRY.new(backoff_factor=0))
    with faulty_server() as running:
        yield running


def state_of(dim: int = 384, seed: int = 5) -> dict[str, Tensor]:
    return Head.initialise(dim, CATEGORIES, seed).state_dict()


def mapper_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith("sphere_mapper.")}


class Shelf:
    """A registry of the one head `tiny`, the server that has it, and the user's cache."""

    def __init__(
        self, server: FaultyServer, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.weights = weights  # of the backbone: given, they need not be made
        self.server, self.folder, self.cache = server, folder, folder / "cache" / "spheremap"
        self.kept = self.cache / "heads" / "tiny.pth"
        self.digests = self.cache / "heads" / "digests.json"
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setattr(named_heads, "REGISTRY", folder / "heads.yaml")
        self.describe()
        self.serve(state_of())

    def describe(self, **changes: Any) -> None:
        entry = {
            "urls": [self.server.url("/200.pth")],
            "sha256": None,
            "licence": "to be had by all",
            "citation": "A. Uthor",
            "homepage": "https://example.org",
            "dim": 384,
            "backbone": BACKBONE,
            "categories": CATEGORIES,
            "protocol": {"fit": "stretch", "source": "bilinear"},
            "sphere_weight": 0.4,
        }
        write_json(self.folder / "heads.yaml", {"tiny": entry | changes})  # JSON is YAML

    def serve(self, state: dict[str, Tensor], *faults: Fault, cut: int | None = None) -> None:
        torch.save({name: tensor.clone() for name, tensor in state.items()}, self.folder / "served.pth")
        content = (self.folder / "served.pth").read_bytes()[:cut]
        self.server.resources["/200.pth"] = Resource(content, faults=list(faults))

    def find(self) -> Path:
        return find_bundle("tiny", self.weights)

    def fail(self, *expected: str) -> str:
        """The message of a use that must fail, and that leaves nothing that is used later."""
        with pytest.raises(InputError) as caught:
            self.find()
        for text in expected:
            assert text in str(caught.value)
        assert not list(self.cache.rglob("*.spheremap"))
        return str(caught.value)


@pytest.fixture
def shelf(server: FaultyServer, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf(server, tmp_path, studio.weights, monkeypatch)


@pytest.mark.parametrize("part", [dict, mapper_of])
def test_a_name_is_as_good_as_a_bundle(
    shelf: Shelf, studio: Studio, tmp_path: Path, part: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    shelf.serve(part(state_of()))
    matcher = load("tiny", weights=studio.weights, device="cpu")
    assert matcher.categories == CATEGORIES
    assert str(matcher.weight) == "sphere weight 0.4, that of the head's authors"
    assert (matcher.protocol.fit, matcher.protocol.source) == ("stretch", "bilinear")
    parts = Head.initialise(384, CATEGORIES, seed=5), parsed(BACKBONE), studio.weights
    write_bundle(tmp_path / "b", *parts, where=tmp_path, weight=SphereWeight(0.4, "option"))
    own = load(tmp_path / "b", weights=studio.weights, device="cpu", fit="stretch", source="bilinear")
    found, expected = (one.match(*studio.photographs[:2], POINTS).target_xy for one in (matcher, own))
    np.testing.assert_equal(found, expected)


def test_it_is_fetched_once_and_its_terms_are_shown_before(shelf: Shelf, capsys: Capture) -> None:
    bundle = find_bundle("tiny")
    said = capsys.readouterr().err
    for text in ("to be had by all", "A. Uthor", "https://example.org", "this first download is trusted"):
        assert text in said
    assert json.loads(shelf.digests.read_text())["tiny"]["sha256"] == sha256_file(shelf.kept)
    (weights,) = shelf.cache.glob("*.safetensors")
    before = {path: path.stat().st_mtime_ns for path in (bundle, weights, shelf.kept)}
    assert find_bundle("tiny") == bundle
    with read_bundle(bundle).weights() as own:
        assert own == weights
    assert shelf.server.paths() == ["/200.pth"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().err == ""


def test_the_mapper_alone_is_taken(shelf: Shelf) -> None:
    other = {name: tensor[:7] for name, tensor in state_of().items() if name.startswith("prototypes.")}
    for state in (state_of(), mapper_of(state_of()), mapper_of(state_of()) | other):
        shelf.serve(state)
        shelf.describe(urls=[shelf.server.url("/200.pth")], sha256=sha256_file(shelf.folder / "served.pth"))
        bundle = read_bundle(shelf.find())
        with pytest.raises(ProvenanceError, match="no prototypes"):
            bundle.head.prototypes(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([1]))


def test_the_commands_know_the_name(
    shelf: Shelf, studio: Studio, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf.folder)
    (shelf.folder / "tiny").mkdir()  # a folder of that name is no bundle
    a, b = studio.photographs[:2]
    model = ("--model", "tiny", "--weights", studio.weights, "--device", "cpu")
    run("map", a, "--out", "m.png", *model)
    assert (shelf.folder / "m.png").exists()
    run("match", a, b, "--points", "30,40", *model)
    found = load("tiny", weights=studio.weights, device="cpu").match(a, b, POINTS[:1])
    (point,) = json.loads(capsys.readouterr().out)["points"]
    assert (point["fused"]["x"], point["fused"]["y"]) == tuple(found.xy[0])


def test_weights_of_one_s_own_need_no_hub(shelf: Shelf, studio: Studio, tmp_path: Path) -> None:
    shelf.describe(backbone=BACKBONE | {"weights": {"source": "file", "path": str(tmp_path / "nowhere")}})
    assert load("tiny", weights=studio.weights, device="cpu").match(*studio.photographs[:2], POINTS)
    with pytest.raises(InputError, match="does not exist"):
        load("tiny", device="cpu")
    save_file({"cls_token": torch.zeros(1, 1, 192)}, tmp_path / "other.safetensors")
    with pytest.raises(SpheremapError, match="belong to another model"):
        load("tiny", weights=tmp_path / "other.safetensors", device="cpu")
    served = len(shelf.server.requests)
    shelf.kept.unlink()
    with pytest.raises(InputError, match="do not exist"):
        load("tiny", weights=tmp_path / "nowhere", device="cpu")
    assert len(shelf.server.requests) == served  # nothing is fetched in vain


# ---- what can go wrong -------------------------------------------------------------------------------------


def test_an_unknown_name_is_told_the_known_ones(shelf: Shelf, capsys: Capture) -> None:
    for name, advice in (("tinny", "did you mean 'tiny'?"), ("x.spheremap", "`spheremap bundle`")):
        assert main(["map", "a.jpg", "--out", "m.png", "--model", name]) == 1
        said = capsys.readouterr().err
        assert f"in: {name}\n" in said
        assert "a head by name: quadrupeds, tiny\n" in said
        assert re.search(rf"to do: .*{re.escape(advice)}", said)
    assert not shelf.server.requests


def test_no_network(shelf: Shelf) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/200.pth"
    shelf.describe(urls=[url])
    shelf.fail("cannot download tiny.pth", url, "check the network", str(shelf.kept))
    shelf.describe(urls=[url, shelf.server.url("/200.pth")])
    assert shelf.find().exists()  # from the other mirror


def test_a_download_that_breaks_off_goes_on(shelf: Shelf) -> None:
    whole = shelf.server.resources["/200.pth"].content
    shelf.serve(state_of(), Fault(cut=100_000), *[Fault(cut=0)] * client.ATTEMPTS)
    shelf.fail("cannot download tiny.pth", f"{len(whole) - 100_000} more expected")
    assert not shelf.kept.exists()
    shelf.server.requests.clear()
    shelf.server.resources["/200.pth"].faults.clear()
    assert shelf.find().exists()
    assert shelf.server.ranges_of("/200.pth") == ["bytes=100000-"]
    assert shelf.kept.read_bytes() == whole


def test_another_file_than_the_first_is_refused(shelf: Shelf) -> None:
    bundle, first = shelf.find(), sha256_file(shelf.kept)
    shelf.kept.write_bytes(b"damaged")
    assert shelf.find() == bundle  # fetched again
    assert sha256_file(shelf.kept) == first
    shelf.serve(state_of(seed=6))
    shelf.kept.unlink()
    bundle.unlink()
    shelf.fail("cannot download tiny.pth", first, str(shelf.digests))


def test_a_pinned_file_is_held_to_its_digest(shelf: Shelf, capsys: Capture) -> None:
    shelf.describe(sha256="0" * 64)
    shelf.fail("0" * 64, "in heads.yaml")
    shelf.describe(sha256=sha256_file(shelf.folder / "served.pth"))
    assert shelf.find().exists()
    assert "trusted" not in capsys.readouterr().err
    assert not shelf.digests.exists()


@pytest.mark.parametrize(
    ("state", "cut", "found"),
    [
        (state_of(192), None, r"parameter 'sphere_mapper\S+' of the head has another shape"),
        ({"bottleneck.weight": torch.ones(3)}, None, "parameters of the head are not those"),
        (state_of() | {"sphere_mapper.4.bias": torch.ones(3)}, None, "parameters of the head are not those"),
        (state_of(), 50_000, "cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_holds_something_else(
    shelf: Shelf, state: dict[str, Tensor], cut: int | None, found: str
) -> None:
    shelf.serve(state, cut=cut)
    known = "features of width 384, of vit_small_patch16_224"
    said = shelf.fail(known, f"in: {shelf.kept}", "delete the file")
    assert re.search(f"found: .*{found}", said)
    assert "snakemake" not in said
    assert not shelf.digests.exists()  # it is not trusted
    shelf.serve(state_of())
    shelf.kept.unlink()  # as it is told
    assert shelf.find().exists()


# ---- the heads that are there ------------------------------------------------------------------------------


def test_the_registry_holds_the_head_of_the_paper(tmp_path: Path) -> None:
    heads = read_registry(named_heads.REGISTRY)
    assert list(heads) == ["spair-71k"]
    head = heads["spair-71k"]
    assert all(url.startswith("https://") for url in head.urls)
    assert len(head.categories) == 18
    assert head.categories == sorted(head.categories)  # as data.tables orders them
    backbone = head.backbone
    assert (backbone.model, backbone.block, backbone.norm) == ("vit_base_patch14_dinov2.lvd142m", 11, False)
    assert sum(parameter.numel() for parameter in SphereMapper(head.dim).parameters()) == 2_069_763
    state = Head.initialise(head.dim, head.categories, 0).state_dict()
    torch.save({name: tensor.clone() for name, tensor in mapper_of(state).items()}, tmp_path / "200.pth")
    loaded = load_mapper(tmp_path / "200.pth", head.dim, head.categories)
    tokens = torch.randn(1, 9, head.dim, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.mapper(tokens), Head.initialise(768, head.categories, 0).mapper(tokens))


def test_credits_of_a_published_head_need_no_download(shelf: Shelf, capsys: Capture) -> None:
    run("match", "--about", "--model", "tiny")
    assert "head tiny\n  licence: to be had by all\n  please cite: A. Uthor\n" in capsys.readouterr().out
    assert not shelf.cache.exists()
    credits = read_bundle(shelf.find()).about.credits
    assert [credit.part for credit in credits] == ["method and spheremap", "head tiny"]
