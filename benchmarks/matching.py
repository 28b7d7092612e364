"""Precision, recall and cost of the sparse matchers on pairs of rendered views.

Run ``python benchmarks/matching.py --data FOLDER``. Datasets are rendered into the folder once and
kept. Development uses seeds 0 to 9; reported figures come from seeds 100 to 119.

Two keypoints truly match if each lies within 3 px of where the other's surface point is seen, in
both images, and nothing hides it; of several such partners only the mutual nearest count (the true
pairs of LightGlue's own training, Lindenberger et al., ICCV 2023). Precision
is the part of a matcher's matches that lie within 3 px of the truth (a match of a hidden point is
wrong); recall the part of the true pairs whose keypoint a matcher has matched rightly. All matchers
get the same keypoints. The disturbed calibration has every camera turned at random, so that pixels
move by 1 px RMS. ``--sparse`` prints the sparse clouds of one ``--matcher`` instead, and
``--thresholds`` precision and recall over the score, on the validation seeds of the training.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from aquamvs import Pipeline, PipelineConfig
from aquamvs.datasets import GroundTruth, load_ground_truth, make_example
from aquamvs.evaluation import (
    HeightGrid,
    cloud_to_mesh,
    gsd,
    rig_limit,
    visible_in_depth_maps,
)
from aquamvs.matching import (
    DetectionOptions,
    Features,
    Guidance,
    LightGlueMatcher,
    LightGlueOptions,
    SiftMatcher,
    SiftOptions,
    SparseMatcher,
    match_sparse,
    select_pairs,
    unordered_pairs,
)
from aquamvs.matching.images import to_uint8
from aquamvs.pathways import MatcherType, PipelineMode
from aquamvs.pipeline.reconstruct import reconstruct, weights_label
from aquamvs.training.data import VALIDATION_SEEDS, TrainingView, training_scene, true_warp
from aquamvs.triangulation import triangulate
from aquamvs.types import Matches, UndistortedViews, View

KEYPOINTS = 1024
SAME_POINT_PX = 3.0
LEAST_SCORE = 1e-4
FEW = 20
"""Pairs of so few matches may hold none that triangulates."""
OUTLIER_M = 5e-3
TRUTH_NODES = 1_000_000
HIDDEN_GSD = 3.0
THRESHOLDS = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
KINDS = ("bower", "boxes", "low_texture")
HEADER = f"{'matcher':44s} {'precision':>9s} {'recall':>7s} {'matches':>8s} {'CPU-s':>6s}"


@dataclasses.dataclass
class Tally:
    """Counts over pairs."""

    matches: int = 0
    right: int = 0
    true: int = 0
    found: int = 0
    seconds: float = 0.0
    pairs: int = 0

    def __add__(self, other: Tally) -> Tally:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Tally(*(own + others for own, others in pairs))

    def line(self, name: str) -> str:
        """The row of the table."""
        return (
            f"{name:44s} {self.right / max(self.matches, 1):9.4f} "
            f"{self.found / max(self.true, 1):7.3f} {self.matches / max(self.pairs, 1):8.0f} "
            f"{self.seconds / max(self.pairs, 1):6.2f}"
        )


def dataset(kind: str, seed: int, scale: str, data: Path) -> Path:
    """The dataset of a scene, rendered unless it is there."""
    name = f"{kind}_{seed}" if scale == "medium" else f"{kind}_{seed}_{scale}"
    out = data / name
    return out if out.exists() else make_example(out, scale=scale, seed=seed, scene=kind)


def load_views(folder: Path) -> UndistortedViews:
    return Pipeline(PipelineConfig.from_yaml(folder / "config.yaml")).inputs.read_views(0)


def with_truth(view: View, depth: Tensor) -> TrainingView:
    return TrainingView(view.name, to_uint8(view.image), depth, view.model)


def true_pairs(
    first: TrainingView, second: TrainingView, places: Tensor, others: Tensor
) -> tuple[Tensor, Tensor]:
    """Positions of the keypoint places that truly match, each of shape (K,)."""
    forth, seen = true_warp(first, second, places)
    back, seen_back = true_warp(second, first, others)
    gap = torch.maximum(
        torch.cdist(forth.nan_to_num(1e6), others), torch.cdist(back.nan_to_num(1e6), places).T
    )
    gap = torch.where(seen[:, None] & seen_back[None], gap, torch.inf)
    best, column = gap.min(1)
    index = torch.arange(len(places))
    mutual = (best < SAME_POINT_PX) & (gap.argmin(0)[column] == index)
    return index[mutual], column[mutual]


def right_matches(first: TrainingView, second: TrainingView, matches: Matches) -> Tensor:
    """Whether each match is within 3 px of the truth, shape (N,)."""
    target, seen = true_warp(first, second, matches.reference_pixels)
    near: Tensor = (target - matches.source_pixels).norm(dim=-1) < SAME_POINT_PX
    return seen & near


def judge(
    tally: Tally,
    matcher: SparseMatcher,
    views: tuple[View, View],
    truths: tuple[TrainingView, TrainingView],
    features: tuple[Features, Features],
) -> None:
    """Match a pair and count."""
    start = time.process_time()
    matches = matcher.match_features(*views, *features)
    tally.seconds += time.process_time() - start
    right, wanted, true = outcome(truths, features, matches)
    tally.pairs += 1
    tally.matches += len(matches)
    tally.right += int(right.sum())
    tally.true += true
    tally.found += int((right & wanted).sum())


def outcome(
    truths: tuple[TrainingView, TrainingView],
    features: tuple[Features, Features],
    matches: Matches,
) -> tuple[Tensor, Tensor, int]:
    """Which matches are right, which match a keypoint of a true pair, and the number of these."""
    places = [f.unique_places()[0] for f in features]
    i, _ = true_pairs(*truths, *places)
    known = {tuple(place) for place in places[0][i].tolist()}
    wanted = torch.tensor([tuple(p) in known for p in matches.reference_pixels.tolist()]).bool()
    return right_matches(*truths, matches), wanted, len(i)


def disturbed(views: tuple[View, View], rms_px: float, number: int) -> tuple[View, View]:
    """A pair with its cameras turned at random, so that pixels move by ``rms_px`` RMS."""
    return turned(views[0], rms_px, 2 * number), turned(views[1], rms_px, 2 * number + 1)


def turned(view: View, rms_px: float, seed: int) -> View:
    """The view with its camera turned at random."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.randn(3, generator=generator, dtype=torch.float64)
    model = view.model
    focal, (width, height) = float(model.K[0, 0]), view.size
    # A turn about the optical axis moves pixels by their distance from the centre.
    lever = torch.tensor([focal, focal, ((width**2 + height**2) / 12) ** 0.5]).double()
    angles = axis * rms_px / (axis * lever).norm()
    return dataclasses.replace(view, model=model.turned(angles))


