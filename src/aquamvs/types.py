"""The data that moves between stages: frozen, validated where it enters, never a dict of tensors.

Frames, axes and units follow the conventions page: world frame with Z down into the water, metres;
pixels (u, v) with the centre of the top-left pixel at (0, 0); invalid depth is NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ShapeError
from .pixels import cell_centres
from .projection import RefractiveProjectionModel


def _require(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise ShapeError unless ``tensor`` has ``shape`` (None: any size)."""
    actual = tuple(tensor.shape)
    same = len(actual) == len(shape) and all(
        want is None or have == want for have, want in zip(actual, shape, strict=True)
    )
    if not same:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ShapeError(name, actual, f"({wanted})")


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Synchronised images of one instant, as read from disk (lens distortion still in them).

    Attributes:
        index: Frame number.
        images: Camera name to RGB image, shape (H, W, 3), float32 in [0, 1].

    Example:
        >>> import torch
        >>> from aquamvs.types import FrameSet
        >>> frame = FrameSet(0, {"left": torch.rand(30, 40, 3), "right": torch.rand(30, 40, 3)})
        >>> sorted(frame.images)
        ['left', 'right']
    """

    index: int
    images: dict[str, Tensor]

    def __post_init__(self) -> None:
        for name, image in self.images.items():
            _require(f"image of {name}", image, (None, None, 3))


@dataclass(frozen=True, slots=True)
class View:
    """One camera's undistorted image and the refractive model that belongs to it.

    Attributes:
        name: Camera name.
        image: RGB, shape (H, W, 3), float32 in [0, 1], lens distortion removed.
        mask: shape (H, W), bool; False where the pixel must not be used (user's mask, or outside
            of the distorted image).
        model: Refractive projection with the intrinsics of the undistorted grid.
        is_auxiliary: Used as a source, never as a reference.

    Example:
        >>> view = views["cam0"]
        >>> view.size, tuple(view.image.shape), view.is_auxiliary
        ((200, 150), (150, 200, 3), False)
    """

    name: str
    image: Tensor
    mask: Tensor
    model: RefractiveProjectionModel
    is_auxiliary: bool = False

    def __post_init__(self) -> None:
        _require(f"image of {self.name}", self.image, (None, None, 3))
        _require(f"mask of {self.name}", self.mask, tuple(self.image.shape[:2]))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True, slots=True)
class UndistortedViews:
    """All views of one frame, in the calibration's order of cameras.

    Example:
        >>> views.names, [view.name for view in views.references], views["cam1"].size
        (('cam0', 'cam1', 'cam2', 'cam3', 'cam4'), ['cam0', 'cam1', 'cam2', 'cam3', 'cam4'], ...
    """

    frame: int
    views: tuple[View, ...]

    def __iter__(self) -> Iterator[View]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, name: str) -> View:
        for view in self.views:
            if view.name == name:
                return view
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Camera names in order."""
        return tuple(view.name for view in self.views)

    @property
    def references(self) -> tuple[View, ...]:
        """Views that get a depth map, which are all but the auxiliary ones."""
        return tuple(view for view in self.views if not view.is_auxiliary)


@dataclass(frozen=True, slots=True)
class Matches:
    """Point correspondences between two views.

    Attributes:
        reference: Camera name.
        source: Camera name.
        reference_pixels: shape (N, 2), float32.
        source_pixels: shape (N, 2), float32.
        scores: shape (N,), float32 in [0, 1].

    Example:
        >>> import torch
        >>> from aquamvs.types import Matches
        >>> pixels = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
        >>> len(Matches("cam0", "cam1", pixels, pixels + 1, torch.ones(2)))
        2
    """

    reference: str
    source: str
    reference_pixels: Tensor
    source_pixels: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        count = self.reference_pixels.shape[0]
        _require("reference_pixels", self.reference_pixels, (count, 2))
        _require("source_pixels", self.source_pixels, (count, 2))
        _require("scores", self.scores, (count,))

    def __len__(self) -> int:
        return self.reference_pixels.shape[0]


@dataclass(frozen=True, slots=True)
class Warp:
    """Dense correspondence from a reference view into a source view.

    The warp grid divides the reference image evenly; cell (i, j) stands for its centre.

    Attributes:
        reference: Camera name.
        source: Camera name.
        source_pixels: Where each cell's centre lies in the source image, shape (h, w, 2), float32.
        certainty: shape (h, w), float32 in [0, 1].
        reference_size: (width, height) of the reference image.

    Example:
        >>> import torch
        >>> from aquamvs.types import Warp
        >>> warp = Warp("cam0", "cam1", torch.zeros(2, 4, 2), torch.ones(2, 4), (200, 150))
        >>> warp.reference_pixels()[0, 0].tolist()
        [24.5, 37.0]
    """

    reference: str
    source: str
    source_pixels: Tensor
    certainty: Tensor
    reference_size: tuple[int, int]

    def __post_init__(self) -> None:
        height, width = self.certainty.shape
        _require("source_pixels", self.source_pixels, (height, width, 2))

    def reference_pixels(self) -> Tensor:
        """Pixel in the reference image of every cell's centre, shape (h, w, 2)."""
        height, width = self.certainty.shape
        return cell_centres((width, height), self.reference_size).to(self.source_pixels)


@dataclass(frozen=True, slots=True)
class PointCloud:
    """Points on the reconstructed surface, world frame.

    Attributes:
        points: shape (N, 3), float32 or float64, metres.
        colors: RGB, shape (N, 3), float32 in [0, 1].
        normals: Unit, pointing to the cameras, shape (N, 3), float32.
        confidence: shape (N,), float32 in [0, 1].
        sigma: 1-sigma position uncertainty along the mean viewing ray, shape (N,), float32, metres.
        view_count: Views that agree on the point, shape (N,), int32.

    Example:
        >>> cloud = made.cloud
        >>> tuple(cloud.points.shape) == (len(cloud), 3), bool((cloud.sigma > 0).all())
        (True, True)
    """

    points: Tensor
    colors: Tensor
    normals: Tensor
    confidence: Tensor
    sigma: Tensor
    view_count: Tensor

    def __post_init__(self) -> None:
        count = self.points.shape[0]
        _require("points", self.points, (count, 3))
        _require("colors", self.colors, (count, 3))
        _require("normals", self.normals, (count, 3))
        _require("confidence", self.confidence, (count,))
        _require("sigma", self.sigma, (count,))
        _require("view_count", self.view_count, (count,))

    def __len__(self) -> int:
        return self.points.shape[0]


@dataclass(frozen=True, slots=True)
class DepthMap:
    """Ray depth of one view on its full undistorted grid.

    Attributes:
        camera: Camera name.
        depth: Metres along the refracted ray from the water surface, shape (H, W), float32; NaN
            where unknown.
        confidence: shape (H, W), float32 in [0, 1]; 0 where depth is NaN.
        sigma: 1-sigma uncertainty of depth, shape (H, W), float32, metres; NaN where unknown.
        K: Intrinsics of the undistorted grid, shape (3, 3), float64.

    Example:
        >>> depth_map = made.depth_maps[0]
        >>> depth_map.camera, bool(depth_map.confidence[~depth_map.valid].sum() == 0)
        ('cam0', True)
    """

    camera: str
    depth: Tensor
    confidence: Tensor
    sigma: Tensor
    K: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.depth.shape)
        _require("depth", self.depth, (None, None))
        _require("confidence", self.confidence, shape)
        _require("sigma", self.sigma, shape)
        _require("K", self.K, (3, 3))

    @property
    def valid(self) -> Tensor:
        """Where depth is known, shape (H, W), bool."""
        return torch.isfinite(self.depth)


