"""Placement by grid: discs on a hexagonal lattice over the ground that the cameras see."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.partition.radius import check_count

DEFAULT_BLOCKS = 4
FRAMES_PER_BLOCK = 100
"""A large flight gets a block for every so many photographs; each sees a wide area, so fewer than on a street."""
MIN_FRAMES = 10
COVER_RADIUS = 0.85
"""Every part of the footprint stays within this many radii of an origin when discs at its rim are left out."""
RELAXATIONS = 10
SEARCHES = 7
"""Bisections of the search for a radius: it is then good to two per cent."""


def place_grid(footprint: Float[Tensor, "cells 2"], radius: float) -> Float[Tensor, "blocks 2"]:
    """Origins from a hexagonal lattice one radius apart (50 % overlap) that cover the footprint with fewest discs.

    The lattice is turned along the footprint's main axis and tried at several offsets; discs at the rim are
    dropped while every cell stays within `COVER_RADIUS` radii of an origin, and those left move toward the middle of
    the ground that they serve. They are ordered along the main axis.

    Raises:
        PlacementError: the radius is so small that the lattice would be enormous.
    """
    # Sorted, so that neither the order of the positions nor rounding in their sums decides between equal lattices.
    footprint = torch.unique(footprint, dim=0)
    axes = _main_axes(footprint)
    local = footprint @ axes
    steps = 4 if _lattice_size(local, radius) < 200 else 2
    shifts = [(x / steps, y / steps) for x in range(steps) for y in range(steps)]
    planes = (local, local.flip(-1))
    tries = [
        (_drop_redundant(_occupied_sites(plane, radius, shift), plane, radius), plane)
        for plane in planes
        for shift in shifts
    ]
    sites, plane = min(tries, key=lambda trial: (len(trial[0]), float(_nearest(trial[1], trial[0]).square().mean())))
    sites = _lloyd(sites if plane is local else sites.flip(-1), local, radius)
    # Rows of the lattice first, so that the order does not hang on rounding.
    rows = (sites[:, 0] / (0.1 * radius)).round() * 1e6 + sites[:, 1] / radius
    return sites[rows.argsort()] @ axes.T


def default_radius(footprint: Float[Tensor, "cells 2"], frames: int) -> float:
    """The smallest radius that covers the footprint with about as many blocks as its frames call for."""
    wanted = max(1, min(max(DEFAULT_BLOCKS, frames // FRAMES_PER_BLOCK), frames // MIN_FRAMES))
    size = max(float((footprint.amax(0) - footprint.amin(0)).norm()), 1e-6)
    # At the smaller bound the discs have too little area to cover a square of that diagonal.
    low, high = size / (4 * math.sqrt(wanted)), size
    for _ in range(SEARCHES):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if len(place_grid(footprint, middle)) <= wanted else (middle, high)
    return high


def _lattice_size(plane: Tensor, radius: float) -> float:
    span = (plane.amax(0) - plane.amin(0)) / radius + 2
    count = float(span.prod()) * 2 / math.sqrt(3)
    check_count(count, radius)
    return count


def _occupied_sites(plane: Tensor, radius: float, offset: tuple[float, float]) -> Tensor:
    """Lattice sites that are the nearest to some position, busiest last."""
    row = radius * math.sqrt(3) / 2
    low, high = plane.amin(0) - radius, plane.amax(0) + radius
    rows = torch.arange(math.ceil(float(high[1] - low[1]) / row) + 1)
    columns = torch.arange(math.ceil(float(high[0] - low[0]) / radius) + 1)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    sites = torch.stack([(x + (y % 2) / 2 + offset[0] - 0.5) * radius, (y + offset[1] - 0.5) * row], -1)
    sites = sites.reshape(-1, 2).to(plane) + low
    nearest, counts = torch.unique(_distances(plane, sites).argmin(-1), return_counts=True)
    return sites[nearest[counts.argsort(stable=True)]]


def _drop_redundant(sites: Tensor, plane: Tensor, radius: float) -> Tensor:
    """Drop sites, least busy first, whose positions all lie within `COVER_RADIUS` of another, but part no neighbors."""
    covers = (_distances(plane, sites) <= COVER_RADIUS * radius).numpy()
    near = (_distances(sites, sites) <= 1.001 * radius).fill_diagonal_(False).numpy()
    times = covers.sum(-1)
    keep = np.ones(len(sites), bool)
    for i in range(len(sites)):
        around = (near[i] & keep).nonzero()[0]
        # On a hexagonal lattice the kept neighbors stay connected if they are one arc of the ring of six.
        one_arc = near[np.ix_(around, around)].sum() // 2 >= len(around) - 1
        if one_arc and (times[covers[:, i]] > 1).all():
            keep[i] = False
            times -= covers[:, i]
    return sites[torch.from_numpy(keep)]


def _lloyd(sites: Tensor, plane: Tensor, radius: float) -> Tensor:
    """Sites moved to the means of the positions nearest to them, unless that would break cover or overlap."""
    moved = sites
    for _ in range(RELAXATIONS):
        nearest = _distances(plane, moved).argmin(-1)
        total = torch.zeros_like(moved).index_add_(0, nearest, plane)
        counts = torch.bincount(nearest, minlength=len(moved))[:, None]
        moved = torch.where(counts > 0, total / counts.clamp_min(1), moved)
    between = _distances(moved, moved).fill_diagonal_(math.inf).amin(-1)
    covering = float(_nearest(plane, moved).max()) <= COVER_RADIUS * radius
    overlapping = len(sites) == 1 or bool(((between <= radius) & (between >= 0.5 * radius)).all())
    return moved if covering and overlapping else sites


def _nearest(plane: Tensor, sites: Tensor) -> Float[Tensor, "cells"]:
    return _distances(plane, sites).amin(-1)


def _distances(first: Tensor, second: Tensor) -> Float[Tensor, "first second"]:
    """Distances in plan, exact where `torch.cdist` rounds; in NumPy, whose small arrays wait for no threads."""
    offset = first.numpy()[:, None] - second.numpy()
    return torch.from_numpy(np.sqrt(np.square(offset[..., 0]) + np.square(offset[..., 1])))


def _main_axes(footprint: Tensor) -> Float[Tensor, "2 2"]:
    """Orthonormal columns, the first along the footprint's longest direction."""
    centered = (footprint - footprint.mean(0)).double()
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    return vectors.flip(-1).to(footprint)
