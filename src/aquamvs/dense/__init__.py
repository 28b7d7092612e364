"""Depth maps: one engine protocol, one registry, and a refractive plane sweep."""

from .engine import DenseEngine, create_engine, engine_names
from .plane_sweep import PlaneSweep, PlaneSweepOptions

__all__ = ["DenseEngine", "PlaneSweep", "PlaneSweepOptions", "create_engine", "engine_names"]
