"""Chirality: the right and the turned sphere, and what it may not depend on."""

import math

import pytest
import torch

from spheremap.kernels.vectors import unit
from spheremap.model.training.chirality import image_chirality, rising_axis, upward

AZIMUTHS = torch.arange(8) * math.pi / 4
COLUMN = torch.linspace(0, 9, 30).floor()
LATITUDE = torch.linspace(-0.6, 0.6, 30)[torch.randperm(30, generator=torch.Generator().manual_seed(1))]


def on_sphere(longitude: torch.Tensor, latitude: torch.Tensor) -> torch.Tensor:
    flat = latitude.cos()
    return torch.stack([flat * longitude.cos(), flat * longitude.sin(), latitude.sin()], dim=-1)


def pictures(turned: bool) -> list[torch.Tensor]:
    """Points of an object as seen from each azimuth: those in column 0 lie 60° before its middle."""
    along = (COLUMN / 9 - 0.5) * math.radians(120)
    half_turn = -1 if turned else 1
    return [on_sphere(azimuth + half_turn * along, half_turn * LATITUDE) for azimuth in AZIMUTHS]


def chirality(points: list[torch.Tensor], azimuths: torch.Tensor = AZIMUTHS) -> torch.Tensor:
    axis = rising_axis(torch.stack([unit(of.mean(0)) for of in points]), azimuths)
    return torch.stack([image_chirality(of, COLUMN, axis) for of in points])


@pytest.mark.parametrize("turned", [False, True])
def test_both_spheres(turned: bool) -> None:
    found = chirality(pictures(turned))
    assert ((-found if turned else found) > 0.93).all()


def test_by_hand() -> None:
    """Sines of longitudes -a, 0, a in columns 0, 1, 3 about the axis z."""
    points = on_sphere(torch.tensor([-0.5, 0.0, 0.5]), torch.zeros(3))
    found = image_chirality(points, torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.0, 0.0, 1.0]))
    assert float(found) == pytest.approx(3 / math.sqrt(2 * 42 / 9))


@pytest.mark.parametrize("seed", range(4))
def test_turning_the_whole_sphere_changes_nothing(seed: int) -> None:
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)))[0]
    rotation *= torch.linalg.det(rotation).sign()
    points = pictures(turned=False)
    torch.testing.assert_close(chirality([of @ rotation for of in points]), chirality(points))


def test_axis_is_that_of_all_pairs_of_pictures() -> None:
    draw = torch.Generator().manual_seed(0)
    directions, azimuth = unit(torch.randn(6, 3, generator=draw)), torch.rand(6, generator=draw) * 6
    sine = torch.sin(azimuth - azimuth.unsqueeze(1))
    products = torch.linalg.cross(directions.unsqueeze(1), directions.unsqueeze(0).expand(6, 6, 3))
    torch.testing.assert_close(
        rising_axis(directions, azimuth), unit((sine.unsqueeze(-1) * products).sum((0, 1)))
    )


def test_undefined_is_not_a_number() -> None:
    points = pictures(turned=False)
    opposite = [points[2], points[6]]
    assert chirality(opposite, AZIMUTHS[[2, 6]]).isnan().all()  # no way in which azimuth rises
    axis = torch.tensor([0.0, 0.0, 1.0])
    assert image_chirality(points[0], torch.zeros(30), axis).isnan()  # one column
    assert image_chirality(points[0][:1].expand(30, 3), COLUMN, axis).isnan()  # one point


def test_views_turned_against_each_other_do_not_agree_on_what_is_up() -> None:
    """Of two opposite azimuths: one is turned, or none, or both, which agree as well."""

    def agreement(*views: torch.Tensor) -> float:
        return float(torch.stack([upward(of, -LATITUDE) for of in views]).mean(0).norm())

    upright, turned = pictures(turned=False), pictures(turned=True)
    assert agreement(upright[2], upright[6]) > 0.9
    assert agreement(turned[2], turned[6]) > 0.9
    assert agreement(upright[2], turned[6]) < 0.4
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    both = upright[2], upright[6]
    assert agreement(*(of @ rotation for of in both)) == pytest.approx(agreement(*both), abs=1e-6)


def test_what_is_up_by_hand() -> None:
    points = torch.eye(3)
    expected = torch.tensor([1.0, 0.0, -1.0]) / math.sqrt(2)  # the first is highest
    torch.testing.assert_close(upward(points, torch.tensor([0.0, 1.0, 2.0])), expected)
    assert torch.equal(upward(points, torch.ones(3)), torch.zeros(3))  # one row
