"""The configuration file (``config.yaml``): one typed model, strict keys.

Paths in the file are relative to it.

Sections and keys are those that AquaMVS 1.x users know. Keys of a 1.x file that no longer mean
anything are listed in ``RETIRED_KEYS`` with the reason, accepted, and reported in one notice.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError
from .files import check_file, shortened
from .pathways import MatcherType, Pathway, PipelineMode, find_pathway

_LOGGER = logging.getLogger(__name__)
_MAX_FILE_BYTES = 1 << 18
_MAX_DEPTH = 16
_MAX_PATH = 4096
_MAX_NAME = 255
"""Bytes of one part of a path that file systems take."""
_FARTHEST = 1e4
"""Lengths of a scene, metres: beyond it no camera sees anything, and products overflow."""
_SMALLEST_CELL = 1e-6
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)

RETIRED_KEYS: dict[str, str] = {
    "quality_preset": "presets are written out as plain values by `aquamvs init`",
    "dense_matching.roma_anchor_width": "it never changed RoMa's resolution",
    "dense_matching.roma_anchor_height": "it never changed RoMa's resolution",
    "reconstruction.cost_function": "the cost is zero-mean NCC; SSIM was slower and less accurate",
    "reconstruction.depth_batch_size": "memory is bounded by the engine itself",
    "reconstruction.depth_tolerance": "views must agree within their own uncertainty (sigma)",
    "reconstruction.roma_depth_tolerance": "views must agree within their own uncertainty (sigma)",
    "reconstruction.voxel_size": "duplicates are removed between views, not on a world grid",
    "reconstruction.poisson_depth": "the octree follows the cloud's own point spacing",
    "reconstruction.bpa_radii": "ball pivoting is gone; see reconstruction.surface_method",
    "reconstruction.outlier_removal_enabled": "views vote on every point",
    "reconstruction.outlier_nb_neighbors": "views vote on every point",
    "reconstruction.outlier_std_ratio": "views vote on every point",
    "runtime.save_features": "matches are returned by aquamvs.matching",
    "runtime.keep_intermediates": "depth maps are always kept",
    "runtime.save_depth_maps": "depth maps are always kept",
    "runtime.save_point_cloud": "the cloud is always kept",
    "runtime.save_mesh": "the mesh is always kept",
    "runtime.viz_enabled": "figures are drawn by aquamvs.visualization and the benchmark report",
    "runtime.viz_stages": "figures are drawn by aquamvs.visualization and the benchmark report",
    "runtime.benchmark_extractors": "the benchmark runs the pathways of one table (--pathways)",
    "runtime.benchmark_clahe": "set sparse_matching.clahe_enabled",
    "runtime.icp_max_distance": "an argument of aquamvs.evaluation.icp",
}
"""Dotted key of AquaMVS 1.x -> why it has no effect any more.

:meta hide-value:
"""

_OF_OTHER_WEIGHTS: dict[str, str] = {
    "sparse_matching.extractor_type": "LightGlue's bundled weights read SIFT keypoints; for "
    "another extractor set sparse_matching.weights too",
    "sparse_matching.filter_threshold": "it was that of other weights; set sparse_matching.weights "
    "with it",
}
"""Keys that files of 1.x write out, about weights for which they have no key."""


def _usable(path: Path) -> Path:
    """Refuse what no file system has, before it is asked."""
    try:
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    except UnicodeEncodeError:  # half of a surrogate pair
        raise ValueError(f"{shortened(repr(str(path)))} has characters that no name has") from None
    printable = all(character >= " " for character in str(path))
    if not printable or len(str(path)) > _MAX_PATH or longest > _MAX_NAME:
        raise ValueError(
            f"{shortened(repr(str(path)))} is no path; expected at most {_MAX_PATH} printable "
            f"characters, and names of at most {_MAX_NAME} bytes"
        )
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path} names the home folder of an unknown user") from None


Place = Annotated[Path, AfterValidator(_usable)]
"""A path of the configuration; ``~`` stands for the user's home folder."""

