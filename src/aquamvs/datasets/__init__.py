"""Datasets: rendered refractive scenes with exact ground truth, and the published example."""

from .board import board_corners, charuco_board
from .builder import make_scene
from .correspondences import true_correspondences
from .example import ExampleScale, make_example, write_dataset
from .ground_truth import GroundTruth, TrueSurface, has_ground_truth, load_ground_truth
from .imaging import Imaging
from .materials import TextureKind
from .published import fetch_published
from .render import render_radiance, render_view, true_depth
from .rigs import make_rig, save_calibration
from .scene import Hits, Scene, SceneKind, SceneOptions
from .solids import Part

__all__ = [
    "ExampleScale",
    "GroundTruth",
    "Hits",
    "Imaging",
    "Part",
    "Scene",
    "SceneKind",
    "SceneOptions",
    "TextureKind",
    "TrueSurface",
    "board_corners",
    "charuco_board",
    "fetch_published",
    "has_ground_truth",
    "load_ground_truth",
    "make_example",
    "make_rig",
    "make_scene",
    "render_radiance",
    "render_view",
    "save_calibration",
    "true_correspondences",
    "true_depth",
    "write_dataset",
]
