"""Compiled patch matchers agree with tensor operations, and these with the projection itself."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aquamvs.dense.patches import (
    PatchMatcher,
    PlaneMap,
    TensorPatchMatcher,
    Trials,
    Window,
    create_patch_matcher,
)
from aquamvs.numerics.acceleration import has_cuda_kernels
from aquamvs.numerics.pyramid import build_pyramid
from aquamvs.types import View

pytest.importorskip("numba")
from aquamvs.dense.cuda import CudaPatchMatcher
from aquamvs.dense.fused import FusedPatchMatcher

TOLERANCE = 2e-3
"""Of a cost: sums in another order, and projections that differ by 0.002 px."""
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
"""Kernels for GPUs run as Python, on the processor's memory."""
ON_GPU = torch.cuda.is_available() and has_cuda_kernels(torch.zeros(1, device="cuda"))


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(
                not (ON_GPU or SIMULATED),
                reason="no NVIDIA GPU with numba-cuda; a simulated one follows below",
            ),
        ),
    ]
)
def compiled(request: pytest.FixtureRequest) -> str:
    """Which kernels are compared with tensor operations on their device."""
    return request.param


def matchers(
    views: list[View], compiled: str, window: Window | None = None
) -> tuple[PatchMatcher, ...]:
    device = "cuda" if compiled == "cuda" and not SIMULATED else "cpu"
    reference, *sources = [build_pyramid(view, 1)[0].to(device) for view in views]
    kind = CudaPatchMatcher if compiled == "cuda" else FusedPatchMatcher
    window = window or Window.gaussian(3)
    return TensorPatchMatcher(reference, sources, window), kind(reference, sources, window)


def some(pixels: torch.Tensor, stride: int) -> torch.Tensor:
    """Every so many pixels; fewer where Python works on each."""
    return pixels[:: 83 * stride if SIMULATED else stride]


