"""The domain in a bundle: outside it, photographs are matched by features, and the commands say so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from studio import Studio, run

from spheremap.api.arguments import say_unlike
from spheremap.api.bundle import write_bundle
from spheremap.api.matcher import Matcher, load
from spheremap.base.errors import ProvenanceError
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.cli import main
from spheremap.config.backbone import Backbone
from spheremap.config.slices import parse
from spheremap.model.domain import Domain
from spheremap.model.head import load_head

POINTS = [(30.0, 40.0), (60.0, 20.0)]


def bundle_of(studio: Studio, path: Path, limits: tuple[float, float]) -> Path:
    """A bundle whose domain has these limits; the distance is that of a photograph's whole summary."""
    head = load_head(studio.head)
    domain = Domain(head.dim, 2)
    domain.limits = torch.tensor(limits)
    backbone = parse(studio.backbone, Backbone, where="backbone")
    write_bundle(path, head, backbone, studio.weights, where=studio.head, domain=domain, embed=True)
    return path


def test_the_bundle_gives_the_domain_back(studio: Studio, tmp_path: Path) -> None:
    matcher = load(bundle_of(studio, tmp_path / "a", (0.1, 5.0)), device="cpu")
    share = matcher.describe(studio.photographs[0]).share
    assert 0 < share < 1
    assert matcher.describe(studio.photographs[1]).share != share


def test_outside_the_domain_features_are_used(
    studio: Studio, matcher: Matcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, (a, b) = bundle_of(studio, tmp_path / "a", (1e-6, 2e-6)), studio.photographs[:2]
    outside = load(path, device="cpu").match(a, b, POINTS)
    np.testing.assert_array_equal(outside.target_xy["fused"], outside.target_xy["features"])
    asked = load(path, device="cpu").match(a, b, POINTS, sphere_weight=matcher.sphere_weight)
    plain = matcher.match(a, b, POINTS)
    for method, xy in plain.target_xy.items():
        np.testing.assert_array_equal(asked.target_xy[method], xy)
    assert main(["match", str(a), str(b), "--model", str(path), "--points", "30,40", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert f"{a} is unlike the images that the head was trained on: the sphere has 0% of that weight" in said
    run("map", a, "--out", tmp_path / "m.png", "--model", path, "--device", "cpu")
    said = capsys.readouterr().err
    assert f"{a} is unlike" in said
    assert "weight" not in said  # a map has none
    say_unlike({a: 0.996, b: 0.994}, "{share:.0%}")
    assert capsys.readouterr().err == f"{b} is unlike the images that the head was trained on: 99%\n"


def test_inside_the_domain_nothing_changes(studio: Studio, matcher: Matcher, tmp_path: Path) -> None:
    inside = load(bundle_of(studio, tmp_path / "a", (1e6, 2e6)), device="cpu")
    found = inside.match(*studio.photographs[:2], POINTS)
    np.testing.assert_array_equal(found.xy, matcher.match(*studio.photographs[:2], POINTS).xy)


def test_a_damaged_domain_is_refused(studio: Studio, tmp_path: Path) -> None:
    tensors, content = read_tensors(bundle_of(studio, tmp_path / "a", (0.1, 5.0)))
    assert content is not None
    for name, damaged in (("mean", torch.zeros(3)), ("limits", None)):
        changed = {k: v for k, v in tensors.items() if k != f"domain.{name}"}
        if damaged is not None:
            changed[f"domain.{name}"] = damaged
        write_tensors(tmp_path / "b", changed, content)
        with pytest.raises(ProvenanceError, match="domain"):
            load(tmp_path / "b", device="cpu")
