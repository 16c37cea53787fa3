"""A real Slurm of one node on this machine, of the packages slurm-wlm and munge, while a test needs it.

`python tests/support/slurm.py` keeps one up until Ctrl-C and says how to talk to it.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
PARTITION = "main"
GPUS = ("/dev/null", "/dev/zero")  # devices that the scheduler counts as GPUs

# No systemd, control groups or data base: finished jobs stay in squeue (MinJobAge, in seconds) and in a file.
CONF = """\
ClusterName=spheremap-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/finished.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_min_interval=100000,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=32000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName={partition} Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def obstacle() -> str | None:
    """Why no Slurm can be started here, or None."""
    if missing := [name for name in PROGRAMS if find(name) is None]:
        return f"{', '.join(missing)} not found; install slurm-wlm and munge"
    if os.geteuid() != 0:
        return "a Slurm of one's own is started as root"
    return None


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@dataclass
class Cluster:
    """How to talk to the Slurm under `folder`."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need to know, and what a job's environment then has."""
        return {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job that was ever submitted, as squeue tells: id, state, comment, GPUs and CPUs asked for."""
        fields = ("JobID", "State", "Comment", "tres-per-job", "cpus-per-task")
        layout = ",".join(f"{field}:200" for field in fields)
        lines = self.ask("squeue", "--states=all", "--noheader", f"--Format={layout}").splitlines()
        names = ("id", "state", "comment", "gpus", "cpus")
        return [
            {name: line[200 * i : 200 * (i + 1)].strip() for i, name in enumerate(names)} for line in lines
        ]

    def finished(self) -> list[dict[str, str]]:
        """Every job that has ended, from the file that Slurm's jobcomp/filetxt keeps."""
        lines = (self.folder / "finished.txt").read_text().splitlines()
        return [dict(field.split("=", 1) for field in line.split() if "=" in field) for line in lines]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def slurm(folder: Path) -> Iterator[Cluster]:
    """Run munged, slurmctld and slurmd, with all their files under `folder`, until the block ends.

    Raises:
        RuntimeError: with the daemons' logs, if the node is not ready within a minute.
    """
    folder = folder.resolve()
    host = socket.gethostname().split(".")[0]
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge/key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    controller_port, node_port = free_ports(2)
    conf = CONF.format(
        host=host,
        folder=folder,
        controller_port=controller_port,
        node_port=node_port,
        gpus=len(GPUS),
        partition=PARTITION,
    )
    (folder / "slurm.conf").write_text(conf)
    # Snakemake's jobs call srun without the variables of Slurm: it would look for /etc/slurm/slurm.conf
    srun = folder / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={shlex.quote(str(folder))}/slurm.conf exec {find("srun")} "$@"\n')
    srun.chmod(0o755)
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in GPUS))
    cluster = Cluster(folder)

    munge = [f"--{name}={folder}/munge/{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file")]
    munge += [f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed"]
    daemons = (
        # the folder may be anybody's, such as /tmp: munged is told that this is meant
        ["munged", "--foreground", "--force", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    )
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, *arguments in daemons:
            with (folder / f"{name}.out").open("wb") as out:
                running.append(
                    subprocess.Popen(
                        [find(name) or name, *arguments],
                        env=os.environ | cluster.environment,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
            if name == "munged":
                wait_for(lambda: (folder / "munge/socket").exists(), folder)
        wait_for(lambda: "idle" in cluster.ask("sinfo", "--noheader", "--format=%T"), folder)
        yield cluster
    finally:
        if len(running) == len(daemons) and all(daemon.poll() is None for daemon in running):
            subprocess.run(
                ["scancel", "--partition", PARTITION], env=os.environ | cluster.environment, timeout=60
            )
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline and cluster.ask("squeue", "--noheader"):
                time.sleep(0.2)
        for daemon in reversed(running):
            daemon.terminate()
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def wait_for(condition: Callable[[], bool], folder: Path, seconds: float = 60) -> None:
    """Wait until `condition()` is true; an answer that cannot be had yet counts as no."""
    deadline = time.monotonic() + seconds
    error = ""
    while True:
        try:
            if condition():
                return
        except RuntimeError as not_yet:
            error = str(not_yet)
        if time.monotonic() > deadline:
            logs = [
                f"== {path.name}\n{path.read_text()[-2000:]}"
                for path in sorted([*folder.glob("*.out"), *folder.glob("*.log")])
            ]
            raise RuntimeError("\n".join(["Slurm did not come up", error, *logs]))
        time.sleep(0.2)


if __name__ == "__main__":
    if reason := obstacle():
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as temporary, slurm(Path(temporary)) as up:
        print("ready; in another shell:", *(f"export {k}={v}" for k, v in up.environment.items()), flush=True)
        signal.sigwait([signal.SIGINT, signal.SIGTERM])
