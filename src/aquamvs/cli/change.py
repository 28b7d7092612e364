"""``aquamvs change``: what moved between height maps, with figures, volumes and an animation."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .arguments import Commands, add_command, add_verbosity
from .output import print_result
from .progress import progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation import HeightDifference
    from ..types import HeightMap

MIN_SIGNIFICANCE = 2.0
CORRELATION_CELLS = 5.0
"""Radius of correlated errors of the surface sweep's height maps: window and smoothing."""

_LITRES = 1e3
_VOLUMES = "volumes"
"""Stem of the figure of all maps."""
_SHOWN_SIDE = 400
"""Cells along the longer side of what an animation keeps of each map: the pixels of its panels."""


def add_change(commands: Commands) -> None:
    """Add the command to the parser's."""
    summary = (
        "Compare height maps with the first of them: what rose and sank, how certain that is, and "
        "the volumes moved."
    )
    parser = add_command(commands, "change", summary)
    parser.add_argument(
        "maps",
        type=Path,
        nargs="+",
        metavar="MAP",
        help="height maps (.npz) in the order of time, or one output folder of a run",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="for figures, maps, numbers and animation (default: change, beside the maps' frames)",
    )
    parser.add_argument(
        "--min-significance",
        type=float,
        default=MIN_SIGNIFICANCE,
        metavar="SIGMAS",
        help="count volumes where it is this certain that something moved (default 2)",
    )
    parser.add_argument(
        "--correlation-length",
        type=float,
        metavar="METRES",
        help="radius within which cells err alike (default: 5 cells, as for the surface sweep)",
    )
    parser.add_argument(
        "--stable",
        type=float,
        nargs=4,
        metavar=("X_MIN", "Y_MIN", "X_MAX", "Y_MAX"),
        help="rectangle of ground that did not move, metres: its mean shift is taken off",
    )
    add_verbosity(parser)


