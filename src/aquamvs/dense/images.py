"""Images as the engines sample them: grey, at several scales, unknown pixels NaN."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..maps import resize_map, sample_map
from ..pixels import rescale_intrinsics
from ..projection import RefractiveProjectionModel
from ..types import View

_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601: weights by which sensor noise of the three channels matters about equally."""


@dataclass(frozen=True, slots=True)
class GreyView:
    """A view at one scale, ready for sampling.

    Attributes:
        grey: Luma less its mean, shape (H, W), float32; NaN where the view's mask forbids its
            use.
        model: Projection with the intrinsics of this scale.
    """

    grey: Tensor
    model: RefractiveProjectionModel

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.grey.shape[1], self.grey.shape[0]

    def sample(self, pixels: Tensor) -> Tensor:
        """Intensities between pixels, bilinear.

        Args:
            pixels: shape (..., 2), float32; NaN where there is none.

        Returns:
            shape (...,); NaN outside of the image and wherever an unknown pixel would contribute:
            unknown is never black.
        """
        return sample_map(self.grey, pixels)


def level_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(width, height) of an image at a fraction of its resolution, at least 1 x 1."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def grey_view(view: View, factor: float = 1.0) -> GreyView:
    """A view at a fraction of its resolution.

    Args:
        view: Undistorted view.
        factor: Scale, at most 1.

    Returns:
        Grey image and model of that scale. A pixel is known if every pixel it was made from is.
    """
    grey = view.image @ view.image.new_tensor(_LUMA)
    grey = torch.where(view.mask, grey - grey.mean(), torch.nan)
    if factor == 1:
        return GreyView(grey, view.model)
    size = level_size(view.size, factor)
    K = rescale_intrinsics(view.model.K, view.size, size)
    return GreyView(resize_map(grey, size, antialias=True), view.model.with_intrinsics(K))
