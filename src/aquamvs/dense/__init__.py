"""Depth maps: one engine protocol, one registry, and a refractive PatchMatch."""

from .engine import DenseEngine, create_engine, engine_names
from .patchmatch import PatchMatch, PatchMatchOptions

__all__ = ["DenseEngine", "PatchMatch", "PatchMatchOptions", "create_engine", "engine_names"]
