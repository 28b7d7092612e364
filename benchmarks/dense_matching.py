"""Accuracy and cost of the bundled dense matcher on rendered pairs, beside a weight-free reference.

Run ``python benchmarks/dense_matching.py --seeds 100 119 --work FOLDER``. Each seed gives one scene
under the 13-camera rig (kinds in turn; the material follows the seed) and one reference camera,
which is matched with its nearest, its farthest and the central source of the pipeline's own choice
of pairs. Views are rendered once and kept in the folder. Development uses seeds 0 to 9; reported
figures come from 100 to 119.

Every pixel that the source camera really sees counts, borders and edges included. A confident match
is one of certainty 0.5 or more; it is right only if the source camera sees the point there. The
reference takes the same plane through the calibrated rig, OpenCV's DIS flow in both directions, and
is confident where they agree to 1 px; "on curves" moves its targets onto the epipolar curves, as
the guided network's are.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from aquamvs.calibration import CalibrationData, compute_undistortion_maps, undistort_image
from aquamvs.datasets import SceneKind, SceneOptions, make_rig, make_scene, render_view, true_depth
from aquamvs.io import save_arrays
from aquamvs.matching import Guidance, RomaOptions, select_pairs
from aquamvs.matching.alignment import WorkingGrid, resample
from aquamvs.matching.images import to_uint8
from aquamvs.matching.roma import create_roma
from aquamvs.matching.roma_bundled import SMALL_SIDE, plane_alignment
from aquamvs.matching.warps import guide_warp, mask_warp
from aquamvs.pixels import pixel_grid
from aquamvs.training.data import TrainingView, true_warp
from aquamvs.types import UndistortedViews, View, Warp

KINDS = (SceneKind.BOWER, SceneKind.BOXES, SceneKind.LOW_TEXTURE, SceneKind.BOARD)
BOARD_TILTS_DEG = (2.0, 10.0, 20.0, 30.0)
REFERENCES = 12
"""Ring cameras of the rig, the reference in turn."""
CONFIDENT = 0.5
RIGHT_PX = {"unguided": 3.0, "guided": 2.0}
"""Largest error of a right match: px of the 256-px grid unguided, of the warp's own grid guided."""
FLOW_AGREEMENT_PX = 1.0

Matcher = Callable[[View, View], Warp]


@dataclass(frozen=True)
class Pair:
    """Two views of a scene and a name."""

    name: str
    reference: TrainingView
    source: TrainingView


@dataclass(frozen=True)
class Judged:
    """Matches of one pair against the truth.

    Attributes:
        pair: Name of the pair.
        mode: ``unguided`` or ``guided``: which grid the errors are for.
        name: Of the matcher.
        error: Of every cell that the source camera sees, px of the grid, shape (N,).
        shown: Which of them are confident, shape (N,).
        right: Whether each confident match of the pair is right, shape (M,).
        cpu: Seconds of processor time.
    """

    pair: str
    mode: str
    name: str
    error: NDArray[np.float32]
    shown: NDArray[np.bool_]
    right: NDArray[np.bool_]
    cpu: float


def plane_flow(reference: View, source: View, *, on_curves: bool) -> Warp:
    """The reference: alignment by a level plane, then DIS flow with a check of both directions."""
    alignment = plane_alignment(reference, source, Guidance())
    grid = WorkingGrid.over(reference.size, reference.size)
    pixels = grid.all_pixels()
    images = [resample(reference, pixels)[0], resample(source, alignment.into_source(pixels))[0]]
    own, other = (cv2.cvtColor(to_uint8(image), cv2.COLOR_RGB2GRAY) for image in images)
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    nothing = np.empty(0, np.float32)  # of flow to begin with
    forth, back = solver.calc(own, other, nothing), solver.calc(other, own, nothing)
    target = pixel_grid(reference.size).numpy() + forth
    returned = cv2.remap(
        back, target[..., 0], target[..., 1], cv2.INTER_LINEAR, borderValue=(1e4, 1e4)
    )
    agree = torch.from_numpy(np.linalg.norm(forth + returned, axis=-1) <= FLOW_AGREEMENT_PX)
    warp = Warp(
        reference.name,
        source.name,
        alignment.into_source(torch.from_numpy(target)),
        agree.float(),
        reference.size,
    )
    if on_curves:
        depth = alignment.ray_depth(warp.reference_pixels())
        warp = guide_warp(warp, reference, source, Guidance(), start_depth=depth)
    return mask_warp(warp, reference, source)


def judge(pair: Pair, mode: str, name: str, matcher: Matcher) -> Judged:
    """Match a pair and compare with the truth."""
    begin = time.process_time()
    warp = matcher(pair.reference.as_view(), pair.source.as_view())
    cpu = time.process_time() - begin
    truth, visible = true_warp(pair.reference, pair.source, warp.reference_pixels())
    width = max(pair.reference.size)
    side = SMALL_SIDE if mode == "unguided" else width / 2
    error = (warp.source_pixels - truth).norm(dim=-1) * side / width
    confident = warp.certainty >= CONFIDENT
    right = visible & (error <= RIGHT_PX[mode])
    return Judged(
        pair.name,
        mode,
        name,
        error[visible].numpy(),
        confident[visible].numpy(),
        right[confident].numpy(),
        cpu,
    )


