"""Errors of meshes against a true surface, in both directions."""

from dataclasses import dataclass
from typing import Any

from ..plain import plain
from ..types import Mesh
from .cloud import CLOUD_TOLERANCES
from .statistics import DistanceStatistics, distance_statistics
from .triangles import Triangles


@dataclass(frozen=True, slots=True)
class MeshErrors:
    """Distances between a mesh and the true surface; unsigned, nothing trimmed.

    Attributes:
        to_truth: From even samples of the mesh to the truth (what is wrong).
        from_truth: From even samples of the truth to the mesh (what is missing).
        area: Area of the mesh, square metres.
        truth_area: Area of the true surface, square metres.

    Example:
        >>> from aquamvs.evaluation import Triangles, mesh_errors
        >>> errors = mesh_errors(made.mesh, Triangles.of_mesh(made.mesh), sample_spacing=0.02)
        >>> errors.to_truth.max_abs < 1e-6, errors.area == errors.truth_area
        (True, True)
    """

    to_truth: DistanceStatistics
    from_truth: DistanceStatistics
    area: float
    truth_area: float

    def as_dict(self) -> dict[str, Any]:
        """The errors as plain Python for JSON; NaN becomes None."""
        result: dict[str, Any] = plain(self)
        return result


def mesh_errors(
    mesh: Mesh,
    truth: Triangles,
    *,
    sample_spacing: float,
    thresholds: tuple[float, ...] = CLOUD_TOLERANCES,
) -> MeshErrors:
    """Compare a mesh with the true surface.

    Args:
        mesh: Mesh with at least one triangle.
        truth: True surface.
        sample_spacing: Mean distance of the samples on either surface, metres. Samples are spread
            evenly by area and are the same every time.
        thresholds: Distances for ``beyond``, metres.

    Returns:
        The errors.

    Raises:
        DataError: The mesh has no triangle.

    Example:
        >>> from dataclasses import replace
        >>> import torch
        >>> from aquamvs.evaluation import Triangles, mesh_errors
        >>> surface = Triangles.of_mesh(made.mesh)
        >>> shifted = made.mesh.vertices + torch.tensor([0.0, 0.0, 0.001])
        >>> errors = mesh_errors(replace(made.mesh, vertices=shifted), surface, sample_spacing=0.02)
        >>> errors.to_truth.max_abs < 0.0011
        True
    """
    surface = Triangles.of_mesh(mesh)
    to_truth = truth.distance(surface.sample(sample_spacing))
    from_truth = surface.distance(truth.sample(sample_spacing))
    return MeshErrors(
        to_truth=distance_statistics(to_truth, thresholds=thresholds),
        from_truth=distance_statistics(from_truth, thresholds=thresholds),
        area=surface.area,
        truth_area=truth.area,
    )
