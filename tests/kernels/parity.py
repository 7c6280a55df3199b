"""The triton backend against the reference on any device: few rays for the interpreter, many on a GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.adam import adam_step
from blocknerf.kernels.contraction import contract_to_unit_cube
from blocknerf.kernels.hash_grid import GridSpec, encode
from blocknerf.kernels.pdf_sampling import sample_pdf
from blocknerf.kernels.radiance import ColorParams, HashGridParams, grid_network, radiance
from blocknerf.kernels.ray_encoding import encode_ray_inputs
from blocknerf.kernels.ray_losses import distortion, interlevel
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.kernels.volume_rendering import composite, weights_from_density

BINS, SAMPLES = 48, 24
"""Bins of a proposal, and samples of the field."""

BOX = ((10.0, -3.0, 2.0), 20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Values and gradients of both backends, and the relative and absolute tolerance."""

    name: str
    triton: tuple[Tensor, ...]
    reference: tuple[Tensor, ...]
    tolerance: tuple[float, float]

    @property
    def errors(self) -> list[float]:
        """Return the relative difference of each tensor."""
        return [float((a.float() - b.float()).norm() / b.float().norm().clamp_min(1e-12)) for a, b in self._pairs]

    @property
    def within(self) -> bool:
        """Return whether all tensors are within the relative tolerance.

        Tensors are compared as a whole: among thousands of samples, rounding turns a few ReLUs on or off.
        """
        return all(error <= self.tolerance[0] for error in self.errors)

    @property
    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.triton, self.reference, strict=True))


def compare(name: str, device: torch.device | str, rays: int) -> Case:
    """Run one operation by both backends on the same random rays."""
    run, tolerance = OPERATIONS[name]
    triton, reference = (run(backend, partial(random, device), rays) for backend in ("triton", "torch"))
    return Case(name=name, triton=triton, reference=reference, tolerance=tolerance)