def judge_seed(seed: int, size: tuple[int, int], work: Path) -> list[Judged]:
    """All matchers on all pairs of a seed, in one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network = create_roma(RomaOptions())
    rows: tuple[tuple[str, str, Matcher], ...] = (
        ("unguided", network.label, create_roma(RomaOptions(guidance=None)).match),
        ("guided", network.label, network.match),
        ("guided", "plane + DIS flow", lambda r, s: plane_flow(r, s, on_curves=False)),
        ("guided", "plane + DIS flow, on curves", lambda r, s: plane_flow(r, s, on_curves=True)),
    )
    return [judge(pair, *row) for pair in pairs_of(seed, size, work) for row in rows]


def line(name: str, results: Sequence[Judged]) -> str:
    """Figures over all pixels of some pairs."""
    limit = RIGHT_PX[results[0].mode]
    error = np.concatenate([r.error for r in results])
    shown = np.concatenate([r.shown for r in results])
    right = np.concatenate([r.right for r in results])
    near = np.median(error[shown]) if shown.any() else np.nan
    share = f"{right.mean():8.2%}" if len(right) else f"{'none':>8s}"
    return (
        f"{name:28s} {np.median(error):7.3f} {np.mean(error <= 1):8.2%} "
        f"{np.mean(error <= limit):8.2%} {shown.mean():10.2%} {share} {near:7.3f} "
        f"{np.mean([r.cpu for r in results]):7.2f}"
    )


def header(right_px: float) -> str:
    return (
        f"{'':28s} {'median':>7s} {'<= 1 px':>8s} {f'<= {right_px:.0f} px':>8s} "
        f"{'confident':>10s} {'right':>8s} {'median':>7s} {'CPU s':>7s}"
    )


def pairs_of(seed: int, size: tuple[int, int], work: Path) -> Iterator[Pair]:
    """The pairs of a seed's scene."""
    rig = make_rig("ring13", image_size=size)
    reference = list(rig.cameras)[seed % REFERENCES]
    names = sources_of(rig, reference)
    kind = KINDS[seed % len(KINDS)]
    views = rendered(kind, seed, rig, (reference, *names), work)
    for name in names:
        yield Pair(f"{kind}_{seed} {reference} {name}", views[reference], views[name])


def sources_of(rig: CalibrationData, reference: str) -> tuple[str, ...]:
    """Nearest, farthest and central source of a reference camera."""
    views = []
    for name, camera in rig.cameras.items():
        width, height = camera.image_size
        model = rig.projection_model(name, compute_undistortion_maps(camera).K_new)
        blank = torch.zeros(height, width, 3)
        mask = torch.ones(height, width, dtype=torch.bool)
        views.append(View(name, blank, mask, model, camera.is_auxiliary))
    chosen = select_pairs(UndistortedViews(0, tuple(views)))
    sources = [pair.source for pair in chosen if pair.reference == reference]
    return sources[0], sources[-2], sources[-1]


def rendered(
    kind: SceneKind, seed: int, rig: CalibrationData, names: tuple[str, ...], work: Path
) -> dict[str, TrainingView]:
    """Views of a scene with their true depth, rendered unless they are in the folder."""
    width, height = rig.cameras[names[0]].image_size
    path = work / f"dense_{kind}_{seed}_{width}x{height}.npz"
    maps = {name: compute_undistortion_maps(rig.cameras[name]) for name in names}
    if not path.is_file():
        options = SceneOptions(tilt_deg=BOARD_TILTS_DEG[seed // len(KINDS) % len(BOARD_TILTS_DEG)])
        scene = make_scene(kind, seed=seed, rig=rig, options=options)
        arrays: dict[str, NDArray[Any]] = {}
        for name in names:
            image = undistort_image(render_view(scene, rig, name), maps[name])
            depth, _, _ = true_depth(scene, rig, name, undistortion=maps[name])
            arrays |= {f"image_{name}": image, f"depth_{name}": depth.float().numpy()}
        save_arrays(path, arrays)
    with np.load(path, allow_pickle=False) as archive:
        return {
            name: TrainingView(
                name,
                archive[f"image_{name}"],
                torch.from_numpy(archive[f"depth_{name}"]),
                rig.projection_model(name, maps[name].K_new),
            )
            for name in names
        }


def report(results: Sequence[Judged], each: bool) -> None:
    """Print the figures of all pairs, and those of every pair."""
    for mode, grid in (("unguided", f"{SMALL_SIDE}-px grid"), ("guided", "half of the pixels")):
        print(f"\n{mode}: all visible pixels, then the confident matches; px of the {grid}")
        print(header(RIGHT_PX[mode]))
        own = [r for r in results if r.mode == mode]
        names = dict.fromkeys(r.name for r in own)
        for name in names:
            print(line(name, [r for r in own if r.name == name]))
        for r in own if each else ():
            print(line(f"{r.pair}", [r]) + f"  {r.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 3), metavar=("FIRST", "LAST"))
    parser.add_argument("--size", type=int, nargs=2, default=(800, 600), metavar=("W", "H"))
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps rendered views")
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--each", action="store_true", help="also print every pair")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seeds[0], options.seeds[1] + 1)
    size = (options.size[0], options.size[1])
    with ProcessPoolExecutor(options.workers) as pool:
        count = len(seeds)
        results = [
            judged
            for of_seed in pool.map(judge_seed, seeds, [size] * count, [options.work] * count)
            for judged in of_seed
        ]
    pairs = len({r.pair for r in results})
    print(f"{pairs} pairs of {size[0]} x {size[1]}, seeds {seeds.start} to {seeds.stop - 1}")
    report(results, options.each)


if __name__ == "__main__":
    main()