@dataclass(frozen=True, slots=True)
class HeightMap:
    """Height field on a horizontal grid of the world frame.

    The centre of cell (row i, column j) is at ``x = x0 + j * spacing``, ``y = y0 + i * spacing``.

    Attributes:
        x0: X of the first column's centre, metres.
        y0: Y of the first row's centre, metres.
        spacing: Cell size, metres.
        z: World Z (down) of the surface, shape (rows, columns), float32; NaN where unknown.
        sigma: 1-sigma uncertainty of z, same shape, float32, metres; NaN where unknown.
        confidence: same shape, float32 in [0, 1]; 0 where z is NaN.
        view_count: Views that support the cell, same shape, int32.
        color: Orthophoto, RGB, shape (rows, columns, 3), float32 in [0, 1].

    Example:
        >>> x, y = made.height_map.grid_xy()
        >>> x.shape == made.height_map.z.shape, round(float(x[0, 1] - x[0, 0]), 3)
        (True, 0.02)
    """

    x0: float
    y0: float
    spacing: float
    z: Tensor
    sigma: Tensor
    confidence: Tensor
    view_count: Tensor
    color: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.z.shape)
        _require("z", self.z, (None, None))
        _require("sigma", self.sigma, shape)
        _require("confidence", self.confidence, shape)
        _require("view_count", self.view_count, shape)
        _require("color", self.color, (*shape, 3))

    def grid_xy(self) -> tuple[Tensor, Tensor]:
        """World X and Y of every cell, float64, each of shape (rows, columns)."""
        rows, columns = self.z.shape
        x = self.x0 + self.spacing * torch.arange(columns, dtype=torch.float64)
        y = self.y0 + self.spacing * torch.arange(rows, dtype=torch.float64)
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        return grid_x, grid_y


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangle mesh in the world frame.

    Attributes:
        vertices: shape (V, 3), metres.
        faces: Vertex indices, counter-clockwise seen from the cameras, shape (F, 3), int32 or
            int64.
        normals: Unit vertex normals, shape (V, 3), float32.
        colors: RGB per vertex, shape (V, 3), float32 in [0, 1].

    Example:
        >>> import torch
        >>> from aquamvs.types import Mesh
        >>> corners = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
        >>> up = torch.tensor([[0.0, 0.0, -1.0]]).expand(3, 3)
        >>> mesh = Mesh(corners, torch.tensor([[0, 1, 2]]), up, torch.ones(3, 3))
        >>> tuple(mesh.faces.shape)
        (1, 3)
    """

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    colors: Tensor

    def __post_init__(self) -> None:
        count = self.vertices.shape[0]
        _require("vertices", self.vertices, (count, 3))
        _require("faces", self.faces, (None, 3))
        _require("normals", self.normals, (count, 3))
        _require("colors", self.colors, (count, 3))
