"""Maps that are found some rows at a time are those that are found at once."""

import pytest
import torch
from torch import Tensor

from aquamvs.numerics import bands
from aquamvs.numerics.bands import in_bands
from aquamvs.numerics.filters import gaussian_taps, halve, pad_edges, smooth, upsample

TAPS = gaussian_taps(2.0)
MARGIN = 2 * (len(TAPS) // 2 + 1)


def coarse(maps: Tensor) -> Tensor:
    """Smoothed at half resolution: rows in pairs, and a margin."""
    half = smooth(pad_edges(halve(maps), len(TAPS) // 2), TAPS)
    return upsample(half, (maps.shape[0], maps.shape[1]))


@pytest.mark.parametrize("rows", [1, 7, 31, 200])
def test_bands_leave_no_seam(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.rand(rows, 13, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(bands, "_BAND_CELLS", 26)
    monkeypatch.setattr(bands, "_MARGINS", 1)

    def some(part: slice) -> tuple[Tensor, ...]:
        return coarse(maps[part]), maps[part] > 0.5, halve(maps[part])

    smoothed, high, half = in_bands(some, maps, 8, margin=MARGIN)
    torch.testing.assert_close(smoothed, coarse(maps), atol=1e-6, rtol=0)
    assert torch.equal(high, maps > 0.5)
    torch.testing.assert_close(half, halve(maps), atol=1e-6, rtol=0)
