"""LightGlue through its real loading code, with random numbers in the official layout."""

import dataclasses
import re

import pytest
import torch

from aquamvs.errors import ConfigError, WeightsError
from aquamvs.io import CACHE_VARIABLE
from aquamvs.matching import (
    WEIGHTS,
    DetectionOptions,
    ExtractorType,
    Guidance,
    LightGlueMatcher,
    LightGlueOptions,
    create_matcher,
    epipolar_distance,
)
from aquamvs.matching.base import SparseMatcher
from aquamvs.matching.extractors import EXTRACTORS, create_extractor
from aquamvs.matching.lightglue_network import LightGlueDesign, load_lightglue
from aquamvs.matching.superpoint import SuperPoint, detect_superpoint

DETECTION = DetectionOptions(max_keypoints=120)


def released_lightglue(dimension, *, oriented=False):
    """State dictionary under the names of the official release."""
    from kornia.feature import LightGlue

    network = LightGlue(features=None, input_dim=dimension, add_scale_ori=oriented)
    pattern = re.compile(r"^transformers\.(\d+)\.(self|cross)_attn\.")
    state = {pattern.sub(r"\2_attn.\1.", k): v for k, v in network.state_dict().items()}
    del state["confidence_thresholds"]  # the release does not hold it
    return state


def released_extractor(kind):
    from kornia.feature import ALIKED, DISK

    if kind is ExtractorType.ALIKED:
        state = ALIKED().state_dict()
        del state["dkd.hw_grid"]  # nor this
        return state
    if kind is ExtractorType.DISK:
        return {"extractor": DISK().state_dict()}
    return SuperPoint().state_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with every checkpoint under its published name."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    for kind, spec in EXTRACTORS.items():
        state = released_lightglue(spec.dimension, oriented=spec.oriented)
        torch.save(state, folder / WEIGHTS[spec.matcher_weights].filename)
        if spec.weights is not None:
            torch.save(released_extractor(kind), folder / WEIGHTS[spec.weights].filename)
    return folder


def options(folder, kind, **changes):
    return LightGlueOptions(
        extractor=kind,
        detection=DETECTION,
        weights=folder,
        **{"filter_threshold": 0.0, **changes},
    )


def design(kind):
    spec = EXTRACTORS[kind]
    return LightGlueDesign(dimension=spec.dimension, oriented=spec.oriented)


@pytest.fixture(scope="module")
def matchers(folder):
    """One matcher per kind of features, with random weights."""
    return {kind: LightGlueMatcher.create(options(folder, kind)) for kind in ExtractorType}


@pytest.mark.parametrize("kind", ExtractorType)
def test_random_official_weights_give_matches(matchers, rendered, kind):
    matcher = matchers[kind]
    assert isinstance(matcher, SparseMatcher)
    matches = matcher.match(rendered["west"], rendered["east"])
    assert len(matches) > 0
    assert 0 <= matches.scores.min() <= matches.scores.max() <= 1
    place = matcher.options.weights.name
    assert matcher.label == f"LightGlue ({EXTRACTORS[kind].label}, from {place})"
    distance = epipolar_distance(
        rendered["west"].model,
        rendered["east"].model,
        matches.reference_pixels,
        matches.source_pixels,
    )
    assert distance.max() < Guidance().max_distance_px + 0.1  # even chance must obey geometry


@pytest.mark.parametrize("kind", ExtractorType)
def test_keypoints_lie_inside_the_mask_with_unit_descriptors(matchers, rendered, kind):
    west = rendered["west"]
    mask = torch.zeros_like(west.mask)
    mask[40:140, 50:200] = True
    features = matchers[kind].extract(dataclasses.replace(west, mask=mask))
    u, v = features.pixels.round().long().unbind(-1)
    assert 0 < len(features) <= DETECTION.max_keypoints
    assert bool(mask[v, u].all())
    lengths = features.descriptors.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ExtractorType)
def test_black_and_fully_masked_views_give_no_matches(matchers, rendered, kind):
    west, east = rendered["west"], rendered["east"]
    hidden = dataclasses.replace(east, mask=torch.zeros_like(east.mask))
    assert len(matchers[kind].match(west, hidden)) == 0
    assert len(matchers[kind].match(hidden, west)) == 0
    black = dataclasses.replace(east, image=torch.zeros_like(east.image))
    matchers[kind].match(west, black)  # an untrained network may see things, but must not fail


