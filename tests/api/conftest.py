"""A small project, its bundle and its matcher."""

import pytest
from studio import Studio, make_studio

from spheremap.api import Matcher, load


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return make_studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="session")
def matcher(studio: Studio) -> Matcher:
    return load(studio.bundle, device="cpu")