def hypotheses(scene, count: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Planes around the truth: (K, P) depths and (K, P, 3) normals."""
    generator = torch.Generator().manual_seed(1)
    truth = scene.truth.reshape(-1)
    depth = truth + 0.01 * torch.randn(count, len(truth), generator=generator)
    normal = torch.tensor([0.0, 0.0, -1.0]) + 0.3 * torch.randn(
        count, len(truth), 3, generator=generator
    )
    return depth.float().to(device), torch.nn.functional.normalize(normal, dim=-1).to(device)


@pytest.mark.parametrize("n_water", [1.333, 1.0], ids=["water", "air"])
def test_costs_agree_with_tensors(make_scene, make_plane, n_water: float, compiled: str) -> None:
    scene = make_scene(make_plane(slope=(0.3, -0.2)), n_water=n_water)
    views = list(scene.views)
    views[1].mask[:40] = False  # windows at a mask are partial
    views[0].mask[50:60, 50:60] = False
    reference, fused = matchers(views, compiled)
    pixels = some(reference.rays.pixels(), 7)
    depth, normal = hypotheses(scene, 3, pixels.device)
    depth, normal = depth[:, pixels], normal[:, pixels]
    asked = torch.rand(len(pixels), 4, generator=torch.Generator().manual_seed(2)) > 0.2
    asked = asked.to(pixels.device)
    expected, found = (m.costs(pixels, depth, normal, asked) for m in (reference, fused))
    seen, both = torch.isfinite(expected), torch.isfinite(expected) & torch.isfinite(found)
    assert (seen != torch.isfinite(found)).float().mean() < 1e-3  # at the very border of an image
    assert both.float().mean() > 0.4
    assert (expected - found)[both].abs().quantile(0.999) < TOLERANCE


def test_true_plane_costs_nothing(make_scene, make_plane, compiled: str) -> None:
    slope = (0.3, -0.2)
    scene = make_scene(make_plane(slope=slope))
    normal = torch.tensor([*slope, -1.0])
    for matcher in matchers(list(scene.views), compiled):
        pixels = some(matcher.rays.pixels(), 11)
        depth = scene.truth.reshape(-1).to(pixels.device)[pixels].float()[None]
        asked = torch.ones(len(pixels), 4, dtype=torch.bool, device=pixels.device)
        planes = (normal / normal.norm()).to(pixels.device).expand(1, len(pixels), 3)
        costs = matcher.costs(pixels, depth, planes, asked)
        assert costs[torch.isfinite(costs)].median() < 0.05


def test_another_window_is_as_good_as_a_matcher_of_its_own(
    make_scene, make_plane, compiled: str
) -> None:
    scene, narrow = make_scene(make_plane()), Window.gaussian(1)
    wide = matchers(list(scene.views), compiled)
    for before, own in zip(wide, matchers(list(scene.views), compiled, narrow), strict=True):
        pixels = some(before.rays.pixels(), 11)
        depth, normal = (each[:, pixels] for each in hypotheses(scene, 2, pixels.device))
        asked = torch.ones(len(pixels), 4, dtype=torch.bool, device=pixels.device)
        given = pixels, depth, normal, asked
        kept = before.costs(*given)
        found = before.with_window(narrow).costs(*given)
        assert torch.equal(found.nan_to_num(-1.0), own.costs(*given).nan_to_num(-1.0))
        assert torch.equal(before.costs(*given).nan_to_num(-1.0), kept.nan_to_num(-1.0))
        assert not torch.equal(found.nan_to_num(-1.0), kept.nan_to_num(-1.0))


def test_a_gaussian_window_averages_less_than_its_square() -> None:
    square, gaussian = Window.square(3), Window.gaussian(3)
    assert square.radius == gaussian.radius == 3
    assert square.size == 49
    assert 30 < gaussian.size < 40
    assert gaussian.weights.max() == gaussian.weights[24] == 1
    assert Window.gaussian(2, sigma=1.0).size < Window.gaussian(2).size < 25


def test_improvement_agrees_with_tensors(make_scene, make_plane, compiled: str) -> None:
    scene = make_scene(make_plane(slope=(0.3, -0.2)))
    results = []
    reference, fused = matchers(list(scene.views), compiled)
    pixels = reference.rays.pixels()
    depth, normal = hypotheses(scene, 2, pixels.device)
    asked = torch.ones(len(pixels), 4, dtype=torch.bool, device=pixels.device)
    for matcher in (reference, fused):
        costs = reference.costs(pixels, depth[:1], normal[:1], asked)[..., 0].nan_to_num(1.0)
        planes = PlaneMap(depth[0].clone(), normal[0].clone(), costs.mean(1))
        before = planes.cost.clone()
        colour = some(pixels[(pixels // matcher.rays.size[0] + pixels) % 2 == 0], 1)
        generator = torch.Generator().manual_seed(3)
        trials = Trials(
            depth[1:],
            normal[1:],
            0.005 * torch.randn(2, len(colour), generator=generator).to(pixels.device),
            0.1 * torch.randn(2, len(colour), 3, generator=generator).to(pixels.device),
        )
        matcher.improve(planes, colour, asked.float(), trials, (0.1, 0.8))
        assert (planes.cost <= before).all()
        untouched = torch.ones_like(asked[:, 0])
        untouched[colour] = False
        assert torch.equal(planes.depth[untouched], depth[0][untouched])
        results.append(planes)
    expected, found = results
    assert (found.cost[colour] < before[colour]).float().mean() > 0.5
    # Planes whose costs are all but equal may swap.
    same = (expected.depth - found.depth).abs() < 1e-5
    assert same.float().mean() > 0.99
    assert (expected.cost - found.cost).abs().quantile(0.999) < TOLERANCE


@pytest.mark.slow
def test_kernels_for_gpus_agree_with_tensors_in_a_simulator() -> None:
    """The tests above for ``cuda``, with the kernels run as Python by numba's simulator."""
    if SIMULATED:
        pytest.skip("this is the simulation")
    command = [sys.executable, "-m", "pytest", __file__, "-k", "cuda", "-p", "no:cacheprovider"]
    run = subprocess.run(
        command,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "5 passed" in run.stdout


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=["A100", "H100"])
def test_kernels_for_gpus_compile_and_keep_their_tests_for_nan(capability, monkeypatch) -> None:
    if SIMULATED or importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("needs the extra cuda")
    from numba import cuda
    from numba.cuda import dispatcher

    from aquamvs.dense import cuda_kernels

    there = SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: there)  # no driver is asked
    for name, signature in signatures().items():
        kernel = getattr(cuda_kernels, name).py_func
        code, _ = cuda.compile(kernel, signature, cc=capability, device=False, abi="numba")
        assert f"sm_{capability[0]}{capability[1]}" in code
        assert "setp.nan" in code
        assert ".f64" not in code  # all arithmetic is float32


def signatures() -> dict[str, object]:
    """What the kernels are called with."""
    from numba import boolean, float32, int64, void

    scene = (
        *(float32[:, ::1], float32[:, :, ::1], float32[::1], int64[::1], int64[:, ::1]),
        *(float32[:, ::1], int64[:, ::1], float32[::1], float32, float32),
        *(float32[::1], float32[::1], float32, int64[::1]),
    )
    judged = (float32[:, ::1], float32[:, :, ::1], boolean[:, ::1], float32[:, :, ::1])
    trials = (float32[:, ::1], float32[:, :, ::1])
    bounds = (float32,) * 4
    planes = (float32[::1], float32[:, ::1], float32[::1])
    return {
        "plane_costs": void(*scene, *judged),
        "improve": void(
            *scene, float32[:, ::1], int64[:, :, ::1], *trials, *trials, *bounds, *planes
        ),
    }


def test_windows_that_a_thread_has_no_memory_for_are_left_to_tensors(
    make_scene, make_plane, monkeypatch
) -> None:
    monkeypatch.setattr("aquamvs.dense.patches.has_kernels", lambda _: False)
    monkeypatch.setattr("aquamvs.dense.patches.has_cuda_kernels", lambda _: True)
    reference, *sources = [build_pyramid(v, 1)[0] for v in make_scene(make_plane()).views]
    kinds = [
        type(create_patch_matcher(reference, sources, Window.gaussian(radius))).__name__
        for radius in (1, 4, 5)
    ]
    assert kinds == ["CudaPatchMatcher", "CudaPatchMatcher", "TensorPatchMatcher"]
