"""A first configuration: cameras found by a pattern and matched with the calibration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from .calibration import CalibrationData
from .config import PipelineConfig, ReconstructionConfig
from .errors import ConfigError, DataError
from .io.frames import list_sources
from .pathways import MatcherType, PipelineMode


class Preset(StrEnum):
    """How much time a frame may take.

    Example:
        >>> from aquamvs.setup import Preset
        >>> [preset.value for preset in Preset]
        ['fast', 'balanced', 'quality']
    """

    FAST = "fast"
    BALANCED = "balanced"
    QUALITY = "quality"


_PRESETS: dict[Preset, dict[str, Any]] = {
    Preset.FAST: {
        "pipeline_mode": PipelineMode.SPARSE,
        "matcher_type": MatcherType.SIFT,
    },
    Preset.BALANCED: {
        "pipeline_mode": PipelineMode.SURFACE,
        "matcher_type": MatcherType.SIFT,
    },
    Preset.QUALITY: {
        "pipeline_mode": PipelineMode.FULL,
        "matcher_type": MatcherType.SIFT,
        "reconstruction": ReconstructionConfig(min_consistent_views=3),
    },
}
"""Sparse points in seconds; the surface sweep; depth maps that also show walls and overhangs."""


@dataclass(frozen=True, slots=True)
class InputMatch:
    """Videos and image folders against the cameras of a calibration.

    Attributes:
        matched: Camera name to its video or folder, in the calibration's order.
        not_calibrated: Inputs whose camera the calibration does not have: camera name to input.
        without_input: Calibrated cameras for which nothing was found.
        ignored: Videos and folders whose name the pattern does not fit.

    Example:
        >>> from aquamvs.setup import match_inputs
        >>> match = match_inputs(folder / "images", rig)
        >>> list(match.matched), match.without_input
        (['cam0', 'cam1', 'cam2', 'cam3', 'cam4'], ())
    """

    matched: dict[str, Path]
    not_calibrated: dict[str, Path]
    without_input: tuple[str, ...]
    ignored: tuple[Path, ...]


def match_inputs(
    input_dir: str | Path, calibration: CalibrationData, *, pattern: str | None = None
) -> InputMatch:
    """Find the cameras of a folder.

    Args:
        input_dir: Folder with a video or a folder of images per camera.
        calibration: The rig.
        pattern: Regular expression that is matched with the start of each name; its first group is
            the camera's name. None: a camera's video or folder bears its name.

    Returns:
        What belongs together and what does not.

    Raises:
        ConfigError: The pattern is no regular expression with a group, or two inputs are of one
            camera.
        DataError: The folder does not exist or holds neither videos nor folders of images.

    Example:
        >>> from aquamvs.setup import match_inputs
        >>> match_inputs(folder / "images", rig, pattern="(cam[0-9])").matched["cam0"].name
        'cam0'
    """
    expression = _compiled(pattern)
    found: dict[str, Path] = {}
    ignored = []
    for path in _inputs(Path(input_dir)):
        name: str | None = path.stem if path.is_file() else path.name
        if expression is not None:
            match = expression.match(path.name)
            name = None if match is None else match.group(1)
        if name is None:  # also where the pattern fits without its group
            ignored.append(path)
            continue
        if name in found:
            raise ConfigError(
                f"{found[name].name} and {path.name} are both of camera {name!r}; choose another "
                "pattern"
            )
        found[name] = path
    return InputMatch(
        matched={name: found[name] for name in calibration.cameras if name in found},
        not_calibrated={k: v for k, v in found.items() if k not in calibration.cameras},
        without_input=tuple(name for name in calibration.cameras if name not in found),
        ignored=tuple(ignored),
    )


def first_config(
    match: InputMatch,
    calibration_path: str | Path,
    output_dir: str | Path,
    *,
    preset: Preset | str = Preset.BALANCED,
) -> PipelineConfig:
    """A configuration of the matched cameras.

    Args:
        match: From :func:`match_inputs`.
        calibration_path: The rig's file.
        output_dir: Where results shall go.
        preset: Whose values stand in the configuration as if they had been chosen one by one.

    Returns:
        The configuration, with absolute paths.

    Raises:
        ConfigError: A calibrated camera has no input, or fewer than two cameras have one.

    Example:
        >>> from aquamvs.setup import Preset, first_config, match_inputs
        >>> match = match_inputs(folder / "images", rig)
        >>> first = first_config(match, folder / "calibration.json", "output", preset=Preset.FAST)
        >>> first.pipeline_mode.value
        'sparse'
    """
    if match.without_input:
        others = [*match.not_calibrated, *(path.name for path in match.ignored)]
        found = f" (there are: {', '.join(others)})" if others else ""
        raise ConfigError(
            f"nothing was found for the calibrated cameras {', '.join(match.without_input)}{found}"
            "; every camera needs a video or a folder of images of its name. Choose the folder "
            "that holds them, or a --pattern, or remove the cameras from the calibration"
        )
    return PipelineConfig(
        calibration_path=Path(calibration_path),
        output_dir=Path(output_dir),
        camera_input_map=match.matched,
        **_PRESETS[Preset(preset)],
    ).resolved(Path.cwd())


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the pattern {pattern!r} is no regular expression: {error}") from None
    if expression.groups < 1:
        raise ConfigError(
            f"the pattern {pattern!r} has no group; put parentheses around the camera's name, as "
            "in '(cam[0-9]+)_'"
        )
    return expression


def _inputs(folder: Path) -> list[Path]:
    """Videos and folders of images, by name."""
    found = list_sources(folder)
    if not found:
        raise DataError(f"{folder} holds neither videos nor folders of images")
    return found