def matchers() -> dict[str, tuple[SparseMatcher, float]]:
    """Name -> matcher and the disturbance of the calibration, px RMS."""
    unguided = LightGlueMatcher.create(LightGlueOptions(guidance=None))
    guided = LightGlueMatcher.create(LightGlueOptions())
    bare = SiftOptions(
        ratio=1e6, max_rotation_deg=180.0, max_octaves=10.0, max_descriptor_distance=1.5
    )
    return {
        f"{unguided.label}, unguided": (unguided, 0.0),
        "  mutual NN + ratio 0.8": (
            SiftMatcher(SiftOptions(guidance=None, max_descriptor_distance=1.5)), 0.0,
        ),
        f"{guided.label}, guided": (guided, 0.0),
        "  guided mutual NN": (SiftMatcher(bare), 0.0),
        "  guided SIFT (frames, ratio 0.8)": (SiftMatcher(SiftOptions()), 0.0),
        f"{guided.label}, guided, calibration off 1 px": (guided, 1.0),
        "  guided mutual NN, calibration off 1 px": (SiftMatcher(bare), 1.0),
    }  # fmt: skip


def compare(folders: Sequence[Path], step: int, *, each: bool) -> None:
    """Print the table over every ``step``-th pair of the datasets."""
    table = matchers()
    totals = {name: Tally() for name in table}
    detector = LightGlueMatcher.create(
        LightGlueOptions(detection=DetectionOptions(max_keypoints=KEYPOINTS))
    )
    detection, count = 0.0, 0
    for folder in folders:
        views, truth = load_views(folder), load_ground_truth(folder)
        found: dict[str, Features] = {}
        tallies = {name: Tally() for name in table}
        for number, pair in enumerate(unordered_pairs(select_pairs(views))[::step]):
            both = views[pair.reference], views[pair.source]
            for view in both:
                if view.name not in found:
                    start = time.process_time()
                    found[view.name] = detector.extract(view)
                    detection += time.process_time() - start
                    count += 1
            first, second = (with_truth(view, truth.depth(view.name)) for view in both)
            features = found[pair.reference], found[pair.source]
            for name, (matcher, error) in table.items():
                seen = disturbed(both, error, number) if error else both
                judge(tallies[name], matcher, seen, (first, second), features)
        totals = {name: total + tallies[name] for name, total in totals.items()}
        if each:
            show(folder.name, tallies)
    show(f"{len(folders)} datasets, {KEYPOINTS} keypoints per view", totals)
    print(f"detection: {detection / max(count, 1):.2f} CPU-s per view")


