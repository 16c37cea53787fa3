"""How parameters are declared, and the kinds of values that recur among them.

A section is a frozen pydantic dataclass with `config=STRICT`; each field says its range and, in one sentence
with the unit, what it is. There are no defaults but for keys that params.yaml may leave out: DVC could not
see them.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

from spheremap.base.errors import did_you_mean

# unknown keys are errors; so are texts for numbers, 1.0 for 1, NaN and infinity
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, regex_engine="python-re")

T = TypeVar("T")


def _ascending(values: Any) -> Any:
    if values[0] > values[1]:
        raise ValueError("expected [least, most] in ascending order")
    return values


def _distinct(values: Any) -> Any:
    if len(set(values)) < len(values):
        raise ValueError("expected different values")
    return values


def need(ok: bool, expected: str) -> None:
    """Refuse a section whose keys do not fit together."""
    if not ok:
        raise ValueError(expected)


def one_of(name: str, names: Iterable[str], key: str, section: str) -> None:
    """Refuse a name that a section of params.yaml, or a folder, lacks."""
    advice = did_you_mean(name, names, f"expected one of {', '.join(names)}")
    need(name in names, f"{key} is {name!r}, which is not among {section}; {advice}")


Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
# becomes part of file names and of the shell's commands; in Python, $ alone would let a newline through
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)"
_WITHOUT_DOT = r"^[A-Za-z0-9][A-Za-z0-9_-]*$(?!\n)"
_SHA256 = r"^[0-9a-f]{64}$(?!\n)"
_ROOT = "^(?!~)[^{}]+$"  # Snakemake takes braces for wildcards, and ~ for a name
# pattern -> what messages say in its place
MEANING = {
    _NAME: "letters, digits, '.', '_' and '-', the first a letter or digit",
    _WITHOUT_DOT: "letters, digits, '_' and '-', the first a letter or digit",
    _SHA256: "64 digits of hexadecimal",
    _ROOT: "a path without braces that does not begin with ~",
}
Name = Annotated[str, Field(pattern=_NAME)]
Sha256 = Annotated[str, Field(pattern=_SHA256)]
Root = Annotated[str, Field(pattern=_ROOT)]
Ascending = Annotated[tuple[T, T], AfterValidator(_ascending)]
Distinct = Annotated[tuple[T, ...], Field(json_schema_extra={"uniqueItems": True}), AfterValidator(_distinct)]
Some = Annotated[
    tuple[T, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_distinct)
]
Named = Annotated[dict[Name, T], Field(json_schema_extra={"additionalProperties": False})]
# dvc.yaml asks for an entry by its name, and takes a dot for the way to a key
WithoutDot = Annotated[str, Field(pattern=_WITHOUT_DOT)]
NamedWithoutDot = Annotated[dict[WithoutDot, T], Field(json_schema_extra={"additionalProperties": False})]
Split = Literal["train", "val", "test"]
