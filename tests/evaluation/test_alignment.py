"""Alignment recovers known transforms; degenerate clouds are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aquamvs.errors import DataError
from aquamvs.evaluation import IcpMethod, icp, umeyama


def rotation(x: float, y: float, z: float) -> Tensor:
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(cross)


def bed(count: int = 3000, seed: int = 0) -> Tensor:
    """Points on a smooth bed with relief: two mounds and a slope."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.5, 0.5, (2, count))
    z = 1.5 + 0.1 * np.exp(-((x - 0.2) ** 2 + y**2) / 0.02) + 0.05 * np.sin(6 * y) + 0.1 * x
    return torch.from_numpy(np.stack([x, y, z], axis=-1))


@settings(deadline=None, max_examples=30)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    t=st.tuples(*[st.floats(-2, 2)] * 3),
    scale=st.floats(0.2, 5),
)
def test_known_pairs_give_any_similarity_back(
    angles: tuple[float, float, float], t: tuple[float, float, float], scale: float
) -> None:
    source = bed(50)
    R, shift = rotation(*angles), torch.tensor(t, dtype=torch.float64)
    fit = umeyama(source, scale * source @ R.T + shift, with_scale=True)
    assert torch.allclose(fit.R, R, atol=1e-10)
    assert torch.allclose(fit.t, shift, atol=1e-9)
    assert fit.scale == pytest.approx(scale, rel=1e-10)
    assert fit.rms < 1e-10


def test_a_mirrored_cloud_gets_a_rotation_and_never_a_reflection() -> None:
    source = bed(50)
    fit = umeyama(source, source * torch.tensor([-1.0, 1.0, 1.0]))
    assert float(torch.linalg.det(fit.R)) == pytest.approx(1)
    assert fit.rms > 0.01


def test_noise_leaves_the_residual_that_it_must() -> None:
    source = bed(5000)
    noise = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fit = umeyama(source, source @ rotation(0.1, 0.2, 0.3).T + 0.001 * noise)
    assert fit.rms == pytest.approx(0.001 * 3**0.5, rel=0.02)


@pytest.mark.parametrize("method", list(IcpMethod))
@pytest.mark.parametrize("scale", [1.0, 1.004])
def test_icp_recovers_a_known_transform(method: IcpMethod, scale: float) -> None:
    source = bed()
    R, t = rotation(0.008, -0.006, 0.01), torch.tensor([0.004, -0.003, 0.006]).double()
    target = scale * source @ R.T + t
    shuffled = target[torch.randperm(len(target), generator=torch.Generator().manual_seed(1))]
    fit = icp(source, shuffled, max_distance=0.05, with_scale=scale != 1, method=method)
    assert torch.allclose(fit.R, R, atol=1e-9)
    assert torch.allclose(fit.t, t, atol=1e-9)
    assert fit.scale == pytest.approx(scale, abs=1e-9)
    assert fit.rms < 1e-9
    assert fit.inlier_fraction == 1
    assert torch.allclose(fit.apply(source), target, atol=1e-9)


def test_clouds_sampled_at_different_places_align_within_a_fraction_of_their_spacing() -> None:
    source, target = bed(20_000, seed=0), bed(20_000, seed=1)  # 7 mm apart
    R, t = rotation(0.01, 0.01, -0.01), torch.tensor([0.005, 0.004, -0.006]).double()
    fit = icp(source, target @ R.T + t, max_distance=0.03)
    assert float((fit.apply(source) - (source @ R.T + t)).norm(dim=-1).max()) < 3e-4


def test_icp_ignores_what_the_target_lacks() -> None:
    source = bed()
    t = torch.tensor([0.004, -0.003, 0.006]).double()
    fish = torch.rand(300, 3, generator=torch.Generator().manual_seed(0)).double() * 0.1
    fit = icp(torch.cat([source, fish]), source + t, max_distance=0.05)
    assert torch.allclose(fit.t, t, atol=1e-9)
    assert fit.inlier_fraction == pytest.approx(3000 / 3300)


def test_a_plane_does_not_slide_along_itself() -> None:
    rng = np.random.default_rng(0)
    plane = torch.from_numpy(rng.uniform([-1, -1, 1.5], [1, 1, 1.5], (2000, 3)))
    lifted = plane - torch.tensor([0.0, 0.0, 0.01])
    fit = icp(lifted, plane, max_distance=0.1)
    assert torch.allclose(fit.t, torch.tensor([0.0, 0.0, 0.01]).double(), atol=1e-9)
    assert torch.allclose(fit.R, torch.eye(3).double(), atol=1e-9)


def test_the_same_clouds_give_the_same_bytes() -> None:
    source, target = bed(2000, seed=0), bed(2000, seed=1) + 0.004
    first, second = (icp(source, target, max_distance=0.05) for _ in range(2))
    assert torch.equal(first.R, second.R)
    assert torch.equal(first.t, second.t)


def test_float32_points_stay_float32() -> None:
    fit = umeyama(bed(10), bed(10))
    assert fit.apply(bed(10).float()).dtype == torch.float32


def test_clouds_that_cannot_be_aligned_are_refused() -> None:
    source = bed(100)
    with pytest.raises(DataError, match="only 0 of 100 points lie within"):
        icp(source, source + 5.0, max_distance=0.01)
    with pytest.raises(DataError, match="needs three points"):
        icp(source[:2], source, max_distance=1.0)
    line = torch.linspace(0, 1, 10).double()[:, None] * torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="on a line"):
        umeyama(line, line)
    with pytest.raises(DataError, match="after 1 iterations"):
        icp(source, source + 0.01, max_distance=0.5, max_iterations=1)