_PUBLISHED_WEIGHTS = ("bundled", "official")
"""Values of ``weights`` that are no path."""


def _usable_weights(value: str) -> str:
    if value in _PUBLISHED_WEIGHTS:
        return value
    usable = str(_usable(Path(value)))
    return f"./{usable}" if usable in _PUBLISHED_WEIGHTS else usable


Weights = Annotated[str, AfterValidator(_usable_weights)]
"""A network's weights: those of AquaMVS, those of its authors, or a path to one's own."""

Coordinate = Annotated[float, Field(ge=-_FARTHEST, le=_FARTHEST)]
"""A coordinate of the world frame, metres."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class PreprocessingConfig(_Section):
    """Frames to read and colours.

    Attributes:
        color_norm_enabled: Bring the cameras' colours together before matching.
        color_norm_method: ``gain`` scales each channel to the rig's mean level; ``histogram``
            matches each channel's whole distribution to the rig's average one.
        frame_start: First frame.
        frame_stop: End of the range (exclusive); null: the last frame.
        frame_step: Every how many frames.

    Example:
        >>> from aquamvs.config import PreprocessingConfig
        >>> PreprocessingConfig(frame_start=10, frame_stop=20, frame_step=5).color_norm_enabled
        False
    """

    color_norm_enabled: bool = False
    color_norm_method: Literal["gain", "histogram"] = "gain"
    frame_start: Annotated[int, Field(ge=0)] = 0
    frame_stop: Annotated[int, Field(ge=1)] | None = None
    frame_step: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.frame_stop is not None and self.frame_stop <= self.frame_start:
            raise ValueError("frame_stop must be greater than frame_start")
        return self


class SparseMatchingConfig(_Section):
    """Keypoints and their matching (``matcher_type`` lightglue or sift), and choice of pairs.

    Attributes:
        extractor_type: Features for LightGlue; null: sift with the bundled weights, else aliked.
        max_keypoints: Strongest keypoints kept per image.
        detection_threshold: Of the learned extractors; lower finds more.
        clahe_enabled: Equalise local contrast before detection.
        clahe_clip_limit: Of CLAHE.
        num_neighbors: Source cameras per reference camera.
        include_center: Auxiliary cameras may be sources.
        filter_threshold: Smallest match score of LightGlue; null: what suits its weights.
        weights: Of LightGlue: ``bundled`` (part of AquaMVS, on SIFT keypoints), ``official``
            (downloaded once), or a folder with the checkpoint files.

    Example:
        >>> from aquamvs.config import SparseMatchingConfig
        >>> SparseMatchingConfig(max_keypoints=2048).weights
        'bundled'
    """

    extractor_type: Literal["aliked", "disk", "superpoint", "sift"] | None = None
    max_keypoints: Annotated[int, Field(ge=8, le=100_000)] = 1024
    detection_threshold: Annotated[float, Field(ge=0, le=1)] = 0.005
    clahe_enabled: bool = False
    clahe_clip_limit: Annotated[float, Field(gt=0)] = 2.0
    num_neighbors: Annotated[int, Field(ge=1)] = 4
    include_center: bool = True
    filter_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    weights: Weights = "bundled"


class DenseMatchingConfig(_Section):
    """Dense matching (``matcher_type: roma``).

    Attributes:
        certainty_threshold: Smallest certainty of a correspondence that is triangulated.
        max_correspondences: Per pair.
        weights: ``bundled`` (part of AquaMVS), ``official`` (RoMa v2, extra ``roma``, downloaded
            once), or RoMa v2's checkpoint file.

    Example:
        >>> from aquamvs.config import DenseMatchingConfig
        >>> DenseMatchingConfig(certainty_threshold=0.7).max_correspondences
        100000
    """

    certainty_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_correspondences: Annotated[int, Field(ge=8)] = 100_000
    weights: Weights = "bundled"


class ReconstructionConfig(_Section):
    """Depth, surface and fusion.

    Attributes:
        num_depths: Hypotheses of the plane sweep over the depth range; null: as many as one-pixel
            steps need.
        window_size: Side of the matching window, px (odd).
        depth_margin: Added to both ends of the depth range of the sparse points, metres.
        min_consistent_views: Views that must agree on a point.
        min_confidence: Depth of lower confidence is dropped.
        surface_method: ``heightfield``, or ``poisson`` (extra ``mesh``).
        grid_resolution: Cell of the height map, metres; null: the images' GSD.
        target_faces: Simplify the mesh to about so many faces; null: keep all.
        region_of_interest: [x_min, y_min, x_max, y_max] of the world frame, metres; null: all that
            two cameras see.
        height_range: [z_min, z_max] of the world frame, metres; null: found by the engine.

    Example:
        >>> from aquamvs.config import ReconstructionConfig
        >>> ReconstructionConfig(height_range=(0.9, 1.3)).surface_method
        'heightfield'
    """

    num_depths: Annotated[int, Field(ge=8, le=4096)] | None = None
    window_size: Annotated[int, Field(ge=3, le=63)] = 7
    depth_margin: Annotated[float, Field(ge=0, le=_FARTHEST)] = 0.05
    min_consistent_views: Annotated[int, Field(ge=2, le=1000)] = 2
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.1
    surface_method: Literal["heightfield", "poisson"] = "heightfield"
    grid_resolution: Annotated[float, Field(ge=_SMALLEST_CELL, le=_FARTHEST)] | None = None
    target_faces: Annotated[int, Field(ge=4)] | None = None
    region_of_interest: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    height_range: tuple[Coordinate, Coordinate] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window_size % 2 == 0:
            raise ValueError("window_size must be odd")
        roi = self.region_of_interest
        if roi is not None and not (roi[0] < roi[2] and roi[1] < roi[3]):
            raise ValueError("region_of_interest must be [x_min, y_min, x_max, y_max]")
        if self.height_range is not None and not self.height_range[0] < self.height_range[1]:
            raise ValueError("height_range must be [z_min, z_max] with z_min < z_max")
        return self


class RuntimeConfig(_Section):
    """How to run.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        save_consistency_maps: Write how many views agree on each pixel.
        quiet: No progress bars.
        max_memory_gb: Memory that one frame's process may take, GiB. The surface sweep's tiles
            shrink to fit; a run that needs more all the same is refused before it starts. null:
            what the machine has.

    Example:
        >>> from aquamvs.config import RuntimeConfig
        >>> RuntimeConfig(max_memory_gb=4).device
        'cpu'
    """

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    save_consistency_maps: bool = False
    quiet: bool = False
    max_memory_gb: Annotated[float, Field(gt=0, le=1e6)] | None = None


class PipelineConfig(_Section):
    """Everything that one reconstruction needs.

    Attributes:
        calibration_path: AquaCal JSON file.
        output_dir: Where results go.
        camera_input_map: Camera name to image folder or video file.
        mask_dir: Folder of ``<camera>.png`` masks in undistorted space, white = keep.
        pipeline_mode: ``sparse``, ``full`` or ``surface``.
        matcher_type: ``lightglue``, ``roma`` or ``sift`` (needs no weights).
        preprocessing: See :class:`PreprocessingConfig`.
        sparse_matching: See :class:`SparseMatchingConfig`.
        dense_matching: See :class:`DenseMatchingConfig`.
        reconstruction: See :class:`ReconstructionConfig`.
        runtime: See :class:`RuntimeConfig`.

    Example:
        >>> from aquamvs.config import PipelineConfig
        >>> config.to_yaml("mine.yaml")
        >>> PipelineConfig.from_yaml("mine.yaml").pipeline_mode.value
        'surface'
    """

    calibration_path: Place
    output_dir: Place
    camera_input_map: Annotated[dict[str, Place], Field(min_length=2)]
    mask_dir: Place | None = None
    pipeline_mode: PipelineMode = PipelineMode.SURFACE
    matcher_type: MatcherType = MatcherType.SIFT
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    sparse_matching: SparseMatchingConfig = SparseMatchingConfig()
    dense_matching: DenseMatchingConfig = DenseMatchingConfig()
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def pathway(self) -> Pathway:
        """The row of the pathway table that this configuration selects."""
        return find_pathway(self.pipeline_mode, self.matcher_type)

    @classmethod
    def from_yaml(cls, path: str | Path) -> PipelineConfig:
        """Read a configuration file.

        Args:
            path: YAML file; relative paths in it resolve against its folder.

        Returns:
            The configuration, with absolute paths.

        Raises:
            ConfigError: The file is missing or not YAML, a key is unknown (the nearest valid key
                is named), or a value is out of range.
        """
        path = Path(path)
        data = _drop_retired(path, _parse(path))
        _check_keys(path, data, cls, "")
        try:
            config = cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(f"{path}: {_first_fault(error)}") from None
        return config.resolved(path.parent)

    def resolved(self, folder: Path) -> PipelineConfig:
        """This configuration with relative paths resolved against ``folder``."""

        def absolute(value: Path) -> Path:
            return Path(os.path.abspath(folder / value))

        def located(weights: str) -> dict[str, str]:
            known = weights in _PUBLISHED_WEIGHTS
            return {"weights": weights if known else str(absolute(Path(weights)))}

        sparse, dense = self.sparse_matching, self.dense_matching
        return self.model_copy(
            update={
                "calibration_path": absolute(self.calibration_path),
                "output_dir": absolute(self.output_dir),
                "camera_input_map": {k: absolute(v) for k, v in self.camera_input_map.items()},
                "mask_dir": None if self.mask_dir is None else absolute(self.mask_dir),
                "sparse_matching": sparse.model_copy(update=located(sparse.weights)),
                "dense_matching": dense.model_copy(update=located(dense.weights)),
            }
        )

    def with_device(self, device: str) -> PipelineConfig:
        """This configuration on another device.

        Raises:
            ConfigError: No such kind of device.
        """
        try:
            runtime = RuntimeConfig(**{**self.runtime.model_dump(), "device": device})
        except ValidationError:
            raise ConfigError(f"device is {device!r}; expected cpu, cuda or cuda:N") from None
        return self.model_copy(update={"runtime": runtime})

    def to_yaml(self, path: str | Path) -> None:
        """Write every key, defaults included.

        Args:
            path: YAML file; paths inside its folder are written relative to it.
        """
        from .io import atomic_path

        path = Path(path)
        data = self.resolved(path.parent).model_dump(mode="json")
        text = yaml.safe_dump(
            _relative(data, Path(os.path.abspath(path.parent))), sort_keys=False, allow_unicode=True
        )
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def hash(self) -> str:
        """Hash of everything that can change a result (not of places), hexadecimal."""
        data = self.model_dump(
            mode="json",
            exclude={"calibration_path", "output_dir", "camera_input_map", "mask_dir"},
        )
        for key in ("quiet", "max_memory_gb"):
            del data["runtime"][key]
        for key in ("frame_start", "frame_stop", "frame_step"):
            del data["preprocessing"][key]
        return hashlib.sha256(yaml.safe_dump(data, sort_keys=True).encode()).hexdigest()[:16]


def _relative(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    def shorten(value: str) -> str:
        path = Path(value)
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    places: dict[str, Any] = {key: shorten(data[key]) for key in ("calibration_path", "output_dir")}
    places["camera_input_map"] = {k: shorten(v) for k, v in data["camera_input_map"].items()}
    places["mask_dir"] = None if data["mask_dir"] is None else shorten(data["mask_dir"])
    for name in ("sparse_matching", "dense_matching"):
        weights = data[name]["weights"]
        if weights not in _PUBLISHED_WEIGHTS:
            weights = _usable_weights(os.path.join(".", shorten(weights)))
        places[name] = {**data[name], "weights": weights}
    return {**data, **places}


def _parse(path: Path) -> dict[str, Any]:
    check_file(path, "configuration file", max_bytes=_MAX_FILE_BYTES, error=ConfigError)
    try:
        text = path.read_text(encoding="utf-8")
        _check_syntax(path, text)
        data = _value(path, yaml.SafeLoader(text))
    except (OSError, ValueError, ArithmeticError, LookupError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not readable as YAML ({shortened(reason, 300)})") from None
    if data is None:
        raise ConfigError(f"{path}: is empty; expected keys and values")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds a {type(data).__name__}; expected keys and values")
    return data


def _check_syntax(path: Path, text: str) -> None:
    """Refuse what a configuration never needs and a parser pays for dearly.

    Aliases grow exponentially, tags ask for other types than text, numbers and lists, and the
    parser's time grows with the square of the nesting.
    """
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            raise ConfigError(f"{path}: has YAML aliases (*name); write the values out")
        if isinstance(token, yaml.TagToken):
            raise ConfigError(f"{path}: has YAML tags (!name); write plain values")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > _MAX_DEPTH:
            raise ConfigError(f"{path}: is nested more than {_MAX_DEPTH} deep; expected sections")


def _value(path: Path, loader: yaml.SafeLoader) -> Any:
    """The text's value; its tree is looked at in between, for values tell no duplicates."""
    node = loader.get_single_node()
    _check_duplicates(path, node)
    return None if node is None else loader.construct_document(node)