def show(title: str, tallies: Mapping[str, Tally]) -> None:
    print(title)
    print(HEADER)
    for name, tally in tallies.items():
        print(tally.line(name), flush=True)


def sparse_clouds(folder: Path, matcher_type: MatcherType) -> None:
    """Print the sparse clouds of a frame: tracks as the pipeline makes them, and single pairs."""
    start, start_cpu = time.monotonic(), time.process_time()
    config = PipelineConfig.from_yaml(folder / "config.yaml").model_copy(
        update={"pipeline_mode": PipelineMode.SPARSE, "matcher_type": matcher_type}
    )
    views = Pipeline(config).inputs.read_views(0)
    result = reconstruct(views, config)
    seconds, cpu = time.monotonic() - start, time.process_time() - start_cpu
    print(
        f"{folder.name}: {weights_label(config) or matcher_type} + sparse "
        f"{seconds:.1f} s, {cpu:.1f} CPU-s, without the results' files"
    )
    assert result.sparse is not None
    clouds = {"as the pipeline makes them": result.sparse.points}
    if matcher_type is MatcherType.LIGHTGLUE:
        clouds |= unrefined_clouds(views)
    truth = load_ground_truth(folder)
    surface = truth.surface
    stride = max(1, round((surface.z.numel() / TRUTH_NODES) ** 0.5))
    grid = HeightGrid(
        surface.x0,
        surface.y0,
        surface.spacing * stride,
        surface.z[::stride, ::stride].double(),
    )
    for name, points in clouds.items():
        print(f"  {name:26s} {cloud_line(points, views, truth, grid)}")


def unrefined_clouds(views: UndistortedViews) -> dict[str, Tensor]:
    """Points of LightGlue's matches by tracks without refinement, and by single pairs."""
    matcher = LightGlueMatcher.create(
        LightGlueOptions(detection=DetectionOptions(max_keypoints=KEYPOINTS))
    )
    matches = list(match_sparse(matcher, views, select_pairs(views)))
    pairs = torch.cat([triangulate(views, [m]).points for m in matches if len(m) > FEW])
    return {
        "tracks of the matches": triangulate(views, matches).points,
        "pairwise triangulation": pairs,
    }


