"""Dense correspondences: masking and sampling of warps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import ConfigError
from ..types import Matches, View, Warp
from .guidance import Guidance, nearest_on_curves
from .images import inside_mask
from .spread import spread_selection

_BLOCK = 1 << 16
"""Cells whose curves are sampled at once."""


def mask_warp(warp: Warp, reference: View, source: View) -> Warp:
    """Certainty 0 where a cell's centre or its counterpart lies outside of its view or mask.

    Example:
        >>> from aquamvs.matching import create_matcher, mask_warp
        >>> warp = create_matcher("roma").match(views["cam0"], views["cam1"])
        >>> inside = mask_warp(warp, views["cam0"], views["cam1"])
        >>> bool((inside.certainty <= warp.certainty).all())
        True
    """
    cells = warp.reference_pixels().reshape(-1, 2).to(reference.image.device)
    targets = warp.source_pixels.reshape(-1, 2).to(source.image.device)
    usable = inside_mask(reference, cells) & inside_mask(source, targets)
    usable = usable.reshape(warp.certainty.shape).to(warp.certainty.device)
    return Warp(
        warp.reference,
        warp.source,
        warp.source_pixels,
        torch.where(usable, warp.certainty, 0.0),
        warp.reference_size,
    )


def guide_warp(
    warp: Warp,
    reference: View,
    source: View,
    guidance: Guidance,
    *,
    start_depth: Tensor | None = None,
) -> Warp:
    """Move every target onto its refractive epipolar curve.

    Args:
        warp: From the reference to the source view.
        reference: One view.
        source: The other.
        guidance: Targets farther from their curves than it allows lose their certainty.
        start_depth: Ray depths near those of the cells, shape (h, w), metres; see
            :func:`nearest_on_curves`.

    Returns:
        The nearest points of the curves; a target stays where the source view can see no point of
        its curve, without certainty.

    Example:
        >>> from aquamvs.matching import Guidance, create_matcher, guide_warp
        >>> warp = create_matcher("roma").match(views["cam0"], views["cam1"])
        >>> guided = guide_warp(warp, views["cam0"], views["cam1"], Guidance(max_distance_px=1.0))
        >>> guided.certainty.shape == warp.certainty.shape
        True
    """
    cells, targets = warp.reference_pixels().reshape(-1, 2), warp.source_pixels.reshape(-1, 2)
    starts = None if start_depth is None else start_depth.reshape(-1)
    blocks = [slice(first, first + _BLOCK) for first in range(0, len(cells), _BLOCK)]
    pieces = [
        nearest_on_curves(
            reference.model,
            source.model,
            cells[block],
            targets[block],
            guidance.depth_range,
            start_depth=None if starts is None else starts[block],
        )
        for block in blocks
    ]
    nearest = torch.cat([piece[0] for piece in pieces]).reshape(warp.source_pixels.shape)
    distance = torch.cat([piece[1] for piece in pieces]).reshape(warp.certainty.shape)
    return replace(
        warp,
        source_pixels=torch.where(torch.isfinite(nearest), nearest, warp.source_pixels),
        certainty=torch.where(distance <= guidance.max_distance_px, warp.certainty, 0.0),
    )


def warp_to_matches(
    warp: Warp, *, certainty_threshold: float = 0.5, max_correspondences: int = 100_000
) -> Matches:
    """Sample point correspondences from a warp, evenly over the image and without chance.

    Args:
        warp: Dense correspondence.
        certainty_threshold: Cells of lower certainty are left out.
        max_correspondences: Largest number; the most certain cells of every part of the image are
            kept.

    Returns:
        Matches at cell centres; the score is the certainty.

    Raises:
        ConfigError: ``max_correspondences`` is below 1.

    Example:
        >>> from aquamvs.matching import create_matcher, warp_to_matches
        >>> warp = create_matcher("roma").match(views["cam0"], views["cam1"])
        >>> len(warp_to_matches(warp, max_correspondences=100)) <= 100
        True
    """
    if max_correspondences < 1:
        raise ConfigError(f"max_correspondences is {max_correspondences}; expected at least 1")
    certain = (warp.certainty >= certainty_threshold) & (warp.certainty > 0)
    certain &= torch.isfinite(warp.source_pixels).all(-1)
    cells = warp.reference_pixels()[certain]
    targets, scores = warp.source_pixels[certain], warp.certainty[certain]
    kept = spread_selection(cells, scores, size=warp.reference_size, limit=max_correspondences)
    return Matches(warp.reference, warp.source, cells[kept], targets[kept], scores[kept])
