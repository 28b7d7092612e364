"""Undistorted images to draw masks on."""

from __future__ import annotations

from pathlib import Path

from ..io import write_image
from .inputs import Inputs


def export_references(
    inputs: Inputs, *, frame: int = 0, output_dir: str | Path | None = None
) -> dict[str, Path]:
    """Write the undistorted image of every camera, whole: masks are drawn on these pixels.

    Args:
        inputs: Of a run.
        frame: Frame number.
        output_dir: Folder; ``reference_images`` in the configured output folder when absent.

    Returns:
        Camera name to PNG file.

    Raises:
        DataError: The frame cannot be read or the folder not be written.

    Example:
        >>> from aquamvs.pipeline import export_references
        >>> sorted(export_references(inputs, output_dir="reference_images"))
        ['cam0', 'cam1', 'cam2', 'cam3', 'cam4']
    """
    folder = inputs.config.output_dir / "reference_images" if output_dir is None else output_dir
    paths = {}
    for view in inputs.read_views(frame):
        paths[view.name] = Path(folder) / f"{view.name}.png"
        write_image(paths[view.name], view.image)
    return paths
