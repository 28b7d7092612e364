"""Refractive projection: pixels to rays under water and back."""

from .patches import patch_affine
from .refractive import RefractiveProjectionModel
from .snell import refract

__all__ = ["RefractiveProjectionModel", "patch_affine", "refract"]
