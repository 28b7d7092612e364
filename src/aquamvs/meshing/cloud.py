"""Meshes of clouds: by gridding, or by screened Poisson reconstruction."""

import importlib.util
import math
from enum import StrEnum

import numpy as np
import torch

from ..errors import ConfigError, StageError
from ..types import Mesh, PointCloud
from .gridding import grid_cloud, point_spacing
from .height_field import mesh_from_height_map
from .normals import vertex_normals

_POISSON_DEPTHS = (4, 12)
"""Octree depths: coarser is no surface, finer does not fit into memory."""
_POISSON_MARGIN = 1.1
"""Open3D's octree is a tenth larger than the cloud."""
_POISSON_REACH = 3.0
"""Poisson closes every surface; further than this from all points, in spacings, it is invented."""


class MeshMethod(StrEnum):
    """How a cloud becomes a mesh.

    Example:
        >>> from aquamvs.meshing import MeshMethod
        >>> [method.value for method in MeshMethod]
        ['heightfield', 'poisson']
    """

    HEIGHTFIELD = "heightfield"
    POISSON = "poisson"


def mesh_from_cloud(
    cloud: PointCloud,
    *,
    spacing: float | None = None,
    method: str = MeshMethod.HEIGHTFIELD,
) -> Mesh:
    """Mesh a cloud.

    Args:
        cloud: World frame, normals towards the cameras.
        spacing: Size of the triangles, metres; the cloud's own point spacing if absent.
        method: ``heightfield`` grids the cloud (:func:`aquamvs.meshing.grid_cloud`) and connects
            the cells: right for beds, which have no overhangs. ``poisson`` is screened Poisson
            reconstruction (Kazhdan and Hoppe, ACM TOG 2013) by Open3D, trimmed to what lies near
            points: for walls and overhangs. It runs on one thread, so that it repeats itself.

    Returns:
        The mesh; triangles counter-clockwise seen from the cameras.

    Raises:
        ConfigError: An unknown method, a spacing that is not positive, or Open3D missing.
        StageError: A cloud that makes no triangle.

    Example:
        >>> from aquamvs.meshing import mesh_from_cloud
        >>> mesh = mesh_from_cloud(made.cloud, spacing=0.02)
        >>> bool((mesh.normals[:, 2] < 0).all())
        True
    """
    if spacing is not None and not 0 < spacing < math.inf:
        raise ConfigError(f"mesh spacing is {spacing} m; expected a positive length")
    if method == MeshMethod.HEIGHTFIELD:
        return mesh_from_height_map(grid_cloud(cloud, spacing))
    if method == MeshMethod.POISSON:
        return _poisson(cloud, point_spacing(cloud) if spacing is None else spacing)
    raise ConfigError(f"mesh method is {method!r}; expected {' or '.join(MeshMethod)}")


def require_method(method: str) -> None:
    """Refuse a method whose package is not installed, before there is a cloud to mesh.

    Raises:
        ConfigError: Open3D is missing.
    """
    if method == MeshMethod.POISSON and importlib.util.find_spec("open3d") is None:
        raise ConfigError(
            "reconstruction.surface_method: Poisson meshing needs Open3D, which is not installed; "
            'install the extra: pip install "aquamvs[mesh]", or choose the method heightfield'
        )


def _poisson(cloud: PointCloud, spacing: float) -> Mesh:
    require_method(MeshMethod.POISSON)
    import open3d
    from scipy.spatial import cKDTree

    points = cloud.points.detach().cpu().double().numpy()
    source = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    source.normals = open3d.utility.Vector3dVector(cloud.normals.detach().cpu().double().numpy())
    extent = _POISSON_MARGIN * float(np.ptp(points, axis=0).max())
    depth = round(math.log2(max(extent / spacing, 1.0)))
    surface, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        source, depth=min(max(depth, _POISSON_DEPTHS[0]), _POISSON_DEPTHS[1]), n_threads=1
    )
    vertices, faces = np.asarray(surface.vertices), np.asarray(surface.triangles)
    distance, nearest = cKDTree(points).query(
        vertices, distance_upper_bound=_POISSON_REACH * spacing
    )
    near = np.isfinite(distance)
    faces = faces[near[faces].all(1)].astype(np.int64)
    if len(faces) == 0:
        raise StageError(
            f"Poisson reconstruction of {len(points)} points left no surface near them"
        )
    used = np.unique(faces)
    number = np.zeros(len(vertices), dtype=np.int64)
    number[used] = np.arange(len(used))
    corners = torch.from_numpy(vertices[used]).float()
    triangles = torch.from_numpy(number[faces])
    return Mesh(
        vertices=corners,
        faces=triangles,
        normals=vertex_normals(corners, triangles),
        colors=cloud.colors.detach().cpu()[torch.from_numpy(nearest[used])],
    )
