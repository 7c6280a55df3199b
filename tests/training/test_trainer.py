"""The training loop learns, keeps moving things out, and stops at the first number that is not finite."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
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


def trained(trainer: Trainer) -> Trainer:
    while trainer.step < trainer.config.steps:
        trainer.train_step()
    return trainer


def mean_color_psnr(capture: Capture, frames: range) -> float:
    """What the best single color would score."""
    colors = torch.stack([torch.from_numpy(capture.read_image(index)) / 255.0 for index in frames])
    return -10.0 * math.log10(float(colors.reshape(-1, 3).var(0).mean()))


@pytest.fixture(scope="module")
def learned(ball: Any, trainer_of: MakeTrainer) -> Trainer:
    return trained(trainer_of(ball.clean, steps=STEPS))


def test_a_short_training_raises_held_out_psnr(
    ball: Any, learned: Trainer, score: Score, trainer_of: MakeTrainer
) -> None:
    after, before = score(learned, ball.clean), score(trainer_of(ball.clean, steps=STEPS), ball.clean)
    baseline = mean_color_psnr(ball.clean, range(len(ball.clean)))
    print(f"held-out PSNR: {before:.1f} dB at the start, {after:.1f} dB learned, {baseline:.1f} dB by the mean color")
    assert after > baseline + 6.0
    assert after > before + 6.0


def test_the_geometry_is_the_balls(learned: Trainer) -> None:
    cameras = learned.pixels.cameras
    picture = render_image(learned.field, cameras.generate_rays(0), learned.field.mean_appearance_code(), 0.01)
    distance = float(cameras.centers[0].norm()) - 1.0
    opacity, depth = float(picture.opacity[8, 12]), float(picture.depth[8, 12])
    assert opacity > 0.8
    # The rest of the ray counts as the far end.
    assert (depth - (1.0 - opacity) * learned.field.far) / opacity == pytest.approx(distance, rel=0.15)
    assert float(picture.depth[1, 1]) > 3.0 * distance


def test_masks_keep_a_moving_thing_out(
    ball: Any, score: Score, trainer_of: MakeTrainer, trained_masked: Trainer
) -> None:
    trainers = trained_masked, trained(trainer_of(ball.unmasked, steps=150))
    masked, unmasked = (score(trainer, ball.clean) for trainer in trainers)
    print(f"held-out PSNR: {masked:.1f} dB with masks, {unmasked:.1f} dB without")
    assert masked > unmasked + 3.0


def test_a_crowd_of_outliers_teaches_no_colors(ball: Any, trainer_of: MakeTrainer) -> None:
    weights = []
    for crowded, repainted in ((True, False), (True, True), (False, True)):
        trainer = trainer_of(ball.clean, steps=40, robust_trim=1.0)
        for _ in range(30):
            trainer.train_step()
        trainer.inliers.cells[0] = 1e6 if crowded else 0.0
        if repainted:
            trainer.pixels.colors[0] = 255 - trainer.pixels.colors[0]
        trainer.train_step()
        weights.append([value.detach().clone() for value in trainer.field.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[1], weights[2], strict=True))


def test_a_trimmed_loss_costs_little_where_nothing_moves(
    ball: Any, score: Score, trainer_of: MakeTrainer, trained_clean: Trainer
) -> None:
    trainers = trained_clean, trained(trainer_of(ball.clean, steps=150, robust_trim=0.15))
    plain, trimmed = (score(trainer, ball.clean) for trainer in trainers)
    print(f"held-out PSNR where nothing moves: {plain:.1f} dB plain, {trimmed:.1f} dB trimmed")
    assert trimmed > plain - 2.0


def test_a_field_without_codes_learns(ball: Any, score: Score, trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(ball.clean, steps=150)
    bare = BlockField(dataclasses.replace(trainer.field.spec, appearance_dim=0))
    trainer = trained(Trainer(bare, trainer.pixels, trainer.exposures, trainer.config))
    assert score(trainer, ball.clean) > mean_color_psnr(ball.clean, range(len(ball.clean))) + 2.0


def test_sky_masks_empty_the_sky(ball: Any, trainer_of: MakeTrainer) -> None:
    """Here the lower half of each picture is called sky, which photographs alone do not say."""
    opacity = []
    for weight in (0.0, 1.0):
        trainer = trainer_of(ball.clean, steps=STEPS // 2, sky_weight=weight)
        trainer.pixels.batch(0, 1, 0)  # loads the photographs, which know nothing of the sky
        trainer.pixels.sky = np.zeros((trainer.pixels.slots, HEIGHT * WIDTH), np.int8)
        trainer.pixels.sky[:, HEIGHT * WIDTH // 2 :] = 1
        while trainer.step < STEPS // 2:
            trainer.train_step()
        field, cameras = trainer.field, ball.clean.cameras()
        picture = render_image(field, cameras.generate_rays(0), field.mean_appearance_code(), 0.01)
        opacity.append((float(picture.opacity[: HEIGHT // 2].mean()), float(picture.opacity[HEIGHT // 2 :].mean())))
    (above, below), (above_known, below_known) = opacity
    assert below_known < 0.5 * below
    assert above_known > above


def test_a_report_tells_step_loss_and_psnr(ball: Any, trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(ball.clean, steps=10)
    first, second = trainer.train_step(), trainer.train_step()
    assert (first.step, second.step, trainer.step) == (1, 2, 2)
    assert first.loss >= 10.0 ** (-first.psnr / 10.0) > 0.0


def test_one_seed_gives_one_training(ball: Any, trainer_of: MakeTrainer) -> None:
    first, again, other = (trained(trainer_of(ball.clean, steps=5, seed=seed)) for seed in (0, 0, 1))
    weights = [dict(trainer.field.named_parameters()) for trainer in (first, again, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_many_rays_are_summed_in_a_fixed_order(ball: Any, trainer_of: MakeTrainer) -> None:
    """Beyond some thousand rays PyTorch adds up indexed gradients by threads, in any order."""
    sums = []
    for _ in range(6):
        trainer = trainer_of(ball.clean, steps=100, rays=20_000)
        trainer.train_step()
        # The moment, not the code: a first step of Adam depends on the gradient's sign alone.
        sums.append(trainer.optimizer.state()["exp_avg.appearance_codes"].clone())
    assert sums[0].any()
    assert all(torch.equal(sums[0], other) for other in sums)


def test_every_step_of_every_seed_places_its_samples_anew(
    ball: Any, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def watched(*arguments: Any, generator: torch.Generator, **options: Any) -> RayOutputs:
        seeds.append(generator.initial_seed())
        return render_rays(*arguments, generator=generator, **options)

    monkeypatch.setattr(module, "render_rays", watched)
    for seed in (0, 1, 2):
        trainer = trainer_of(ball.clean, steps=10, seed=seed, rays=16)
        for _ in range(3):
            trainer.train_step()
    assert len(seeds) == len(set(seeds)) == 9


def test_every_part_of_the_field_learns(ball: Any, trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(ball.clean, steps=100)
    before = {name: value.detach().clone() for name, value in trainer.field.named_parameters()}
    for _ in range(3):
        trainer.train_step()
    still = [name for name, value in trainer.field.named_parameters() if torch.equal(value.detach(), before[name])]
    assert still == []


def poison(trainer: Trainer, what: str) -> None:
    if what == "exposure":
        trainer.exposures[:] = float("nan")
    elif what == "photograph":
        batch = trainer.pixels.batch
        original = batch

        def broken(step: int, rays: int, depth_rays: int) -> Any:
            found = original(step, rays, depth_rays)
            found.colors[3, 1] = float("nan")
            return found

        trainer.pixels.batch = broken
    else:
        with torch.no_grad():
            dict(trainer.field.named_parameters())[what].view(-1)[0] = float("nan")


@pytest.mark.parametrize(
    "what",
    [
        "exposure",
        "photograph",
        "appearance_codes",
        "base.network.layers.0.weight",
        "color_head.ray_layer.weight",
        "sky_head.layers.0.weight",
        "proposals.0.network.layers.0.weight",
        "visibility_net.network.layers.0.weight",
    ],
)
def test_what_is_not_finite_stops_the_training_at_its_step(ball: Any, trainer_of: MakeTrainer, what: str) -> None:
    trainer = trainer_of(ball.clean, steps=10)
    trainer.train_step()
    trainer.train_step()
    poison(trainer, what)
    before = {name: value.detach().clone() for name, value in trainer.field.named_parameters()}
    pattern = re.compile(r"nan at step 2; the last good checkpoint is kept: .*--seed", re.IGNORECASE)
    with pytest.raises(TrainingError, match=pattern):
        trainer.train_step()
    assert trainer.step == 2
    for name, value in trainer.field.named_parameters():
        assert torch.equal(value.detach().nan_to_num(7.0), before[name].nan_to_num(7.0)), name
