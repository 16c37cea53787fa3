"""Places between patches: a soft-argmax of all patches under a Gaussian about the best one.

Source: Lee et al., SFNet, CVPR 2019, section 3.2; INSID3 (Cuttano et al., CVPR 2026) and MARCO (2026) read
places so. Written anew from the formula.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from spheremap.config.fields import Positive
from spheremap.features.geometry import Grid
from spheremap.methods.engine.method import PARAMETERS, Method, Variant
from spheremap.methods.engine.readout import Readout


@dataclass(frozen=True, config=PARAMETERS)
class Kernel(Variant):
    """Another method, with places read by the protocol "kernel" whatever `evaluate.readout` says."""

    of: Method = Field(description="The other method.")
    sigma: Positive = Field(description="Standard deviation of the Gaussian in patches; published: 7.")
    temperature: Positive = Field(description="Of the softmax; published: 0.04.")

    def read(self, similarity: Tensor, best: Tensor, grid: Grid, readout: Readout) -> NDArray[np.float64]:
        """See `Readout`; the protocol's way is not used."""
        own = Readout("kernel", temperature=self.temperature, sigma=self.sigma)
        return own(similarity, best, grid)
