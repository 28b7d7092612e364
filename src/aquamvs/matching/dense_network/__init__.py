"""The bundled dense network, in RoMa's form: features, coarse classification, refiners."""

from .neighbours import with_neighbours
from .network import (
    COARSE_STRIDE,
    DenseNetwork,
    DenseNetworkConfig,
    ImageFeatures,
    ScaleWarp,
    coarse_warp,
    upsample,
)

__all__ = [
    "COARSE_STRIDE",
    "DenseNetwork",
    "DenseNetworkConfig",
    "ImageFeatures",
    "ScaleWarp",
    "coarse_warp",
    "upsample",
    "with_neighbours",
]
