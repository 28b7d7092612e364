"""Accuracy and cost of the surface sweep on rendered scenes, against the rig's own limit.

Run ``python benchmarks/surface_sweep.py --data FOLDER``. Scenes are rendered into the folder once
and kept. Development uses seeds 0 to 9; reported figures come from seeds 100 to 119. The material
of the bed follows the seed (five materials in turn), and so does the tilt of the board.

Every reported cell counts and nothing is trimmed. "Judged" are the cells that at least three
cameras really see: in the image, and not hidden by the true surface. ``limit`` is the 1-sigma
height error that 0.1 px of matching noise per view leaves when all cameras that see the cell are
used. ``--cost`` also runs the command line once per image size and prints time and memory.
"""

import argparse
import dataclasses
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aquamvs import Pipeline, PipelineConfig
from aquamvs.benchmark.warmup import compile_kernels
from aquamvs.datasets import (
    SceneKind,
    SceneOptions,
    board_corners,
    load_ground_truth,
    make_rig,
    make_scene,
    write_dataset,
)
from aquamvs.evaluation import (
    BoardPose,
    BoardSpec,
    ErrorStatistics,
    HeightGrid,
    board_surface_errors,
    error_statistics,
    gsd,
    rig_limit,
    visible_in_depth_maps,
)
from aquamvs.numerics.pyramid import level_count
from aquamvs.numerics.sampling_kernels import PADDING, sample_map
from aquamvs.pathways import PipelineMode
from aquamvs.surface import sweep_surface
from aquamvs.surface.sweep import LAST_PASSES, LEVEL_PASSES, RELIEF_PASS
from aquamvs.types import HeightMap, UndistortedViews

RIG = "ring13"
MEDIUM = (800, 600)
JUDGED_VIEWS = 3
LIMIT_STEP = 4
"""The limit changes slowly: one cell in four by four stands for all."""
HIDDEN_GSD = 3.0
BOARD_TILTS_DEG = (2.0, 10.0, 20.0, 30.0, 41.0)
KINDS = ("bower", "low_texture", "boxes", "in_air", "board")
ON_BOARD, GROSS = 1e-3, 5e-3
"""A true cell this near to the board's plane is of its face; an error beyond is gross, metres."""
BOARD = BoardSpec(
    squares_x=12, squares_y=9, square_size=0.06, marker_size=0.045, dictionary="DICT_5X5_100"
)
HEADER = (
    "scene            seed  material    median   x lim  RMS x lim  near steps  away    "
    "coverage  1 sigma  2 sigma   sweep CPU"
)


def render(kind: str, seed: int, data: Path) -> Path:
    """The dataset of a scene, rendered unless it is there."""
    out = data / f"{kind}_{seed}"
    if out.exists():
        return out
    scene = SceneKind.BOWER if kind == "in_air" else SceneKind(kind)
    rig = make_rig(RIG, image_size=None if kind == "board" else MEDIUM)
    if kind == "in_air":
        rig = dataclasses.replace(rig, n_water=rig.n_air)
    return write_dataset(out, rig=rig, scene_kind=scene, seed=seed, options=options_of(kind, seed))


def options_of(kind: str, seed: int) -> SceneOptions | None:
    """Options of the scene: the board's tilt."""
    if kind != "board":
        return None
    return SceneOptions(tilt_deg=BOARD_TILTS_DEG[seed % len(BOARD_TILTS_DEG)])


