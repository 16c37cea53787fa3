"""Checked parameters, their slices, and the places of files. Every rule file takes its names from here."""

import fcntl
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from spheremap.config.methods import companions_of, entries_of, learning


def own_weights(entry):
    """The file of weights that the user keeps, to be watched for changes."""
    path = entry.get("path") if entry.get("source", "file") == "file" else None
    return [path] if path and Path(path).is_file() else []


DATASET = config["dataset"]
BACKBONE = config["features"]["backbone"]
SOURCE = config["datasets"][DATASET]
GROUPS = SOURCE.get("keypoint_groups")  # of the evaluation's concern alone
LAYOUT = {key: value for key, value in SOURCE.items() if key != "keypoint_groups"}
WEIGHTS = {key: config["backbones"][BACKBONE][key] for key in ("model", "weights")}
# single files of the user's own that are read, by what they are
OWN_GROUPS = [GROUPS] if GROUPS and Path(GROUPS).is_file() else []
OWN_WEIGHTS = own_weights(WEIGHTS["weights"])
OWN_MASK_WEIGHTS = own_weights(SOURCE.get("masks", {}).get("weights", {}))

CANONICAL = f"data/{DATASET}/canonical"
FEATURES = f"data/{DATASET}/features"
BACKBONE_FILE = f"models/backbones/{BACKBONE}.safetensors"
MODEL = f"models/{DATASET}"
WORK = f".work/{DATASET}"  # what a killed run resumes from; outside all outputs, since DVC deletes those before it runs
TABLES = [
    f"{CANONICAL}/{name}.csv" for name in ("images", "keypoints", "pairs", "pictures")
]
SHARDS = config["features"]["shards"]

# Threads of a job that takes a whole machine: those of this run. An executor that sends jobs elsewhere is given no
# `--cores`; how many there are there, its profile says (`set-threads`).
CORES = workflow.resource_settings.cores or 1
# asked of executors that hand out GPUs; on one machine nobody counts them
GPU = 0 if config["device"] == "cpu" else 1

# Where jobs share no work directory, inputs and outputs pass through a storage (`default-storage-provider`)
STORAGE = workflow.storage_settings.default_storage_provider is not None
if STORAGE and SOURCE["layout"] != "shapes":
    if "download" in SOURCE or not Path(SOURCE["root"]).is_absolute():
        raise WorkflowError(
            f"params.yaml: datasets.{DATASET} cannot pass through a storage, which only carries what rules declare. "
            "Put its files on a volume that every job sees, and let 'root' be the absolute path there, without 'download' "
            "(docs/cluster.md)"
        )
# what `provenance.json` speaks for in a shared work directory, and what must travel itself elsewhere
PICTURES = (
    [f"{CANONICAL}/images", f"{CANONICAL}/masks"]
    if STORAGE and SOURCE["layout"] == "shapes"
    else []
)


def shard_files(kind):
    return [f"{FEATURES}/{kind}-{shard}of{SHARDS}.h5" for shard in range(SHARDS)]


def cache_files(kind):
    """The index of a cache, which commands are given, and the shards, which must lie beside it."""
    return [f"{FEATURES}/{kind}.h5", *shard_files(kind)]


# used with `--software-deployment-method conda`; it holds everything but spheremap itself, found in src/ then
ENVIRONMENT = "../../environment.yml"


def params_slice(step, content, record=None):
    """Write what `step` may know of params.yaml to a JSON file and return its path: an input of the rule.

    The file is named after its content and never changes: a job that runs keeps its own, whatever happens to
    params.yaml meanwhile, and other parameters are another input, so that the steps concerned run again whatever
    the clock says. `record` is the copy that the step leaves beside its output: if it says the same and the slice is
    absent (a fresh clone), the slice is dated back, so that outputs fetched by `dvc pull` count as up to date; if it
    says something else, the slice is dated after it. Steps whose outputs DVC does not keep leave no record.
    """
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = Path(WORK) / "params" / f"{step}-{name}.json"
    recorded = None
    if record is not None and Path(record).exists():
        recorded = Path(record).read_text().strip() == text.strip()
    if not path.exists() or path.read_text().strip() != text.strip():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(text)
        if recorded:
            os.utime(partial, (1, 1))
        partial.replace(path)
    elif recorded is False and workflow.is_main_process:
        # Snakemake may remember this slice for outputs that `dvc checkout` has replaced by older ones: blanks that
        # were never there make it another one
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(text + f"{time.time_ns():b}".translate({48: 32, 49: 9}))
        partial.replace(path)
    if recorded is False:
        past = Path(record).stat().st_mtime
        if path.stat().st_mtime <= past:
            later = max(time.time(), past + 1)
            os.utime(path, (later, later))
    return str(path)


def check_folder(params, record):
    """Refuse a folder that is not there, unless its tables are made: before they are removed to be made anew."""
    made = (
        Path(record).exists()
        and Path(record).read_text().strip() == Path(params).read_text().strip()
    )
    # on a volume that other machines see, perhaps
    if not (made or STORAGE or "download" in SOURCE or Path(SOURCE["root"]).is_dir()):
        raise WorkflowError(
            f"params.yaml: datasets.{DATASET}.root is {SOURCE['root']!r}, expected the folder of the data set; "
            "correct the path"
        )


HELD = []  # the lock of this run, freed by the kernel when it ends, for whatever reason


def hold_folder():
    """Let one run at a time work in this folder: two would delete what the other reads.

    Snakemake's own lock is off (profile), since it outlives a killed run.
    """
    path = Path(".work/lock")
    path.parent.mkdir(exist_ok=True)
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(
            f"another run is at work in {Path.cwd()} (it holds {path}); wait for its end, then run the same command "
            "again"
        )
    HELD.append(lock)


def downloads(entry):
    """Names of the downloads that a data set needs, those of the one it borrows from included."""
    names = list(entry.get("download", []))
    if entry.get("borrow"):
        names += [
            name for name in downloads(entry["borrow"]["entry"]) if name not in names
        ]
    return names


# `logged FILE COMMAND...` shows what a command says on its way in the terminal and keeps it in the log;
# `together N ARGUMENTS...` is `spheremap ARGUMENTS...` in N processes; torchrun would leave empty logs in /tmp
shell.prefix(
    "set -euo pipefail; "
    'command -v spheremap > /dev/null || {{ export PYTHONPATH=src; spheremap() {{ python -m spheremap "$@"; }}; }}; '
    'together() {{ if [ "$1" -gt 1 ]; then torchrun --standalone --log-dir /dev/null --nproc-per-node "$1" -m spheremap "${{@:2}}"; '
    'else spheremap "${{@:2}}"; fi; }}; '
    'logged() {{ "${{@:2}}" 2> >(tee "$1" >&2); }}; '
)
