"""What the dense network is trained on and by, on a small scene without a renderer."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from aquamvs.matching.dense_network import DenseNetwork, DenseNetworkConfig, ScaleWarp
from aquamvs.pixels import pixel_grid
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.training import dense
from aquamvs.training.data import TrainingScene, TrainingView
from aquamvs.training.dense import classification_loss, refinement_loss, train_dense
from aquamvs.training.dense_certainty import least_logit
from aquamvs.training.dense_samples import (
    WHOLE_SIZE,
    coarser,
    draw_sample,
    patch_sample,
    sees_whole_views,
    whole_sample,
)
from aquamvs.training.loop import Run

SIZE = (320, 240)
DEPTH = 0.4


def flat_view(name, x, y, texture):
    """A level camera over a level bed of which everything is known in closed form."""
    K = torch.tensor([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]], dtype=torch.float64)
    t = -torch.tensor([x, y, 0.0], dtype=torch.float64)
    normal = torch.tensor([0.0, 0, -1], dtype=torch.float64)
    model = RefractiveProjectionModel(
        K, torch.eye(3, dtype=torch.float64), t, 1.0, normal, 1.0, 1.333
    )
    origin, direction = model.cast_ray(pixel_grid(SIZE, dtype=torch.float64))
    depth = DEPTH / direction[..., 2]
    points = (origin + depth[..., None] * direction).numpy()
    column, row = (((points[..., k] + 1.5) / 0.003).astype(np.float32) for k in (0, 1))
    image = cv2.remap(texture, column, row, cv2.INTER_LINEAR)
    return TrainingView(name, image, depth.float(), model)


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (1000, 1000, 3)).astype(np.float32), (0, 0), 2)
    texture = np.clip(127 + 6 * (noise - noise.mean()), 0, 255).astype(np.uint8)
    views = (flat_view("a", -0.1, 0.0, texture), flat_view("b", 0.12, 0.05, texture))
    return TrainingScene(0, views, ((0, 1),))


@pytest.mark.parametrize("whole", [True, False])
def test_the_true_motion_leads_to_the_same_texture(scene, whole):
    """The second patch, sampled at the true places, is the first one but for its light."""
    sample = draw_sample([scene], whole=whole, seed=0, step=3, part=0)
    small = torch.nn.functional.avg_pool2d(sample.images, 2)
    for own, other in ((0, 1), (1, 0)):
        rows, columns = sample.visible.shape[1:]
        place = sample.warps[own].nan_to_num(nan=-9.0)
        grid = (2 * place + 1) / torch.tensor([columns, rows]) - 1
        moved = torch.nn.functional.grid_sample(
            small[other][None], grid[None], align_corners=False
        )[0]
        seen = sample.visible[own]
        assert seen.float().mean() > 0.15
        pair = torch.stack([small[own][:, seen].flatten(), moved[:, seen].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.8


@pytest.mark.parametrize("whole", [True, False])
def test_there_and_back_is_where_one_started(scene, whole):
    rng = np.random.default_rng(1)
    sample = (whole_sample if whole else patch_sample)(*scene.views, rng)
    rows, columns = sample.visible.shape[1:]
    place = sample.warps[0][sample.visible[0]]
    column, row = place.round().long().unbind(-1)
    there = sample.warps[1][row, column] + (place - place.round())
    back = there[sample.visible[1][row, column]]
    start = pixel_grid((columns, rows))[sample.visible[0]][sample.visible[1][row, column]]
    # On a level bed the motion is nearly even, so that half a cell does not change it much.
    assert (back - start).norm(dim=-1).max() < 0.2


def test_a_sample_depends_on_seed_and_step_only(scene):
    first, again, other = (
        draw_sample([scene], whole=False, seed=0, step=step, part=1) for step in (5, 5, 6)
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.visible, again.visible)
    assert not torch.equal(first.images, other.images)


def test_whole_views_keep_their_size(scene):
    sample = draw_sample([scene], whole=True, seed=0, step=2, part=0)
    assert sample.images.shape == (2, 3, WHOLE_SIZE[1], WHOLE_SIZE[0])
    assert sample.warps.shape == (2, WHOLE_SIZE[1] // 2, WHOLE_SIZE[0] // 2, 2)
    assert [sees_whole_views(step) for step in range(6)] == [False, False, True] * 2


def test_coarser_truth_is_the_mean_of_what_is_visible():
    grid = pixel_grid((8, 4))
    warp = (grid + torch.tensor([4.0, -2.0]))[None].clone()
    visible = torch.ones(1, 4, 8, dtype=torch.bool)
    warp[0, 0, :2], visible[0, 0, :2] = torch.nan, False
    visible[0, :, 6:] = False
    mean, seen = coarser(warp, visible, 2)
    torch.testing.assert_close(
        mean[0, :, :3], pixel_grid((4, 2))[:, :3] + torch.tensor([2.0, -1.0])
    )
    assert seen[0].tolist() == [[True, True, True, False]] * 2


def test_the_classification_is_cheapest_at_the_truth():
    truth = torch.tensor([[[[1.0, 0.0], [0.25, 1.0], [9.0, 9.0]]] * 2])
    visible = torch.tensor([[[True, True, False]] * 2])
    used = torch.ones_like(visible)
    logits = torch.full((1, 6, 7), -12.0)
    for cell in range(6):
        if cell % 3 == 0:
            logits[0, cell, 1] = 0.0
        elif cell % 3 == 1:  # a quarter of the way from anchor 3 to anchor 4
            logits[0, cell, 3], logits[0, cell, 4] = np.log(0.75), np.log(0.25)
        else:
            logits[0, cell, 6] = 0.0
    best = classification_loss(logits, truth, visible, used)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert float(best) == pytest.approx(2 * entropy / 6, abs=1e-3)
    for wrong in (logits.roll(1, -1), logits.roll(1, 1)):
        assert classification_loss(wrong, truth, visible, used) > best + 1


def test_refinement_is_cheapest_at_the_truth_with_certainty_where_it_is_right():
    truth = pixel_grid((6, 4))[None]
    visible = torch.ones(1, 4, 6, dtype=torch.bool)
    visible[:, :, 4:] = False
    logit = torch.where(visible, 9.0, -9.0)
    best = refinement_loss(ScaleWarp(2, truth, logit), truth, visible, torch.ones_like(visible))
    assert float(best) < 1e-3
    off = ScaleWarp(2, truth + 0.5, logit)
    unsure = ScaleWarp(2, truth, torch.zeros_like(logit))
    for worse in (off, unsure):
        assert refinement_loss(worse, truth, visible, torch.ones_like(visible)) > best + 0.1


def test_what_lies_beyond_reach_teaches_nothing_but_doubt():
    truth, visible = pixel_grid((6, 4))[None], torch.ones(1, 4, 6, dtype=torch.bool)
    warp = (truth + 30.0).requires_grad_()
    logit = torch.zeros(1, 4, 6, requires_grad=True)
    refinement_loss(ScaleWarp(2, warp, logit), truth, visible, visible).backward()
    assert warp.grad.abs().max() == 0
    assert logit.grad.min() > 0


def test_the_least_logit_keeps_the_wanted_precision():
    logits = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    right = torch.tensor([True, True, True, False, True])
    assert least_logit(logits, right, 0.99) == 3.0
    assert least_logit(logits, right, 0.8) == 1.0
    assert least_logit(logits, ~right, 0.99) == 5.0


def test_an_interrupted_run_ends_as_an_uninterrupted_one(scene, tmp_path, monkeypatch):
    tiny = DenseNetworkConfig(
        channels=(8, 8, 16), hidden=(8, 8, 8), correlated=(8, 8, 8), heads=2, layers=1
    )
    monkeypatch.setattr(dense, "DenseNetwork", lambda: DenseNetwork(tiny))
    monkeypatch.setattr(dense, "training_scene", lambda *_: scene)
    monkeypatch.setattr(dense, "TRAINING_SEEDS", (0,))
    monkeypatch.setattr(dense, "VALIDATION_SEEDS", ())
    monkeypatch.setattr(dense, "certainty_shifts", lambda *_: torch.tensor([0.5, 1.0]))
    schedule = dataclasses.replace(dense._SCHEDULE, steps=4, save_every=2)
    monkeypatch.setattr(dense, "_SCHEDULE", schedule)
    silent = {"seed": 3, "report": lambda _: None}
    whole = train_dense(Run(out=tmp_path / "whole", **silent)).read_bytes()

    loss = dense._loss

    def interrupted(network, batch, run, step):
        if step == 3:
            raise KeyboardInterrupt
        return loss(network, batch, run, step)

    monkeypatch.setattr(dense, "_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_dense(Run(out=tmp_path / "parts", **silent))
    monkeypatch.setattr(dense, "_loss", loss)
    assert train_dense(Run(out=tmp_path / "parts", **silent)).read_bytes() == whole
