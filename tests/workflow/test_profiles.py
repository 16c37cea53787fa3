"""What the profiles of workflow/profiles ask of a cluster."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer
from pods import Pods, api_server
from project import Project
from tiny import TINY

PREFIX = "s3://maps/tiny"
KEYS = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "an-access-key", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "a-secret-key"}


def profile(root: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((root / "workflow/profiles" / name / "config.yaml").read_text())


def rules(root: Path) -> dict[str, str]:
    """Text of each rule by its name."""
    text = "\n".join(path.read_text() for path in sorted((root / "workflow/rules").glob("*.smk")))
    parts = re.split(r"^ *rule (\w+):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def planned(plan: str) -> dict[str, list[dict[str, str]]]:
    """Threads and resources of each job of a plan (`snakemake -n`), by rule."""
    jobs: dict[str, list[dict[str, str]]] = {}
    blocks = re.split(r"^ *(?:local)?rule (\w+):$", plan, flags=re.MULTILINE)
    for name, text in zip(blocks[1::2], blocks[2::2], strict=True):
        fields = dict(re.findall(r"^ +(threads|resources): (.*)$", text, re.MULTILINE))
        resources = dict(entry.split("=", 1) for entry in fields.get("resources", "").split(", ") if entry)
        jobs.setdefault(name, []).append(resources | {"threads": fields.get("threads", "1")})
    return jobs


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_profiles_know_every_large_rule(name: str, root: Path) -> None:
    """What takes a whole machine when there is one cannot know how large another is."""
    settings, known = profile(root, name), rules(root)
    large = {rule for rule, text in known.items() if "CORES" in text}
    assert settings["set-threads"].keys() == large
    assert settings.get("set-resources", dict.fromkeys(large)).keys() == large
    assert settings["groups"].keys() <= known.keys()
    assert settings["group-components"].keys() <= set(settings["groups"].values())
    small = {"data", "results", "features", "fitted", "curves", "slice"}  # run nothing, or copy files
    assert {rule for rule, text in known.items() if "mem_mb=" not in text} == small


@pytest.mark.parametrize("device", ["auto", pytest.param("cpu", marks=pytest.mark.slow)])
def test_slurm_plan_asks_for_gpus_cores_and_time(root: Path, tmp_path: Path, device: str) -> None:
    project = Project.copy(root, tmp_path / "project", TINY | {"device": device, "features.shards": 2})
    jobs = planned(project.run("snakemake", "-n", "--workflow-profile", "slurm", "--cores", "64"))
    gpu = {"gpu": "1" if device == "auto" else "0"}
    assert len(jobs["cache"]) == 4
    wanted = {"threads": "8", "runtime": "240", "mem_mb": "6000"} | gpu
    assert all(wanted.items() <= job.items() for job in jobs["cache"])
    assert ({"threads": "8", "runtime": "1440"} | gpu).items() <= jobs["train"][0].items()
    assert gpu.items() <= jobs["evaluate"][0].items()
    assert "gpu" not in jobs["render"][0]
    assert jobs["report_page"][0]["runtime"] == "30"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an empty S3 server on loopback, which Snakemake is told as a user would."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    for name, value in (KEYS | {"SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": address}).items():
        monkeypatch.setenv(name, value)
    yield address
    server.stop()


def kubernetes(project: Project, *arguments: str, ok: bool = True) -> str:
    storage = ("--default-storage-prefix", PREFIX)
    # not as a fork: the library has read where its settings are when it was loaded
    often = ("--seconds-between-status-checks", "1")
    return project.run(
        "snakemake", "--workflow-profile", "kubernetes", *storage, *often, *arguments, ok=ok, warm=False
    )


@pytest.mark.slow
def test_kubernetes_plan_passes_every_file_through_the_bucket(root: Path, tmp_path: Path, s3: str) -> None:
    project = Project.copy(root, tmp_path / "project", TINY | {"device": "auto"})
    plan = kubernetes(project, "-n", "--cores", "64")
    jobs = planned(plan)
    assert {"threads": "8", "gpu": "1", "gpu_manufacturer": "nvidia"}.items() <= jobs["train"][0].items()
    lines = re.findall(r"^ +(?:input|output): (.*)$", plan, re.MULTILINE)
    files = [entry.strip() for line in lines for entry in line.split(",")]
    stored = re.compile(rf"{PREFIX}/.*(\(send to storage\)|from storage)")
    outside = [entry for entry in files if not stored.match(entry)]
    assert all(re.fullmatch(r"\.work/shapes/params/[\w-]+\.json", entry) for entry in outside), outside
    assert len(outside) == len(jobs["slice"])


@pytest.mark.slow
def test_a_data_set_that_a_bucket_does_not_carry_is_refused(root: Path, tmp_path: Path, s3: str) -> None:
    project = Project.copy(root, tmp_path / "project", TINY | {"dataset": "spair-71k"})
    output = kubernetes(project, "-n", ok=False)
    assert "datasets.spair-71k cannot pass through a storage" in output
    assert "'root' be the absolute path" in output


@pytest.mark.slow
def test_pods_that_share_nothing_give_the_scores_of_a_local_run(
    root: Path, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Project.copy(root, tmp_path / "local", TINY)
    meanwhile = local.start("snakemake", "--cores", "1", warm=True)
    project = Project.copy(root, tmp_path / "project", TINY)
    environment = project.warm_environment()
    environment["PATH"] = f"{no_pip(tmp_path)}:{environment['PATH']}"
    environment = {name: value for name, value in environment.items() if name not in KEYS}
    with api_server(tmp_path / "pods", environment) as (pods, config):
        monkeypatch.setenv("KUBECONFIG", str(config))
        threads = [f"{rule}=1" for rule in ("render", "cache", "train", "evaluate")]
        try:
            kubernetes(project, "--set-threads", *threads, "--container-image", "example.org/spheremap:1")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{pods.logs()}") from error
        check_pods(pods)
    assert meanwhile.wait(timeout=600) == 0
    store = boto3.client(
        "s3",
        endpoint_url=s3,
        aws_access_key_id=KEYS["SNAKEMAKE_STORAGE_S3_ACCESS_KEY"],
        aws_secret_access_key="any",
        region_name="us-east-1",
    )
    for name in ("results/metrics.json", "results/predictions.csv.gz", "results/training/losses.csv"):
        body = store.get_object(Bucket="maps", Key=f"tiny/{name}")["Body"].read()
        assert body == (local.folder / name).read_bytes(), name
    assert not (project.folder / "results").exists()


def check_pods(pods: Pods) -> None:
    """One pod for the pictures, two for shards, one for indices, one for training, one for scores and page.

    The keys of the bucket come to them as secrets of the cluster, not in their commands.
    """
    assert len(pods.created) == 6
    containers = [job["spec"]["template"]["spec"]["containers"][0] for job in pods.created]
    assert {container["image"] for container in containers} == {"example.org/spheremap:1"}
    for container in containers:
        assert not any(value in " ".join(container["args"]) for value in KEYS.values())
        assert set(KEYS) <= {entry["name"] for entry in container["env"]}


def no_pip(folder: Path) -> Path:
    """A folder whose `pip` does nothing: pods fetch the storage plugin with it, which the image has."""
    path = folder / "bin/pip"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path.parent
