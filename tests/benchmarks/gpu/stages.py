"""How long each stage of a training step takes on real samples, and what share of its ceiling that is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from blocknerf.fields.block_field import BlockField
from blocknerf.kernels.adam import adam_step
from blocknerf.kernels.backends import Backend, availability
from blocknerf.kernels.hash_grid import encode
from blocknerf.kernels.hash_grid import triton_impl as grid
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING, sample_pdf
from blocknerf.kernels.radiance import layered_impl as layered
from blocknerf.kernels.radiance import triton_impl as fused
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.kernels.volume_rendering import composite, weights_from_density
from blocknerf.rendering.rays import ray_spacing
from blocknerf.sampling.intervals import uniform_bins
from blocknerf.sampling.proposal import sample_proposals
from blocknerf.training.trainer import Trainer
from tests.benchmarks.gpu.ceilings import Ceilings, milliseconds

STAGE_RAYS = 1 << 16
"""Enough to fill the chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage, its time, and the time that its ceiling gives it."""

    name: str
    milliseconds: float
    least: float

    @property
    def share(self) -> float:
        return self.least / self.milliseconds


class Samples:
    """What a step of a trained block's rays gives the kernels."""

    def __init__(self, trainer: Trainer, rays: int) -> None:
        field = self.field = cast(BlockField, trainer.field)
        generator = torch.Generator(field.origin.device).manual_seed(7)
        trainer.pixels.prefetch(0)
        batch = trainer.pixels.draw(generator, rays, 0)
        self.bundle = trainer.pixels.cameras.rays(batch.frames, batch.pixels, trainer.pixels.distortion_info).detach()
        with torch.no_grad():
            found, _ = sample_proposals(
                field.proposal_density_fns, self.bundle, ray_spacing(field), field.num_samples, generator=generator
            )
            even = uniform_bins(rays, field.spec.num_proposal_samples, generator, field.origin.device)
            first = make_ray_samples(even, self.bundle, ray_spacing(field))
            self.points, self.spreads = field.to_cube(found.points, found.radii)
            self.first, self.first_spreads = field.to_cube(first.points, first.radii)
            rows = field._row_inputs(
                self.bundle.directions, field.appearance_codes[batch.frames], trainer.exposures[batch.frames]
            )
            self.rows = cast(nn.Linear, field.color_head.ray_layer)(rows)
        self.edges, self.coarse_edges, self.distances = found.s_edges, even, found.t_edges
        self.fade = torch.ones_like(self.spreads)


class Kernels:
    """A step's kernels on the networks and tables, ready to run; shapes of the two parts may be changed between."""

    def __init__(self, samples: Samples) -> None:
        field, spec = samples.field, samples.field.spec
        count, first = len(samples.points), len(samples.first)
        part = self.part = fused._Part(field.base.layers, tint=spec.hidden_dim, scale=1.0)
        proposal = self.proposal = fused._Part(field.proposals[0].layers)
        layers, own = fused._layers(field.base.layers), fused._layers(field.proposals[0].layers)
        colors = fused._layers(field._color_layers)
        place, places = (samples.points, samples.spreads), (samples.first, samples.first_spreads)
        density, features, self.color, planes = part.forward(*place, samples.rows, [*layers, *colors], True, color=True)
        self.density = density
        slopes = torch.randn_like(density), torch.randn_like(self.color)
        to_tints, _, _ = part.color_backward(features, samples.rows, colors, self.color, slopes[1])
        behind = features, colors[0], to_tints, density, slopes[0]
        to_planes = torch.randn(spec.num_levels, count, spec.features_per_level, device=density.device)
        proposed = proposal.forward(*places, None, own, True, color=False)
        wide = torch.randn(spec.proposal_num_levels, first, 2, device=density.device)
        self.runs: dict[str, Callable[[], object]] = {
            "proposals, forward": lambda: proposal.forward(*places, None, own, True, color=False),
            "field, forward to colors": lambda: part.forward(
                *place, samples.rows, [*layers, *colors], True, color=True
            ),
            "color network, backward": lambda: part.color_backward(
                features, samples.rows, colors, self.color, slopes[1]
            ),
            "grid's network, backward": lambda: part.grid_backward(
                *place, None, layers, planes, None, (False, False), behind, samples.fade
            ),
            "field, scatter": lambda: grid.scatter(*place, None, to_planes, field.base.grid),
            "proposals, backward": lambda: proposal.grid_backward(
                *places, None, own, proposed[3], proposed[0], (False, False)
            ),
            "proposals, scatter": lambda: grid.scatter(*places, None, wide, field.proposals[0].grid),
        }


