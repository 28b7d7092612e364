"""True correspondences between two views of a scene."""

from torch import Tensor

from ..calibration import CalibrationData, compute_undistortion_maps
from ..errors import ShapeError
from .scene import Scene

_SAME_POINT = 1e-5
"""Distance along a ray within which a point counts as the one that the source sees, metres."""


def true_correspondences(
    scene: Scene,
    calibration: CalibrationData,
    reference: str,
    source: str,
    reference_pixels: Tensor,
    *,
    frame: int = 0,
) -> tuple[Tensor, Tensor]:
    """Where points that a reference view sees appear in a source view.

    Args:
        scene: Scene.
        calibration: Rig.
        reference: Camera name.
        source: Camera name.
        reference_pixels: Undistorted pixels of the reference view (of the grid of
            :func:`~aquamvs.calibration.compute_undistortion_maps`), shape (..., 2).
        frame: Instant.

    Returns:
        Undistorted pixels of the source view, shape (..., 2), float64, NaN where the reference ray
        hits nothing or the point does not project; and whether the source sees the point, shape
        (...,): inside of its image and not hidden by anything in front.

    Raises:
        ShapeError: ``reference_pixels`` does not end in 2.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import true_correspondences
        >>> centre = torch.tensor([[100.0, 75.0]], dtype=torch.float64)
        >>> pixels, seen = true_correspondences(scene, rig, "cam0", "cam1", centre)
        >>> tuple(pixels.shape), seen.tolist()
        ((1, 2), [True])
    """
    if reference_pixels.shape[-1:] != (2,):
        raise ShapeError("reference_pixels", tuple(reference_pixels.shape), "(..., 2)")
    models = [
        calibration.projection_model(
            name, compute_undistortion_maps(calibration.cameras[name]).K_new
        )
        for name in (reference, source)
    ]
    origins, directions = models[0].cast_ray(reference_pixels.detach().cpu().double())
    _, hits = scene.intersect(origins, directions, frame=frame)
    pixels, valid = models[1].project(hits.points)
    width, height = calibration.cameras[source].image_size
    extent = pixels.new_tensor([width, height])
    inside = ((pixels >= -0.5) & (pixels <= extent - 0.5)).all(-1)
    back_origins, back_directions = models[1].cast_ray(pixels)
    seen, _ = scene.intersect(back_origins, back_directions, frame=frame)
    distance = (hits.points - back_origins).norm(dim=-1)
    unhidden = (seen - distance).abs() < _SAME_POINT
    return pixels, valid & inside & unhidden
