"""Parameters of the feature adapter, as params.yaml names them (section `adapter`)."""

from dataclasses import dataclass

from spheremap.base.errors import InputError
from spheremap.model.training.config import ValidationConfig


@dataclass(frozen=True)
class AdapterConfig:
    """How pseudo-labels are made and how the adapter is trained on them.

    Attributes:
        enabled: whether the workflow trains an adapter, for methods of the kind `adapted`.
        seed: of everything drawn.
        steps: of training.
        batch: chains per step.
        learning_rate: of Adam.
        width: hidden width of the adapter.
        sphere_weight: share of the sphere in the similarity that matches are read from, in [0, 1].
        chain: views in a chain, 2 or more; two make a pair.
        hop: azimuth bins between neighbours of a chain, at most.
        viewpoint_bins: azimuth bins.
        cycle_radius: how far from where it began a match may come back to, in patches.
        angle: between the two ends of a match on the sphere, at most, in degrees.
        matches: pseudo-labels used per pair of views, at most.
        temperature: of the contrastive loss.
        spread: standard deviation of the soft target about a match, in patches; 0 for the match alone.
        log_every, validate_every, save_every: steps.
        validation: how the best adapter is chosen.
    """

    enabled: bool
    seed: int
    steps: int
    batch: int
    learning_rate: float
    width: int
    sphere_weight: float
    chain: int
    hop: int
    viewpoint_bins: int
    cycle_radius: float
    angle: float
    matches: int
    temperature: float
    spread: float
    log_every: int
    validate_every: int
    save_every: int
    validation: ValidationConfig

    def __post_init__(self) -> None:
        """Reject values that cannot work.

        Raises:
            InputError: naming the parameter.
        """
        counts = ("steps", "batch", "width", "viewpoint_bins", "matches", "log_every", "validate_every")
        for name in (*counts, "save_every"):
            _require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        _require(0 <= self.seed < 2**63, "seed", "0 or more, below 2**63", self.seed)
        _require(self.chain >= 2, "chain", "2 or more", self.chain)
        for name in ("hop", "cycle_radius", "spread"):
            _require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in ("learning_rate", "temperature"):
            _require(getattr(self, name) > 0, name, "more than 0", getattr(self, name))
        _require(0 < self.angle <= 180, "angle", "above 0 and at most 180", self.angle)
        shares = {
            "sphere_weight": self.sphere_weight,
            "validation.sphere_weight": self.validation.sphere_weight,
        }
        for name, share in shares.items():
            _require(0 <= share <= 1, name, "between 0 and 1", share)
        _require(self.validation.alpha > 0, "validation.alpha", "more than 0", self.validation.alpha)
        _require(self.validation.pairs >= 1, "validation.pairs", "1 or more", self.validation.pairs)


@dataclass(frozen=True)
class AdapterParams:
    """The slice of params.yaml that the command reads."""

    adapter: AdapterConfig
    dataset: str


def _require(ok: bool, name: str, expected: str, found: object) -> None:
    if not ok:
        raise InputError(f"parameter 'adapter.{name}' cannot be used", expected=expected, found=str(found))
