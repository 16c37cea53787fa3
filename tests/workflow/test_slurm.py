"""The workflow on a real Slurm: jobs are submitted, killed, submitted again, and the bytes are the same."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from project import Project
from slurm import PARTITION, Cluster, obstacle, slurm
from tiny import TINY

pytestmark = pytest.mark.slow

# `auto`, so that GPUs are asked for; one thread in each job, as in the local run
PARAMS = TINY | {"device": "auto", "features.shards": 2}
ARGUMENTS = (
    "--workflow-profile", "slurm",
    "--set-threads", *(f"{rule}=1" for rule in ("render", "cache", "train", "evaluate")),
    "--latency-wait", "10",
    # what a site's profile says: its partition, and that it keeps no data base of jobs
    "--default-resources", "runtime=30", f"slurm_partition={PARTITION}",
    "--slurm-no-account",
    "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "5",  # 10 more each time that no job has ended
)  # fmt: skip
PRODUCTS = (
    "data/shapes/canonical/images.csv",
    "data/shapes/features/views-0of2.h5",
    "data/shapes/features/images-1of2.h5",
    "models/shapes/head.safetensors",
    "results/training/losses.csv",
    "results/metrics.json",
    "results/predictions.csv.gz",
    "results/report.html",
)
# beginning of the comment -> how many jobs there are, and how many GPUs and cores each asks for
SUBMITTED = {
    "rule_render": (1, 0, 1),
    "rule_cache": (4, 1, 1),
    "rule_index_cache_index": (1, 0, 2),  # both indices side by side
    "rule_train": (1, 1, 1),
    "rule_score_evaluate": (1, 1, 1),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := obstacle():
        pytest.skip(reason)
    with slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def kind(job: dict[str, str]) -> str:
    """The entry of SUBMITTED that a job belongs to."""
    (found,) = [name for name in SUBMITTED if job["comment"].startswith(name)]
    return found


def wait_for(what: str, found: Callable[[], bool], alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not found():
        assert alive(), f"the workflow ended before there was {what}"
        assert time.monotonic() < deadline, f"no {what} within ten minutes"
        time.sleep(0.1)


def test_killed_jobs_are_run_again_and_the_bytes_are_those_of_a_local_run(
    cluster: Cluster, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Project.copy(root, tmp_path / "local", PARAMS)
    meanwhile = local.start("snakemake", "--cores", "1", warm=True)

    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    project = Project.copy(root, tmp_path / "project", PARAMS)
    run = project.start("snakemake", *ARGUMENTS, warm=True)

    def alive() -> bool:
        return run.poll() is None

    try:
        # one shard's command dies as by the kernel's hand, training as by the administrator's
        victims: list[psutil.Process] = []

        def shard_runs() -> bool:
            victims.extend(commands(project, "cache"))
            return bool(victims)

        wait_for("a command that fills a shard", shard_runs, alive)
        victims[0].kill()

        cancelled: list[str] = []

        def training_runs() -> bool:
            cancelled.extend(
                job["id"] for job in cluster.jobs() if (kind(job), job["state"]) == ("rule_train", "RUNNING")
            )
            return bool(cancelled)

        wait_for("a job that trains", training_runs, alive)
        cluster.ask("scancel", cancelled[0])
        code = run.wait(timeout=900)
    finally:
        for process in [*psutil.Process(run.pid).children(recursive=True), run] if alive() else []:
            process.kill()
        alone = meanwhile.wait(timeout=900)
    log = "\n".join(path.read_text() for path in (project.folder / ".snakemake/log").glob("*.log"))
    assert code == 0, log

    assert alone == 0
    assert project.bytes_of(*PRODUCTS) == local.bytes_of(*PRODUCTS)

    jobs = cluster.jobs()
    completed = [kind(job) for job in jobs if job["state"] == "COMPLETED"]
    assert {name: completed.count(name) for name in SUBMITTED} == {
        n: count for n, (count, _, _) in SUBMITTED.items()
    }
    lost = [(kind(job), job["state"]) for job in jobs if job["state"] != "COMPLETED"]
    assert sorted(lost) == [("rule_cache", "FAILED"), ("rule_train", "CANCELLED")]
    assert {job["id"] for job in jobs if job["state"] == "CANCELLED"} == set(cancelled)
    for job in jobs:
        _, gpus, cores = SUBMITTED[kind(job)]
        assert job["cpus"] == str(cores)
        assert job["gpus"] == ("gres:gpu:1" if gpus else "N/A")

    # Slurm's own record of what has ended agrees
    ended = {job["JobId"]: job["JobState"] for job in cluster.finished()}
    assert ended == {job["id"]: job["state"] for job in jobs}

    output = project.run("snakemake", *ARGUMENTS)
    assert "Nothing to be done" in output
    assert len(cluster.jobs()) == len(jobs)


def commands(project: Project, name: str) -> list[psutil.Process]:
    """Processes of `spheremap NAME` in the project."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if (
                "spheremap" in " ".join(words[:3])
                and name in words[1:4]
                and process.cwd() == str(project.folder)
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended, or is not ours
    return found
