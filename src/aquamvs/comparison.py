"""Files of results against files of truth, or against each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from torch import Tensor

from .datasets.ground_truth import load_surface
from .errors import DataError
from .evaluation import (
    CloudErrors,
    CloudScores,
    DepthErrors,
    HeightErrors,
    HeightGrid,
    MeshErrors,
    Triangles,
    cloud_errors,
    cloud_scores,
    height_errors,
    mesh_errors,
    pooled_depth_errors,
)
from .files import check_folder
from .io import (
    array_names,
    load_depth_map,
    load_height_map,
    load_mesh,
    load_point_cloud,
    ply_elements,
)
from .types import DepthMap

Errors = DepthErrors | HeightErrors | CloudErrors | CloudScores | MeshErrors


class Kind(StrEnum):
    """What a file holds.

    Example:
        >>> from aquamvs.comparison import Kind
        >>> [kind.value for kind in Kind]
        ['depth map', 'folder of depth maps', 'height map', 'true surface', 'point cloud', 'mesh']
    """

    DEPTH = "depth map"
    DEPTHS = "folder of depth maps"
    HEIGHT = "height map"
    SURFACE = "true surface"
    CLOUD = "point cloud"
    MESH = "mesh"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Errors of one file against another.

    Attributes:
        estimate: Kind of what was judged.
        truth: Kind of what it was judged by.
        errors: The errors, metres.

    Example:
        >>> from aquamvs.comparison import compare_files
        >>> from aquamvs.io import save_mesh
        >>> save_mesh("surface.ply", made.mesh)
        >>> truth_path = folder / "ground_truth/frame_000000/surface.npz"
        >>> compared = compare_files("surface.ply", truth_path)
        >>> compared.estimate.value, compared.truth.value
        ('mesh', 'true surface')
    """

    estimate: Kind
    truth: Kind
    errors: Errors


def compare_files(
    estimate: str | Path, truth: str | Path, *, sample_spacing: float | None = None
) -> Comparison:
    """Judge a result by the truth or by another result.

    Depth maps are compared with depth maps (or a folder of them with another, camera by camera and
    pooled), height maps with height maps or true surfaces, clouds with clouds, meshes, height maps
    or true surfaces, and meshes with meshes, height maps or true surfaces.

    Args:
        estimate: What is judged.
        truth: What it is judged by.
        sample_spacing: Distance of samples on surfaces, metres; two cells of a grid, or the square
            root of the mean area of a mesh's triangles, when absent.

    Returns:
        The errors; nothing is trimmed.

    Raises:
        DataError: A file is missing, damaged or of an unknown kind, or the two do not compare.

    Example:
        >>> from aquamvs.comparison import compare_files
        >>> from aquamvs.io import save_mesh
        >>> save_mesh("surface.ply", made.mesh)
        >>> errors = compare_files("surface.ply", "surface.ply").errors
        >>> errors.to_truth.max_abs < 1e-6
        True
    """
    estimate, truth = Path(estimate), Path(truth)
    kinds = kind_of(estimate), kind_of(truth)
    return Comparison(*kinds, _errors(estimate, truth, kinds, sample_spacing))


def kind_of(path: Path) -> Kind:
    """What a file or folder holds, from its name and table of contents.

    Raises:
        DataError: It does not exist, may not be read, or is of no known kind.

    Example:
        >>> from aquamvs.comparison import kind_of
        >>> kind_of(folder / "ground_truth/frame_000000/surface.npz").value
        'true surface'
    """
    if path.is_dir():
        check_folder(path, "folder of depth maps")
        if any(path.glob("*.npz")):
            return Kind.DEPTHS
    elif path.suffix.lower() == ".npz":
        names = array_names(path)
        if "depth" in names:
            return Kind.DEPTH
        if "z" in names:
            return Kind.SURFACE if "discontinuity" in names else Kind.HEIGHT
    elif path.suffix.lower() == ".ply":
        return Kind.MESH if "face" in ply_elements(path) else Kind.CLOUD
    elif not path.exists():
        raise DataError(f"{path} does not exist")
    raise DataError(
        f"{path} is neither a depth map, height map or true surface (npz) nor a cloud or mesh "
        "(ply), nor a folder of depth maps (such as frame_000000/depth_maps of a run)"
    )


def _errors(estimate: Path, truth: Path, kinds: tuple[Kind, Kind], spacing: float | None) -> Errors:
    mine, other = kinds
    if kinds == (Kind.DEPTH, Kind.DEPTH):
        return _depth_errors([load_depth_map(estimate)], [load_depth_map(truth)])
    if kinds == (Kind.DEPTHS, Kind.DEPTHS):
        return _depth_errors(*_shared(estimate, truth))
    if mine is Kind.HEIGHT and other in (Kind.HEIGHT, Kind.SURFACE):
        return height_errors(load_height_map(estimate), _grid(truth, other))
    if mine is Kind.CLOUD and other is Kind.CLOUD:
        return cloud_errors(_points(estimate), _points(truth))
    if mine in (Kind.CLOUD, Kind.MESH) and other in (Kind.MESH, Kind.HEIGHT, Kind.SURFACE):
        surface, typical = _surface(truth, other)
        if mine is Kind.CLOUD:
            return cloud_scores(_points(estimate), surface, sample_spacing=spacing or typical)
        return mesh_errors(load_mesh(estimate), surface, sample_spacing=spacing or typical)
    raise DataError(
        f"{estimate} is a {mine} and {truth} a {other}, which do not compare; see "
        "`aquamvs evaluate --help`"
    )


def _depth_errors(estimated: list[DepthMap], truth: list[DepthMap]) -> DepthErrors:
    for mine, other in zip(estimated, truth, strict=True):
        if mine.depth.shape != other.depth.shape:
            raise DataError(
                f"depth map of {mine.camera} has shape {tuple(mine.depth.shape)}; the truth has "
                f"{tuple(other.depth.shape)}"
            )
    return pooled_depth_errors(estimated, [each.depth for each in truth])


def _shared(estimate: Path, truth: Path) -> tuple[list[DepthMap], list[DepthMap]]:
    """Depth maps of both folders, by camera."""
    paths = sorted(estimate.glob("*.npz"))
    missing = [path.name for path in paths if not (truth / path.name).is_file()]
    if missing:
        raise DataError(f"{truth} has no {missing[0]}, which {estimate} has")
    return (
        [load_depth_map(path) for path in paths],
        [load_depth_map(truth / path.name) for path in paths],
    )


def _grid(path: Path, kind: Kind) -> HeightGrid:
    if kind is Kind.HEIGHT:
        return HeightGrid.of_height_map(load_height_map(path))
    surface = load_surface(path)
    return HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)


def _surface(path: Path, kind: Kind) -> tuple[Triangles, float]:
    """A surface and a distance of samples that suits it."""
    if kind is Kind.MESH:
        triangles = Triangles.of_mesh(load_mesh(path))
        return triangles, float(np.sqrt(triangles.area / len(triangles.faces)))
    grid = _grid(path, kind)
    return grid.triangles(), 2 * grid.spacing


def _points(path: Path) -> Tensor:
    points = load_point_cloud(path).points
    unknown = int(points.isnan().any(-1).sum())
    if unknown:
        raise DataError(f"{path} has {unknown} points without a position; remove them first")
    return points
