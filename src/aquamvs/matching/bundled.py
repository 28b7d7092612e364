"""The weights that are part of AquaMVS: trained by :mod:`aquamvs.training` on its renderings."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..errors import WeightsError

BUNDLED: Final = "bundled"
"""Name of these weights in a configuration, and in reports."""

OFFICIAL: Final = "official"
"""Name, likewise, of the weights that a network's authors publish."""

ROMA_STYLE: Final = f"RoMa-style ({BUNDLED})"
"""What reports call the bundled network: it has RoMa's form, and neither its size nor its data."""

BUNDLED_MODELS: Final[Mapping[str, str]] = MappingProxyType(
    {"lightglue": f"LightGlue ({BUNDLED})", "roma": ROMA_STYLE}
)
"""Models that have bundled weights, and what reports call them; each has a file of tensors and a
model card beside it."""


def weights_origin(weights: str | Path) -> str:
    """``bundled``, ``official``, or the name of the user's file or folder, as reports have it."""
    return str(weights) if weights in (BUNDLED, OFFICIAL) else f"from {Path(weights).name}"


def bundled_file(model: str) -> Path:
    """The file of a bundled model.

    Args:
        model: One of :data:`BUNDLED_MODELS`.

    Returns:
        An existing file.

    Raises:
        WeightsError: It is not there: the installation is damaged.
    """
    path = Path(str(files(__package__) / "data" / f"{model}-{BUNDLED}.safetensors"))
    if not path.is_file():
        raise WeightsError(
            f"{path}: the bundled weights are not there; expected them as a part of the package: "
            "install AquaMVS again"
        )
    return path


def bundled_card(model: str) -> str:
    """The model card of a bundled model, Markdown: data, training, evaluation, limits.

    Example:
        >>> from aquamvs.matching import bundled_card
        >>> bundled_card("roma").splitlines()[0]
        '# RoMa-style (bundled)'
    """
    return bundled_file(model).with_suffix(".md").read_text(encoding="utf-8")
