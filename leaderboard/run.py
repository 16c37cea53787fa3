"""Run every method on the data sets that lie on this machine, and enter the scores (`make leaderboard`).

Works in a project of its own, `.work/leaderboard`, so that nothing of the clone's results changes. What is to
run stands in runs.yaml. A killed run goes on where it stopped; a new commit starts anew.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmark_table import enter, run_rows
from pages import write_pages

from spheremap.base.template import lay_project, project_files
from spheremap.config.presets import apply_preset
from spheremap.config.slices import read_params

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / ".work" / "leaderboard"
CODE = ("src", "workflow", "presets", "leaderboard/run.py")
SETTINGS = ("params.yaml", "requirements.txt", "leaderboard/runs.yaml")
KEPT = ("metrics.json", "scores.csv", "predictions.csv.gz", "provenance.json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, and write table and page."""
    runs = yaml.safe_load((Path(__file__).parent / "runs.yaml").read_text())
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--datasets", nargs="+", default=list(runs["data_sets"]), choices=list(runs["data_sets"])
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=runs["seeds"])
    args = parser.parse_args(arguments)

    if changed := _git("status", "--porcelain", "--", *CODE, *SETTINGS):
        parser.error(f"every line names the commit that made it: commit these changes first\n{changed}")
    commit = _git("rev-parse", "--short=12", "HEAD")
    results = PROJECT / "collected" / commit
    params = _lay_project()
    chosen = [name for name in args.datasets if _lies_here(name, runs["data_sets"][name], params)]
    for name in chosen:
        if (trained_on := runs["data_sets"][name].get("trained_on", name)) not in chosen:
            parser.error(f"{name} is scored with the head of {trained_on}: name that as well")
    # a head of another data set is at hand right after it was trained
    trains = [name for name in chosen if "trained_on" not in runs["data_sets"][name]]
    for seed in args.seeds:
        for name in trains:
            guests = [other for other in chosen if runs["data_sets"][other].get("trained_on") == name]
            wanted = {other: results / other / str(seed) for other in (name, *guests)}
            if all(folder.exists() for folder in wanted.values()):
                continue
            _settings(name, seed, runs, params)
            _call("snakemake", "--cores", "all", "--quiet", "rules")
            _keep(PROJECT / "results", wanted[name])
            for guest in guests:
                _call("spheremap", "bundle", "--out", "head.spheremap")
                _settings(name, seed, runs, params, leave_out=runs["data_sets"][guest].get("leave_out", []))
                _call(
                    "spheremap", "evaluate", "--model", "head.spheremap", "--dataset", guest, "--out", "guest"
                )
                _keep(PROJECT / "guest", wanted[guest])
    for name in chosen:
        kept = sorted(folder for folder in (results / name).glob("*") if folder.name.isdigit())
        folders = {int(folder.name): folder for folder in kept}
        if folders:
            trained_on = runs["data_sets"][name].get("trained_on", name)
            enter(name, run_rows(name, trained_on, folders, commit, runs))
    write_pages()


def _lay_project() -> dict[str, Any]:
    """Lay the project, with the clone's parameters and raw data, and return its parameters."""
    for name in project_files():
        if (PROJECT / name).is_dir():
            shutil.rmtree(PROJECT / name)
    lay_project(PROJECT)
    raw = PROJECT / "data" / "raw"
    if not raw.is_symlink():
        (ROOT / "data" / "raw").mkdir(exist_ok=True)
        raw.parent.mkdir(exist_ok=True)
        raw.symlink_to(ROOT / "data" / "raw")
    return read_params(ROOT / "params.yaml")


def _lies_here(name: str, entry: dict[str, Any], params: dict[str, Any]) -> bool:
    """Whether the data set's files are on this machine; drawn ones always are."""
    source = entry.get("entry") or params["datasets"][name]
    found = source["layout"] == "shapes" or (ROOT / source["root"]).is_dir()
    if not found:
        print(f"{name}: left out, since {source['root']} is not here", file=sys.stderr)
    return found


def _settings(
    name: str, seed: int, runs: dict[str, Any], params: dict[str, Any], leave_out: Sequence[str] = ()
) -> None:
    """Write params.yaml of the project: the clone's, the presets, the data set, the methods and the seed."""
    own = {key: entry["entry"] for key, entry in runs["data_sets"].items() if "entry" in entry}
    chosen = params | {"dataset": name, "datasets": params["datasets"] | own}
    path = PROJECT / "params.yaml"
    path.write_text(yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True))
    for preset in runs["data_sets"][name]["presets"]:
        apply_preset(PROJECT / "presets" / f"{preset}.yaml", path)
    chosen = read_params(path)
    chosen["dataset"] = name
    chosen["train"]["seed"] = seed
    chosen["evaluate"]["methods"] = [
        method for method in chosen["evaluate"]["methods"] if method not in leave_out
    ]
    for method in chosen["methods"].values():
        if "seed" in method and "steps" in method:
            method["seed"] = seed
    path.write_text(yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True))


def _call(*command: str) -> None:
    print("$", *command, file=sys.stderr, flush=True)
    subprocess.run(command, cwd=PROJECT, check=True)


def _keep(results: Path, folder: Path) -> None:
    if folder.exists():
        return
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT / "params.yaml", part / "params.yaml")
    for name in KEPT:
        shutil.copyfile(results / name, part / name)
    part.replace(folder)


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
