"""Kernels of the training step.

Each is a function with a definition in plain PyTorch (`reference` in its module) and with Triton programs,
registered as custom operators of PyTorch so that they can be compiled and captured. Importing this package
does not load Triton and needs no GPU.
"""

from spheremap.kernels.cosine_reconstruction import cosine_reconstruction
from spheremap.kernels.dispatch import BACKENDS, Backend, use_triton
from spheremap.kernels.sphere_geometry import draw_key, draw_triplets, sphere_geometry

__all__ = [
    "BACKENDS",
    "Backend",
    "cosine_reconstruction",
    "draw_key",
    "draw_triplets",
    "sphere_geometry",
    "use_triton",
]
