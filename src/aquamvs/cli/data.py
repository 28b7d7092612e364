"""Verbs around a reconstruction: what goes into it, what comes out for others, how good it is.

Arguments are described here, beside what they do; nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import Commands, add_command, add_config, add_frame, add_verbosity
from .exit_codes import EXIT_DONE, EXIT_FAILED
from .output import key_values, print_result, table

PRESETS = ("fast", "balanced", "quality")
CAMERA_FORMATS = ("colmap", "nerfstudio", "rays")
HEIGHT_FORMATS = {"netcdf": ".nc", "geotiff": ".tif", "zarr": ".zarr"}
MESH_FORMATS = ("obj", "stl", "glb", "gltf", "ply")


def add_init(commands: Commands) -> None:
    """Describe ``init``."""
    parser = add_command(
        commands,
        "init",
        "Write a configuration for the videos or image folders of a calibrated rig.",
    )
    parser.add_argument(
        "--input-dir",
        "--video-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with a video, or a folder of images, per camera",
    )
    parser.add_argument(
        "--calibration", type=Path, required=True, metavar="FILE", help="AquaCal JSON file"
    )
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help="regular expression that fits the start of each name; its first group is the camera's "
        "name (default: videos and folders bear the cameras' names)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("output"),
        metavar="DIR",
        help="where results shall go (default output)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("config.yaml"),
        metavar="FILE",
        help="file to write (default config.yaml)",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="balanced",
        help="fast: sparse points; balanced: the surface sweep; quality: depth maps, which show "
        "walls and overhangs too (default balanced). The preset's values are written into the file",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    add_verbosity(parser)


def init(options: argparse.Namespace) -> int:
    """Find the cameras and write the configuration."""
    from ..calibration import load_calibration_data
    from ..errors import ConfigError
    from ..setup import first_config, match_inputs

    if options.config.exists() and not options.overwrite:
        raise ConfigError(f"{options.config} exists; choose another --config or add --overwrite")
    calibration = load_calibration_data(options.calibration)
    match = match_inputs(options.input_dir, calibration, pattern=options.pattern)
    config = first_config(match, options.calibration, options.output_dir, preset=options.preset)
    config.to_yaml(options.config)
    rows = [("camera", "input"), *((name, str(path)) for name, path in match.matched.items())]
    lines = [table(rows)]
    lines += [f"not calibrated: {name} ({path})" for name, path in match.not_calibrated.items()]
    lines += [f"not matched by the pattern: {path}" for path in match.ignored]
    lines.append(f"{len(match.matched)} cameras, preset {options.preset}: {options.config}")
    print_result(options, {"config": options.config, "match": match}, "\n".join(lines))
    return EXIT_DONE


def add_export_refs(commands: Commands) -> None:
    """Describe ``export-refs``."""
    parser = add_command(
        commands, "export-refs", "Write every camera's undistorted image, to draw masks on."
    )
    add_config(parser)
    add_frame(parser)
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="folder (default: reference_images in the configured output folder)",
    )
    add_verbosity(parser)


def export_refs(options: argparse.Namespace) -> int:
    """Write the images."""
    from ..config import PipelineConfig
    from ..pipeline import export_references, open_inputs

    inputs = open_inputs(PipelineConfig.from_yaml(options.config))
    paths = export_references(inputs, frame=options.frame, output_dir=options.output_dir)
    hint = "save masks as <camera>.png in one folder, white = keep, and set mask_dir to it"
    print_result(options, {"images": paths}, "\n".join([*map(str, paths.values()), hint]))
    return EXIT_DONE


def add_export_cameras(commands: Commands) -> None:
    """Describe ``export-cameras``."""
    parser = add_command(
        commands,
        "export-cameras",
        "Write the rig for other programs, with undistorted images. COLMAP and nerfstudio know "
        "pinhole cameras, so they get rigs in air only; through water there are rays.",
    )
    add_config(parser)
    parser.add_argument(
        "--format",
        choices=CAMERA_FORMATS,
        required=True,
        help="colmap: text model; nerfstudio: transforms.json; rays: origin and direction of every "
        "pixel's ray in the water",
    )
    add_frame(parser)
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="folder (default: cameras_FORMAT in the configured output folder)",
    )
    add_verbosity(parser)


def export_cameras(options: argparse.Namespace) -> int:
    """Write the cameras."""
    from ..config import PipelineConfig
    from ..io import export_cameras as export
    from ..pipeline import open_inputs

    inputs = open_inputs(PipelineConfig.from_yaml(options.config))
    folder = options.output_dir or inputs.config.output_dir / f"cameras_{options.format}"
    paths = export(inputs.read_views(options.frame).views, folder, target=options.format)
    print_result(options, {"files": paths}, "\n".join(map(str, paths)))
    return EXIT_DONE


def add_export_heights(commands: Commands) -> None:
    """Describe ``export-heights``."""
    parser = add_command(
        commands,
        "export-heights",
        "Convert height maps for GIS and xarray, with units and coordinates; a run's maps also as "
        "one store.",
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="height map (npz), or the output folder of a run: the maps of all its frames",
    )
    parser.add_argument(
        "--format",
        choices=tuple(HEIGHT_FORMATS),
        default="netcdf",
        help="netcdf; geotiff (extra export); zarr (extra export): all frames in one store "
        "(default netcdf)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="file to write (zarr: store); for a folder of netcdf or geotiff files a folder "
        "(default: beside each map; zarr: heights.zarr in INPUT)",
    )
    parser.add_argument(
        "--interval",
        type=float,
        metavar="SECONDS",
        help="zarr: time from one frame number to the next; adds the coordinate time",
    )
    parser.add_argument("--overwrite", action="store_true", help="zarr: replace a store")
    add_verbosity(parser)


def export_heights(options: argparse.Namespace) -> int:
    """Convert the height maps."""
    from ..io import load_height_map, save_geotiff, save_height_series, save_netcdf
    from ..pipeline import finished_height_maps
    from .progress import progress_bar

    is_folder = options.input.is_dir()
    maps = finished_height_maps(options.input) if is_folder else [options.input]
    suffix = HEIGHT_FORMATS[options.format]
    if suffix == ".zarr":
        default = options.input / "heights" if is_folder else options.input
        paths = [options.output or default.with_suffix(suffix)]
        with progress_bar(options) as show:
            save_height_series(
                paths[0],
                maps,
                interval=options.interval,
                overwrite=options.overwrite,
                progress=show,
            )
    else:
        save = save_netcdf if suffix == ".nc" else save_geotiff
        paths = [_height_export(path, options, suffix) for path in maps]
        with progress_bar(options) as show:
            for done, (source, path) in enumerate(zip(maps, paths, strict=True), start=1):
                save(path, load_height_map(source))
                if show is not None:
                    show(path.name, done, len(maps))
    print_result(options, {"files": paths}, "\n".join(map(str, paths)))
    return EXIT_DONE


def _height_export(source: Path, options: argparse.Namespace, suffix: str) -> Path:
    """Where a height map's file goes."""
    if options.output is None:
        return source.with_suffix(suffix)
    output: Path = options.output
    frame = source.absolute().parents[1].name
    return output / f"{frame}{suffix}" if options.input.is_dir() else output


