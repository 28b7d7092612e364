"""Choosing sources."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.dense.selection import best_half_mean


@given(st.integers(1, 7), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_better_half_of_those_that_see_counts(sources: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.rand(sources, 4, 5, generator=generator) - 1
    scores[torch.rand(scores.shape, generator=generator) < 0.3] = torch.nan
    result = best_half_mean(scores).numpy()
    for i, j in np.ndindex(4, 5):
        seen = np.sort(scores[:, i, j].numpy())[::-1]
        seen = seen[np.isfinite(seen)]
        kept = seen[: (len(seen) + 1) // 2]
        assert result[i, j] == pytest.approx(kept.mean() if len(kept) else -1.0, abs=1e-6)
