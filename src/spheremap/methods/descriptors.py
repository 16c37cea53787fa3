"""What a row of the results table compares: patch features, sphere points, a mixture of both, or chance."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from spheremap.base.errors import InputError

CHANCE = "chance"


def row_weights(sphere_weight: float) -> dict[str, tuple[float, float]]:
    """The rows that compare descriptors, with their weights (features, sphere).

    A row's similarity is `w_f cos(features) + w_s cos(sphere)`: the dot product of the concatenated
    descriptors `[sqrt(w_f) x, sqrt(w_s) s]` with x and s of unit length. Mariotti et al. 2024 take w_s = 0.2.

    Raises:
        InputError: if `sphere_weight` lies outside [0, 1].
    """
    if not 0 <= sphere_weight <= 1:
        raise InputError(
            "bad mixing weight", where="sphere_weight", expected="0 <= w <= 1", found=str(sphere_weight)
        )
    return {"features": (1.0, 0.0), "sphere": (0.0, 1.0), "fused": (1.0 - sphere_weight, sphere_weight)}


def unit(vectors: Tensor) -> Tensor:
    """Vectors `(..., D)` of any precision at unit length in float32; zero vectors stay zero."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def mixture(tokens: Tensor, share: Tensor) -> Tensor:
    """Tokens `(R, C, D)` of any precision mixed by shares `(R, C)`: `(R, D)`; a single one as it is."""
    if tokens.shape[1] == 1:
        return tokens[:, 0]
    return (tokens.float() * share.unsqueeze(2)).sum(dim=1)


def mixture_of_points(points: Tensor, share: Tensor) -> Tensor:
    """The same for unit vectors `(R, C, 3)`, which the mixture is again: `(R, 3)`."""
    return points[:, 0] if points.shape[1] == 1 else unit(mixture(points, share))


def mix(features: Tensor, sphere: Tensor, weights: tuple[float, float]) -> Tensor:
    """Weighted sum of two cosine similarities of one shape; a weight of 0 or 1 costs nothing."""
    of_features, of_sphere = weights
    if of_sphere == 0:
        return features if of_features == 1 else of_features * features
    if of_features == 0:
        return sphere if of_sphere == 1 else of_sphere * sphere
    return of_features * features + of_sphere * sphere


def chance_similarity(seed: int, source: str, target: str, shape: tuple[int, int]) -> Tensor:
    """Random similarities `(K, N)`, uniform in [0, 1).

    They depend on the seed and on the two image ids alone, not on the other pairs nor on their order.
    """
    key = hashlib.sha256("\0".join((str(seed), source, target)).encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))
    return torch.from_numpy(generator.random(shape, dtype=np.float32))
