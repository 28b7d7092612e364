"""Dense correspondences: masking and sampling of warps."""

from __future__ import annotations

import torch

from ..errors import ConfigError
from ..types import Matches, View, Warp
from .images import inside_mask
from .spread import spread_selection


def mask_warp(warp: Warp, reference: View, source: View) -> Warp:
    """Certainty 0 where a cell's centre or its counterpart lies outside of its view or mask."""
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
    """
    if max_correspondences < 1:
        raise ConfigError(f"max_correspondences is {max_correspondences}; expected at least 1")
    certain = (warp.certainty >= certainty_threshold) & (warp.certainty > 0)
    certain &= torch.isfinite(warp.source_pixels).all(-1)
    cells = warp.reference_pixels()[certain]
    targets, scores = warp.source_pixels[certain], warp.certainty[certain]
    kept = spread_selection(cells, scores, size=warp.reference_size, limit=max_correspondences)
    return Matches(warp.reference, warp.source, cells[kept], targets[kept], scores[kept])
