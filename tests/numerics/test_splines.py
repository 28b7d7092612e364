"""Samples between pixels."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from aquamvs.numerics import splines
from aquamvs.numerics.sampling_kernels import PADDING, sample_map
from aquamvs.numerics.splines import (
    AFTER,
    BEFORE,
    resample,
    sample,
    sample_spline,
    spline_coefficients,
)

SIZE = (40, 30)


def image() -> torch.Tensor:
    return torch.rand(1, 1, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(3))


def places(margin: float) -> torch.Tensor:
    """Pixels (1, n, 2) at least ``margin`` inside the image."""
    drawn = torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(4))
    return margin + drawn * (torch.tensor(SIZE) - 1 - 2 * margin)


def test_a_spline_passes_through_its_pixels() -> None:
    pixels = torch.stack(
        torch.meshgrid(torch.arange(5.0, 35), torch.arange(5.0, 25), indexing="xy"), -1
    )
    values = sample_spline(spline_coefficients(image()), pixels)[0]
    assert torch.allclose(values, image()[0, 0, 5:25, 5:35], atol=1e-3)


def test_samples_are_those_of_an_independent_spline() -> None:
    at = places(7.0)
    expected = ndimage.map_coordinates(
        image()[0, 0].double().numpy(), at[0].flip(-1).T.double().numpy(), order=3, mode="nearest"
    )
    values = sample_spline(spline_coefficients(image()), at)[0, 0]
    assert np.abs(values.numpy() - expected).max() < 2e-3


def test_a_spline_follows_a_wave_far_closer_than_lines_do() -> None:
    u = torch.arange(SIZE[0]).float().expand(SIZE[1], SIZE[0])
    wave = torch.sin(2 * torch.pi * u / 6)[None, None]
    at = places(7.0)
    truth = torch.sin(2 * torch.pi * at[..., 0] / 6)
    linear = (sample(wave, at)[0] - truth).abs().max()
    cubic = (sample_spline(spline_coefficients(wave), at)[0] - truth).abs().max()
    assert cubic < linear / 8


def test_compiled_samples_equal_the_tensors() -> None:
    at = places(-3.0)  # the border continues outwards
    u, v = (x.contiguous().numpy() for x in at.unbind(-1))
    still, out = np.zeros_like(u), np.empty_like(u)
    coefficients = spline_coefficients(image())
    border = (BEFORE, AFTER) * 2
    assert BEFORE + AFTER == PADDING
    inside = torch.minimum(at.clamp(min=0), torch.tensor(SIZE) - 1.0)
    for source, cubic, tensors in (
        (image(), False, sample),
        (coefficients, True, sample_spline),
    ):
        padded = torch.nn.functional.pad(source, border, mode="replicate").flatten().numpy()
        sample_map(padded, *SIZE, cubic, u, v, still, still, 0, np.float32(0), out)
        assert np.abs(out - tensors(source, inside)[0].numpy()).max() < 1e-4


@pytest.mark.parametrize("compiled", [True, False])
def test_an_image_is_resampled_at_the_very_places(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splines, "has_kernels", lambda _: compiled)
    v, u = np.mgrid[8:22, 8:32].astype(np.float32) + np.float32(0.3)
    ramps = np.stack(np.meshgrid(np.arange(40.0), np.arange(30.0)), -1).astype(np.float32)
    values = resample(ramps, u, v)
    assert np.abs(values - np.stack([u, v], -1)).max() < 1e-4


def test_compiled_colours_equal_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    colours = np.random.default_rng(0).random((30, 40, 3), np.float32)
    u, v = (x.contiguous().numpy() for x in places(-3.0).unbind(-1))  # the border continues
    found = resample(colours, u, v)
    monkeypatch.setattr(splines, "has_kernels", lambda _: False)
    assert np.abs(found - resample(colours, u, v)).max() < 1e-5


def test_resampling_continues_the_border() -> None:
    ramp = np.arange(40, dtype=np.float32).reshape(1, 40, 1).repeat(30, 0)
    beyond = np.array([[-5.0, 60.0]], np.float32)
    border = resample(ramp, np.array([[0.0, 39.0]], np.float32), np.full((1, 2), 9, np.float32))
    assert np.array_equal(resample(ramp, beyond, np.full((1, 2), 9, np.float32)), border)
