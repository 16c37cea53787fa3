"""Bins of azimuths and their centres against hand values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spheremap.data.viewpoint_bins import UNKNOWN, azimuth_bin, bin_centre


def test_bins_are_centred_on_multiples_of_45_degrees() -> None:
    azimuth = np.array([0, 22.4, 22.5, 45, 180, 337.4, 337.5, 359.9, np.nan])
    assert azimuth_bin(azimuth, 8).tolist() == [0, 0, 1, 1, 4, 7, 0, 0, UNKNOWN]
    assert azimuth_bin(np.array([0.0, 89, 91, 270]), 2).tolist() == [0, 0, 1, 0]


def test_the_label_is_the_centre_of_the_bin() -> None:
    found = np.degrees(bin_centre(np.array([0, 22, 23, 359, 90, 337.6, np.nan]), 8))
    np.testing.assert_allclose(found, [0, 0, 45, 0, 90, 0, np.nan], atol=1e-12)


def test_azimuths_midway_belong_to_the_next_bin() -> None:
    eighths = np.arange(0, 360, 45.0)  # coarse azimuths in half as many bins
    assert azimuth_bin(eighths, 4).tolist() == [0, 1, 1, 2, 2, 3, 3, 0]
    np.testing.assert_allclose(
        np.degrees(bin_centre(eighths, 4)), [0, 90, 90, 180, 180, 270, 270, 0], atol=1e-12
    )


@given(st.integers(1, 64), st.lists(st.floats(0, 360, exclude_max=True), min_size=1))
def test_label_and_bin_agree(bins: int, azimuths: list[float]) -> None:
    azimuth = np.array(azimuths)
    centre = np.degrees(bin_centre(azimuth, bins))
    np.testing.assert_allclose(centre, azimuth_bin(azimuth, bins) * 360 / bins, atol=1e-9)
    distance = np.abs((centre - azimuth + 180) % 360 - 180)
    assert (distance <= 180 / bins + 1e-9).all()