def test_swapping_the_views_swaps_the_matches(matchers, rendered):
    matcher = matchers[ExtractorType.SIFT]
    forth = matcher.match(rendered["west"], rendered["east"])
    back = matcher.match(rendered["east"], rendered["west"])
    assert torch.equal(forth.reference_pixels, back.source_pixels)
    assert torch.equal(forth.source_pixels, back.reference_pixels)


def one_per_place(features):
    """Without the further orientations of a point: kornia's filter knows no such thing."""
    _, place = features.unique_places()
    seen = torch.zeros(len(features), dtype=torch.bool)
    first = [int((place == k).nonzero()[0]) for k in place.unique()]
    seen[first] = True
    return features.select(seen)


def test_without_guidance_the_assignment_is_kornias_own(folder, matchers, rendered):
    """Same keypoints through kornia's filter: the loader has put every tensor in its place."""
    west, east = rendered["west"], rendered["east"]
    kind = ExtractorType.SIFT
    matcher = LightGlueMatcher.create(options(folder, kind, guidance=None))
    first, second = (one_per_place(matcher.extract(view)) for view in (west, east))
    matches = matcher.match_features(east, west, second, first)
    # kornia's own class and loading, none of ours: every tensor is in its place, and the fused
    # attention computes what kornia's does.
    from kornia.feature import LightGlue

    network = LightGlue(
        features=None,
        input_dim=128,
        add_scale_ori=True,
        depth_confidence=-1,
        width_confidence=-1,
        filter_threshold=0.0,
    ).eval()
    state = torch.load(folder / "sift_lightglue.pth", weights_only=True)
    pattern = re.compile(r"^(self|cross)_attn\.(\d+)\.")
    renamed = {pattern.sub(r"transformers.\2.\1_attn.", k): v for k, v in state.items()}
    assert network.load_state_dict(renamed, strict=False).unexpected_keys == []

    def data(features, view):
        return {
            "keypoints": features.pixels[None],
            "descriptors": features.descriptors[None],
            "scales": features.scales[None],
            "oris": features.orientations[None],
            "image_size": torch.tensor([view.size]),
        }

    with torch.inference_mode():
        result = network({"image0": data(second, east), "image1": data(first, west)})
    expected = result["matches"][0]
    assert torch.equal(matches.reference_pixels, second.pixels[expected[:, 0]])
    assert torch.equal(matches.source_pixels, first.pixels[expected[:, 1]])
    torch.testing.assert_close(matches.scores, result["scores"][0], rtol=1e-3, atol=1e-6)


def test_every_released_tensor_reaches_the_network(folder):
    state = torch.load(folder / "aliked_lightglue.pth", weights_only=True)
    assert len(state) == 253  # as in the official file
    network = load_lightglue(folder / "aliked_lightglue.pth", design(ExtractorType.ALIKED))
    loaded = network.state_dict()
    assert torch.equal(
        loaded["transformers.4.cross_attn.to_qk.weight"], state["cross_attn.4.to_qk.weight"]
    )
    assert not network.training


def test_process_wide_switches_are_left_alone(folder):
    before = torch.backends.cuda.flash_sdp_enabled()
    try:
        for choice in (False, True):
            torch.backends.cuda.enable_flash_sdp(choice)
            load_lightglue(folder / "disk_lightglue.pth", design(ExtractorType.DISK))
            assert torch.backends.cuda.flash_sdp_enabled() is choice
    finally:
        torch.backends.cuda.enable_flash_sdp(before)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (ExtractorType.ALIKED, "superpoint_lightglue.pth"),
        (ExtractorType.ALIKED, "sift_lightglue.pth"),
        (ExtractorType.SUPERPOINT, "aliked_lightglue.pth"),
        (ExtractorType.DISK, "depth-save.pth"),
    ],
)
def test_lightglue_for_other_features_is_refused(folder, kind, other):
    with pytest.raises(WeightsError, match=r"not a checkpoint of LightGlue for \d+-d"):
        load_lightglue(folder / other, design(kind))