def add_export_mesh(commands: Commands) -> None:
    """Describe ``export-mesh``."""
    parser = add_command(
        commands, "export-mesh", "Convert meshes (PLY) for other programs, and simplify them."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "input",
        type=Path,
        nargs="?",
        metavar="INPUT",
        help="PLY file, or a folder: all meshes in it and below it",
    )
    source.add_argument("--input-dir", type=Path, metavar="DIR", help="a folder, as INPUT")
    parser.add_argument(
        "--format", choices=MESH_FORMATS, required=True, help="format to write (stl: no colours)"
    )
    parser.add_argument(
        "--simplify", type=int, metavar="FACES", help="reduce each mesh to about so many triangles"
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="folder to write into (default: beside each mesh)",
    )
    add_verbosity(parser)


def export_mesh(options: argparse.Namespace) -> int:
    """Convert the meshes."""
    from ..meshing import convert_meshes
    from .progress import progress_bar

    with progress_bar(options) as show:
        paths = convert_meshes(
            options.input_dir or options.input,
            suffix=f".{options.format}",
            target_faces=options.simplify,
            output_dir=options.output_dir,
            progress=show,
        )
    print_result(options, {"meshes": paths}, "\n".join(map(str, paths)))
    return EXIT_DONE


def add_temporal_filter(commands: Commands) -> None:
    """Describe ``temporal-filter``."""
    parser = add_command(
        commands,
        "temporal-filter",
        "Remove fish and debris: the median of every pixel over a window of frames.",
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="video or folder of images, or a folder that holds several of them",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="folder to write a folder of PNG files, or a video, per input into (default: "
        "INPUT_median, beside INPUT)",
    )
    parser.add_argument(
        "--format",
        choices=("png", "video", "mp4"),
        default="png",
        help="png: numbered images; video: lossless (FFV1 in Matroska), shown when the input's "
        "frames are; mp4: the same, under the name of AquaMVS 1.x, whose H.264 lost detail "
        "(default png)",
    )
    parser.add_argument(
        "--frame-rate",
        "--output-fps",
        type=float,
        default=30.0,
        metavar="HZ",
        help="of a video whose input has no timestamps (default 30)",
    )
    parser.add_argument(
        "--window",
        type=int,
        default=30,
        metavar="N",
        help="frames that each median is taken over (default 30)",
    )
    parser.add_argument(
        "--framestep", type=int, default=1, metavar="N", help="write every Nth frame (default 1)"
    )
    parser.add_argument(
        "--window-step",
        type=int,
        default=1,
        metavar="N",
        help="use only every Nth frame for the medians (default 1)",
    )
    parser.add_argument(
        "--exact-seek",
        action="store_true",
        help="no effect: frames are always found exactly (a flag of AquaMVS 1.x)",
    )
    add_verbosity(parser)