def cloud_line(
    points: Tensor, views: UndistortedViews, truth: GroundTruth, grid: HeightGrid
) -> str:
    """Number, error and outliers of a cloud; every point over the true surface counts."""
    known = torch.from_numpy(grid.at(points[:, 0], points[:, 1])).isfinite()
    judged = points[known]
    error = torch.from_numpy(cloud_to_mesh(judged, grid.triangles()))
    models = [view.model for view in views]
    depths = [truth.depth(view.name) for view in views]
    tolerance = HIDDEN_GSD * float(gsd(models[0], judged).nanmedian())
    visible = visible_in_depth_maps(models, depths, judged, tolerance=tolerance)
    limit = rig_limit(models, judged, visible, sizes=[view.size for view in views])
    ratio = (error / limit.height)[limit.view_count >= 2]
    return (
        f"{len(points):6d} points ({len(points) - len(judged)} not over the known surface)  median "
        f"{1e3 * float(error.median()):.3f} mm = {float(ratio.median()):.2f} x limit  > 5 mm: "
        f"{100 * float((error > OUTLIER_M).double().mean()):.2f} %"
    )


def validation_pairs(
    matcher: SparseMatcher, work: Path | None, step: int
) -> Iterator[tuple[tuple[TrainingView, TrainingView], tuple[Features, Features]]]:
    """Every ``step``-th pair of the training's validation scenes, with its features."""
    for seed in VALIDATION_SEEDS:
        scene = training_scene(seed, work)
        features = [matcher.extract(view.as_view()) for view in scene.views]
        for i, j in scene.pairs[::step]:
            yield (scene.views[i], scene.views[j]), (features[i], features[j])


def thresholds(work: Path | None, step: int) -> None:
    """Print precision and recall over the threshold, on the validation scenes."""
    seeds = f"{VALIDATION_SEEDS.start} to {VALIDATION_SEEDS.stop - 1}"
    print(f"validation seeds {seeds}, every {step}. pair")
    for name, guidance in (("unguided", None), ("guided", Guidance())):
        matcher = LightGlueMatcher.create(
            LightGlueOptions(
                guidance=guidance,
                filter_threshold=LEAST_SCORE,
                detection=DetectionOptions(max_keypoints=KEYPOINTS),
            )
        )
        scores, rights, wanteds, true = [], [], [], 0
        for truths, features in validation_pairs(matcher, work, step):
            first, second = (truth.as_view() for truth in truths)
            matches = matcher.match_features(first, second, *features)
            right, wanted, count = outcome(truths, features, matches)
            scores.append(matches.scores)
            rights.append(right)
            wanteds.append(wanted)
            true += count
        score, right, wanted = torch.cat(scores), torch.cat(rights), torch.cat(wanteds)
        for threshold in THRESHOLDS:
            kept = score > threshold
            precision = float(right[kept].float().mean())
            recall = int((right & wanted & kept).sum()) / true
            print(f"{name:9s} > {threshold:<6g} precision {precision:.4f}  recall {recall:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of rendered datasets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--scale", default="medium", choices=("small", "medium", "full"))
    parser.add_argument("--step", type=int, default=1, help="every how many pairs")
    parser.add_argument("--each", action="store_true", help="also print every dataset")
    parser.add_argument(
        "--thresholds",
        action="store_true",
        help="only print precision and recall over the score (validation)",
    )
    parser.add_argument("--sparse", action="store_true", help="sparse clouds instead of pairs")
    parser.add_argument(
        "--matcher", default=MatcherType.LIGHTGLUE, choices=list(MatcherType), help="of --sparse"
    )
    options = parser.parse_args()
    if options.thresholds:
        thresholds(options.data, options.step)
        return
    folders = [
        dataset(kind, seed, options.scale, options.data)
        for kind in options.kinds
        for seed in options.seeds
    ]
    if options.sparse:
        for folder in folders:
            sparse_clouds(folder, MatcherType(options.matcher))
        return
    torch.set_num_threads(1)
    compare(folders, options.step, each=options.each)


if __name__ == "__main__":
    main()