def seen_and_limit(
    views: UndistortedViews, dataset: Path, z: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Number of cameras that see each true cell, and the limit of its height, (rows, columns)."""
    truth = load_ground_truth(dataset)
    step = slice(LIMIT_STEP // 2, None, LIMIT_STEP)
    points = torch.stack([x, y, z], dim=-1)[step, step]
    models = [view.model for view in views]
    tolerance = HIDDEN_GSD * float(gsd(models[0], points).nanmedian())
    depths = [truth.depth(view.name) for view in views]
    visible = visible_in_depth_maps(models, depths, points, tolerance=tolerance)
    limit = rig_limit(models, points, visible, sizes=[view.size for view in views])
    rows, columns = (
        (torch.arange(size) // LIMIT_STEP).clamp(max=count - 1)
        for size, count in zip(z.shape, limit.view_count.shape, strict=True)
    )
    return limit.view_count[rows][:, columns], limit.height[rows][:, columns]


def judge(height_map: HeightMap, views: UndistortedViews, dataset: Path) -> str:
    """The figures of one scene."""
    surface = load_ground_truth(dataset).surface
    truth = HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)
    x, y = height_map.grid_xy()
    z = torch.from_numpy(truth.at(x, y))
    count, limit = seen_and_limit(views, dataset, z, x, y)
    judged = torch.isfinite(z) & (count >= JUDGED_VIEWS)
    known = judged & torch.isfinite(height_map.z)
    near = torch.from_numpy(truth.distance_to_step(x, y) <= 2 * height_map.spacing)

    def statistics(cells: Tensor) -> ErrorStatistics:
        error = (height_map.z.double() - z)[cells].numpy()
        return error_statistics(
            error, limit=limit[cells].numpy(), sigma=height_map.sigma.double()[cells].numpy()
        )

    everything, steps, away = (statistics(known & part) for part in (near | ~near, near, ~near))
    coverage = float(known.sum() / judged.sum())
    return (
        f"{1e3 * everything.median_abs:6.3f} mm  {everything.median_over_limit:5.2f}  "
        f"{everything.rms_over_limit:9.2f}  {steps.rms_over_limit:10.1f}  "
        f"{away.rms_over_limit:5.2f}   {100 * coverage:7.2f}%  "
        f"{everything.within_1_sigma:7.1%}  {everything.within_2_sigma:7.1%}"
    )


def judge_board(height_map: HeightMap, dataset: Path) -> str:
    """Flatness and agreement with the true plane, and how much of the face is there at all.

    Flatness looks at what lies near the plane; the last two figures at every cell of the face.
    """
    truth = load_ground_truth(dataset)
    provenance = truth.provenance
    scene = make_scene(
        SceneKind.BOARD,
        seed=provenance["seed"],
        rig=dataset / "calibration.json",
        options=options_of("board", provenance["seed"]),
    )
    assert scene.board is not None
    spec = BOARD
    corners = torch.from_numpy(board_corners(scene.board))
    right = (corners[1] - corners[0]) / spec.square_size
    down = (corners[spec.squares_x - 1] - corners[0]) / spec.square_size
    R = torch.stack([right, down, torch.linalg.cross(right, down)], dim=1)
    pose = BoardPose(spec, R, corners[0] - spec.square_size * (right + down))
    x, y = height_map.grid_xy()
    points = torch.stack([x, y, height_map.z.double()], dim=-1).reshape(-1, 3)
    errors = board_surface_errors(points, pose)
    surface = truth.surface
    z = torch.from_numpy(HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z).at(x, y))
    local = pose.to_board(torch.stack([x, y, z], dim=-1))
    face = pose.contains(local) & (local[..., 2].abs() < ON_BOARD)
    off = (height_map.z.double() - z)[face & torch.isfinite(height_map.z)].numpy()
    known, gross = off.size / int(face.sum()), np.mean(np.abs(off) > GROSS)
    return (
        f"tilt {scene.options.tilt_deg:4.1f} deg: flatness {1e3 * errors.flatness_rms:.3f} mm RMS, "
        f"from the true plane {1e3 * errors.offset_rms:.3f} mm RMS "
        f"(bias {1e3 * errors.offset_bias:+.3f} mm), {100 * known:.1f}% of the "
        f"face, {100 * gross:.2f}% of that off by over {1e3 * GROSS:.0f} mm"
    )


def floor_seconds(height_map: HeightMap) -> tuple[float, float, float]:
    """Samples that the passes of a result need, seconds per sample, and their product.

    Every hypothesis of every pass samples every view that sees a cell once, at the spacing of its
    level; the coarsest level's planes, tile margins and all other arithmetic are on top. A sample
    is timed with the engine's own loop on one thread: it reads sixteen coefficients of four bytes,
    from the cache.
    """
    seen = height_map.view_count.double().sum()
    hypotheses = sum(plan.hypotheses for plan in (*LAST_PASSES, RELIEF_PASS))
    for level in range(1, level_count(min(MEDIUM))):
        hypotheses += sum(plan.hypotheses for plan in LEVEL_PASSES) / 4**level
    samples = float(seen) * hypotheses
    width, height = MEDIUM
    rng = np.random.default_rng(0)
    image = rng.random((width + PADDING) * (height + PADDING), np.float32)
    u, v = np.meshgrid(
        np.linspace(5, width - 6, 200, dtype=np.float32),
        np.linspace(5, height - 6, 2000, dtype=np.float32),
    )
    rate, out = np.full_like(u, 0.3), np.empty_like(u)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        sample_map(image, width, height, True, u, v, rate, rate, 0, np.float32(0.5), out)
        taken.append(time.perf_counter() - start)
    each = float(np.median(taken)) / out.size
    return samples, each, samples * each


def accuracy(kinds: Sequence[str], seeds: Sequence[int], data: Path) -> None:
    """Print one line per scene."""
    print(HEADER)
    for kind in kinds:
        for seed in seeds:
            dataset = render(kind, seed, data)
            config = PipelineConfig.from_yaml(dataset / "config.yaml")
            views = Pipeline(config).inputs.read_views(0)
            start = time.process_time()
            height_map = sweep_surface(views)
            taken = time.process_time() - start
            material = load_ground_truth(dataset).provenance["options"]["texture"]
            figures = (
                judge_board(height_map, dataset)
                if kind == "board"
                else judge(height_map, views, dataset)
            )
            print(f"{kind:15}  {seed:4}  {material:10}  {figures}  {taken:6.1f} s", flush=True)
    if "board" not in kinds:
        samples, each, least = floor_seconds(height_map)
        print(
            f"\nlast scene: {samples / 1e6:.0f} M cubic samples of {64 * samples / 1e9:.1f} GB, "
            f"{1e9 * each:.1f} ns each: {least:.2f} CPU-s at least; the sweep took "
            f"{taken:.1f}, {taken / least:.1f} times that"
        )


def cost(seed: int, data: Path) -> None:
    """Print time and memory of ``aquamvs run`` in a process of its own."""
    print("\nscale   seed   CPU s   wall s   peak GB   (aquamvs run, pipeline_mode: surface)")
    for scale, size in (("medium", MEDIUM), ("full", None)):
        dataset = data / f"{scale}_{seed}"
        if not dataset.exists():
            write_dataset(dataset, rig=RIG, scene_kind="bower", seed=seed, image_size=size)
        with tempfile.TemporaryDirectory() as out:
            config = dataset / "surface.yaml"
            PipelineConfig.from_yaml(dataset / "config.yaml").model_copy(
                update={"pipeline_mode": PipelineMode.SURFACE, "output_dir": Path(out)}
            ).to_yaml(config)
            command = [sys.executable, "-m", "aquamvs", "run", str(config)]
            start = time.perf_counter()
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
            _, status, used = os.wait4(child.pid, 0)
            wall = time.perf_counter() - start
        if status != 0:
            raise SystemExit(f"{' '.join(command)} failed")
        cpu = used.ru_utime + used.ru_stime
        peak = used.ru_maxrss * 1024 / 1e9
        print(f"{scale:6}  {seed:4}  {cpu:6.1f}  {wall:7.1f}  {peak:8.2f}", flush=True)


def seeds_of(text: str) -> list[int]:
    """``0-3,7`` as numbers."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds.extend(range(int(first), int(last or first) + 1))
    return seeds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of rendered scenes")
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("100-104"))
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--cost", action="store_true", help="also time and memory of the command")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    compile_kernels(PipelineMode.SURFACE)
    accuracy(options.kinds, options.seeds, options.data)
    if options.cost:
        cost(options.seeds[0], options.data)


if __name__ == "__main__":
    main()
