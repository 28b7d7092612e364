"""What an estimate is worth, compiled for the CPU (numba).

The arithmetic is that of :mod:`~.quality`, which stays the reference (and what runs on other
devices); tests compare the two. Maps are flat: cell by cell, nothing depends on its neighbours.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from ..numerics.compiler import compiled

_F = np.float32
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_NAN = _F(np.nan)
_LEAST_LEVER, _LEAST_PAIRS = _F(1e-6), _F(1e-3)


@compiled
def noises(spread, curvature, effective, samples, noise):  # type: ignore[no-untyped-def]
    """Height noise that residuals show if they are independent; maps of shape (N,)."""
    for n in range(noise.shape[0]):
        freedom = max(effective[n] - _ONE, _HALF)
        noise[n] = np.sqrt(_TWO * spread[n] / (curvature[n] * freedom * samples))


@compiled
def _squared_lever(lever):  # type: ignore[no-untyped-def]
    """Never 0."""
    least = max(lever, _LEAST_LEVER)
    return least * least


@compiled
def _along(curvature, lever, effective, rule):  # type: ignore[no-untyped-def]
    """How far texture runs along the motion."""
    curvature *= max(effective - _ONE, _HALF)
    crossing = curvature / _squared_lever(lever) / rule[1]
    return _ONE / min(max(crossing, rule[4]), _ONE) - _ONE


@compiled
def _share(own, rule):  # type: ignore[no-untyped-def]
    """How much of its height a cell decides itself."""
    return max(min(own / rule[2], _ONE), rule[3])


@compiled
def _variance(noise, curvature, lever, effective, own, aperture, rule):  # type: ignore[no-untyped-def]
    """Variance of a height with an error that neither residuals nor scatter show."""
    unseen = rule[0] + aperture * _along(curvature, lever, effective, rule)
    share = _share(own, rule)
    return (noise * noise + unseen / _squared_lever(lever)) / (share * share)


@compiled
def variances(  # type: ignore[no-untyped-def]
    noise, curvature, lever, effective, own, aperture, scale, rule, variance
):
    """Variance of every height.

    Args:
        noise: Of the heights, shape (N,), metres.
        curvature: See :class:`~.refine.Estimate`, likewise.
        lever: See there.
        effective: See there.
        own: Its ``own_texture``.
        aperture: See :class:`~.quality._Hidden`.
        scale: Of the noise.
        rule: Five numbers; see :attr:`~.quality._Hidden.rule`.
        variance: Output, shape (N,), m².
    """
    for n in range(variance.shape[0]):
        scaled = scale * noise[n]
        quality = curvature[n], lever[n], effective[n], own[n], aperture[n]
        variance[n] = _variance(scaled, *quality, rule)


@compiled
def matches(z, spread, curvature, effective, chance, limit, matched):  # type: ignore[no-untyped-def]
    """Cells whose views agree better than by chance, and about as well as most; shape (N,)."""
    for n in range(matched.shape[0]):
        pairs = max(effective[n] * (effective[n] - _ONE) / _TWO, _LEAST_PAIRS)
        better = _ONE - spread[n] > chance / np.sqrt(pairs)
        matched[n] = better & np.isfinite(z[n]) & (curvature[n] > _ZERO) & (spread[n] < limit)


@compiled
def judge(  # type: ignore[no-untyped-def]
    matched, height, variance, own, fit, missed, noise, shown, curvature, lever, effective, texture,
    aperture, scale, rule, bounds, z, kept, taken, sure,
):  # fmt: skip
    """Leave out heights that are too uncertain, and say how certain the others are.

    Args:
        matched: Cells that count, shape (N,), bool, like all maps here.
        height: See :class:`~..numerics.planes.Settled`.
        variance: Of the cells before they settled.
        own: See there.
        fit: See there.
        missed: See there.
        noise: From :func:`noises`.
        shown: Scatter of the neighbours; NaN: there is only ``noise`` to go by.
        curvature: See :class:`~.refine.Estimate`.
        lever: See there.
        effective: See there.
        texture: Its ``own_texture``.
        aperture: See :func:`variances`.
        scale: Of the scatter.
        rule: See :func:`variances`.
        bounds: Motion of the loosest match and of a sure one; scatter that may be relief; what
            noise adds to the own variance, and the motion (squared) at which it adds half of that;
            the scale of what is missed.
        z: Output: heights, NaN where they are left out.
        kept: Output: variance of the share that is a cell's own.
        taken: Output: and of the rest.
        sure: Output, bool.
    """
    loosest, surest, relief, noisy_scale, noisy2, missed_scale = bounds
    for n in range(z.shape[0]):
        scattered = scale * (shown[n] if np.isfinite(shown[n]) else noise[n])
        quality = curvature[n], lever[n], effective[n], texture[n], aperture[n]
        excess = _variance(scattered, *quality, rule) / variance[n]
        motion = lever[n] * np.sqrt((own[n] + fit[n] + missed[n]) / max(effective[n], _ONE))
        noisy = noise[n] * lever[n]
        noisy *= noisy
        widened = own[n] * (_ONE + noisy_scale * noisy / (noisy + noisy2))
        kept[n] = widened * max(excess - relief, _ONE)
        z[n] = height[n] if matched[n] & (motion < loosest) else _NAN
        taken[n] = fit[n] + missed_scale * missed[n] + rule[0] / _squared_lever(lever[n])
        sure[n] = motion < surest
