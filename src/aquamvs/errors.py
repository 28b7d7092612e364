"""The one error family of AquaMVS.

Each error carries a complete sentence for the user: which file or key, what was found, what was
expected and what to do. The command line prints it and exits with code 2; nothing else catches it.
"""


class AquaMVSError(Exception):
    """Base of every error that AquaMVS raises on purpose."""


class ConfigError(AquaMVSError):
    """A configuration file or value that cannot be used."""


class CalibrationError(AquaMVSError):
    """A calibration that is missing, malformed or physically impossible."""


class DataError(AquaMVSError):
    """Images, masks, depth maps, clouds or folders that cannot be used."""


class ShapeError(AquaMVSError):
    """A tensor of another shape than the function takes."""

    def __init__(self, name: str, actual: tuple[int, ...], expected: str) -> None:
        super().__init__(f"{name} has shape {tuple(actual)}; expected {expected}")


class WeightsError(AquaMVSError):
    """Network weights that are missing, altered or of another model."""


class StageError(AquaMVSError):
    """A stage that had valid input and still could not produce a result (e.g. no matches)."""
