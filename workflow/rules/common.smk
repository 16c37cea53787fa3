"""Checked parameters, their slices, and the places of files. Every rule file takes its names from here."""

import json
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

validate(config, "../schemas/params.schema.yaml", set_default=False)

DATASET = config["dataset"]
BACKBONE = config["features"]["backbone"]
for section, key, name in (
    ("datasets", "dataset", DATASET),
    ("backbones", "features.backbone", BACKBONE),
):
    if name not in config[section]:
        raise WorkflowError(
            f"params.yaml: {key} is {name!r}, expected one of {', '.join(config[section])} (the entries of {section!r})"
        )

SOURCE = config["datasets"][DATASET]
WEIGHTS = {key: config["backbones"][BACKBONE][key] for key in ("model", "weights")}

CANONICAL = f"data/{DATASET}/canonical"
FEATURES = f"data/{DATASET}/features"
BACKBONE_FILE = f"models/backbones/{BACKBONE}.safetensors"
MODEL = f"models/{DATASET}"
WORK = f".work/{DATASET}"  # what a killed run resumes from; outside all outputs, since DVC deletes those before it runs
TABLES = [f"{CANONICAL}/{name}.csv" for name in ("images", "keypoints", "pairs")]
SHARDS = config["features"]["shards"]


def cache_files(kind):
    return [f"{FEATURES}/{kind}-{shard}of{SHARDS}.h5" for shard in range(SHARDS)]


def params_slice(step, content, record):
    """Write what `step` may know of params.yaml to a JSON file and return its path: an input of the rule.

    The file is rewritten only when its content changes, so that only the steps concerned run again. `record` is the
    copy that the step leaves beside its output: if the slice is absent (a fresh clone) and the record says the same,
    the slice is dated back, so that outputs fetched by `dvc pull` count as up to date.
    """
    path = Path(WORK) / "params" / f"{step}.json"
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    if path.exists() and path.read_text() == text:
        return str(path)
    known = (
        not path.exists() and Path(record).exists() and Path(record).read_text() == text
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(text)
    if known:
        os.utime(partial, (1, 1))
    partial.replace(path)
    return str(path)


# shows progress in the terminal and keeps it in the log
TEE = "2> >(tee {log} >&2)"
