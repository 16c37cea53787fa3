"""Sharing through DVC's remotes: a folder, a real S3 server and a real SSH server, all on this machine."""

import contextlib
import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from project import Project, stages_run
from tiny import TINY

FEATURES = "data/shapes/features"
HEAD = "models/shapes/head.safetensors"
REPORT = "results/report.html"
PUSHED = (
    HEAD,
    REPORT,
    "results/predictions.csv.gz",
    "data/shapes/canonical/images.csv",
    "models/backbones/tiny.safetensors",
)
LOOK = ("dvc", "repro", "--pull", "--allow-missing")
PULL = ("dvc", "pull", "data", "weights", "train", "fit", "evaluate")  # all that is pushed
SECRET = "hunter2hunter2"


@dataclass
class Remote:
    """A remote's settings for DVC, and how to list and spoil what it holds."""

    url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None  # where the objects lie, if they are files of this machine
    listing: Callable[[], set[str]] | None = None

    def use(self, project: Project) -> None:
        """Make it the project's default remote, with what DVC keeps out of Git."""
        lines = ["[core]", "remote = store", "['remote \"store\"']", f"url = {self.url}", "verify = true"]
        lines += [f"{key} = {value}" for key, value in self.settings.items()]
        (project.folder / ".dvc" / "config.local").write_text("\n".join(lines) + "\n")

    def objects(self) -> set[str]:
        """Digests of all objects."""
        if self.listing is not None:
            return self.listing()
        assert self.folder is not None
        return {digest(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


def digest(path: Path) -> str:
    """The digest in the name of an object, files/md5/ab/cdef…"""
    return "".join(path.parts[-2:])


def locked(project: Project) -> dict[str, str]:
    """MD5 of each output, as dvc.lock has it."""
    stages = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"].values()
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}


def cached(project: Project, without: str = "") -> set[str]:
    """Digests of what is in the project's cache, except the contents of one folder and what Git keeps."""
    cache = project.folder / ".dvc" / "cache" / "files" / "md5"
    found = {digest(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}
    in_git = project.run("git", "ls-files").split()
    folders = {path: listing for path, listing in locked(project).items() if listing.endswith(".dir")}
    held = {
        path: {entry["md5"] for entry in json.loads((cache / listing[:2] / listing[2:]).read_text())}
        for path, listing in folders.items()
    }
    excluded = held.pop(without) | {folders[without]} if without else set()
    for path in [path for path in held if any(name.startswith(f"{path}/") for name in in_git)]:
        excluded |= held.pop(path) | {folders[path]}
    # the training curves are in Git, and once more beside the head
    kept = {md5 for path, md5 in locked(project).items() if path in in_git} - set().union(*held.values())
    return found - excluded - kept


def clone(project: Project, folder: Path, remote: Remote) -> Project:
    project.run("git", "clone", "--quiet", str(project.folder), str(folder))
    other = Project(folder)
    remote.use(other)
    return other


# --- the three kinds ----------------------------------------------------------------------------------------


def folder_remote(tmp_path: Path) -> Remote:
    return Remote(str(tmp_path / "remote"), folder=tmp_path / "remote")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def serving(port: int, *command: str) -> Iterator[None]:
    """A server that answers on the port while the block runs."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 120
            while True:
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                assert time.monotonic() < deadline, f"{command[0]} does not answer"
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def s3_remote(tmp_path: Path) -> Iterator[Remote]:
    import boto3

    port = free_port()
    # the command of that name, whatever its interpreter's folder
    server = "import sys; from moto.server import main; sys.exit(main())"
    with serving(port, sys.executable, "-W", "ignore", "-c", server, "-H", "127.0.0.1", "-p", str(port)):
        address = f"http://127.0.0.1:{port}"
        settings = {"access_key_id": "someone", "secret_access_key": SECRET, "region": "us-east-1"}
        client = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="someone",
            aws_secret_access_key=SECRET,
        )  # fmt: skip
        client.create_bucket(Bucket="bucket")

        def listing() -> set[str]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="store/files/")
            return {digest(Path(entry["Key"])) for page in pages for entry in page.get("Contents", [])}

        yield Remote("s3://bucket/store", {"endpointurl": address, **settings}, listing=listing)


@contextlib.contextmanager
def ssh_remote(tmp_path: Path) -> Iterator[Remote]:
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if sshd is None:
        pytest.skip("no sshd here (Debian: apt-get install openssh-server)")
    if os.getuid() == 0:  # sshd asks for this folder, which the system's service would make
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port, home = free_port(), tmp_path / "ssh"
    home.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    lines = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": home / "host",
        "AuthorizedKeysFile": home / "user.pub",
        "PidFile": home / "pid",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "StrictModes": "no",  # temporary folders lie below one that all may write to
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    config = home / "config"
    config.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    folder = tmp_path / "remote"
    url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder}"
    with serving(port, sshd, "-D", "-e", "-f", str(config)):
        yield Remote(url, {"keyfile": str(home / "user")}, folder=folder)


KINDS = {"s3": s3_remote, "ssh": ssh_remote}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(project: Project, tmp_path: Path, kind: str) -> None:
    """What is pushed comes back in another clone, where nothing needs to run again."""
    with KINDS[kind](tmp_path) as remote:
        remote.use(project)
        output = project.run("dvc", "push", "--verbose")
        assert remote.objects() == cached(project, without=FEATURES)

        other = clone(project, tmp_path / "clone", remote)
        looked = other.run(*LOOK, "--verbose")
        assert stages_run(looked) == []
        assert "up to date" in looked
        output += looked + other.run(*PULL, "--verbose")
        assert other.bytes_of(*PUSHED) == project.bytes_of(*PUSHED)
        assert not (other.folder / FEATURES).exists()
        assert stages_run(other.run(*LOOK)) == []
        assert SECRET not in output
        assert other.run("git", "status", "--short") == ""


# --- faults -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_corrupted_object_is_noticed(project: Project, tmp_path: Path) -> None:
    remote = folder_remote(tmp_path)
    remote.use(project)
    project.run("dvc", "push", "--quiet")
    entries = Path(".dvc/cache/files/md5")
    md5 = locked(project)[HEAD]
    name = Path(md5[:2], md5[2:])
    assert remote.folder is not None
    damaged = remote.folder / "files/md5" / name
    damaged.chmod(0o644)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)

    other = clone(project, tmp_path / "clone", remote)
    assert HEAD in other.run(*PULL, ok=False)
    assert not (other.folder / HEAD).exists()
    assert not (other.folder / entries / name).exists()

    # who has it right puts it there again; `dvc push` would not, since DVC remembers that it did
    damaged.unlink(missing_ok=True)
    shutil.copyfile(project.folder / entries / name, damaged)
    other.run(*PULL)
    assert other.bytes_of(HEAD) == project.bytes_of(HEAD)


# --- working together ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_people_work_on_one_project(made: Project, tmp_path: Path) -> None:
    remote, first = folder_remote(tmp_path), Project(tmp_path / "first")
    shutil.copytree(made.folder, first.folder, symlinks=True)
    remote.use(first)
    first.run("dvc", "push", "--quiet")

    # the second one looks at the report, and trains with another seed
    second = clone(first, tmp_path / "second", remote)
    second.run(*PULL)
    assert "</html>" in (second.folder / REPORT).read_text()
    assert not (second.folder / FEATURES).exists()
    assert stages_run(second.run(*LOOK)) == []
    second.edit({"train.seed": 1})
    output = second.run("dvc", "repro", "--pull")
    assert stages_run(output) == ["features", "train", "fit", "evaluate"]
    assert locked(second)[FEATURES] == locked(first)[FEATURES]  # made anew, in the same bytes
    changed = json.loads(second.run("dvc", "metrics", "diff", "--json"))
    assert "results/pck/sphere.json" in changed
    assert "results/pck/features.json" not in changed
    second.run("git", "checkout", "--quiet", "-b", "another-seed")
    second.commit("Another seed")
    second.run("dvc", "push", "--quiet")

    # the first one takes that over
    first.run("git", "pull", "--quiet", str(second.folder), "another-seed")
    first.run("dvc", "pull")  # the features are in its cache
    assert first.bytes_of(*PUSHED) == second.bytes_of(*PUSHED)
    assert stages_run(first.run("dvc", "repro")) == []


# --- settings -----------------------------------------------------------------------------------------------


def test_credentials_stay_out_of_git(root: Path, tmp_path: Path) -> None:
    project = Project.copy(root, tmp_path / "project", TINY)
    Remote("s3://bucket/store", {"secret_access_key": SECRET}).use(project)
    assert project.run("git", "status", "--short") == ""  # nothing that could be committed
    assert SECRET in (project.folder / ".dvc/config.local").read_text()
    assert not re.search(r"key|password|remote", (root / ".dvc/config").read_text())
