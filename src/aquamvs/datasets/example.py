"""Writer of rendered datasets: images, calibration, configuration, masks and ground truth."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ..calibration import CalibrationData
from ..errors import DataError
from ..io import atomic_path, write_image
from ..io.storage import check_space, new_folder
from ..types import DepthMap
from .builder import make_scene
from .ground_truth import save_frame_truth, save_provenance, true_surface
from .imaging import Imaging
from .render import render_view, true_depth
from .rigs import make_rig, resize_rig, save_calibration
from .scene import Scene, SceneKind, SceneOptions
from .solids import Part

Progress = Callable[[str, int, int], None]
"""Called with what has been written, the number of images so far, and their number in all."""


class ExampleScale(StrEnum):
    """Sizes of the example dataset.

    Example:
        >>> from aquamvs.datasets import ExampleScale
        >>> [scale.value for scale in ExampleScale]
        ['tiny', 'small', 'medium', 'full']
    """

    TINY = "tiny"
    SMALL = "small"
    MEDIUM = "medium"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class _Scale:
    rig: str
    image_size: tuple[int, int] | None


_SCALES = {
    ExampleScale.TINY: _Scale("small5", (200, 150)),
    ExampleScale.SMALL: _Scale("small5", None),
    ExampleScale.MEDIUM: _Scale("ring13", (800, 600)),
    ExampleScale.FULL: _Scale("ring13", None),
}

_BYTES_PER_PIXEL = 14
"""Of a frame's files, for each pixel of its images: 12 of true depth, the rest of the images."""


