"""Matching: pairs of views, guided sparse matchers, dense matchers, and their weights."""

from .base import DenseMatcher, Features, SparseMatcher
from .bundled import BUNDLED, OFFICIAL, ROMA_STYLE, bundled_card
from .extractors import DetectionOptions, ExtractorType
from .guidance import (
    Guidance,
    epipolar_candidates,
    epipolar_curves,
    epipolar_distance,
    keep_guided,
)
from .lightglue import LightGlueMatcher, LightGlueOptions
from .pairs import Pair, select_pairs, unordered_pairs
from .registry import MATCHERS, MatcherEntry, MatcherOptions, create_matcher
from .roma import RomaMatcher, RomaOptions, RomaSetting
from .roma_bundled import BundledRomaMatcher
from .sift import SiftMatcher, SiftOptions
from .stage import match_dense, match_sparse
from .warps import guide_warp, mask_warp, warp_to_matches
from .weights import (
    WEIGHTS,
    WeightsFile,
    WeightsStatus,
    fetch_weights,
    list_weights,
    resolve_weights,
)

__all__ = [
    "BUNDLED",
    "MATCHERS",
    "OFFICIAL",
    "ROMA_STYLE",
    "WEIGHTS",
    "BundledRomaMatcher",
    "DenseMatcher",
    "DetectionOptions",
    "ExtractorType",
    "Features",
    "Guidance",
    "LightGlueMatcher",
    "LightGlueOptions",
    "MatcherEntry",
    "MatcherOptions",
    "Pair",
    "RomaMatcher",
    "RomaOptions",
    "RomaSetting",
    "SiftMatcher",
    "SiftOptions",
    "SparseMatcher",
    "WeightsFile",
    "WeightsStatus",
    "bundled_card",
    "create_matcher",
    "epipolar_candidates",
    "epipolar_curves",
    "epipolar_distance",
    "fetch_weights",
    "guide_warp",
    "keep_guided",
    "list_weights",
    "mask_warp",
    "match_dense",
    "match_sparse",
    "resolve_weights",
    "select_pairs",
    "unordered_pairs",
    "warp_to_matches",
]
