"""AquaMVS: refractive multi-view stereo for cameras in air over a scene under water."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import PipelineConfig
    from .io import export_mesh
    from .pipeline import Pipeline

__all__ = ["Pipeline", "PipelineConfig", "__version__", "export_mesh"]

_HOMES = {"Pipeline": ".pipeline", "PipelineConfig": ".config", "export_mesh": ".io"}


def __getattr__(name: str) -> Any:
    """Public names load their module on first use, so that ``import aquamvs`` stays light."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("aquamvs")
        except PackageNotFoundError:  # its folder is on the path, and nothing is installed
            return "0+source"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
