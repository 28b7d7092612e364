"""Refractive projection: pixels to rays under water and back."""

from .refractive import RefractiveProjectionModel
from .snell import refract

__all__ = ["RefractiveProjectionModel", "refract"]
