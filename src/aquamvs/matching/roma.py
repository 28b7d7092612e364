"""RoMa: the bundled network, or RoMa v2 (Edstedt et al., 2025) by the ``romav2`` package.

The package stands behind local, strictly loaded weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, WeightsError
from ..pixels import from_normalized
from ..types import View, Warp
from .base import DenseMatcher
from .bundled import BUNDLED, OFFICIAL, ROMA_STYLE, bundled_file, weights_origin
from .checkpoints import load_strictly, read_tensors
from .guidance import Guidance
from .roma_bundled import BundledRomaMatcher, load_bundled_roma
from .warps import guide_warp, mask_warp
from .weights import resolve_weights


class RomaSetting(StrEnum):
    """Resolutions that ``romav2`` offers, from the fastest to the most exact.

    Without a GPU a pair costs about 7 CPU-seconds at ``turbo`` and 24 at ``fast``.

    Example:
        >>> from aquamvs.matching import RomaSetting
        >>> [setting.value for setting in RomaSetting]
        ['turbo', 'fast', 'base', 'precise']
    """

    TURBO = "turbo"
    FAST = "fast"
    BASE = "base"
    PRECISE = "precise"


@dataclass(frozen=True, slots=True, kw_only=True)
class RomaOptions:
    """Dense matching with the bundled network or RoMa v2.

    Attributes:
        setting: Resolution of RoMa v2; None takes ``precise`` on CUDA and ``fast`` elsewhere.
        guidance: Distance from the epipolar curve beyond which a match has no certainty; the
            bundled network is also told where to look. None matches by appearance alone.
        weights: ``bundled`` (part of AquaMVS), ``official`` (RoMa v2: the cache and, where it lacks
            the checkpoint, the network, 1.1 GB), or RoMa v2's checkpoint file or its folder.
        download: Whether the network may be used for the checkpoint.

    Example:
        >>> from aquamvs.matching import RomaOptions, RomaSetting
        >>> RomaOptions(weights="official", setting=RomaSetting.TURBO).setting.value
        'turbo'
    """

    setting: RomaSetting | None = None
    guidance: Guidance | None = field(default_factory=Guidance)
    weights: str | Path = BUNDLED
    download: bool = True

    def __post_init__(self) -> None:
        if self.setting is not None and self.setting not in list(RomaSetting):
            raise ConfigError(
                f"setting is {self.setting!r}; expected one of {', '.join(RomaSetting)}"
            )
        if self.setting is not None and self.weights == BUNDLED:
            raise ConfigError(
                f"setting is {str(self.setting)!r}, but the bundled network has one resolution; "
                "leave it out, or set weights to `official` or to RoMa v2's checkpoint"
            )

    @property
    def label(self) -> str:
        """The matcher and its weights, as reports name them."""
        if self.weights == BUNDLED:
            return ROMA_STYLE
        return _romav2_label(weights_origin(self.weights))


def create_roma(
    options: RomaOptions | None = None, device: str | torch.device = "cpu"
) -> DenseMatcher:
    """The dense matcher that belongs to the weights: the bundled network, or RoMa v2.

    Args:
        options: Which weights, and how they are used.
        device: Where it runs.

    Returns:
        The matcher.

    Raises:
        ConfigError: See :meth:`RomaMatcher.create`.
        WeightsError: A checkpoint is missing and cannot be downloaded, or does not fit.
    """
    options = options or RomaOptions()
    if options.weights != BUNDLED:
        return RomaMatcher.create(options, device)
    network = load_bundled_roma(bundled_file("roma"), device=device)
    return BundledRomaMatcher(network, guidance=options.guidance, device=device)


class RomaModel(Protocol):
    """The part of ``romav2.RoMaV2`` that the matcher uses."""

    def match(self, img_like_A: Tensor, img_like_B: Tensor) -> Mapping[str, Tensor | None]:
        """Match two batches of one image, each of shape (1, 3, H, W), RGB in [0, 1].

        Returns:
            Among others ``warp_AB``, shape (1, h, w, 2): for the centre of each cell of an even
            division of A its place in B, both axes from -1 to 1 between the image's edges; and
            ``overlap_AB``, shape (1, h, w, 1), the probability that B sees it.
        """
        ...


class RomaMatcher(DenseMatcher):
    """RoMa v2 on undistorted views.

    Args:
        model: ``romav2.RoMaV2`` or anything that matches like it.
        device: Where the model runs.
        weights_label: Where the weights come from, for reports.
        guidance: See :class:`RomaOptions`.

    Example:
        >>> import torch
        >>> from aquamvs.matching import RomaMatcher
        >>> class Still:  # a model that finds every cell where it is
        ...     def match(self, img_like_A, img_like_B):
        ...         warp = torch.tensor([[[[-0.5, 0.0], [0.5, 0.0]]]])
        ...         return {"warp_AB": warp, "overlap_AB": torch.ones(1, 1, 2, 1)}
        >>> matcher = RomaMatcher(Still(), weights_label="none")
        >>> matcher.match(views["cam0"], views["cam1"]).source_pixels.tolist()
        [[[49.5, 74.5], [149.5, 74.5]]]
    """

    def __init__(
        self,
        model: RomaModel,
        *,
        device: str | torch.device = "cpu",
        weights_label: str,
        guidance: Guidance | None = None,
    ) -> None:
        self._model, self.device, self.guidance = model, torch.device(device), guidance
        self.label = _romav2_label(weights_label)

    @classmethod
    def create(
        cls, options: RomaOptions | None = None, device: str | torch.device = "cpu"
    ) -> RomaMatcher:
        """Find the weights and build the network.

        Args:
            options: Resolution and weights.
            device: Where it runs.

        Returns:
            The matcher.

        Raises:
            ConfigError: The extra ``roma`` is not installed or cannot be loaded, or ``romav2`` has
                chosen another device than ``device``.
            WeightsError: The checkpoint, or the DINOv3 code that ``romav2`` fetches by torch.hub,
                is missing and cannot be downloaded, or the checkpoint does not fit.
        """
        options, device = options or RomaOptions(weights=OFFICIAL), torch.device(device)
        require_romav2(device)
        is_official = options.weights == OFFICIAL
        path = resolve_weights(
            "romav2",
            path=None if is_official else options.weights,
            download=options.download,
        )
        setting = options.setting or (
            RomaSetting.PRECISE if device.type == "cuda" else RomaSetting.FAST
        )
        model = load_romav2(path, setting)
        origin = weights_origin(options.weights)
        return cls(model, device=device, weights_label=origin, guidance=options.guidance)

    def match(self, reference: View, source: View) -> Warp:
        """Correspondence and overlap for every cell of the reference view."""
        result = self._model.match(self._input(reference), self._input(source))
        warp, overlap = result["warp_AB"], result["overlap_AB"]
        if warp is None or overlap is None:
            raise ConfigError("the RoMa model returned no warp_AB or overlap_AB")
        device = reference.image.device
        cells = Warp(
            reference.name,
            source.name,
            from_normalized(warp[0].float(), source.size).to(device),
            overlap[0, ..., 0].float().clamp(0, 1).to(device),
            reference.size,
        )
        if self.guidance is not None:
            cells = guide_warp(cells, reference, source, self.guidance)
        return mask_warp(cells, reference, source)

    def _input(self, view: View) -> Tensor:
        return view.image.permute(2, 0, 1)[None].to(self.device)


def _romav2_label(weights: str) -> str:
    return f"RoMa v2 ({weights})"


def require_romav2(device: torch.device) -> None:
    """Check that ``romav2`` is installed and runs on ``device``.

    Raises:
        ConfigError: It is not, or it has chosen another device (it takes CUDA wherever it finds it,
            once, on import).
    """
    try:
        from romav2.device import device as chosen
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"matcher_type roma needs the package {error.name}, which is not installed; run "
            '`pip install "aquamvs[roma]"`, or set dense_matching.weights to `bundled`'
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"romav2 is installed, but cannot be loaded ({reason}); torchvision must be built for "
            "the installed torch: install both from one index, or set dense_matching.weights to "
            "`bundled`"
        ) from None
    if chosen.type != device.type:
        raise ConfigError(
            f"romav2 runs on {chosen.type} on this machine, but runtime.device is {device.type}; "
            f"set runtime.device to {chosen.type}, or hide the GPU (CUDA_VISIBLE_DEVICES='')"
        )


def load_romav2(path: Path, setting: RomaSetting) -> RomaModel:
    """``romav2.RoMaV2`` with the weights of a local file.

    The package's own constructor downloads its checkpoint and unpickles it without restriction, so
    the modules are assembled here instead, in its order and under its names.

    Args:
        path: The published checkpoint, or one with the same layout.
        setting: Resolution.

    Returns:
        The model in evaluation mode.

    Raises:
        WeightsError: The checkpoint does not fit, or the DINOv3 code (its own licence; fetched by
            torch.hub from a pinned commit) can be neither found nor downloaded.
    """
    import romav2.romav2 as package

    class LocalRoMaV2(package.RoMaV2):  # type: ignore[misc]  # untyped package
        def __init__(self, config: Any) -> None:
            torch.nn.Module.__init__(self)
            self.cfg, self.name = config, config.name
            self.anchor_width, self.anchor_height = config.anchor_width, config.anchor_height
            self.f = package.Descriptor(config.descriptor)
            self.matcher = package.Matcher(config.matcher)
            self.refiners = package.Refiners(config.refiners)
            self.refiner_features = package.FineFeatures(config.refiner_features)
            self.to(package.device)
            self.apply_setting(config.setting)

    state = read_tensors(path)
    try:
        model = LocalRoMaV2(package.RoMaV2.Cfg(setting=str(setting)))
    except OSError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            "RoMa v2 needs the DINOv3 code, which romav2 fetches by torch.hub from "
            f"facebookresearch/dinov3, and it is neither in {torch.hub.get_dir()} nor could it be "
            f"downloaded ({reason}); run once with a network, or set dense_matching.weights to "
            "`bundled`"
        ) from None
    load_strictly(model, state, path=path, model="RoMa v2")
    loaded: RomaModel = model.eval()
    return loaded
