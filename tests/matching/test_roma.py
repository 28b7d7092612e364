"""The RoMa adapter, with models that have the output layout of ``romav2.RoMaV2.match``."""

import dataclasses
import sys
import types

import pytest
import torch
from torch import nn

from aquamvs.errors import ConfigError, WeightsError
from aquamvs.matching import (
    Guidance,
    Pair,
    RomaMatcher,
    RomaOptions,
    RomaSetting,
    create_matcher,
    match_dense,
    warp_to_matches,
)
from aquamvs.matching.base import DenseMatcher
from aquamvs.matching.roma import load_romav2


def cell_grid(rows, columns):
    """romav2's normalised grid of cell centres, shape (1, rows, columns, 2)."""
    v = torch.linspace(-1 + 1 / rows, 1 - 1 / rows, rows)
    u = torch.linspace(-1 + 1 / columns, 1 - 1 / columns, columns)
    grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
    return torch.stack([grid_u, grid_v], -1)[None]


class ShiftModel:
    """Everything lies ``shift`` (normalised) further in B; B sees the left three quarters of A."""

    def __init__(self, shift=(0.0, 0.0), cells=(64, 64)):
        self.shift, self.cells, self.seen = torch.tensor(shift), cells, []

    def match(self, img_like_A, img_like_B):
        self.seen.append((img_like_A, img_like_B))
        warp = cell_grid(*self.cells) + self.shift
        overlap = torch.ones(1, *self.cells, 1)
        overlap[:, :, self.cells[1] * 3 // 4 :] = 0.0
        return {"warp_AB": warp, "overlap_AB": overlap, "warp_BA": None, "overlap_BA": None}


@pytest.fixture
def pair(rendered):
    return rendered["west"], rendered["east"]


def test_the_identity_warp_maps_every_cell_to_itself(pair):
    matcher = RomaMatcher(ShiftModel(), weights_label="test")
    warp = matcher.match(*pair)
    assert isinstance(matcher, DenseMatcher)
    torch.testing.assert_close(warp.source_pixels, warp.reference_pixels(), atol=1e-4, rtol=0)
    assert warp.certainty.shape == (64, 64)
    assert (warp.reference, warp.source) == ("west", "east")


def test_normalised_coordinates_become_pixels_with_the_centre_of_the_first_at_zero(pair):
    width, height = pair[1].size
    shift = (2 * 10 / width, -2 * 4 / height)  # 10 px right, 4 px up
    warp = RomaMatcher(ShiftModel(shift), weights_label="test").match(*pair)
    # The centre of cell (row 5, column 9) of 64 x 64, between the image's edges, less half a pixel.
    u = 9.5 * width / 64 - 0.5 + 10
    v = 5.5 * height / 64 - 0.5 - 4
    torch.testing.assert_close(warp.source_pixels[5, 9], torch.tensor([u, v]), atol=1e-4, rtol=0)


def test_certainty_is_the_overlap_inside_of_both_masks(pair):
    west, east = pair
    mask = torch.ones_like(west.mask)
    mask[: west.mask.shape[0] // 2] = False
    warp = RomaMatcher(ShiftModel(), weights_label="test").match(
        dataclasses.replace(west, mask=mask), east
    )
    assert warp.certainty[:32].max() == 0
    assert warp.certainty[33:, :48].min() == 1
    assert warp.certainty[:, 48:].max() == 0


def test_targets_outside_of_the_source_image_have_no_certainty(pair):
    warp = RomaMatcher(ShiftModel((-0.5, 0.0)), weights_label="test").match(*pair)
    outside = warp.source_pixels[..., 0] < -0.5
    assert outside.any()
    assert warp.certainty[outside].max() == 0


def test_the_model_gets_whole_rgb_images(pair):
    model = ShiftModel()
    RomaMatcher(model, weights_label="test").match(*pair)
    first, second = model.seen[0]
    torch.testing.assert_close(first[0].permute(1, 2, 0), pair[0].image)
    torch.testing.assert_close(second[0].permute(1, 2, 0), pair[1].image)


def test_guidance_takes_certainty_from_targets_far_from_their_curves(pair):
    """The cameras stand side by side, and everything moves down by 20 px."""
    model = ShiftModel((0.0, 2 * 20 / 180))
    free = RomaMatcher(model, weights_label="test").match(*pair)
    guided = RomaMatcher(model, weights_label="test", guidance=Guidance()).match(*pair)
    assert free.certainty.mean() > 0.6
    assert guided.certainty.max() == 0


def test_warps_become_matches_on_the_stage(rendered):
    matcher = RomaMatcher(ShiftModel(), weights_label="test")
    warps = list(match_dense(matcher, rendered, [Pair("west", "east"), Pair("east", "west")]))
    assert [(w.reference, w.source) for w in warps] == [("west", "east"), ("east", "west")]
    matches = warp_to_matches(warps[0], max_correspondences=300)
    assert len(matches) == 300


def test_without_the_extra_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "romav2", None)
    with pytest.raises(ConfigError, match=r'pip install "aquamvs\[roma\]"'):
        create_matcher("roma", RomaOptions(weights="official"))


def test_a_torchvision_of_another_build_is_explained(monkeypatch, tmp_path):
    """Its operators are then missing, which shows only on import, and not as an ImportError."""
    for name in [name for name in sys.modules if name.split(".")[0] == "romav2"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "romav2").mkdir()
    (tmp_path / "romav2" / "__init__.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")'
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"torchvision::nms.*install both from one index"):
        create_matcher("roma", RomaOptions(weights="official"))


