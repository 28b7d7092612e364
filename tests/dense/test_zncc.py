"""Correlation scores against a brute-force reference, and what they must not depend on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.dense.zncc import GREY_LEVEL, zncc


def images(seed: int, height: int = 9, width: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, height, width, generator=generator, dtype=torch.float64)
    return a, 0.5 * a + 0.5 * b


def brute_force(reference: np.ndarray, source: np.ndarray, radius: int) -> np.ndarray:
    """Window by window, with NumPy's own covariance over those pixels that both images know."""
    height, width = reference.shape
    scores = np.full((height, width), np.nan)
    for i in range(height):
        for j in range(width):
            window = np.s_[max(0, i - radius) : i + radius + 1, max(0, j - radius) : j + radius + 1]
            pair = np.stack([reference[window].ravel(), source[window].ravel()])
            pair = pair[:, np.isfinite(pair).all(0)]
            centre = np.isfinite(reference[i, j] + source[i, j])
            if centre and 2 * pair.shape[1] >= (2 * radius + 1) ** 2:
                (rr, rs), (_, ss) = np.cov(pair, bias=True)
                scores[i, j] = rs / np.sqrt((rr + GREY_LEVEL**2) * (ss + GREY_LEVEL**2))
    return scores


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("unknown", [0.0, 0.2, 0.6])
def test_scores_equal_brute_force_with_unknown_pixels(radius: int, unknown: float) -> None:
    a, b = images(1)
    holes = torch.rand(2, *a.shape, generator=torch.Generator().manual_seed(2)) < unknown
    a[holes[0]], b[holes[1]] = torch.nan, torch.nan
    np.testing.assert_allclose(
        zncc(a, b, radius).numpy(), brute_force(a.numpy(), b.numpy(), radius), atol=1e-10
    )


@given(st.floats(0.5, 2), st.floats(-0.3, 0.3), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_exposure_and_white_balance_do_not_matter(gain: float, offset: float, seed: int) -> None:
    a, b = images(seed)
    torch.testing.assert_close(
        zncc(a, gain * b + offset, 3), zncc(a, b, 3), atol=1e-3, rtol=0, equal_nan=True
    )


def test_unknown_pixels_have_no_influence() -> None:
    a, b = images(3)
    a[4:, 7:] = torch.nan
    b[:2] = torch.nan
    scores = zncc(a, b, 2)
    hidden = b.clone()
    hidden[4:, 7:] = 0.0  # whatever the source shows where the reference knows nothing
    assert torch.equal(zncc(a, hidden, 2).nan_to_num(-9), scores.nan_to_num(-9))


def test_images_without_contrast_correlate_with_nothing() -> None:
    a, _ = images(4)
    flat = torch.full_like(a, 0.7)
    for pair in ((a, flat), (flat, flat)):
        assert zncc(*pair, 2).nan_to_num(0.0).abs().max() < 1e-6


def test_single_precision_suffices() -> None:
    a, b = images(5)
    a, b = 0.1 + 0.02 * a, 0.1 + 0.02 * b  # five grey levels, a little above the mean
    single = zncc(a.float(), b.float(), 3).double()
    torch.testing.assert_close(single, zncc(a, b, 3), atol=2e-4, rtol=0, equal_nan=True)


def test_hypotheses_are_scored_independently() -> None:
    a, b = images(6)
    stack = torch.stack([b, a, b.flip(0)])
    together = zncc(a, stack, 2)
    for score, source in zip(together, stack, strict=True):
        torch.testing.assert_close(score, zncc(a, source, 2), atol=0, rtol=0, equal_nan=True)
