"""The one error family of AquaMVS.

Each error carries a complete sentence for the user: which file or key, what was found, what was
expected and what to do. The command line prints it and exits with code 2; nothing else catches it.
"""


class AquaMVSError(Exception):
    """Base of every error that AquaMVS raises on purpose.

    Example:
        >>> from aquamvs.errors import AquaMVSError
        >>> try:
        ...     PipelineConfig.from_yaml("missing.yaml")
        ... except AquaMVSError as error:
        ...     print(error)
        configuration file missing.yaml does not exist
    """


class ConfigError(AquaMVSError):
    """A configuration file or value that cannot be used.

    Example:
        >>> PipelineConfig.from_yaml("missing.yaml")
        Traceback (most recent call last):
            ...
        aquamvs.errors.ConfigError: configuration file missing.yaml does not exist
    """


class CalibrationError(AquaMVSError):
    """A calibration that is missing, malformed or physically impossible.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> make_rig("no_such_rig.json")
        Traceback (most recent call last):
            ...
        aquamvs.errors.CalibrationError: AquaCal calibration (calibration_path) ...
    """


class DataError(AquaMVSError):
    """Images, masks, depth maps, clouds or folders that cannot be used.

    Example:
        >>> from aquamvs.io import load_point_cloud
        >>> load_point_cloud("missing.ply")
        Traceback (most recent call last):
            ...
        aquamvs.errors.DataError: PLY file missing.ply does not exist
    """


class ShapeError(AquaMVSError):
    """A tensor of another shape than the function takes.

    Example:
        >>> import torch
        >>> from aquamvs.types import FrameSet
        >>> FrameSet(0, {"cam0": torch.zeros(4, 4)})
        Traceback (most recent call last):
            ...
        aquamvs.errors.ShapeError: image of cam0 has shape (4, 4); expected (any, any, 3)
    """

    def __init__(self, name: str, actual: tuple[int, ...], expected: str) -> None:
        super().__init__(f"{name} has shape {tuple(actual)}; expected {expected}")


class WeightsError(AquaMVSError):
    """Network weights that are missing, altered or of another model.

    Example:
        >>> from aquamvs.matching import resolve_weights
        >>> resolve_weights("unheard-of")
        Traceback (most recent call last):
            ...
        aquamvs.errors.WeightsError: weights 'unheard-of' are unknown; expected one of ...
    """


class StageError(AquaMVSError):
    """A stage that had valid input and still could not produce a result (e.g. no matches).

    Example:
        >>> from aquamvs.triangulation import triangulate
        >>> triangulate(views, [])
        Traceback (most recent call last):
            ...
        aquamvs.errors.StageError: matching found no correspondences to triangulate; check that ...
    """
