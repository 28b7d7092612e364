"""The surface on which the next finer level's hypotheses ride: complete, smooth, robust."""

import torch
from torch import Tensor
from torch.nn import functional


def fill_holes(values: Tensor, weight: Tensor) -> Tensor:
    """Complete a map from its surroundings (pull-push; Gortler et al., SIGGRAPH 1996).

    Args:
        values: shape (H, W); anything finite where the weight is 0.
        weight: Trust, shape (H, W), in [0, 1].

    Returns:
        shape (H, W): the values where the weight is 1, their smooth continuation where it is 0.
    """
    height, width = values.shape
    if min(height, width) == 1 or bool((weight >= 1).all()):
        total = weight.sum()
        mean = (values * weight).sum() / total.clamp(min=torch.finfo(values.dtype).tiny)
        return weight * values + (1 - weight) * mean
    pulled = functional.avg_pool2d(
        torch.stack([values * weight, weight])[:, None], 2, ceil_mode=True, count_include_pad=False
    )[:, 0]
    coarse_weight = pulled[1]
    coarse = pulled[0] / coarse_weight.clamp(min=torch.finfo(values.dtype).tiny)
    # Four trusted pixels make a trusted one; so does one, nearly: it is all there is.
    coarse = fill_holes(coarse, (4 * coarse_weight).clamp(max=1))
    pushed = functional.interpolate(
        coarse[None, None], size=(2 * coarse.shape[0], 2 * coarse.shape[1]), mode="bilinear"
    )[0, 0, :height, :width]
    return weight * values + (1 - weight) * pushed


def median3(values: Tensor) -> Tensor:
    """Median of 3 x 3 neighbours, shape (H, W) to (H, W), edges repeated."""
    padded = functional.pad(values[None, None], (1, 1, 1, 1), mode="replicate")
    neighbours = functional.unfold(padded, 3)[0]
    return neighbours.median(0).values.reshape(values.shape)


def binomial3(values: Tensor) -> Tensor:
    """Binomial (1, 2, 1) smoothing in both directions, shape (H, W) to (H, W), edges repeated."""
    x = functional.pad(values[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    x = x[:-2] + 2 * x[1:-1] + x[2:]
    return (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 16


def smooth_surface(plane_depth: Tensor, weight: Tensor) -> Tensor:
    """A surface for hypotheses to ride on.

    Args:
        plane_depth: Winners of a level, shape (H, W), metres; NaN where there is none.
        weight: Trust, shape (H, W), in [0, 1].

    Returns:
        shape (H, W), finite if any pixel of the input is: single outliers removed by a median,
        untrusted pixels continued from their surroundings, and lightly smoothed.
    """
    known = torch.isfinite(plane_depth)
    weight = weight * known
    filled = fill_holes(plane_depth.nan_to_num(0.0), weight)
    return binomial3(median3(filled))
