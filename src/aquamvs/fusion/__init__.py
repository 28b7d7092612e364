"""From depth maps or a height map to one cloud: consistency, averaging, no duplicates."""

from .consistency import ConsistencyMap, FusionOptions, consistency_maps, filter_depth_maps
from .fuse import fuse
from .height_field import cloud_from_height_map

__all__ = [
    "ConsistencyMap",
    "FusionOptions",
    "cloud_from_height_map",
    "consistency_maps",
    "filter_depth_maps",
    "fuse",
]
