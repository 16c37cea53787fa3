"""A small project, its bundle and its matcher."""

import pytest
from studio import Studio

from spheremap.api.matcher import Matcher, load


@pytest.fixture(scope="session")
def matcher(studio: Studio) -> Matcher:
    return load(studio.bundle, device="cpu")
