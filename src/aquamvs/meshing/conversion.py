"""Meshes for other programs: one file or a whole tree of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from ..io import export_mesh, load_mesh, ply_elements
from .decimation import decimate


def convert_meshes(
    source: str | Path,
    *,
    suffix: str,
    target_faces: int | None = None,
    output_dir: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Path]:
    """Convert meshes to another format.

    Args:
        source: PLY file, or a folder: every PLY file with triangles in it and below it.
        suffix: Of the files to write (see :func:`aquamvs.export_mesh`).
        target_faces: Simplify each mesh to about so many triangles.
        output_dir: Folder to write into, with the tree below ``source``; beside each mesh when
            absent.
        progress: Called for every mesh with its name, how many are done, and how many there are.

    Returns:
        The files written.

    Raises:
        DataError: There is no mesh, a folder may not be read, a mesh is damaged, a file would
            replace the mesh that it is made from, or cannot be written.
        ConfigError: See :func:`aquamvs.meshing.decimate`.

    Example:
        >>> from aquamvs.meshing import convert_meshes
        >>> from aquamvs.io import save_mesh
        >>> save_mesh("surface.ply", made.mesh)
        >>> [path.name for path in convert_meshes("surface.ply", suffix=".obj")]
        ['surface.obj']
    """
    source = Path(source)
    root = source if source.is_dir() else source.parent
    meshes = _meshes(source)
    if not meshes:
        raise DataError(f"{source} holds no mesh; expected PLY files with triangles")
    folder = root if output_dir is None else Path(output_dir)
    targets = [(folder / path.relative_to(root)).with_suffix(suffix) for path in meshes]
    for done, (path, target) in enumerate(zip(meshes, targets, strict=True), start=1):
        if target.exists() and target.samefile(path):
            raise DataError(f"{target} would be replaced by itself; give an output folder")
        mesh = load_mesh(path)
        export_mesh(mesh if target_faces is None else decimate(mesh, target_faces), target)
        if progress is not None:
            progress(path.name, done, len(meshes))
    return targets


def _meshes(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]

    def refuse(fault: OSError) -> None:
        raise DataError(f"cannot read the folder {fault.filename}: {fault.strerror}")

    found = [  # unlike glob, walk does not pass over what it may not read
        Path(folder) / name
        for folder, _, names in os.walk(source, onerror=refuse)
        for name in names
        if name.lower().endswith(".ply")
    ]
    return [path for path in sorted(found) if "face" in ply_elements(path)]
