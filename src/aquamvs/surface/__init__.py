"""The surface sweep: height maps by refractive object-space matching."""

from .depth_maps import depth_maps_from_surface
from .refine import TILE_SIDE
from .sweep import SurfaceSweepOptions, sweep_surface, tile_memory

__all__ = [
    "TILE_SIDE",
    "SurfaceSweepOptions",
    "depth_maps_from_surface",
    "sweep_surface",
    "tile_memory",
]
