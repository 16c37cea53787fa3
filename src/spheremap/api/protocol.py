"""How photographs are shown to the network and places read from its answers, as the evaluation does it."""

import dataclasses

from pydantic.dataclasses import dataclass

from spheremap.config import Params
from spheremap.config.backbone import Fit
from spheremap.config.fields import STRICT, Positive
from spheremap.config.scoring import Odd, ReadoutKind, Sampling
from spheremap.config.slices import parse
from spheremap.methods.engine.readout import Readout


@dataclass(frozen=True, config=STRICT)
class Protocol:
    """The settings of params.yaml that matches depend on; docs/protocols.md says who published with which.

    Attributes:
        fit: how a photograph becomes the square input, `features.fit`.
        source: which tokens describe a point of the source, `evaluate.source`.
        readout: how a place is read from similarities, `evaluate.readout`.
        window: odd side of the read-out's window, in patches.
        temperature: of its soft-argmax.
        sigma: standard deviation of the Gaussian of the read-out "kernel", in patches.
    """

    fit: Fit = "pad"
    source: Sampling = "patch"
    readout: ReadoutKind = "argmax"
    window: Odd = 15
    temperature: Positive = 0.02
    sigma: Positive = 7.0

    @classmethod
    def of(cls, params: Params) -> "Protocol":
        """That of params.yaml."""
        own = params.evaluate
        return cls(params.features.fit, own.source, own.readout, own.window, own.temperature, own.sigma)

    def make_readout(self) -> Readout:
        """The read-out that these settings describe."""
        return Readout(self.readout, self.window, self.temperature, self.sigma)

    def changed(self, **settings: str | int | float | None) -> "Protocol":
        """The same with other settings; None keeps one.

        Raises:
            InputError: if a value is none of its setting's.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        changed: Protocol = parse({**dataclasses.asdict(self), **given}, Protocol, where=", ".join(given))
        return changed
