"""Training data: rendered scenes through water, and true warps between their views.

Everything follows from a seed: rig, scene, camera settings, and photometric change. Rendering takes
seconds per scene, so every scene is rendered once (kept in a work folder where one is given) and
many pairs of its views are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..calibration import CalibrationData, compute_undistortion_maps, undistort_image
from ..datasets import Imaging, SceneKind, SceneOptions, make_scene, render_view, true_depth
from ..datasets.noise import random_stream
from ..errors import AquaMVSError, DataError
from ..io import open_arrays, save_arrays
from ..pixels import pixel_grid, to_normalized
from ..projection import RefractiveProjectionModel
from ..types import View
from .rigs import IMAGE_SIZE, random_rig

TRAINING_SEEDS = range(1000, 1040)
"""Scenes to learn from."""

VALIDATION_SEEDS = range(2000, 2006)
"""Scenes on which thresholds are chosen; figures are reported on the held-out seeds 100 to 119."""

_KINDS = (
    SceneKind.BOWER,
    SceneKind.BOXES,
    SceneKind.BOWER,
    SceneKind.LOW_TEXTURE,
    SceneKind.BOXES,
    SceneKind.BOWER,
    SceneKind.BOARD,
    SceneKind.LOW_TEXTURE,
    SceneKind.PLANE,
)
"""Kinds of the scenes by seed; nine of them, so that each meets each of the five textures."""

_DEPTH = (0.3, 0.6)
_SLOPE = 0.06
_MAX_FISH = 6
"""Occluders that hang between the cameras and the bed."""

_OCCLUSION_TOLERANCE = 4e-3
"""How much nearer than a point something must be to hide it, as a part of its distance: above the
interpolation error of depth on slopes, below the size of a pebble."""

_LEAST_OVERLAP = 0.15
"""Part of a view that its partner must see."""

_PROBE_STRIDE = 16


@dataclass(frozen=True, slots=True)
class TrainingView:
    """One rendered view.

    Attributes:
        name: Camera name.
        image: RGB, shape (H, W, 3), uint8, undistorted.
        depth: True ray depth on the same grid, shape (H, W), float32, metres; NaN where there is
            no surface.
        model: Refractive projection with the intrinsics of the grid.

    Example:
        >>> from aquamvs.training.data import TrainingView
        >>> image = (views["cam0"].image * 255).byte().numpy()
        >>> view = TrainingView("cam0", image, truth.depth("cam0"), views["cam0"].model)
        >>> view.size, view.as_view().name
        ((200, 150), 'cam0')
    """

    name: str
    image: NDArray[np.uint8]
    depth: Tensor
    model: RefractiveProjectionModel

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.depth.shape[1], self.depth.shape[0]

    def as_view(self) -> View:
        """In the form that matchers take; nothing is masked."""
        image = torch.from_numpy(self.image).float() / 255
        return View(self.name, image, torch.ones_like(self.depth, dtype=torch.bool), self.model)


@dataclass(frozen=True, slots=True)
class TrainingScene:
    """Views of one scene.

    Attributes:
        seed: Of rig, scene and imaging.
        views: In the rig's order.
        pairs: Positions of views that overlap, each unordered pair once.

    Example:
        >>> from aquamvs.training.data import TrainingScene
        >>> TrainingScene(seed=1000, views=(), pairs=()).seed
        1000
    """

    seed: int
    views: tuple[TrainingView, ...]
    pairs: tuple[tuple[int, int], ...]


def training_scene(seed: int, work: Path | None = None) -> TrainingScene:
    """Render a scene, or read it where it was rendered before.

    Args:
        seed: Of everything random.
        work: Folder of rendered scenes; None keeps nothing.

    Returns:
        The scene.

    Raises:
        DataError: A file of the work folder is damaged, or it cannot be written.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from aquamvs.training.data import training_scene
        >>> images = np.zeros((8, 480, 640, 3), np.uint8)  # in place of a minute of rendering
        >>> np.savez("scene_1000.npz", images=images, depths=np.ones((8, 480, 640), np.float32))
        >>> made_before = training_scene(1000, work=Path())
        >>> len(made_before.views), made_before.views[0].size
        (8, (640, 480))
    """
    rig = random_rig(seed)
    if work is None:
        return _assemble(seed, rig, *_render(seed, rig))
    path = work / f"scene_{seed}.npz"
    if not path.exists():
        images, depths = _render(seed, rig)
        save_arrays(path, {"images": images, "depths": depths})
    shape = (len(rig.cameras), IMAGE_SIZE[1], IMAGE_SIZE[0])
    try:
        with open_arrays(path) as arrays:
            images = arrays.array("images", np.uint8, (*shape, 3)).numpy()
            depths = arrays.array("depths", np.float32, shape).numpy()
        return _assemble(seed, rig, images, depths)
    except AquaMVSError as error:
        raise DataError(
            f"{path} is not a rendered training scene ({error}); delete it, and it is made anew"
        ) from None


def true_warp(
    first: TrainingView, second: TrainingView, pixels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Where pixels of a view lie in another.

    Args:
        first: View of the pixels.
        second: The other.
        pixels: shape (..., 2); every pixel of ``first`` when absent.

    Returns:
        Pixels of ``second``, shape (..., 2), float32, NaN where ``first`` sees no surface, and
        whether ``second`` sees the point there, shape (...,).

    Example:
        >>> from aquamvs.training.data import TrainingView, true_warp
        >>> both = [
        ...     TrainingView(v.name, (v.image * 255).byte().numpy(), truth.depth(v.name), v.model)
        ...     for v in (views["cam0"], views["cam1"])
        ... ]
        >>> warp, visible = true_warp(*both)
        >>> tuple(warp.shape), bool(visible.float().mean() > 0.3)
        ((150, 200, 2), True)
    """
    if pixels is None:
        pixels, depth = pixel_grid(first.size), first.depth
    else:
        depth = sample_depth(first.depth, pixels)
    origin, direction = first.model.cast_ray(pixels.double())
    points = origin + depth.double()[..., None] * direction
    target, valid = second.model.project(points)
    width, height = second.size
    inside = (target >= 0).all(-1) & (target[..., 0] <= width - 1) & (target[..., 1] <= height - 1)
    back, _ = second.model.cast_ray(target)
    distance = (points - back).norm(dim=-1)
    # The nearest of the pixels around: a point beside an edge is not hidden by interpolation.
    seen = sample_depth(second.depth, target.float())
    hidden = seen.double() < distance * (1 - _OCCLUSION_TOLERANCE) - _OCCLUSION_TOLERANCE
    visible = valid & inside & torch.isfinite(seen) & ~hidden
    return target.float(), visible


