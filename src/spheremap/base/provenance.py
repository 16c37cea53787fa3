"""What an artifact was made from: the step, its parameters, the digests of its inputs and the versions used.

No time stamps and no host names: equal work gives equal bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spheremap.base.about import own_version
from spheremap.base.errors import ProvenanceError

_PACKAGES = ("torch", "timm", "numpy")


def provenance(
    step: str, params: Mapping[str, Any], inputs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Describe how an artifact is made.

    Args:
        step: name of the command that writes the artifact.
        params: its slice of the parameters.
        inputs: digests (or other identities) of what it reads, by role.
    """
    return {
        "step": step,
        "params": _plain(dict(params)),
        "params_sha256": digest(params),
        "inputs": dict(inputs or {}),
        "versions": {"spheremap": own_version(), **{package: version(package) for package in _PACKAGES}},
    }


def digest(obj: Any) -> str:
    """SHA-256 of an object's canonical JSON."""
    return hashlib.sha256(json.dumps(obj, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with its own digest in it."""
    return {**record, _SEAL: digest(record)}


def unseal(record: Any, *, where: Path, fix: str) -> dict[str, Any]:
    """The record that was given to `seal`.

    Raises:
        ProvenanceError: if it is none, or was changed since.
    """
    if not isinstance(record, dict) or _SEAL not in record:
        raise ProvenanceError(
            "not a sealed record", where=where, expected=f"a JSON object with the key {_SEAL!r}", fix=fix
        )
    content = {key: value for key, value in record.items() if key != _SEAL}
    if record[_SEAL] != digest(content):
        raise ProvenanceError(
            "the record was changed after it was written",
            where=where,
            expected=f"content of SHA-256 {str(record[_SEAL])[:12]}…",
            found=f"SHA-256 {digest(content)[:12]}…",
            fix=fix,
        )
    return content


_SEAL = "sealed"


def check_provenance(found: Mapping[str, Any], *, expected: Mapping[str, Any], where: Path, fix: str) -> None:
    """Compare what is expected with what an artifact says of itself; only the keys of `expected` count.

    Raises:
        ProvenanceError: naming every difference.
    """
    differences = _differences(_plain(found), _plain(expected), prefix="")
    if differences:
        raise ProvenanceError(
            "the file was made with other settings",
            where=where,
            expected="; ".join(f"{key} = {want}" for key, want, _ in differences),
            found="; ".join(f"{key} = {have}" for key, _, have in differences),
            fix=fix,
        )


def _plain(obj: Any) -> Any:
    """The object as it comes back from a file: tuples become lists."""
    return json.loads(json.dumps(obj))


def _differences(
    found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str
) -> list[tuple[str, Any, Any]]:
    result: list[tuple[str, Any, Any]] = []
    for key, want in expected.items():
        have = found.get(key, "nothing")
        if isinstance(want, Mapping) and isinstance(have, Mapping):
            result += _differences(have, want, f"{prefix}{key}.")
        elif have != want:
            result.append((f"{prefix}{key}", want, have))
    return result
