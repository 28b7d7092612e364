"""True depth and surface of a rendered dataset, as files and in memory."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..io import atomic_path, load_depth_map, save_depth_map
from ..types import DepthMap
from .scene import Scene

_FOLDER = "ground_truth"
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
        >>> from aquamvs.datasets import make_example
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
    paths = sorted((folder / "depth").glob("*.npz"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise DataError(f"{folder / 'depth'} is empty; expected <camera>.npz files")
    depths = {path.stem: load_depth_map(path) for path in paths}
    return GroundTruth(depths, _load_surface(folder / "surface.npz"), _load_provenance(dataset))


def _frame_folder(dataset: Path, frame: int) -> Path:
    return dataset / _FOLDER / f"frame_{frame:06d}"


def _load_surface(path: Path) -> TrueSurface:
    expected: dict[str, tuple[type[np.generic], int]] = {
        "x0": (np.float64, 0),
        "y0": (np.float64, 0),
        "spacing": (np.float64, 0),
        "z": (np.float32, 2),
        "discontinuity": (np.bool_, 2),
    }
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for key, (dtype, ndim) in expected.items():
                if key not in archive:
                    raise DataError(f"{path} has no array {key!r}")
                array = archive[key]
                if array.dtype != dtype or array.ndim != ndim:
                    raise DataError(
                        f"{path}: array {key!r} is {array.dtype} of {array.ndim} dimensions; "
                        f"expected {np.dtype(dtype)} of {ndim}"
                    )
                arrays[key] = array
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}; expected an npz file") from None
    if arrays["z"].shape != arrays["discontinuity"].shape:
        raise DataError(
            f"{path}: z has shape {arrays['z'].shape} and discontinuity "
            f"{arrays['discontinuity'].shape}; expected the same"
        )
    spacing = float(arrays["spacing"])
    if not spacing > 0:
        raise DataError(f"{path}: spacing is {spacing}; expected metres, above 0")
    return TrueSurface(
        float(arrays["x0"]),
        float(arrays["y0"]),
        spacing,
        torch.from_numpy(arrays["z"]),
        torch.from_numpy(arrays["discontinuity"]),
    )


def _load_provenance(dataset: Path) -> dict[str, Any]:
    path = dataset / _FOLDER / "provenance.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; the dataset is incomplete") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; expected a JSON object") from None
    if not isinstance(data, dict):
        raise DataError(f"{path} holds a {type(data).__name__}; expected a JSON object")
    return data
