"""True depth and surface of a rendered dataset, as files and in memory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..files import check_folder, load_json
from ..io import atomic_path, load_depth_map, open_arrays, save_depth_map
from ..types import DepthMap
from .scene import Scene

_FOLDER = "ground_truth"
_MAX_PROVENANCE_BYTES = 1 << 24
_TILE = 128
"""Side of the tiles in which the surface is sampled, cells."""
_STEEP = 2.5
"""Rise over one cell, in cells, that no bed has: an edge of a solid."""


@dataclass(frozen=True, slots=True)
class TrueSurface:
    """Topmost static surface of a scene on a horizontal grid.

    The centre of cell (row i, column j) is at ``x = x0 + j * spacing``, ``y = y0 + i * spacing``.

    Attributes:
        x0: X of the first column's centre, metres.
        y0: Y of the first row's centre, metres.
        spacing: Cell size, metres.
        z: World Z (down) at the cells' centres, shape (rows, columns), float32.
        discontinuity: Cells within one cell of a jump in z, same shape, bool.

    Example:
        >>> surface = truth.surface
        >>> surface.z.shape == surface.discontinuity.shape, bool(surface.z.min() > rig.water_z)
        (True, True)
    """

    x0: float
    y0: float
    spacing: float
    z: Tensor
    discontinuity: Tensor


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Truth of one frame.

    Attributes:
        depths: Camera name to true depth map (confidence 1 and sigma 0 where depth is known).
        surface: Topmost static surface; fish are in the depth maps only.
        provenance: What was rendered: scene, seed, options, rig, software version.

    Example:
        >>> tuple(truth.depth("cam0").shape), tuple(truth.intrinsics("cam0").shape)
        ((150, 200), (3, 3))
        >>> truth.provenance["seed"]
        0
    """

    depths: Mapping[str, DepthMap] = field(repr=False)
    surface: TrueSurface = field(repr=False)
    provenance: dict[str, Any]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that have a true depth map."""
        return tuple(self.depths)

    def depth(self, camera: str) -> Tensor:
        """True ray depth of a camera on its undistorted grid, shape (H, W), float32, metres.

        Raises:
            DataError: There is no such camera.
        """
        return self._of(camera).depth

    def intrinsics(self, camera: str) -> Tensor:
        """Intrinsics of a camera's undistorted grid, shape (3, 3), float64.

        Raises:
            DataError: There is no such camera.
        """
        return self._of(camera).K

    def _of(self, camera: str) -> DepthMap:
        if camera not in self.depths:
            raise DataError(
                f"there is no true depth for camera {camera!r}; expected one of "
                f"{', '.join(self.depths)}"
            )
        return self.depths[camera]


def true_surface(scene: Scene) -> TrueSurface:
    """Sample the topmost static surface where the rig's cameras look.

    Args:
        scene: Scene; cells are as large as the footprint of its rig's finest pixel.

    Returns:
        The surface, on a grid whose nodes are multiples of the cell size.
    """
    spacing = max(round(scene.place.gsd * 1e4) * 1e-4, 1e-4)
    x0, x1, y0, y1 = scene.place.seen
    first_column, first_row = np.ceil(x0 / spacing), np.ceil(y0 / spacing)
    x = spacing * torch.arange(first_column, np.floor(x1 / spacing) + 1, dtype=torch.float64)
    y = spacing * torch.arange(first_row, np.floor(y1 / spacing) + 1, dtype=torch.float64)
    z = torch.empty(len(y), len(x))
    # By square tiles: solids far from a tile are never asked.
    for top in range(0, len(y), _TILE):
        for left in range(0, len(x), _TILE):
            tile = (slice(top, top + _TILE), slice(left, left + _TILE))
            grid_y, grid_x = torch.meshgrid(y[tile[0]], x[tile[1]], indexing="ij")
            z[tile] = scene.height(grid_x, grid_y).float()
    return TrueSurface(float(x[0]), float(y[0]), spacing, z, _near_jumps(z, spacing))


def _near_jumps(z: Tensor, spacing: float) -> Tensor:
    values = z.numpy()
    window = np.ones((3, 3), dtype=np.uint8)
    high, low = cv2.dilate(values, window), cv2.erode(values, window)
    return torch.from_numpy(high - low > 2 * _STEEP * spacing)


def save_frame_truth(
    dataset: Path, frame: int, depths: Mapping[str, DepthMap], surface: TrueSurface
) -> None:
    """Write the truth of one frame into a dataset folder."""
    folder = _frame_folder(dataset, frame)
    for camera, depth in depths.items():
        save_depth_map(folder / "depth" / f"{camera}.npz", depth)
    with atomic_path(folder / "surface.npz") as temporary:
        np.savez_compressed(
            temporary,
            x0=np.float64(surface.x0),
            y0=np.float64(surface.y0),
            spacing=np.float64(surface.spacing),
            z=surface.z.numpy(),
            discontinuity=surface.discontinuity.numpy(),
        )


def save_provenance(dataset: Path, provenance: Mapping[str, Any]) -> None:
    """Write what a dataset shows into its folder."""
    with atomic_path(dataset / _FOLDER / "provenance.json") as temporary:
        temporary.write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def has_ground_truth(dataset_dir: str | Path, frame: int = 0) -> bool:
    """Whether a dataset folder holds the truth of a frame.

    Example:
        >>> from aquamvs.datasets import has_ground_truth
        >>> has_ground_truth(".")
        False
    """
    folder = _frame_folder(Path(dataset_dir), frame)
    return (folder / "surface.npz").is_file() and (folder / "depth").is_dir()


def load_ground_truth(dataset_dir: str | Path, frame: int = 0) -> GroundTruth:
    """Read the truth of a frame.

    Args:
        dataset_dir: Dataset folder, as :func:`~.example.write_dataset` makes it.
        frame: Frame number.

    Returns:
        The truth; its cameras are in the order of their names' numbers.

    Raises:
        DataError: It is missing, damaged or inconsistent.

    Example:
        >>> from aquamvs.datasets import load_ground_truth, make_example
        >>> truth = load_ground_truth(make_example("example", scale="tiny"))
        >>> len(truth.cameras), tuple(truth.depth("cam0").shape)
        (5, (150, 200))
    """
    dataset = Path(dataset_dir)
    if not has_ground_truth(dataset, frame):
        raise DataError(
            f"{dataset} has no ground truth of frame {frame}; expected "
            f"{_frame_folder(dataset, frame)} with surface.npz and depth/<camera>.npz, which only "
            "rendered datasets have"
        )
    folder = _frame_folder(dataset, frame)
    check_folder(folder / "depth", "true depth maps")
    paths = sorted((folder / "depth").glob("*.npz"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise DataError(f"{folder / 'depth'} is empty; expected <camera>.npz files")
    depths = {path.stem: load_depth_map(path) for path in paths}
    return GroundTruth(depths, load_surface(folder / "surface.npz"), _load_provenance(dataset))


def _frame_folder(dataset: Path, frame: int) -> Path:
    return dataset / _FOLDER / f"frame_{frame:06d}"


def load_surface(path: Path) -> TrueSurface:
    """Read the true surface of a frame.

    Args:
        path: ``surface.npz`` of a frame's truth.

    Raises:
        DataError: The file is missing, damaged, or holds other arrays.
    """
    with open_arrays(path) as arrays:
        x0, y0, spacing, z = arrays.heights()
        discontinuity = arrays.array("discontinuity", np.bool_, z.shape)
    return TrueSurface(x0, y0, spacing, z, discontinuity)


def _load_provenance(dataset: Path) -> dict[str, Any]:
    path = dataset / _FOLDER / "provenance.json"
    return load_json(path, "provenance", max_bytes=_MAX_PROVENANCE_BYTES)
