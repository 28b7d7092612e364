"""The same camera under another belief about the water."""

from dataclasses import replace

import torch

from .refractive import RefractiveProjectionModel


def straight(model: RefractiveProjectionModel) -> RefractiveProjectionModel:
    """The same camera with the refraction ignored: ``n_water`` is that of air.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.projection import straight
        >>> straight(make_rig("small5").projection_model("cam0")).is_refractive
        False
    """
    return replace(model, n_water=model.n_air)


def moved_surface(
    model: RefractiveProjectionModel, *, rise: float = 0.0, tilt_deg: float = 0.0
) -> RefractiveProjectionModel:
    """The same camera over a water surface that lies elsewhere than calibrated.

    Args:
        model: Camera above water.
        rise: How far the surface came up, metres.
        tilt_deg: Turn of the surface about the world's Y axis: towards +X it sinks, degrees.

    Returns:
        The model.

    Raises:
        CalibrationError: The camera would be under water.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.projection import moved_surface
        >>> model = make_rig("small5").projection_model("cam0")
        >>> round(moved_surface(model, rise=0.01).water_z, 3), round(model.water_z, 3)
        (0.69, 0.7)
    """
    angle = torch.deg2rad(torch.tensor(tilt_deg, dtype=torch.float64))
    cosine, sine = float(angle.cos()), float(angle.sin())
    turn = model.normal.new_tensor([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    return replace(model, water_z=model.water_z - rise, normal=turn @ model.normal)
