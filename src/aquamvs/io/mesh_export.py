"""Meshes for other programs: PLY, OBJ, STL, GLB, glTF."""

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..types import Mesh
from .atomic import atomic_path
from .images import color_levels
from .ply import save_mesh

EXPORT_SUFFIXES = (".ply", ".obj", ".stl", ".glb", ".gltf")

_GLTF_FROM_WORLD = np.array(
    [[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=np.float64
)
"""glTF 2.0 demands Y up; the world frame has Z down."""


def export_mesh(mesh: Mesh, path: str | Path) -> None:
    """Write a mesh in the format that the file's suffix names.

    Args:
        mesh: Triangle mesh, metres.
        path: File ending in .ply, .obj, .stl, .glb or .gltf. STL holds no colours. Vertices keep
            the world frame; GLB and glTF (one file too), whose viewers expect Y up, carry the
            rotation in their scene node.

    Raises:
        DataError: Another suffix, an empty mesh, or a file that cannot be written.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from aquamvs.io import export_mesh
        >>> from aquamvs.types import Mesh
        >>> corners = torch.tensor([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
        >>> up = torch.tensor([[0.0, 0.0, -1.0]]).expand(3, 3)
        >>> mesh = Mesh(corners, torch.tensor([[0, 2, 1]]), up, torch.ones(3, 3))
        >>> export_mesh(mesh, "triangle.glb")
        >>> Path("triangle.glb").read_bytes()[:4]
        b'glTF'
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in EXPORT_SUFFIXES:
        raise DataError(
            f"cannot export a mesh to {path}; expected a name that ends in "
            f"{', '.join(EXPORT_SUFFIXES)}"
        )
    if len(mesh.faces) == 0:
        raise DataError(f"cannot export a mesh without faces to {path}")
    if suffix == ".ply":
        save_mesh(path, mesh)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(_encode(mesh, suffix))


def _encode(mesh: Mesh, suffix: str) -> bytes:
    import trimesh  # slow to import, and only exports need it

    model = trimesh.Trimesh(
        vertices=mesh.vertices.detach().cpu().double().numpy(),
        faces=mesh.faces.cpu().numpy(),
        vertex_normals=mesh.normals.detach().cpu().double().numpy(),
        vertex_colors=color_levels(mesh.colors),
        process=False,
    )
    exporter: Any = model  # trimesh annotates one of the two export methods only
    if suffix in (".glb", ".gltf"):
        exporter = trimesh.Scene()
        exporter.add_geometry(model, node_name="surface", transform=_GLTF_FROM_WORLD)
    if suffix == ".gltf":
        writer: Any = trimesh.exchange.gltf
        files = writer.export_gltf(exporter, embed_buffers=True)
        return bytes(files["model.gltf"])
    content: bytes | str = exporter.export(file_type=suffix[1:])
    return content.encode() if isinstance(content, str) else content
