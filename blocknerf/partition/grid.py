"""Placement by grid: discs on a hexagonal lattice over the ground that the cameras see."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.errors import PlacementError

DEFAULT_BLOCKS = 4
FRAMES_PER_BLOCK = 100
"""A large flight gets a block for every so many photographs; each sees a wide area, so fewer than on a street."""
FEWEST_FRAMES = 10
REACH = 0.85
"""Every part of the footprint stays within this many radii of an origin when discs at its rim are left out."""
MOST_BLOCKS = 20_000
RELAXATIONS = 10
SHRINK = 0.96
"""Step of the search for a radius."""


def place_grid(footprint: Float[Tensor, "cells 2"], radius: float) -> Float[Tensor, "blocks 2"]:
    """Origins from a hexagonal lattice one radius apart (50 % overlap) that cover the footprint with fewest discs.

    The lattice is turned along the footprint's main axis and tried at several offsets; discs at the rim are
    dropped while every cell stays within `REACH` radii of an origin, and those left move toward the middle of
    the ground that they serve. They are ordered along the main axis.

    Raises:
        PlacementError: the radius is so small that the lattice would be enormous.
    """
    axes = _main_axes(footprint)
    local = footprint @ axes
    steps = 6 if _lattice_size(local, radius) < 200 else 2
    best: tuple[tuple[int, float], Tensor] | None = None
    for turned in (False, True):
        plane = local.flip(-1) if turned else local
        for shift in range(steps * steps):
            sites = _prune(_occupied(plane, radius, (shift % steps / steps, shift // steps / steps)), plane, radius)
            score = (len(sites), float(torch.cdist(plane, sites).amin(-1).square().mean()))
            if best is None or score < best[0]:
                best = score, (sites.flip(-1) if turned else sites)
    assert best is not None
    sites = best[1] @ axes.T
    sites = _relax(sites, footprint, radius)
    return sites[(sites @ axes[:, 0]).argsort()]


def default_radius(footprint: Float[Tensor, "cells 2"], frames: int) -> float:
    """The smallest radius that covers the footprint with about as many blocks as its frames call for."""
    wanted = max(1, min(max(DEFAULT_BLOCKS, frames // FRAMES_PER_BLOCK), frames // FEWEST_FRAMES))
    radius = max(float((footprint.amax(0) - footprint.amin(0)).norm()), 1e-6) / 1.2
    count = len(place_grid(footprint, radius))
    while count < wanted:
        radius *= SHRINK
        count = len(place_grid(footprint, radius))
    # The same number of smaller discs covers it as well, and resolves it better.
    while len(place_grid(footprint, radius * SHRINK)) <= count:
        radius *= SHRINK
    return radius


def _lattice_size(plane: Tensor, radius: float) -> float:
    span = (plane.amax(0) - plane.amin(0)) / radius + 2
    count = float(span.prod()) * 2 / math.sqrt(3)
    if count > MOST_BLOCKS:
        raise PlacementError(f"placement: radius {radius:g} asks for about {count:.0f} blocks; give a larger --radius")
    return count


def _occupied(plane: Tensor, radius: float, offset: tuple[float, float]) -> Tensor:
    """Lattice sites that are the nearest to some position, busiest last."""
    row = radius * math.sqrt(3) / 2
    low, high = plane.amin(0) - radius, plane.amax(0) + radius
    rows = torch.arange(math.ceil(float(high[1] - low[1]) / row) + 1)
    columns = torch.arange(math.ceil(float(high[0] - low[0]) / radius) + 1)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    sites = torch.stack([(x + (y % 2) / 2 + offset[0] - 0.5) * radius, (y + offset[1] - 0.5) * row], -1)
    sites = sites.reshape(-1, 2).to(plane) + low
    nearest, counts = torch.unique(torch.cdist(plane, sites).argmin(-1), return_counts=True)
    return sites[nearest[counts.argsort(stable=True)]]


def _prune(sites: Tensor, plane: Tensor, radius: float) -> Tensor:
    """Drop sites, least busy first, whose positions all lie within `REACH` of another."""
    covers = torch.cdist(plane, sites) <= REACH * radius
    times = covers.sum(-1)
    keep = torch.ones(len(sites), dtype=torch.bool)
    for i in range(len(sites)):
        if bool((times[covers[:, i]] > 1).all()):
            keep[i] = False
            times -= covers[:, i].long()
    return sites[keep]


def _relax(sites: Tensor, plane: Tensor, radius: float) -> Tensor:
    """Sites moved to the means of the positions nearest to them, unless that would break cover or overlap."""
    moved = sites
    for _ in range(RELAXATIONS):
        nearest = torch.cdist(plane, moved).argmin(-1)
        total = torch.zeros_like(moved).index_add_(0, nearest, plane)
        counts = torch.bincount(nearest, minlength=len(moved))[:, None]
        moved = torch.where(counts > 0, total / counts.clamp_min(1), moved)
    between = torch.cdist(moved, moved).fill_diagonal_(math.inf).amin(-1)
    covering = float(torch.cdist(plane, moved).amin(-1).max()) <= REACH * radius
    overlapping = len(sites) == 1 or bool(((between <= radius) & (between >= 0.5 * radius)).all())
    return moved if covering and overlapping else sites


def _main_axes(footprint: Tensor) -> Float[Tensor, "2 2"]:
    """Orthonormal columns, the first along the footprint's longest direction."""
    centered = (footprint - footprint.mean(0)).double()
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    return vectors.flip(-1).to(footprint)
