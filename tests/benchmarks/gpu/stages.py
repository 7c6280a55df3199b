"""Time of each stage of a training step on real samples, as a fraction of its hardware limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from blocknerf.fields.block_field import BlockField
from blocknerf.kernels.adam import adam_step
from blocknerf.kernels.backends import Backend, availability
from blocknerf.kernels.hash_grid import encode
from blocknerf.kernels.hash_grid import triton_impl as grid_impl
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING, sample_pdf
from blocknerf.kernels.radiance import torch_impl, triton_impl
from blocknerf.kernels.ray_encoding import encode_ray_inputs
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.kernels.volume_rendering import composite, weights_from_density
from blocknerf.rendering.rays import ray_spacing
from blocknerf.sampling import sample_proposals, uniform_bins
from blocknerf.training.trainer import Trainer
from tests.benchmarks.gpu.ceilings import Ceilings, milliseconds

STAGE_RAYS = 1 << 16
"""Enough rays to fill the GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage, its time, and the minimum time by its hardware limit."""

    name: str
    milliseconds: float
    min_milliseconds: float

    @property
    def fraction_of_ceiling(self) -> float:
        return self.min_milliseconds / self.milliseconds


class Samples:
    """Kernel inputs of a training step of a trained block."""

    def __init__(self, trainer: Trainer, rays: int) -> None:
        field = self.field = cast(BlockField, trainer.field)
        generator = torch.Generator(field.origin.device).manual_seed(7)
        batch = trainer.pixels.batch(0, rays, 0, generator)
        self.bundle = trainer.pixels.cameras.rays(batch.frames, batch.pixels, trainer.pixels.distortion_info).detach()
        with torch.no_grad():
            field_samples, _ = sample_proposals(
                field.proposal_density_fns, self.bundle, ray_spacing(field), field.num_samples, generator=generator
            )
            proposal_edges = uniform_bins(rays, field.spec.num_proposal_samples, generator, field.origin.device)
            proposal_samples = make_ray_samples(proposal_edges, self.bundle, ray_spacing(field))
            self.points, self.stds = field.contract_to_unit_cube(field_samples.points, field_samples.radii)
            self.proposal_points, self.proposal_stds = field.contract_to_unit_cube(
                proposal_samples.points, proposal_samples.radii
            )
            ray_inputs = encode_ray_inputs(self.bundle.directions, field.appearance_codes[batch.frames])
            self.ray_bias = cast(nn.Linear, field.color_head.ray_layer)(ray_inputs)
        self.edges, self.coarse_edges, self.distances = field_samples.s_edges, proposal_edges, field_samples.t_edges
        self.gradient_scale = torch.ones_like(self.stds)


class Kernels:
    """The kernels of a step, ready to run. Launch shapes of the two launchers may be changed between runs."""

    def __init__(self, samples: Samples) -> None:
        field, spec = samples.field, samples.field.spec
        count, num_proposals = len(samples.points), len(samples.proposal_points)
        field_launcher = self.field_launcher = triton_impl._Launcher(
            field.base.layers, color_hidden=spec.hidden_dim, scale=1.0
        )
        proposal_launcher = self.proposal_launcher = triton_impl._Launcher(field.proposals[0].layers)
        layers, proposal_layers = triton_impl._layers(field.base.layers), triton_impl._layers(field.proposals[0].layers)
        colors = triton_impl._layers(field._color_layers)
        field_points, proposal_points = (samples.points, samples.stds), (samples.proposal_points, samples.proposal_stds)
        density, features, self.color, planes = field_launcher.forward(
            *field_points, samples.ray_bias, [*layers, *colors], True, color=True
        )
        self.density = density
        grad_density, grad_color = torch.randn_like(density), torch.randn_like(self.color)
        grad_color_hidden, _, _ = field_launcher.color_backward(
            features, samples.ray_bias, colors, self.color, grad_color
        )
        color_state = features, colors[0], grad_color_hidden, density, grad_density
        grad_planes = torch.randn(spec.num_levels, count, spec.features_per_level, device=density.device)
        proposal_outputs = proposal_launcher.forward(*proposal_points, None, proposal_layers, True, color=False)
        proposal_grad_planes = torch.randn(spec.proposal_num_levels, num_proposals, 2, device=density.device)
        self.runs: dict[str, Callable[[], object]] = {
            "proposals, forward": lambda: proposal_launcher.forward(
                *proposal_points, None, proposal_layers, True, color=False
            ),
            "field, forward to colors": lambda: field_launcher.forward(
                *field_points, samples.ray_bias, [*layers, *colors], True, color=True
            ),
            "color network, backward": lambda: field_launcher.color_backward(
                features, samples.ray_bias, colors, self.color, grad_color
            ),
            "grid network, backward": lambda: field_launcher.grid_backward(
                *field_points, None, layers, planes, None, (False, False), color_state, samples.gradient_scale
            ),
            "field, table backward": lambda: grid_impl.table_backward(
                *field_points, None, grad_planes, field.base.grid
            ),
            "proposals, backward": lambda: proposal_launcher.grid_backward(
                *proposal_points, None, proposal_layers, proposal_outputs[3], proposal_outputs[0], (False, False)
            ),
            "proposals, table backward": lambda: grid_impl.table_backward(
                *proposal_points, None, proposal_grad_planes, field.proposals[0].grid
            ),
        }


def stages(samples: Samples, ceilings: Ceilings, small_ceilings: Ceilings) -> list[Stage]:
    """Time every significant stage of a step. `small_ceilings` are those of the proposal table."""
    field, spec = samples.field, samples.field.spec
    count, num_proposals = len(samples.points), len(samples.proposal_points)
    kernels = Kernels(samples)
    density, color = kernels.density, kernels.color
    table = field.base.table.detach().clone()
    moments, half = [torch.rand_like(table) for _ in range(3)], table.half()
    step, lr = (torch.full((), 5.0, device=table.device) for _ in range(2))
    reads, small_reads = 8 * spec.num_levels, 8 * spec.proposal_num_levels
    bins = spec.num_proposal_samples
    weights = torch.rand(len(samples.ray_bias), bins, device=table.device)
    jitter = torch.rand(len(samples.ray_bias), device=table.device)
    shape = density.view(len(samples.ray_bias), -1)
    limits = {
        "proposals, forward": num_proposals * small_reads / small_ceilings.gather,
        "field, forward to colors": count * reads / ceilings.gather,
        # Reads features, colors and their gradients; writes gradients of the first layer.
        "color network, backward": count * (32 + 24 + 2 * spec.hidden_dim) / ceilings.copy,
        # Reads encoded features, features, gradients, density and its gradient, scale; writes encoded gradients.
        "grid network, backward": count * (64 + 32 + 2 * spec.hidden_dim + 12 + 128) / ceilings.copy,
        "field, table backward": count * reads / ceilings.scatter + table.numel() * 4 / ceilings.copy,
        "proposals, backward": num_proposals * (20 + 4 + 40) / ceilings.copy,
        "proposals, table backward": num_proposals * small_reads / small_ceilings.scatter,
    }
    timed = {name: (run, 1e3 * limits[name]) for name, run in kernels.runs.items()} | {
        "Adam over the table": (
            lambda: adam_step(
                table.view(-1), moments[0].view(-1), moments[1].view(-1), moments[2].view(-1), step=step, lr=lr,
                betas=(0.9, 0.99), epsilon=1e-15, half_copy=half.view(-1),
            ),
            1e3 * table.numel() * (16 + 12 + 2) / ceilings.copy,
        ),
        "volume rendering": (
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
    return [
        Stage(name=name, milliseconds=milliseconds(run), min_milliseconds=limit) for name, (run, limit) in timed.items()
    ]


def against_pytorch(samples: Samples, methods: Sequence[str]) -> dict[str, float]:
    """Return samples/s of the field, forward and backward, in triton and by other methods: PyTorch, torch.compile."""
    field = samples.field
    leaves = [field.base.table, *triton_impl._layers(field.base.layers), *triton_impl._layers(field._color_layers)]
    for leaf in leaves:
        leaf.requires_grad_()

    def layers(points: Tensor, stds: Tensor, ray_bias: Tensor) -> Tensor:
        arguments = field.base.layers, field._color_layers, points, stds, ray_bias, field.spec.half_extent, None
        density, color = torch_impl.radiance(*arguments, "torch")
        return density.mean() + color.mean()

    def kernels(points: Tensor, stds: Tensor, ray_bias: Tensor) -> Tensor:
        density, color = triton_impl.radiance(
            field.base.layers, field._color_layers, points, stds, ray_bias, field.spec.half_extent, None, "triton"
        )
        return density.mean() + color.mean()

    functions: dict[str, Callable[..., Tensor]] = {"triton": kernels}
    if "PyTorch" in methods:
        functions["PyTorch"] = layers
    if "torch.compile" in methods:
        functions["torch.compile"] = torch.compile(layers)
    arguments = samples.points, samples.stds, samples.ray_bias

    def forward_backward(function: Callable[..., Tensor]) -> None:
        torch.autograd.grad(function(*arguments), leaves)

    return {
        name: 1e3 * len(samples.points) / _time_uncaptured(lambda function=function: forward_backward(function))
        for name, function in functions.items()
    }


def against_tiny_cuda_nn(samples: Samples) -> dict[str, float]:
    """Return samples/s of the hash grid alone, forward and backward, also by tiny-cuda-nn if it is installed."""
    network = samples.field.base
    table = network.table.detach().clone().requires_grad_()
    output_gradient = torch.randn(len(samples.points), network.grid.output_dim, device=table.device)
    usable_backends = {record.backend for record in availability("hash_grid", table.device) if record.usable}

    def forward_backward(backend: Backend) -> None:
        encoded = encode(samples.points, table, network.grid, samples.stds, backend)
        torch.autograd.grad(encoded, table, output_gradient)

    names: tuple[Backend, ...] = ("triton", "tcnn")
    return {
        name: 1e3 * len(output_gradient) / _time_uncaptured(lambda name=name: forward_backward(name))
        for name in names
        if name in usable_backends
    }


def _time_uncaptured(run: Callable[[], object]) -> float:
    """Return milliseconds without a CUDA graph: not every method can be captured."""
    return milliseconds(run, 7, capture=False)
