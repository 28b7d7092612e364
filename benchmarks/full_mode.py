"""Accuracy and cost of full mode (PatchMatch, filter, fusion) on rendered scenes.

Run ``python benchmarks/full_mode.py --data FOLDER``. Scenes are rendered into the folder once and
kept, as for ``surface_sweep.py``. Development uses seeds 0 to 9; reported figures come from
seeds 100 to 119.

Depths are those after all filtering, and nothing is trimmed. "Judged" are the pixels whose true
surface at least three cameras really see; "alone" are those that no other camera sees. ``limit`` is
the 1-sigma depth error that 0.1 px of matching noise per view leaves when all cameras that see the
point are used. The cloud is judged against the true surface that two reference cameras really
see.
"""

import argparse
import os
import platform
from pathlib import Path

import torch
from surface_sweep import HIDDEN_GSD, render, seeds_of

from aquamvs import Pipeline, PipelineConfig
from aquamvs.benchmark.assessment import judge_cloud, shared_surface
from aquamvs.datasets import load_ground_truth
from aquamvs.evaluation import (
    depth_limit,
    depth_points,
    error_statistics,
    gsd,
    visible_in_depth_maps,
)
from aquamvs.pathways import MatcherType, PipelineMode, Stage
from aquamvs.pipeline import StageRecorder, reconstruct
from aquamvs.projection import RefractiveProjectionModel

JUDGED_VIEWS = 3
LIMIT_STEP = 4
THRESHOLDS = (0.001, 0.002)
KINDS = ("bower", "low_texture", "boxes", "in_air")
HEADER = (
    "scene        seed   median   x lim  RMS x lim  coverage  alone  1 sigma  2 sigma  "
    "F 1 mm  F 2 mm   depth CPU/view  all but matching"
)


def seen_alone(
    models: list[RefractiveProjectionModel],
    model: RefractiveProjectionModel,
    depths: list[torch.Tensor],
    true: torch.Tensor,
    view_count: torch.Tensor,
) -> torch.Tensor:
    """Pixels that no other camera sees, decided for each: they are few, and in thin lines."""
    fewest = -torch.nn.functional.max_pool2d(
        -view_count[None].float(), 2 * LIMIT_STEP + 1, stride=1, padding=LIMIT_STEP
    )
    alone = torch.isfinite(true) & (fewest[0] < JUDGED_VIEWS)
    points, _ = depth_points(model, true)
    tolerance = HIDDEN_GSD * float(gsd(model, points[::LIMIT_STEP, ::LIMIT_STEP]).nanmedian())
    visible = visible_in_depth_maps(models, depths, points[alone], tolerance=tolerance)
    alone[alone.clone()] = visible.sum(0) < 2
    return alone


def judge(kind: str, seed: int, data: Path, matcher: MatcherType) -> str:
    """The figures of one scene."""
    dataset = render(kind, seed, data)
    config = PipelineConfig.from_yaml(dataset / "config.yaml").model_copy(
        update={"pipeline_mode": PipelineMode.FULL, "matcher_type": matcher}
    )
    views = Pipeline(config).inputs.read_views(0)
    recorder = StageRecorder()
    found = reconstruct(views, config, recorder=recorder)
    truth = load_ground_truth(dataset)
    models, sizes = [view.model for view in views], [view.size for view in views]
    depths = [truth.depth(view.name) for view in views]
    errors, limits, sigmas = [], [], []
    judged = lonely = claimed = 0
    for depth_map in found.depth_maps:
        model = views[depth_map.camera].model
        true = truth.depth(depth_map.camera)
        limit = depth_limit(models, model, true, sizes=sizes, depths=depths, step=LIMIT_STEP)
        seen = torch.isfinite(true) & (limit.view_count >= JUDGED_VIEWS)
        both = seen & depth_map.valid
        alone = seen_alone(models, model, depths, true, limit.view_count)
        judged += int(seen.sum())
        lonely += int(alone.sum())
        claimed += int((alone & depth_map.valid).sum())
        errors.append((depth_map.depth - true)[both].double())
        limits.append(limit.sigma[both].double())
        sigmas.append(depth_map.sigma[both].double())
    statistics = error_statistics(
        torch.cat(errors).numpy(),
        limit=torch.cat(limits).numpy(),
        sigma=torch.cat(sigmas).numpy(),
    )
    scores = judge_cloud(found.cloud, shared_surface(truth, views))
    f_score = [100 * scores.f_score[distance] for distance in THRESHOLDS]
    cpu = {name: 1e-3 * stage.cpu_time_ms for name, stage in recorder.timing.stages.items()}
    rest = sum(taken for stage, taken in cpu.items() if not stage.endswith("matching"))
    per_view = cpu[Stage.DEPTH_ESTIMATION] / len(found.depth_maps)
    return (
        f"{1e3 * statistics.median_abs:6.3f} mm  {statistics.median_over_limit:5.2f}  "
        f"{statistics.rms_over_limit:9.2f}  {100 * statistics.count / judged:7.2f}%  "
        f"{100 * claimed / max(lonely, 1):5.2f}%  {statistics.within_1_sigma:7.1%}  "
        f"{statistics.within_2_sigma:7.1%}  {f_score[0]:6.1f}  {f_score[1]:6.1f}   "
        f"{per_view:10.1f} s  {rest:14.1f} s"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of rendered scenes")
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("100-104"))
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=("bower", "boxes"))
    parser.add_argument("--matcher", type=MatcherType, default=MatcherType.SIFT)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    print(HEADER)
    for kind in options.kinds:
        for seed in options.seeds:
            print(
                f"{kind:11}  {seed:4}  {judge(kind, seed, options.data, options.matcher)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
