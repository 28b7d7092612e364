"""Simplification of meshes."""

import importlib.util

import torch

from ..errors import ConfigError
from ..types import Mesh
from .normals import vertex_normals


def decimate(mesh: Mesh, target_faces: int) -> Mesh:
    """Simplify a mesh by quadric edge collapse (Garland and Heckbert, SIGGRAPH 1997).

    Args:
        mesh: Triangle mesh.
        target_faces: Number of triangles wanted.

    Returns:
        A mesh of about as many triangles, or the mesh itself if it has no more; colours of the
        nearest original vertex, normals from its own faces.

    Raises:
        ConfigError: ``target_faces`` is not positive, or the package fast-simplification, through
            which trimesh does this, is not installed.

    Example:
        >>> from aquamvs.meshing import decimate
        >>> decimate(made.mesh, len(made.mesh.faces)) is made.mesh
        True
    """
    if target_faces < 1:
        raise ConfigError(f"target_faces is {target_faces}; expected a positive number")
    if len(mesh.faces) <= target_faces:
        return mesh
    require_decimation()
    import trimesh
    from scipy.spatial import cKDTree

    original = mesh.vertices.detach().cpu().double().numpy()
    simple = trimesh.Trimesh(
        original, mesh.faces.cpu().numpy(), process=False
    ).simplify_quadric_decimation(face_count=target_faces)
    vertices = torch.from_numpy(simple.vertices.copy()).float()
    faces = torch.from_numpy(simple.faces.copy()).long()
    _, nearest = cKDTree(original).query(simple.vertices)
    return Mesh(
        vertices=vertices,
        faces=faces,
        normals=vertex_normals(vertices, faces),
        colors=mesh.colors.detach().cpu()[torch.from_numpy(nearest)],
    )


def require_decimation() -> None:
    """Refuse simplification before there is a mesh, where its package is not installed.

    Raises:
        ConfigError: fast-simplification is missing.
    """
    if importlib.util.find_spec("fast_simplification") is None:
        raise ConfigError(
            "mesh simplification needs the package fast-simplification; install the extra: "
            'pip install "aquamvs[mesh]"'
        )
