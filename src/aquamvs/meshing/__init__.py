"""Surfaces: height-field meshes from grids and clouds, Poisson, simplification."""

from .cloud import MeshMethod, mesh_from_cloud
from .conversion import convert_meshes
from .decimation import decimate
from .gridding import grid_cloud
from .height_field import mesh_from_height_map

__all__ = [
    "MeshMethod",
    "convert_meshes",
    "decimate",
    "grid_cloud",
    "mesh_from_cloud",
    "mesh_from_height_map",
]
