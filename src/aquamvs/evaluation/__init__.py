"""Errors against the truth, against the rig's own limit, and against a board under water."""

from .alignment import IcpMethod, RigidTransform, icp, umeyama
from .bias import ModelBias, model_bias
from .board import (
    BoardCorners,
    BoardDetection,
    BoardPose,
    BoardSpec,
    detect_board,
    fit_board,
    triangulate_corners,
)
from .board_errors import (
    BoardErrors,
    BoardSurfaceErrors,
    board_corner_errors,
    board_depth_errors,
    board_surface_errors,
)
from .cloud import CloudScores, SurfaceDensity, cloud_scores, cloud_to_mesh, surface_density
from .cloud_pair import CloudErrors, cloud_errors
from .depth import DepthErrors, depth_errors, pooled_depth_errors
from .difference import HeightDifference, height_difference, save_height_difference
from .heightgrid import HeightGrid
from .heightmap import HeightErrors, height_errors
from .limit import (
    MATCHING_NOISE_PX,
    DepthLimit,
    RigLimit,
    depth_limit,
    depth_points,
    gsd,
    rig_limit,
    visible_in_depth_maps,
)
from .mesh import MeshErrors, mesh_errors
from .statistics import (
    DistanceStatistics,
    ErrorStatistics,
    distance_statistics,
    error_statistics,
)
from .triangles import Triangles

__all__ = [
    "MATCHING_NOISE_PX",
    "BoardCorners",
    "BoardDetection",
    "BoardErrors",
    "BoardPose",
    "BoardSpec",
    "BoardSurfaceErrors",
    "CloudErrors",
    "CloudScores",
    "DepthErrors",
    "DepthLimit",
    "DistanceStatistics",
    "ErrorStatistics",
    "HeightDifference",
    "HeightErrors",
    "HeightGrid",
    "IcpMethod",
    "MeshErrors",
    "ModelBias",
    "RigLimit",
    "RigidTransform",
    "SurfaceDensity",
    "Triangles",
    "board_corner_errors",
    "board_depth_errors",
    "board_surface_errors",
    "cloud_errors",
    "cloud_scores",
    "cloud_to_mesh",
    "depth_errors",
    "depth_limit",
    "depth_points",
    "detect_board",
    "distance_statistics",
    "error_statistics",
    "fit_board",
    "gsd",
    "height_difference",
    "height_errors",
    "icp",
    "mesh_errors",
    "model_bias",
    "pooled_depth_errors",
    "rig_limit",
    "save_height_difference",
    "surface_density",
    "triangulate_corners",
    "umeyama",
    "visible_in_depth_maps",
]