def _check_duplicates(path: Path, node: yaml.Node | None) -> None:
    """Refuse a key that stands twice: YAML would take the last one and say nothing."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):  # no key of a configuration: refused later
            continue
        if key.value in seen:
            raise ConfigError(
                f"{path}: the key {shortened(str(key.value))} stands twice, again in line "
                f"{key.start_mark.line + 1}; write it once"
            )
        seen.add(key.value)
        _check_duplicates(path, value)


def _drop_retired(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Remove retired keys and say so once."""
    kept, dropped = _without(data, RETIRED_KEYS)
    if not dropped:
        return data
    reasons = RETIRED_KEYS
    sparse = kept.get("sparse_matching")
    if isinstance(sparse, dict) and "weights" not in sparse and sparse.get("extractor_type"):
        reasons = RETIRED_KEYS | _OF_OTHER_WEIGHTS
        kept, dropped = _without(data, reasons)
    text = "; ".join(f"{key} ({reasons[key]})" for key in dropped)
    _LOGGER.warning("%s: keys of AquaMVS 1.x without effect: %s", path, text)
    return kept


def _without(data: dict[str, Any], retired: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The rest, and the dotted keys that were left out."""
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for key, value in data.items():
        if key in retired:
            dropped.append(key)
        elif isinstance(value, dict):
            kept[key] = {k: v for k, v in value.items() if f"{key}.{k}" not in retired}
            dropped += [f"{key}.{k}" for k in value if f"{key}.{k}" in retired]
        else:
            kept[key] = value
    return kept, dropped


def _check_keys(path: Path, data: dict[str, Any], model: type[BaseModel], prefix: str) -> None:
    """Name the nearest valid key before pydantic says only that one is extra."""
    valid = list(model.model_fields)
    for key, value in data.items():
        if key not in valid:
            near = difflib.get_close_matches(shortened(key), valid, n=1, cutoff=0.0)
            raise ConfigError(
                f"{path}: unknown key {prefix}{shortened(key)}; the nearest valid key is "
                f"{prefix}{near[0]}"
            )
        section = model.model_fields[key].annotation
        if isinstance(section, type) and issubclass(section, BaseModel) and isinstance(value, dict):
            _check_keys(path, value, section, f"{prefix}{key}.")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    key = ".".join(shortened(part) for part in fault["loc"])
    found = "" if fault["type"] == "missing" else f" (found {shortened(repr(fault['input']))})"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in ("model_type", "dict_type"):
        message = "expected keys and values below it"
    return f"{key or 'configuration'}: {message}{found}"