def run_change(options: argparse.Namespace) -> int:
    """Compare, write, and print a table; one map at a time beside the first is in memory."""
    from ..evaluation import height_difference
    from ..io import load_height_map

    _check(options)
    length = options.correlation_length
    paths = _height_maps(options.maps)
    names = _names(paths)
    first = load_height_map(paths[0])
    stable = None if options.stable is None else _inside(first, options.stable)
    folder = options.output_dir or _beside(paths[0])
    step = -(-max(first.z.shape) // _SHOWN_SIDE)
    maps, differences, numbers = [_thinned_map(first, step)], [], []
    with progress_bar(options) as show:
        for done, (name, path) in enumerate(zip(names[1:], paths[1:], strict=True), start=1):
            later = load_height_map(path)
            difference = height_difference(
                first,
                later,
                min_significance=options.min_significance,
                correlation_length=CORRELATION_CELLS * first.spacing if length is None else length,
                stable=stable,
            )
            _write_difference(folder, name, difference)
            maps.append(_thinned_map(later, step))
            differences.append(_thinned_difference(difference, step))
            numbers.append(difference.as_dict())
            if show is not None:
                show(name, done, len(names) - 1)
    _write_series(folder, maps, names, differences)
    report = _report(paths, names, numbers, options)
    _write_bytes(folder / "change.json", f"{json.dumps(report, indent=2)}\n".encode())
    print_result(options, report, f"{_table(names, differences)}\n{folder}")
    return 0


def _check(options: argparse.Namespace) -> None:
    if not options.min_significance >= 0:
        raise ConfigError(
            f"--min-significance is {options.min_significance}; expected a number of sigmas, 0 or "
            "more"
        )
    length = options.correlation_length
    if length is not None and not 0 < length < float("inf"):
        raise ConfigError(f"--correlation-length is {length}; expected a positive length in metres")


def _height_maps(given: list[Path]) -> list[Path]:
    """The height maps of a run's output folder, or those that were named."""
    if len(given) == 1 and given[0].is_dir():
        from ..pipeline import finished_height_maps

        return finished_height_maps(given[0], least=2)
    if len(given) < 2:
        raise ConfigError(
            f"one height map was given ({given[0]}); expected two or more, or the output folder of "
            "a run"
        )
    return given


def _names(paths: list[Path]) -> list[str]:
    """The frame's folder where a map lies in a run's tree, else the file's stem; numbered if alike.

    Files are named by them, so that they must differ.
    """
    names = [
        path.parent.parent.name if path.parent.name == "surface" else path.stem for path in paths
    ]
    if len(set(names)) == len(names) and _VOLUMES not in names:
        return names
    return [f"{index:03d}_{name}" for index, name in enumerate(names)]


def _beside(path: Path) -> Path:
    parents = path.resolve().parents
    return (parents[2] if path.parent.name == "surface" else parents[0]) / "change"


def _inside(grid: HeightMap, box: list[float]) -> Tensor:
    x, y = grid.grid_xy()
    inside: Tensor = (x >= box[0]) & (y >= box[1]) & (x <= box[2]) & (y <= box[3])
    return inside


def _thinned_map(height_map: HeightMap, step: int) -> HeightMap:
    """What an animation shows of a map."""
    arrays = ("z", "sigma", "confidence", "view_count", "color")
    return replace(
        height_map,
        spacing=height_map.spacing * step,
        **{name: getattr(height_map, name)[::step, ::step].clone() for name in arrays},
    )


def _thinned_difference(difference: HeightDifference, step: int) -> HeightDifference:
    """What an animation shows of a difference; its numbers stay those of the whole."""
    arrays = ("rise", "sigma", "significance", "moved")
    return replace(
        difference,
        spacing=difference.spacing * step,
        **{name: getattr(difference, name)[::step, ::step].clone() for name in arrays},
    )


def _write_difference(folder: Path, name: str, difference: HeightDifference) -> None:
    from ..evaluation import save_height_difference
    from ..visualization import figure_png, plot_height_difference

    save_height_difference(folder / f"{name}.npz", difference)
    _write_bytes(folder / f"{name}.png", figure_png(plot_height_difference(difference)))


def _write_series(
    folder: Path, maps: list[HeightMap], names: list[str], differences: list[HeightDifference]
) -> None:
    from ..visualization import change_frames, figure_png, figures_gif, plot_volumes

    _write_bytes(folder / f"{_VOLUMES}.png", figure_png(plot_volumes(differences, names[1:])))
    _write_bytes(folder / "change.gif", figures_gif(change_frames(maps, differences, names)))


def _write_bytes(path: Path, data: bytes) -> None:
    from ..io import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _report(
    paths: list[Path],
    names: list[str],
    numbers: list[dict[str, Any]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    return {
        "before": {"name": names[0], "height_map": str(paths[0])},
        "min_significance": options.min_significance,
        "changes": [
            {"name": name, "height_map": str(path)} | each
            for name, path, each in zip(names[1:], paths[1:], numbers, strict=True)
        ],
    }


def _table(names: list[str], differences: list[HeightDifference]) -> str:
    """Volumes in litres with two sigmas, a line for each map."""
    width = max(len(name) for name in names)
    lines = [f"against {names[0]}; litres, ± 2 sigma", ""]
    lines.append(f"{'':{width}}  {'piled':>17}  {'dug':>17}  {'net':>17}  {'area cm²':>9}")
    for name, each in zip(names[1:], differences, strict=True):
        area = 1e4 * (each.area_up + each.area_down)
        cells = [
            f"{_LITRES * volume:8.3f} ± {2 * _LITRES * sigma:.3f}".rjust(17)
            for volume, sigma in (
                (each.volume_up, each.volume_up_sigma),
                (each.volume_down, each.volume_down_sigma),
                (each.net_volume, each.net_volume_sigma),
            )
        ]
        line = f"{name:{width}}  {'  '.join(cells)}  {area:9.0f}"
        if each.stable_scatter is not None:
            line += (
                f"  ground moved {1000 * each.offset:+.2f} ± {2000 * each.offset_sigma:.2f} mm, "
                f"scatter {each.stable_scatter:.2f} sigma"
            )
        lines.append(line)
    return "\n".join(lines)