def make_example(
    out: str | Path,
    *,
    scale: ExampleScale | str = ExampleScale.SMALL,
    seed: int = 0,
    scene: SceneKind | str = SceneKind.BOWER,
    frames: int = 1,
    options: SceneOptions | Sequence[SceneOptions] | None = None,
    masks: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make the example dataset.

    Args:
        out: Folder to create.
        scale: ``tiny`` (5 cameras of 200 x 150, to try things out), ``small`` (5 of 400 x 300),
            ``medium`` (13 of 800 x 600) or ``full`` (13 of 1600 x 1200).
        seed: Of everything random.
        scene: Kind of scene (see :func:`~.builder.make_scene`).
        frames: Number of frames.
        options: What the seed shall not decide; a sequence has one for each frame and replaces
            ``frames``.
        masks: Also write masks.
        overwrite: Replace a folder that holds something.
        workers: Threads; all processors when absent.
        progress: Called for every image with its name, how many there are now, and how many in all.

    Returns:
        The folder.

    Raises:
        DataError: See :func:`write_dataset`.

    Example:
        >>> from aquamvs.datasets import make_example
        >>> folder = make_example("example", scale="tiny")
        >>> sorted(path.name for path in folder.iterdir())
        ['calibration.json', 'config.yaml', 'ground_truth', 'images']
    """
    try:
        preset = _SCALES[ExampleScale(scale)]
    except ValueError:
        raise DataError(
            f"there is no example scale {str(scale)!r}; expected one of {', '.join(ExampleScale)}"
        ) from None
    return write_dataset(
        out,
        rig=preset.rig,
        scene_kind=scene,
        seed=seed,
        frames=frames,
        image_size=preset.image_size,
        options=options,
        masks=masks,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
    )


def write_dataset(
    out: str | Path,
    *,
    rig: CalibrationData | str | Path,
    scene_kind: SceneKind | str,
    seed: int,
    frames: int = 1,
    image_size: tuple[int, int] | None = None,
    options: SceneOptions | Sequence[SceneOptions] | None = None,
    imaging: Imaging | None = None,
    masks: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Render a dataset with ground truth into a folder, which appears whole or not at all.

    Args:
        out: Folder to create.
        rig: Rig, or a name or path for :func:`~.rigs.make_rig`.
        scene_kind: Kind of scene (see :func:`~.builder.make_scene`).
        seed: Of scene, gains and noise.
        frames: Number of frames; fish (``SceneOptions.n_fish``) move between them.
        image_size: (width, height) to which the rig's images are resized.
        options: What the seed shall not decide; a sequence has one for each frame and replaces
            ``frames``: a series in which sand moves.
        imaging: Options of camera and water.
        masks: Also write masks (undistorted space, white where the bed or something on it is seen
            in the first frame, black on the tank's walls and beyond).
        overwrite: Replace a folder that holds something.
        workers: Threads; all processors when absent. The files do not depend on them.
        progress: Called for every image with its name, how many there are now, and how many in all.

    Returns:
        The folder.

    Raises:
        DataError: The folder holds something and ``overwrite`` is False, or cannot be written;
            ``frames`` is not positive; the disk has no room for so many; the scene is unknown or
            does not fit the rig.
        CalibrationError: The rig's file is not a usable calibration.

    Example:
        >>> from aquamvs.datasets import write_dataset
        >>> written = write_dataset("plane", rig=rig, scene_kind="plane", seed=0)
        >>> sorted(path.name for path in written.iterdir())
        ['calibration.json', 'config.yaml', 'ground_truth', 'images']
    """
    series = isinstance(options, Sequence)
    count = len(options) if isinstance(options, Sequence) else frames
    if count < 1:
        raise DataError(f"frames is {count}; expected a whole number, at least 1")
    if isinstance(rig, CalibrationData):
        rig_name = "custom"
        calibration = rig if image_size is None else resize_rig(rig, image_size)
    else:
        rig_name = Path(rig).stem
        calibration = make_rig(rig, image_size=image_size)
    pixels = sum(math.prod(camera.image_size) for camera in calibration.cameras.values())
    check_space(out, count * pixels * _BYTES_PER_PIXEL, f"a dataset of {count} frames")
    per_frame = list(options) if isinstance(options, Sequence) else [options] * count
    with new_folder(out, overwrite=overwrite) as folder:
        scenes = {
            each: make_scene(scene_kind, seed=seed, rig=calibration, options=each)
            for each in dict.fromkeys(per_frame)
        }
        save_calibration(calibration, folder / "calibration.json")
        writer = _Writer(
            folder,
            calibration,
            imaging or Imaging(),
            workers or os.cpu_count() or 1,
            progress or _silent,
            count,
        )
        for frame, each in enumerate(per_frame):
            writer.frame(scenes[each], frame, masks=masks and frame == 0)
        _write_config(folder, calibration, masks=masks)
        from .. import __version__

        provenance = scenes[per_frame[0]].provenance()
        if series:
            provenance["frame_options"] = [scenes[o].provenance()["options"] for o in per_frame]
        width, height = next(iter(calibration.cameras.values())).image_size
        save_provenance(
            folder,
            {
                **provenance,
                "rig": rig_name,
                "image_size": [width, height],
                "frames": len(per_frame),
                "software": f"aquamvs {__version__}",
            },
        )
    return Path(out)


def _silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class _Writer:
    folder: Path
    calibration: CalibrationData
    imaging: Imaging
    workers: int
    progress: Progress
    frames: int

    def frame(self, scene: Scene, frame: int, *, masks: bool) -> None:
        """Write images and truth of a frame."""
        depths = {}
        views = len(self.calibration.cameras)
        for index, camera in enumerate(self.calibration.cameras, start=1):
            image = render_view(
                scene,
                self.calibration,
                camera,
                frame=frame,
                imaging=self.imaging,
                workers=self.workers,
            )
            path = self.folder / "images" / camera / f"frame_{frame:06d}.png"
            write_image(path, torch.from_numpy(image).float() / 255)
            depth, part, K = true_depth(
                scene, self.calibration, camera, frame=frame, workers=self.workers
            )
            depths[camera] = _exact(camera, depth, K)
            if masks:
                keep = (part != int(Part.NONE)) & (part != int(Part.WALL))
                write_image(self.folder / "masks" / f"{camera}.png", keep.float())
            self.progress(f"frame {frame}: {camera}", frame * views + index, self.frames * views)
        save_frame_truth(self.folder, frame, depths, true_surface(scene))


def _exact(camera: str, depth: Tensor, K: Tensor) -> DepthMap:
    """True depth as a depth map without any uncertainty."""
    known = torch.isfinite(depth)
    sigma = torch.where(known, 0.0, torch.nan).float()
    return DepthMap(camera, depth.float(), known.float(), sigma, K)


def _write_config(folder: Path, calibration: CalibrationData, *, masks: bool) -> None:
    config: dict[str, Any] = {
        "calibration_path": "calibration.json",
        "output_dir": "output",
        "camera_input_map": {camera: f"images/{camera}" for camera in calibration.cameras},
    }
    if masks:
        config["mask_dir"] = "masks"
    config |= {"pipeline_mode": "full", "matcher_type": "sift"}
    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
