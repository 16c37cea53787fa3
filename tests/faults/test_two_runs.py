"""Two runs in one folder: one makes the results, the other is refused."""

import time
from random import Random

import pytest
from trial import Trial, repeated

pytestmark = pytest.mark.slow
COMMAND = ("snakemake", "--cores", "all", "--", "results")


@repeated(0.12)
def test_two_runs_of_snakemake(whole: Trial, rng: Random) -> None:
    whole.delete([*whole.steps["evaluate"].outputs, *whole.steps["report"].outputs])
    first = whole.start(COMMAND)
    time.sleep(rng.uniform(0, 3))
    second = whole.start(COMMAND)
    finished, refused = sorted((first.end(), second.end()), key=lambda run: run.code != 0)
    finished.finished()
    if refused.code != 0:  # else it found everything made
        assert "another run is at work" in refused.output
        assert "Traceback" not in refused.output
    whole.check()
