"""How windows around matched keypoints look in the other view, and how well they correlate there.

A window is taken for a level patch: the calibration gives its affine shape in the other view, and
the direction in which it would move there if its depth were another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from ..pixels import to_normalized
from ..projection.patches import level_affine
from ..types import View
from .frames import midpoints
from .guidance import Candidates

_LEAST_VARIANCE = (0.25 / 255) ** 2
"""Quantisation noise: below it there is no texture to compare."""

_BLOCK = 1 << 11
"""Candidates at once: about 50 MB of temporaries."""


@dataclass(frozen=True, slots=True)
class GreyPair:
    """Two views that are compared.

    Attributes:
        views: Reference and source.
        images: Mean of the colours of each, shape (H, W), float32.
    """

    views: tuple[View, View]
    images: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, views: tuple[View, View], grey: Callable[[View], Tensor] | None = None) -> GreyPair:
        """Reference and source with what ``grey`` gives of them, :func:`grey_values` if absent."""
        grey = grey or grey_values
        return cls(views, (grey(views[0]), grey(views[1])))


@dataclass(frozen=True, slots=True)
class Transfer:
    """Matched keypoints as seen from one of the two views.

    Attributes:
        own: Keypoints of this view, shape (C, 2).
        other: Their partners, shape (C, 2).
        affine: Derivative of the other view's pixel by this one's on a level patch, shape
            (C, 2, 2); NaN where the two rays meet nowhere in front of both cameras.
        tangent: Direction in the other view in which the keypoint's ray leads away from the camera,
            unit length, shape (C, 2).
        rate: Pixels by which it leads there per metre, shape (C,).
        distance: Of the partners from those rays, px of the other view, shape (C,).
        level: Depth below the interface of the points between the two rays, shape (C,), metres.
    """

    own: Tensor
    other: Tensor
    affine: Tensor
    tangent: Tensor
    rate: Tensor
    distance: Tensor
    level: Tensor

    def select(self, index: Tensor) -> Transfer:
        """The keypoints at ``index`` (positions or a mask)."""
        return Transfer(*(getattr(self, field.name)[index] for field in fields(self)))

    def is_seen(self) -> Tensor:
        """Where the two rays meet in front of both cameras, shape (C,), bool."""
        return self.affine.isfinite().flatten(1).all(1)

    def scale(self) -> Tensor:
        """Pixels of the other view per pixel of this one, shape (C,)."""
        scale: Tensor = torch.linalg.det(self.affine).abs().sqrt()
        return scale


def transfers(
    candidates: Candidates, views: tuple[View, View], pixels: tuple[Tensor, Tensor]
) -> Iterator[tuple[slice, tuple[Transfer, Transfer]]]:
    """Blocks of candidates, each from the reference to the source view and back.

    Args:
        candidates: Pairs of keypoints.
        views: Reference and source.
        pixels: Keypoints of the views, shapes (N, 2) and (M, 2).

    Yields:
        Which candidates, and how they are seen from either view.
    """
    models = tuple(view.model.to(p.device) for view, p in zip(views, pixels, strict=True))
    rays = [model.cast_ray(p.double()) for model, p in zip(models, pixels, strict=True)]
    for start in range(0, len(candidates), _BLOCK):
        part = slice(start, start + _BLOCK)
        index = candidates.reference[part], candidates.source[part]
        first, second = ((o[i], d[i]) for (o, d), i in zip(rays, index, strict=True))
        points = midpoints(first, second, models[0].camera_height)
        slopes = [model.project_with_jacobian(points)[1] for model in models]
        affine = level_affine(models[0].normal, slopes[0], slopes[1])
        own, other = (p[i] for p, i in zip(pixels, index, strict=True))
        # From ray to ray: twice the way from the point between them to either.
        along = ((points - first[0]) * first[1]).sum(-1, keepdim=True)
        gap = 2 * (first[0] + along * first[1] - points)
        normal = models[0].normal.to(points)
        level = (models[0].water_z * normal[2] - points @ normal).to(own)
        yield (
            part,
            (
                _transfer(own, other, affine, slopes[1], first[1], gap, level),
                _transfer(
                    other, own, torch.linalg.inv_ex(affine)[0], slopes[0], second[1], gap, level
                ),
            ),
        )


def _transfer(
    own: Tensor,
    other: Tensor,
    affine: Tensor,
    slope: Tensor,
    direction: Tensor,
    gap: Tensor,
    level: Tensor,
) -> Transfer:
    """How keypoints are seen in the other view.

    Args:
        own: See :class:`Transfer`.
        other: See there.
        affine: See there.
        slope: Derivative of the other view's pixel with respect to the point, shape (C, 2, 3).
        direction: Of the keypoints' rays, shape (C, 3).
        gap: Between the two rays, shape (C, 3), metres.
        level: See :class:`Transfer`.
    """
    moved, apart = (slope @ vector[:, :, None] for vector in (direction, gap))
    rate = moved[..., 0].norm(dim=-1)
    tangent = functional.normalize(moved[..., 0], dim=-1)
    distance = apart[..., 0].norm(dim=-1)
    return Transfer(
        own, other, affine.to(own), tangent.float(), rate.to(own), distance.to(own), level
    )


def correlations(
    images: tuple[Tensor, Tensor],
    transfer: Transfer,
    places: Tensor,
    *,
    radius: int,
    sigma: float | None = None,
    spacing: Tensor | None = None,
) -> Tensor:
    """Correlation of the keypoints' windows with the other view at several places.

    Args:
        images: Grey values of the keypoints' view and of the other one, shapes (H, W).
        transfer: Of C keypoints.
        places: Pixels of the other view, shape (C, P, 2).
        radius: Half side of the window, in samples.
        sigma: Of the Gaussian by which its samples count, in samples; None: all alike.
        spacing: Of the samples in the keypoints' view, px, shape (C,); None: 1 px.

    Returns:
        shape (C, P), -1 to 1; 0 without texture.
    """
    side = torch.arange(-radius, radius + 1).to(places)
    window = torch.cartesian_prod(side, side)[None]
    weights = torch.ones_like(side) if sigma is None else torch.exp(-0.5 * (side / sigma) ** 2)
    weights = torch.outer(weights, weights).flatten()
    weights = weights / weights.sum()
    if spacing is not None:
        window = window * spacing[:, None, None]
    own = _centred(images[0], transfer.own[:, None] + window, weights)
    pixels = places[:, :, None] + (window @ transfer.affine.mT)[:, None]
    other = _centred(images[1], pixels, weights)
    energy = (own.square() @ weights + _LEAST_VARIANCE)[:, None]
    energy = energy * (other.square() @ weights + _LEAST_VARIANCE)
    return ((own[:, None] * other) @ weights) / energy.sqrt()


def grey_values(view: View, device: torch.device | str = "cpu") -> Tensor:
    """Mean of a view's colours, shape (H, W), float32."""
    image = view.image.to(device).float()
    return image @ image.new_full((3,), 1 / 3)


def _centred(image: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """Bilinear samples, less the mean of their window, shape (..., T, 2) -> (..., T)."""
    grid = to_normalized(pixels, (image.shape[1], image.shape[0])).reshape(1, 1, -1, 2)
    sampled = functional.grid_sample(
        image[None, None], grid, padding_mode="border", align_corners=False
    )
    values = sampled.reshape(pixels.shape[:-1])
    return values - (values @ weights)[..., None]
