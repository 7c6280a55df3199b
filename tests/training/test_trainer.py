"""Training loop: quality, moving objects, reproducibility, and the error for a non-finite loss."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.errors import TrainingError
from blocknerf.fields.block_field import BlockField
from blocknerf.rendering.image import render_image
from blocknerf.rendering.rays import RayOutputs, render_rays
from blocknerf.training import trainer as module
from blocknerf.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
Score = Callable[[Trainer, Capture], float]
STEPS = 250
WIDTH, HEIGHT = 24, 16


def train(trainer: Trainer) -> Trainer:
    while trainer.step < trainer.config.steps:
        trainer.train_step()
    return trainer


def mean_color_psnr(capture: Capture, frames: range) -> float:
    """Return the PSNR of the best constant color."""
    colors = torch.stack([torch.from_numpy(capture.read_image(index)) / 255.0 for index in frames])
    return -10.0 * math.log10(float(colors.reshape(-1, 3).var(0).mean()))


@pytest.fixture(scope="module")
def trained(ball: Any, make_trainer: MakeTrainer) -> Trainer:
    return train(make_trainer(ball.clean, steps=STEPS))


def test_short_training_improves_held_out_psnr(
    ball: Any, trained: Trainer, score: Score, make_trainer: MakeTrainer
) -> None:
    after, before = score(trained, ball.clean), score(make_trainer(ball.clean, steps=STEPS), ball.clean)
    baseline = mean_color_psnr(ball.clean, range(len(ball.clean)))
    print(f"held-out PSNR: {before:.1f} dB at the start, {after:.1f} dB trained, {baseline:.1f} dB for the mean color")
    assert after > baseline + 6.0
    assert after > before + 6.0


def test_geometry_matches_the_ball(trained: Trainer) -> None:
    cameras = trained.pixels.cameras
    rendering = render_image(trained.field, cameras.generate_rays(0), trained.field.mean_appearance_code(), 0.01)
    distance = float(cameras.centers[0].norm()) - 1.0
    opacity, depth = float(rendering.opacity[8, 12]), float(rendering.depth[8, 12])
    assert opacity > 0.8
    # The transparent rest of the ray has the depth of the far plane.
    assert (depth - (1.0 - opacity) * trained.field.far) / opacity == pytest.approx(distance, rel=0.15)
    assert float(rendering.depth[1, 1]) > 3.0 * distance


def test_masks_remove_a_moving_object(
    ball: Any, score: Score, make_trainer: MakeTrainer, trained_masked: Trainer
) -> None:
    trainers = trained_masked, train(make_trainer(ball.unmasked, steps=150))
    masked, unmasked = (score(trainer, ball.clean) for trainer in trainers)
    print(f"held-out PSNR: {masked:.1f} dB with masks, {unmasked:.1f} dB without")
    assert masked > unmasked + 3.0


def test_masked_outliers_have_no_gradient(ball: Any, make_trainer: MakeTrainer) -> None:
    weights = []
    for masked, inverted in ((True, False), (True, True), (False, True)):
        trainer = make_trainer(ball.clean, steps=40, robust_trim=1.0)
        for _ in range(30):
            trainer.train_step()
        trainer.inliers.cells[0] = 1e6 if masked else 0.0
        if inverted:
            colors = trainer.pixels._cache.colors
            colors[0] = 255 - colors[0]
        trainer.train_step()
        weights.append([value.detach().clone() for value in trainer.field.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[1], weights[2], strict=True))


def test_robust_trim_costs_little_without_moving_objects(
    ball: Any, score: Score, make_trainer: MakeTrainer, trained_clean: Trainer
) -> None:
    trainers = trained_clean, train(make_trainer(ball.clean, steps=150, robust_trim=0.15))
    without, with_trim = (score(trainer, ball.clean) for trainer in trainers)
    print(f"held-out PSNR without moving objects: {without:.1f} dB without robust_trim, {with_trim:.1f} dB with it")
    assert with_trim > without - 2.0


def test_field_without_appearance_codes_trains(ball: Any, score: Score, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=150)
    field = BlockField(dataclasses.replace(trainer.field.spec, appearance_dim=0))
    trainer = train(Trainer(field, trainer.pixels, trainer.exposures, trainer.config))
    assert score(trainer, ball.clean) > mean_color_psnr(ball.clean, range(len(ball.clean))) + 2.0


def test_sky_masks_reduce_opacity_in_the_sky(ball: Any, make_trainer: MakeTrainer) -> None:
    """The sky mask is the lower half of each image, which the colors alone do not indicate."""
    opacity = []
    for weight in (0.0, 1.0):
        trainer = make_trainer(ball.clean, steps=STEPS // 2, sky_weight=weight)
        cache = trainer.pixels._cache
        cache.prefetch(0)  # loads the images, which have no sky masks
        cache.sky = torch.zeros(cache.slots, HEIGHT * WIDTH, dtype=torch.int8)
        cache.sky[:, HEIGHT * WIDTH // 2 :] = 1
        while trainer.step < STEPS // 2:
            trainer.train_step()
        field, cameras = trainer.field, ball.clean.cameras()
        rendering = render_image(field, cameras.generate_rays(0), field.mean_appearance_code(), 0.01)
        opacity.append((float(rendering.opacity[: HEIGHT // 2].mean()), float(rendering.opacity[HEIGHT // 2 :].mean())))
    (above, below), (above_with_mask, below_with_mask) = opacity
    assert below_with_mask < 0.5 * below
    assert above_with_mask > above


def test_metrics_have_step_loss_and_psnr(ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=10)
    first, second = trainer.train_step(), trainer.train_step()
    assert (first.step, second.step, trainer.step) == (1, 2, 2)
    assert first.loss >= 10.0 ** (-first.psnr / 10.0) > 0.0


def test_training_is_determined_by_the_seed(ball: Any, make_trainer: MakeTrainer) -> None:
    first, same, other = (train(make_trainer(ball.clean, steps=5, seed=seed)) for seed in (0, 0, 1))
    weights = [dict(trainer.field.named_parameters()) for trainer in (first, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_code_gradients_are_deterministic_for_many_rays(ball: Any, make_trainer: MakeTrainer) -> None:
    """Above a few thousand rays, PyTorch sums the gradients of indexing in parallel, in any order."""
    moments = []
    for _ in range(6):
        trainer = make_trainer(ball.clean, steps=100, rays=20_000)
        trainer.train_step()
        # The moment, not the code, since the first step of Adam depends on the sign of the gradient only.
        moments.append(trainer.optimizer.state()["exp_avg.appearance_codes"].clone())
    assert moments[0].any()
    assert all(torch.equal(moments[0], other) for other in moments)


def test_samples_differ_between_steps_and_seeds(
    ball: Any, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def record_seed(*arguments: Any, generator: torch.Generator, **options: Any) -> RayOutputs:
        seeds.append(generator.initial_seed())
        return render_rays(*arguments, generator=generator, **options)

    monkeypatch.setattr(module, "render_rays", record_seed)
    for seed in (0, 1, 2):
        trainer = make_trainer(ball.clean, steps=10, seed=seed, rays=16)
        for _ in range(3):
            trainer.train_step()
    assert len(seeds) == len(set(seeds)) == 9


def test_all_parameters_are_trained(ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=100)
    trainer.exposures[1:] *= 2.0  # At the reference exposure the response has no gradient.
    before = {name: value.detach().clone() for name, value in trainer.field.named_parameters()}
    for _ in range(3):
        trainer.train_step()
    unchanged = [name for name, value in trainer.field.named_parameters() if torch.equal(value.detach(), before[name])]
    assert unchanged == []


def insert_nan(trainer: Trainer, target: str) -> None:
    if target == "exposure":
        trainer.exposures[:] = float("nan")
    elif target == "image":
        original = trainer.pixels.batch

        def batch_with_nan(*arguments: Any) -> Any:
            batch = original(*arguments)
            batch.colors[3, 1] = float("nan")
            return batch

        trainer.pixels.batch = batch_with_nan
    else:
        with torch.no_grad():
            dict(trainer.field.named_parameters())[target].view(-1)[0] = float("nan")


@pytest.mark.parametrize(
    "target",
    [
        "exposure",
        "image",
        "appearance_codes",
        "base.network.layers.0.weight",
        "color_head.ray_layer.weight",
        "sky_head.layers.0.weight",
        "proposals.0.network.layers.0.weight",
        "visibility_net.network.layers.0.weight",
    ],
)
def test_nan_stops_the_training_at_its_step(ball: Any, make_trainer: MakeTrainer, target: str) -> None:
    trainer = make_trainer(ball.clean, steps=10)
    trainer.train_step()
    trainer.train_step()
    insert_nan(trainer, target)
    before = {name: value.detach().clone() for name, value in trainer.field.named_parameters()}
    pattern = re.compile(r"nan at step 2; the last good checkpoint is kept: .*--seed", re.IGNORECASE)
    with pytest.raises(TrainingError, match=pattern):
        trainer.train_step()
    assert trainer.step == 2
    for name, value in trainer.field.named_parameters():
        assert torch.equal(value.detach().nan_to_num(7.0), before[name].nan_to_num(7.0)), name