def stages(samples: Samples, ceilings: Ceilings, small_ceilings: Ceilings) -> list[Stage]:
    """Every stage of a step that costs; the small ceilings are those of the proposals' table."""
    field, spec = samples.field, samples.field.spec
    count, first = len(samples.points), len(samples.first)
    kernels = Kernels(samples)
    density, color = kernels.density, kernels.color
    table = field.base.table.detach().clone()
    moments, half = [torch.rand_like(table) for _ in range(3)], table.half()
    step, rate = (torch.full((), 5.0, device=table.device) for _ in range(2))
    reads, small = 8 * spec.num_levels, 8 * spec.proposal_num_levels
    bins = spec.num_proposal_samples
    weights = torch.rand(len(samples.rows), bins, device=table.device)
    jitter = torch.rand(len(samples.rows), device=table.device)
    shape = density.view(len(samples.rows), -1)
    least = {
        "proposals, forward": first * small / small_ceilings.gather,
        "field, forward to colors": count * reads / ceilings.gather,
        # Features, colors and their gradients in; gradients behind the first layer out.
        "color network, backward": count * (32 + 24 + 2 * spec.hidden_dim) / ceilings.copy,
        # Encoded features, features, gradients, density, its gradient and fading in; encoded features' out.
        "grid's network, backward": count * (64 + 32 + 2 * spec.hidden_dim + 12 + 128) / ceilings.copy,
        "field, scatter": count * reads / ceilings.scatter + table.numel() * 4 / ceilings.copy,
        "proposals, backward": first * (20 + 4 + 40) / ceilings.copy,
        "proposals, scatter": first * small / small_ceilings.scatter,
    }
    rows = {name: (run, 1e3 * least[name]) for name, run in kernels.runs.items()} | {
        "Adam over the table": (
            lambda: adam_step(
                table.view(-1), moments[0].view(-1), moments[1].view(-1), moments[2].view(-1), step=step, rate=rate,
                betas=(0.9, 0.99), epsilon=1e-15, half=half.view(-1),
            ),
            1e3 * table.numel() * (16 + 12 + 2) / ceilings.copy,
        ),
        "quadrature and compositing": (
            lambda: composite(
                weights_from_density(shape, samples.distances)[0], color.view(*shape.shape, 3), color[: len(shape)]
            ),
            1e3 * count * 4 * (1 + 1 + 2 + 1 + 3) / ceilings.copy,
        ),
        "pdf_sampling": (
            lambda: sample_pdf(samples.coarse_edges, weights, jitter, spec.num_samples, HISTOGRAM_PADDING),
            1e3 * len(weights) * 4 * (2 * bins + spec.num_samples) / ceilings.copy,
        ),
    }  # fmt: skip
    return [Stage(name=name, milliseconds=milliseconds(run), least=least) for name, (run, least) in rows.items()]


def against_pytorch(samples: Samples, others: Sequence[str]) -> dict[str, float]:
    """Samples a second, forward and backward, of the field in one kernel and otherwise: PyTorch, torch.compile."""
    field = samples.field
    leaves = [field.base.table, *fused._layers(field.base.layers), *fused._layers(field._color_layers)]
    for leaf in leaves:
        leaf.requires_grad_()

    def layers(points: Tensor, spreads: Tensor, rows: Tensor) -> Tensor:
        given = field.base.layers, field._color_layers, points, spreads, rows, field.spec.half_extent, None
        density, color = layered.radiance(*given, "torch")
        return density.mean() + color.mean()

    def kernels(points: Tensor, spreads: Tensor, rows: Tensor) -> Tensor:
        density, color = fused.radiance(
            field.base.layers, field._color_layers, points, spreads, rows, field.spec.half_extent, None
        )
        return density.mean() + color.mean()

    ways: dict[str, Callable[..., Tensor]] = {"triton": kernels}
    if "PyTorch" in others:
        ways["PyTorch"] = layers
    if "torch.compile" in others:
        ways["torch.compile"] = torch.compile(layers)
    given = samples.points, samples.spreads, samples.rows

    def both(way: Callable[..., Tensor]) -> None:
        torch.autograd.grad(way(*given), leaves)

    return {name: 1e3 * len(samples.points) / _called(lambda way=way: both(way)) for name, way in ways.items()}


def against_tiny_cuda_nn(samples: Samples) -> dict[str, float]:
    """Samples a second, forward and backward, of the grid alone; tiny-cuda-nn's where it is installed."""
    network = samples.field.base
    table = network.table.detach().clone().requires_grad_()
    slope = torch.randn(len(samples.points), network.grid.output_dim, device=table.device)
    usable = {each.backend for each in availability("hash_grid", table.device) if each.usable}

    def both(backend: Backend) -> None:
        encoded = encode(samples.points, table, network.grid, samples.spreads, backend)
        torch.autograd.grad(encoded, table, slope)

    names: tuple[Backend, ...] = ("triton", "tcnn")
    return {name: 1e3 * len(slope) / _called(lambda name=name: both(name)) for name in names if name in usable}


def _called(run: Callable[[], object]) -> float:
    """Milliseconds where Python calls each kernel: not everything that is compared can be recorded."""
    return milliseconds(run, 7, recorded=False)
