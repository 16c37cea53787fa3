"""Choices that params.yaml and the command line share; apart from the parameters, which import slowly."""

from typing import Literal

Fit = Literal["pad", "stretch", "original"]  # of whole images to squares
Sampling = Literal["patch", "bilinear"]  # of the tokens that describe a point
ReadoutKind = Literal["argmax", "window", "kernel"]  # of a place from similarities
Precision = Literal["auto", "float32", "bfloat16"]
Backend = Literal["auto", "reference", "triton"]  # of the kernels
DEFAULT_HEAD = "quadrupeds"  # the head that matches where none is named
