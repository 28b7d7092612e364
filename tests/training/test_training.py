"""Training data are true and repeatable; the loop resumes; a run ends in weights that load."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from aquamvs.errors import DataError
from aquamvs.io import save_arrays
from aquamvs.matching.lightglue_network import BUNDLED_DESIGN, load_lightglue, log_assignment
from aquamvs.matching.sift import detect_sift
from aquamvs.training import lightglue
from aquamvs.training.__main__ import main
from aquamvs.training.data import (
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    change_light,
    training_scene,
    true_warp,
)
from aquamvs.training.keypoints import TrueAssignment, placed, true_assignment
from aquamvs.training.loop import CHECKPOINT, Run, Schedule, train
from aquamvs.training.rigs import random_rig

SEED = TRAINING_SEEDS[0]


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    training_scene(SEED, folder)
    return folder


@pytest.fixture(scope="session")
def scene(work):
    return training_scene(SEED, work)


@pytest.fixture(scope="session")
def pair(scene):
    """Two views that see the same ground, each in a light of its own."""
    rng = np.random.default_rng(3)
    first, second = (change_light(scene.views[k], rng) for k in scene.pairs[0])
    return first, second


def test_seeds_of_training_validation_and_report_are_apart():
    reported = {*range(10), *range(100, 120)}
    assert not reported & {*TRAINING_SEEDS, *VALIDATION_SEEDS}
    assert not set(TRAINING_SEEDS) & set(VALIDATION_SEEDS)


def test_a_seed_gives_one_rig_and_another_seed_another():
    first, again, other = random_rig(7), random_rig(7), random_rig(8)
    assert all(torch.equal(first.cameras[n].R, again.cameras[n].R) for n in first.cameras)
    assert not torch.equal(first.cameras["cam0"].K, other.cameras["cam0"].K)
    for camera in first.cameras.values():
        torch.testing.assert_close(camera.R @ camera.R.T, torch.eye(3).double())
        assert float(torch.linalg.det(camera.R)) > 0


def test_every_view_of_a_scene_overlaps_another(scene):
    assert len(scene.pairs) >= 6
    assert {k for pair in scene.pairs for k in pair} == set(range(len(scene.views)))


def test_a_damaged_scene_is_refused(tmp_path):
    (tmp_path / f"scene_{SEED}.npz").write_bytes(b"not a scene")
    with pytest.raises(DataError, match="delete it, and it is made anew"):
        training_scene(SEED, tmp_path)


def test_a_scene_whose_views_share_nothing_is_refused(tmp_path):
    shape = (8, 480, 640)
    arrays = {"images": np.zeros((*shape, 3), np.uint8), "depths": np.full(shape, np.nan)}
    arrays["depths"] = arrays["depths"].astype(np.float32)
    save_arrays(tmp_path / f"scene_{SEED}.npz", arrays)
    with pytest.raises(DataError, match=r"see the same ground.*made anew"):
        training_scene(SEED, tmp_path)


def test_warps_lead_there_and_back(pair):
    first, second = pair
    (warp, visible), (reverse, _) = true_warp(first, second), true_warp(second, first)
    target = cv2.remap(
        reverse.numpy(), warp[..., 0].numpy(), warp[..., 1].numpy(), cv2.INTER_LINEAR
    )
    v, u = torch.meshgrid(*(torch.arange(n) for n in visible.shape), indexing="ij")
    gap = (torch.from_numpy(target) - torch.stack([u, v], -1)).norm(dim=-1)[visible]
    assert visible.float().mean() > 0.1
    assert gap.nanmedian() < 0.05
    assert (gap > 3).float().mean() < 0.01


def test_visible_pixels_look_alike_after_the_warp(pair):
    first, second = pair
    warp, visible = true_warp(first, second)
    seen = cv2.remap(
        second.image.astype(np.float32),
        warp[..., 0].numpy(),
        warp[..., 1].numpy(),
        cv2.INTER_LINEAR,
    )
    inside = visible.numpy()
    own, other = first.image[inside].mean(-1), seen[inside].mean(-1)
    assert np.corrcoef(own, other)[0, 1] > 0.6


def test_a_view_truly_matches_itself(scene):
    view = scene.views[0]
    features = detect_sift(view.as_view(), max_keypoints=200, contrast_threshold=0.00667)
    truth = true_assignment(view, view, features, features)
    assert len(truth.pairs) > 0.95 * len(features)
    assert (truth.pairs[:, 0] == truth.pairs[:, 1]).float().mean() > 0.99
    assert not bool(truth.unmatched[truth.pairs[:, 0]].any())


def test_turned_keypoints_stay_in_the_circle_about_their_window(scene):
    view = scene.views[0]
    features = detect_sift(view.as_view(), max_keypoints=100, contrast_threshold=0.00667)
    window = (0.0, 0.0, float(view.size[0]), float(view.size[1]))
    turned, size = placed(features, window, 0.7)
    middle = torch.tensor(size) / 2
    before, after = features.pixels - middle, turned.pixels - middle
    torch.testing.assert_close(before.norm(dim=-1), after.norm(dim=-1), atol=1e-3, rtol=0)
    angle = torch.atan2(after[:, 1], after[:, 0]) - torch.atan2(before[:, 1], before[:, 0])
    torch.testing.assert_close(angle.cos(), torch.full_like(angle, math.cos(0.7)))
    difference = turned.orientations - features.orientations - 0.7
    assert difference.sin().abs().max() < 1e-5


def test_the_loss_of_a_certain_assignment_is_zero_and_of_a_wrong_one_large():
    truth = TrueAssignment(
        torch.tensor([[0, 1]]), torch.tensor([False, True]), torch.tensor([True, False])
    )
    right = torch.full((3, 3), -20.0)
    right[0, 1] = right[1, 2] = right[2, 0] = 0.0
    assert float(lightglue.assignment_loss(right, truth)) == 0.0
    assert float(lightglue.assignment_loss(-20 - right, truth)) == pytest.approx(20.0)


def test_training_starts_from_nearest_neighbours(scene):
    network = lightglue.initial_network().eval()
    features = [
        detect_sift(view.as_view(), max_keypoints=150, contrast_threshold=0.00667)
        for view in scene.views[:2]
    ]
    size = scene.views[0].size
    inputs = BUNDLED_DESIGN.pair_input(tuple(features), (size, size), "cpu")
    with torch.no_grad():
        scores = log_assignment(network, *inputs)[:-1, :-1]
    first, second = (side["descriptors"][0, :, : BUNDLED_DESIGN.dimension] for side in inputs)
    cosine = first @ second.T
    mutual = cosine.argmax(0)[cosine.argmax(1)] == torch.arange(len(first))
    same = scores.argmax(1)[mutual] == cosine.argmax(1)[mutual]
    # The hints at the best partner have a say too, but a small one.
    assert same.float().mean() > 0.95


def line_loss(model, step):
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(step))
    return (model(x)[:, 0] - x.sum(1)).square().mean(), {}


def fresh(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(2, 1)


class PulledPlugError(Exception):
    """The run was interrupted."""


def test_an_interrupted_run_ends_in_the_same_weights(tmp_path):
    schedule = Schedule(steps=40, learning_rate=0.05, warmup=5, save_every=10, report_every=20)
    lines = []
    whole = train(fresh(), line_loss, schedule, Run(out=tmp_path / "a", report=lines.append))

    def stopping(model, step):
        if step == 25:
            raise PulledPlugError
        return line_loss(model, step)

    run = Run(out=tmp_path / "b", report=lines.append)
    with pytest.raises(PulledPlugError):
        train(fresh(), stopping, schedule, run)
    resumed = train(fresh(1), line_loss, schedule, run)
    assert "going on at step 20" in lines
    assert torch.equal(whole.weight, resumed.weight)
    with torch.no_grad():
        assert line_loss(whole, 99)[0] < 0.5 * line_loss(fresh(), 99)[0]


def test_another_schedule_does_not_go_on_from_a_checkpoint(tmp_path):
    run = Run(out=tmp_path, report=lambda _: None)
    train(fresh(), line_loss, Schedule(steps=4, learning_rate=0.05), run)
    assert (tmp_path / CHECKPOINT).is_file()
    with pytest.raises(DataError, match="belongs to another run"):
        train(fresh(), line_loss, Schedule(steps=5, learning_rate=0.05), run)


def test_the_command_ends_in_weights_that_load(work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lightglue, "TRAINING_SEEDS", range(SEED, SEED + 1))
    arguments = ["lightglue", "--out", str(tmp_path), "--work", str(work), "--steps", "2"]
    assert main(arguments) == 0
    path = tmp_path / lightglue.WEIGHTS
    assert f"wrote {path}" in capsys.readouterr().out
    network = load_lightglue(path, BUNDLED_DESIGN)
    assert not network.training
    (tmp_path / CHECKPOINT).write_bytes(b"")
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