def sample_depth(depth: Tensor, pixels: Tensor) -> Tensor:
    """Depth at pixels, shape (H, W) and (..., 2) -> (...,); NaN beyond the image.

    Bilinear on surfaces. Beside a jump a mean lies on neither side: there the nearest pixel.

    Example:
        >>> import torch
        >>> from aquamvs.training.data import sample_depth
        >>> ramp = torch.tensor([[1.0, 1.002], [1.0, 1.002]])
        >>> round(float(sample_depth(ramp, torch.tensor([0.5, 0.5]))), 4)
        1.001
    """
    grid = to_normalized(pixels, (depth.shape[1], depth.shape[0]))
    grid = grid.reshape(1, 1, -1, 2).nan_to_num(nan=4.0)
    smooth, nearest = (
        torch.nn.functional.grid_sample(
            depth[None, None], grid, mode=mode, padding_mode="border", align_corners=False
        )[0, 0, 0]
        for mode in ("bilinear", "nearest")
    )
    jump = ~((smooth - nearest).abs() < _OCCLUSION_TOLERANCE)
    value = torch.where(jump, nearest, smooth)
    outside = (grid[0, 0].abs() > 1).any(-1)
    return torch.where(outside, torch.nan, value).reshape(pixels.shape[:-1])


def change_light(view: TrainingView, rng: np.random.Generator) -> TrainingView:
    """A view under another light and camera setting: geometry stays, intensities change.

    Gain, gamma, white balance, a shading that varies over the image, blur and noise, each drawn
    anew.

    Example:
        >>> import numpy as np
        >>> from aquamvs.training.data import TrainingView, change_light
        >>> image = (views["cam0"].image * 255).byte().numpy()
        >>> view = TrainingView("cam0", image, truth.depth("cam0"), views["cam0"].model)
        >>> changed = change_light(view, np.random.default_rng(0))
        >>> bool((changed.image != view.image).any()), changed.depth is view.depth
        (True, True)
    """
    image = view.image.astype(np.float32) / 255
    height, width = image.shape[:2]
    image **= np.float32(np.exp(0.25 * rng.normal()))
    image *= np.exp(0.1 * rng.normal(size=3) + 0.2 * rng.normal()).astype(np.float32)
    shade = cv2.resize(
        rng.normal(size=(3, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    image *= np.exp(np.float32(abs(0.1 * rng.normal())) * shade)[..., None]
    if rng.random() < 0.3:
        sigma = rng.uniform(0.3, 1.0)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += np.float32(0.02 * rng.random() ** 2) * noise
    changed = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return TrainingView(view.name, changed, view.depth, view.model)


def _render(seed: int, rig: CalibrationData) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Undistorted images, shape (V, H, W, 3), and true ray depths, shape (V, H, W)."""
    rng = random_stream(seed, "training scene")
    options = SceneOptions(
        depth=rng.uniform(*_DEPTH),
        slope=tuple(_SLOPE * rng.normal(size=2).clip(-2, 2)),
        contrast=rng.uniform(0.6, 1.2),
        n_fish=int(rng.integers(_MAX_FISH + 1)),
        tilt_deg=15 * float(rng.normal()),
        azimuth_deg=float(rng.uniform(0, 360)),
    )
    imaging = Imaging(
        supersampling=1,
        psf_sigma_px=rng.uniform(0.35, 0.7),
        exposure=rng.uniform(0.6, 1.1),
        gain_spread=0.1,
        full_well_e=rng.uniform(3000, 12000),
    )
    scene = make_scene(_KINDS[seed % len(_KINDS)], seed=seed, rig=rig, options=options)
    images, depths = [], []
    for name, camera in rig.cameras.items():
        maps = compute_undistortion_maps(camera)
        image = render_view(scene, rig, name, imaging=imaging)
        images.append(np.asarray(undistort_image(image, maps), dtype=np.uint8))
        depths.append(true_depth(scene, rig, name, undistortion=maps)[0].float().numpy())
    return np.stack(images), np.stack(depths)


def _assemble(
    seed: int,
    rig: CalibrationData,
    images: NDArray[np.uint8],
    depths: NDArray[np.float32],
) -> TrainingScene:
    views = tuple(
        TrainingView(
            name,
            images[index],
            torch.from_numpy(depths[index]),
            rig.projection_model(name, compute_undistortion_maps(camera).K_new),
        )
        for index, (name, camera) in enumerate(rig.cameras.items())
    )
    pairs = tuple(
        (i, j)
        for i in range(len(views))
        for j in range(i + 1, len(views))
        if min(_overlap(views[i], views[j]), _overlap(views[j], views[i])) > _LEAST_OVERLAP
    )
    if not pairs:
        raise DataError(f"no two views of training scene {seed} see the same ground")
    return TrainingScene(seed, views, pairs)


def _overlap(first: TrainingView, second: TrainingView) -> float:
    """Part of the first view's pixels that the second sees."""
    probes = pixel_grid(first.size)[::_PROBE_STRIDE, ::_PROBE_STRIDE]
    return float(true_warp(first, second, probes)[1].float().mean())
