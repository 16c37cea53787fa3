"""Whom a data set, weights or the method owe something, as bundles carry it."""

from collections.abc import Iterable

from pydantic.dataclasses import dataclass

from spheremap.base.about import HOMEPAGE, LICENCE, PAPER
from spheremap.config.fields import STRICT, Text


@dataclass(frozen=True, config=STRICT)
class Credit:
    """Terms of one part of a result.

    Attributes:
        part: what it is, such as "data set spair-71k".
        licence: as far as it is stated.
        citation: what to cite.
        homepage: where it is from.
    """

    part: Text
    licence: Text
    citation: Text
    homepage: str

    def __str__(self) -> str:
        labelled = (("licence", self.licence), ("please cite", self.citation), ("see", self.homepage))
        return "\n".join([self.part, *(f"  {label}: {text}" for label, text in labelled if text)])


METHOD = Credit("method and spheremap", LICENCE, PAPER, HOMEPAGE)


def listed(credits: Iterable[Credit]) -> str:
    """Credits one below the other."""
    return "\n".join(map(str, credits))
