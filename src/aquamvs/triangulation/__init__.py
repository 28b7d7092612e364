"""Triangulation through water: tracks, multi-view points with covariance, depth ranges."""

from .cloud import SparseCloud
from .depth_range import depth_range_per_view, visible_depths
from .tracks import Tracks, build_tracks
from .triangulate import TriangulationOptions, triangulate

__all__ = [
    "SparseCloud",
    "Tracks",
    "TriangulationOptions",
    "build_tracks",
    "depth_range_per_view",
    "triangulate",
    "visible_depths",
]