def random(device: torch.device | str, *shape: int) -> Tensor:
    """Return numbers from 0 to 1 that depend only on the shape, not on the device."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(device)


def volume_rendering(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    density, colors, sky = 5.0 * uniform(rays, SAMPLES) ** 3, uniform(rays, SAMPLES, 3), uniform(rays, 3)
    leaves = [tensor.requires_grad_() for tensor in (density, colors, sky)]
    weights, transmittance = weights_from_density(density, uniform(rays, SAMPLES + 1).cumsum(-1), backend)
    color = composite(weights, colors, sky, backend)
    loss = color.square().sum() + weights.square().sum()
    return weights.detach(), transmittance, color.detach(), *torch.autograd.grad(loss, leaves)


def pdf_sampling(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    edges, weights = uniform(rays, BINS + 1).cumsum(-1), uniform(rays, BINS) + 0.1
    return (sample_pdf(edges, weights, uniform(rays), SAMPLES, 0.01, backend),)


def ray_losses(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    edges, fine_edges = (uniform(rays, count + 1).sort(-1).values for count in (BINS, SAMPLES))
    weights, fine_weights = (uniform(rays, count) / count for count in (BINS, SAMPLES))
    leaves = [weights.requires_grad_(), fine_weights.requires_grad_()]
    # Sums over rays, so that gradients do not shrink with their number.
    interlevel_loss = rays * interlevel(fine_edges, fine_weights, edges, weights, backend)
    distortion_loss = rays * distortion(fine_edges, fine_weights, backend)
    return (
        interlevel_loss.detach(),
        distortion_loss.detach(),
        *torch.autograd.grad(interlevel_loss + distortion_loss, leaves),
    )


def contraction(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    points = (uniform(rays, 3) - 0.5) * 10.0 ** (4.0 * uniform(rays, 1))
    cube, radii = contract_to_unit_cube(points.requires_grad_(), uniform(rays), *BOX, backend=backend)
    return cube.detach(), radii, *torch.autograd.grad((cube * uniform(rays, 3)).sum(), points)


def ray_encoding(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    code = uniform(rays, 32).requires_grad_()
    row = encode_ray_inputs(uniform(rays, 3) - 0.5, code, backend)
    return row.detach(), *torch.autograd.grad((row * uniform(rays, 48)).sum(), code)


def ray_samples(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    bundle = RayBundle(origins=uniform(rays, 3), directions=uniform(rays, 3) - 0.5, pixel_radii=uniform(rays))
    edges = uniform(rays, SAMPLES + 1).sort(-1).values
    return tuple(make_ray_samples(edges, bundle, RaySpacing(near=0.5, far=2000.0, linear_until=17.0), backend))


def adam(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    parameter, exp_avg, exp_avg_sq = uniform(rays, 5) - 0.5, uniform(rays, 5) - 0.5, uniform(rays, 5)
    half_copy, gradient = parameter.half(), (uniform(rays, 5) - 0.6).clamp_min(0.0)
    step, lr = (torch.full((), number, device=parameter.device) for number in (3.0, 0.01))
    adam_step(
        parameter, gradient, exp_avg, exp_avg_sq, step=step, lr=lr, betas=(0.9, 0.99), epsilon=1e-15,
        half_copy=half_copy, backend=backend,
    )  # fmt: skip
    return parameter, gradient, exp_avg, exp_avg_sq, half_copy


GRID = GridSpec(num_levels=3, features_per_level=4, log2_hashmap_size=10, base_resolution=4, max_resolution=32)
"""Small enough for the interpreter; one level is dense."""
COARSE = GridSpec(num_levels=2, features_per_level=2, log2_hashmap_size=8, base_resolution=4, max_resolution=16)


def hash_grid(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    points, table = (
        1.2 * uniform(rays, 3) - 0.1,
        uniform(GRID.num_entries, GRID.features_per_level).half().float() - 0.5,
    )
    leaves = [points.requires_grad_(), table.requires_grad_()]
    features = encode(points, table, GRID, 0.1 * uniform(rays), backend, 2.5)
    return features.detach(), *torch.autograd.grad((features * uniform(rays, GRID.output_dim)).sum(), leaves)


def visibility_network(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    """A hash-grid MLP with a ray bias."""
    params, leaves = _part(COARSE, 16, 1, uniform)
    bias = uniform(rays, 16).requires_grad_()
    out = grid_network(params, uniform(5 * rays, 3), None, bias, backend)
    return out.detach(), *torch.autograd.grad((out * uniform(5 * rays, 1)).sum(), [*leaves, bias])


def field(backend: str, uniform: Callable[..., Tensor], rays: int) -> tuple[Tensor, ...]:
    params, leaves = _part(GRID, 32, 16, uniform)
    weights, biases = _layers((16, 32, 32, 3), uniform)
    points, bias = uniform(3 * rays, 3).requires_grad_(), uniform(rays, 32).requires_grad_()
    density, color = radiance(
        params, ColorParams(weights=weights, biases=biases), points, 0.01 * uniform(3 * rays), bias, half_extent=3.0,
        gradient_scale=uniform(3 * rays), backend=backend,
    )  # fmt: skip
    loss = (density * uniform(3 * rays)).sum() + (color * uniform(3 * rays, 3)).sum()
    return density.detach(), color.detach(), *torch.autograd.grad(loss, [points, bias, *leaves, *weights, *biases])


def _part(
    grid: GridSpec, hidden: int, outputs: int, uniform: Callable[..., Tensor]
) -> tuple[HashGridParams, list[Tensor]]:
    weights, biases = _layers((grid.output_dim, hidden, outputs), uniform)
    table = (uniform(grid.num_entries, grid.features_per_level) - 0.5).requires_grad_()
    return HashGridParams(grid=grid, table=table, weights=weights, biases=biases), [table, *weights, *biases]


def _layers(widths: tuple[int, ...], uniform: Callable[..., Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    shapes = list(zip(widths[1:], widths, strict=False))
    weights = tuple(((uniform(*shape) - 0.4) / shape[1] ** 0.5).requires_grad_() for shape in shapes)
    return weights, tuple((0.2 * uniform(width) - 0.05).requires_grad_() for width in widths[1:])


OPERATIONS: dict[str, tuple[Callable[..., tuple[Tensor, ...]], tuple[float, float]]] = {
    "volume_rendering": (volume_rendering, (1e-4, 1e-5)),
    "pdf_sampling": (pdf_sampling, (1e-4, 1e-4)),
    "ray_losses": (ray_losses, (1e-3, 1e-4)),
    "ray_encoding": (ray_encoding, (1e-4, 1e-5)),
    "ray_samples": (ray_samples, (1e-5, 1e-5)),
    "contraction": (contraction, (1e-5, 1e-6)),
    "adam": (adam, (2e-3, 1e-6)),
    "hash_grid": (hash_grid, (1e-3, 5e-3)),
    "visibility_network": (visibility_network, (2e-2, 1e-3)),
    "field": (field, (2e-2, 1e-3)),
}
"""Function and tolerance of each operation; that of Adam is for half precision."""