def temporal_filter(options: argparse.Namespace) -> int:
    """Write the medians."""
    from ..io import filter_inputs
    from .progress import progress_bar

    with progress_bar(options) as show:
        written = filter_inputs(
            options.input,
            output_dir=options.output_dir,
            window=options.window,
            step=options.framestep,
            window_step=options.window_step,
            as_video=options.format != "png",
            frame_rate=options.frame_rate,
            progress=show,
        )
    rows = [("written", "frames"), *((str(path), str(count)) for path, count in written.items())]
    print_result(options, {"frames": written}, table(rows))
    return EXIT_DONE


def add_evaluate(commands: Commands) -> None:
    """Describe ``evaluate``."""
    parser = add_command(
        commands,
        "evaluate",
        "Judge a depth map, height map, cloud or mesh by the truth or by another result.",
    )
    parser.add_argument(
        "estimate",
        type=Path,
        metavar="ESTIMATE",
        help="npz (depth map, height map), ply (cloud, mesh), or a folder of depth maps",
    )
    parser.add_argument(
        "truth",
        type=Path,
        metavar="TRUTH",
        help="depth map or folder of depth maps for such; height map or true surface "
        "(surface.npz) for a height map; any surface, for a cloud also a cloud",
    )
    parser.add_argument(
        "--sample-spacing",
        type=float,
        metavar="M",
        help="distance of samples on surfaces, metres (default: two cells of the truth)",
    )
    add_verbosity(parser)


def evaluate(options: argparse.Namespace) -> int:
    """Print the errors."""
    from ..comparison import compare_files

    found = compare_files(options.estimate, options.truth, sample_spacing=options.sample_spacing)
    errors: dict[str, Any] = found.errors.as_dict()
    title = f"{found.estimate} against {found.truth}; lengths in metres, fractions of one"
    print_result(
        options,
        {"estimate": found.estimate, "truth": found.truth, "errors": errors},
        f"{title}\n{key_values(errors)}",
    )
    return EXIT_DONE


def add_doctor(commands: Commands) -> None:
    """Describe ``doctor``."""
    parser = add_command(
        commands,
        "doctor",
        "Check the installation and the machine, and reconstruct a tiny scene.",
    )
    parser.add_argument("--no-self-test", action="store_true", help="leave the tiny scene out")
    add_verbosity(parser)


def doctor(options: argparse.Namespace) -> int:
    """Print the checks; fails if one of them has."""
    from ..diagnosis import Finding, diagnose

    checks = list(diagnose(self_test=not options.no_self_test))
    rows = [(check.name, check.finding.value, check.found) for check in checks]
    failed = any(check.finding is Finding.FAILED for check in checks)
    verdict = "FAILED" if failed else "pass"
    text = f"{table([('check', 'finding', 'found'), *rows])}\n{verdict}"
    print_result(options, {"checks": checks, "passed": not failed}, text)
    return EXIT_FAILED if failed else EXIT_DONE