@pytest.fixture
def fake_package(monkeypatch):
    """A package with romav2's modules, tiny; its own constructor would use the network."""
    root = types.ModuleType("romav2")
    root.__path__ = []
    device_module = types.ModuleType("romav2.device")
    device_module.device = torch.device("cpu")
    module = types.ModuleType("romav2.romav2")

    class RoMaV2(nn.Module):
        @dataclasses.dataclass(frozen=True)
        class Cfg:
            descriptor: int = 3
            matcher: int = 4
            refiners: int = 5
            refiner_features: int = 6
            anchor_width: int = 512
            anchor_height: int = 512
            setting: str = "precise"
            name: str = "RoMa v2"

        def __init__(self):
            raise AssertionError("downloads")

        def apply_setting(self, setting):
            self.setting = setting

        def match(self, img_like_A, img_like_B):
            return ShiftModel().match(img_like_A, img_like_B)

    module.RoMaV2, module.device = RoMaV2, device_module.device
    module.Descriptor = lambda size: nn.Linear(size, 2)
    module.Matcher = lambda size: nn.Linear(size, 2)
    module.Refiners = lambda size: nn.ModuleDict({"4": nn.Linear(size, 2)})
    module.FineFeatures = lambda size: nn.Linear(size, 2)
    for name, each in (("romav2", root), ("romav2.device", device_module),
                       ("romav2.romav2", module)):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, each)
    return module


def checkpoint():
    sizes = {"f": 3, "matcher": 4, "refiners.4": 5, "refiner_features": 6}
    state = {}
    for name, size in sizes.items():
        layer = nn.Linear(size, 2)
        state[f"{name}.weight"], state[f"{name}.bias"] = layer.weight.data, layer.bias.data
    return state


def test_a_local_checkpoint_fills_the_package_without_its_own_loader(fake_package, tmp_path, pair):
    path = tmp_path / "romav2.0.1.pt"
    state = checkpoint()
    torch.save(state, path)
    matcher = create_matcher("roma", RomaOptions(weights=path))
    assert matcher.label == RomaOptions(weights=path).label == "RoMa v2 (from romav2.0.1.pt)"
    assert matcher.match(*pair).certainty.max() == 1
    model = load_romav2(path, RomaSetting.TURBO)
    assert torch.equal(model.refiners["4"].weight, state["refiners.4.weight"])
    assert (model.setting, model.training) == ("turbo", False)


@pytest.mark.parametrize(("device", "setting"), [("cpu", "fast"), ("cuda", "precise")])
def test_the_default_setting_is_what_the_device_affords(
    fake_package, tmp_path, monkeypatch, device, setting
):
    torch.save(checkpoint(), tmp_path / "romav2.0.1.pt")
    chosen = []
    monkeypatch.setattr(fake_package.RoMaV2, "apply_setting", lambda _, s: chosen.append(s))
    monkeypatch.setattr(sys.modules["romav2.device"], "device", torch.device(device))
    RomaMatcher.create(RomaOptions(weights=tmp_path), device)
    assert chosen == [setting]


def test_another_models_checkpoint_is_refused(fake_package, tmp_path):
    state = checkpoint()
    state["matcher.weight"] = torch.zeros(9, 9)
    torch.save(state, tmp_path / "romav2.0.1.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of RoMa v2"):
        RomaMatcher.create(RomaOptions(weights=tmp_path))


def test_missing_dinov3_code_is_explained(fake_package, tmp_path):
    torch.save(checkpoint(), tmp_path / "romav2.0.1.pt")

    def offline(_):
        raise OSError("no route to host")

    fake_package.Descriptor = offline
    with pytest.raises(WeightsError, match=r"DINOv3 .*no route to host"):
        RomaMatcher.create(RomaOptions(weights=tmp_path))


def test_a_device_that_romav2_did_not_choose_is_refused(fake_package, monkeypatch):
    monkeypatch.setattr(sys.modules["romav2.device"], "device", torch.device("cuda"))
    with pytest.raises(ConfigError, match="romav2 runs on cuda"):
        create_matcher("roma", RomaOptions(weights="official"), device="cpu")


def test_an_unknown_setting_is_refused():
    with pytest.raises(ConfigError, match="turbo, fast, base, precise"):
        RomaOptions(setting="ultra")
