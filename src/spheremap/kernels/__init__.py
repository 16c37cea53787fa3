"""Fused operators of the training step, a file each: plain PyTorch, Triton programs and registration.

`reference` in a file is the definition; the Triton programs are registered as custom operators of PyTorch, so
that they can be compiled and captured. No GPU is needed to import this package, nor Triton.
"""

from spheremap.kernels.cosine_reconstruction import cosine_reconstruction
from spheremap.kernels.dispatch import require_compiler, use_triton
from spheremap.kernels.sphere_geometry import draw_key, draw_triplets, patch_coordinates, sphere_geometry

__all__ = [
    "cosine_reconstruction",
    "draw_key",
    "draw_triplets",
    "patch_coordinates",
    "require_compiler",
    "sphere_geometry",
    "use_triton",
]
