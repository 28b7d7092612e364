"""Vertex normals of triangle meshes."""

import torch
from torch import Tensor


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted means of the normals of the faces around each vertex.

    Args:
        vertices: shape (V, 3).
        faces: Vertex numbers, shape (F, 3), int64.

    Returns:
        Unit normals on the side from which the faces are counter-clockwise, shape (V, 3), float32;
        up to the cameras (0, 0, -1) for a vertex without faces.
    """
    corners = vertices.double()[faces]
    twice_area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros(len(vertices), 3, dtype=torch.float64, device=vertices.device)
    for corner in range(3):
        total.index_add_(0, faces[:, corner], twice_area)
    length = total.norm(dim=-1, keepdim=True)
    up = total.new_tensor([0.0, 0.0, -1.0])
    unit = total / length.clamp(min=torch.finfo(length.dtype).tiny)
    return torch.where(length > 0, unit, up).float()
