"""Refractive projection: pixels to rays under water and back."""

from .patches import patch_affine
from .pinhole import PinholeFit, fit_pinhole
from .refractive import ProjectionRig, RefractiveProjectionModel
from .snell import refract
from .variants import moved_surface, straight

__all__ = [
    "PinholeFit",
    "ProjectionRig",
    "RefractiveProjectionModel",
    "fit_pinhole",
    "moved_surface",
    "patch_affine",
    "refract",
    "straight",
]