@pytest.mark.parametrize(
    "kind", [ExtractorType.ALIKED, ExtractorType.DISK, ExtractorType.SUPERPOINT]
)
def test_the_checkpoint_of_another_extractor_is_refused(folder, kind):
    with pytest.raises(WeightsError, match="not a checkpoint of"):
        create_extractor(
            kind,
            DETECTION,
            weights=folder / "aliked_lightglue.pth",
            device=torch.device("cpu"),
        )


def test_a_missing_checkpoint_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match=r"aliked_lightglue\.pth .*weights: bundled"):
        create_matcher("lightglue", LightGlueOptions(weights="official", download=False))


def test_keypoints_of_a_shrunken_image_return_to_the_full_grid(folder, rendered):
    """Detection at half size equals detection in the half-size view, moved by exact scaling."""
    west = rendered["west"]
    half = torch.nn.functional.interpolate(
        west.image.permute(2, 0, 1)[None], scale_factor=0.5, mode="bilinear", antialias=True
    )[0].permute(1, 2, 0)
    small = dataclasses.replace(west, image=half, mask=torch.ones(90, 120, dtype=torch.bool))
    extractor = create_extractor(
        ExtractorType.ALIKED,
        dataclasses.replace(DETECTION, max_image_side=120),
        weights=folder / "aliked-n16.pth",
        device=torch.device("cpu"),
    )
    full, reduced = extractor(west), extractor(small)
    # The centre of small pixel (0, 0) is at (0.5, 0.5) of the full grid.
    torch.testing.assert_close(full.pixels, 2 * reduced.pixels + 0.5)


def test_clahe_reaches_the_learned_detectors(folder, rendered):
    plain, equalised = (
        create_extractor(
            ExtractorType.ALIKED,
            dataclasses.replace(DETECTION, clahe_clip_limit=limit),
            weights=folder / "aliked-n16.pth",
            device=torch.device("cpu"),
        )(rendered["west"])
        for limit in (None, 3.0)
    )
    assert not torch.equal(plain.pixels[:50], equalised.pixels[:50])


class PeakNetwork(SuperPoint):
    """Known probabilities; descriptors that vary linearly over the image."""

    peaks = ((17, 23), (40, 60), (41, 61), (2, 50))  # (row, column)

    def forward(self, grey):
        height, width = grey.shape[-2:]
        probability = torch.zeros(height, width)
        for strength, (row, column) in zip((0.9, 0.8, 0.5, 0.95), self.peaks, strict=True):
            probability[row, column] = strength
        v, u = torch.meshgrid(
            torch.arange(height // 8).float(), torch.arange(width // 8).float(), indexing="ij"
        )
        ones = torch.ones_like(u)
        coarse = torch.stack([u, v, ones, ones])[None]
        return probability, coarse


def test_superpoint_keeps_isolated_maxima_and_reads_descriptors_at_cell_centres():
    pixels, descriptors, scores = detect_superpoint(
        PeakNetwork(), torch.zeros(72, 96), limit=10, threshold=0.1
    )
    # (41, 61) is beside a stronger one, (2, 50) in the border.
    assert pixels.tolist() == [[23.0, 17.0], [60.0, 40.0]]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8]))
    # Cell (i, j) stands for the centre of its 8 x 8 pixels: (8 j + 3.5, 8 i + 3.5).
    place = descriptors[:, :2] / descriptors[:, 2:3]
    torch.testing.assert_close(place, (pixels - 3.5) / 8)


def test_superpoint_keeps_the_strongest():
    pixels, _, _ = detect_superpoint(PeakNetwork(), torch.zeros(72, 96), limit=1, threshold=0.1)
    assert pixels.tolist() == [[23.0, 17.0]]


def test_superpoint_has_the_published_layout():
    state = SuperPoint().state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    assert len(shapes) == 24
    assert shapes["conv1a.weight"] == (64, 1, 3, 3)
    assert shapes["conv4b.weight"] == (128, 128, 3, 3)
    assert shapes["convPb.weight"] == (65, 256, 1, 1)
    assert shapes["convDb.weight"] == (256, 256, 1, 1)


@pytest.mark.parametrize("bad", [{"filter_threshold": 2.0}, {"extractor": "orb"}])
def test_impossible_options_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        LightGlueOptions(**bad)
