"""Triangulation through water: tracks, multi-view points with covariance, depth ranges."""

from .cloud import SparseCloud
from .depth_range import depth_range_per_view, visible_depths
from .grow import GrowthOptions, grow_tracks
from .refine import RefinedTracks, RefinementOptions, refine_tracks
from .tracks import Tracks, build_tracks
from .triangulate import TriangulationOptions, triangulate

__all__ = [
    "GrowthOptions",
    "RefinedTracks",
    "RefinementOptions",
    "SparseCloud",
    "Tracks",
    "TriangulationOptions",
    "build_tracks",
    "depth_range_per_view",
    "grow_tracks",
    "refine_tracks",
    "triangulate",
    "visible_depths",
]
