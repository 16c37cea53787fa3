"""The record of a results folder: whether its files are those that one evaluation wrote.

`provenance.json` is sealed and holds the SHA-256 of every other file of the evaluation, so that files of two
runs do not pass for one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import read_json, sha256_file
from spheremap.base.provenance import unseal
from spheremap.metrics.results import PROVENANCE

RERUN = "run `snakemake --cores all` to make the results again"


def read_record(results: Path) -> dict[str, Any]:
    """The record of a results folder; its key `files` maps names to SHA-256.

    Raises:
        InputError: if there is none.
        ProvenanceError: if it is not as it was written.
    """
    path = results / PROVENANCE
    if not path.exists():
        raise InputError(
            "the results have no record of the evaluation that wrote them",
            where=results,
            expected=f"{PROVENANCE} beside metrics.json",
            found="no such file",
            fix=f"bring the whole folder of the evaluation, or {RERUN}",
        )
    record = unseal(read_json(path, fix=RERUN), where=path, fix=RERUN)
    if not isinstance(record.get("files"), dict):
        raise ProvenanceError(
            "not the record of an evaluation", where=path, expected="an entry 'files'", fix=RERUN
        )
    return record


def check_files(expected: Mapping[Path, str]) -> None:
    """Compare files with the SHA-256 that they were written with.

    Raises:
        InputError: if one is missing.
        ProvenanceError: if one was changed or is of another run.
    """
    for file, sha256 in expected.items():
        if (found := sha256_of(file)) != sha256:
            raise ProvenanceError(
                "a file of results is not as it was written: changed, or of another run",
                where=file,
                expected=f"SHA-256 {sha256[:12]}…",
                found=f"SHA-256 {found[:12]}…",
                fix=f"delete the file and {RERUN}",
            )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file that results need.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return sha256_file(path)
    except OSError as error:
        raise InputError(
            "cannot read a file of results", where=path, found=error.strerror or str(error), fix=RERUN
        ) from error
