"""Grid placement: discs on a hexagonal lattice over the ground that the cameras see."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from blocknerf.partitioning.disc_index import PositionIndex
from blocknerf.partitioning.radius import check_count

DEFAULT_BLOCKS = 4
FRAMES_PER_BLOCK = 100
"""Large aerial captures get one block per this many images; fewer than on a street, as each sees a wide area."""
MIN_FRAMES = 10
COVER_RADIUS = 0.85
"""Maximum distance (in radii) of a ground cell to an origin after redundant discs are dropped."""
RELAXATIONS = 10
TIES = 4
"""Sites of a hexagonal lattice that may be equally near, up to rounding."""
SEARCHES = 7
"""Bisection steps of the search for a radius, which is then accurate to 2 %."""


def place_grid(ground_cells: Float[Tensor, "cells 2"], radius: float) -> Float[Tensor, "blocks 2"]:
    """Return the fewest origins of a hexagonal lattice, one radius apart (50 % overlap), that cover the ground cells.

    The lattice is aligned with the main axis of the cells and tried at several offsets. Discs are dropped while every
    cell stays within `COVER_RADIUS` radii of an origin; the remaining ones move toward the mean of their nearest cells.
    Origins are sorted along the main axis.

    Raises:
        PlacementError: the radius is too small: the lattice would be enormous.
    """
    # Sorted, so that neither the order of the positions nor rounding decides between equal lattices.
    ground_cells = torch.unique(ground_cells, dim=0)
    axes = _main_axes(ground_cells)
    local = ground_cells @ axes
    num_shifts = 4 if _lattice_size(local, radius) < 200 else 2
    shifts = [(x / num_shifts, y / num_shifts) for x in range(num_shifts) for y in range(num_shifts)]
    orientations = (_Cells(local), _Cells(local.flip(-1)))
    trials = [
        (_drop_redundant(_occupied_sites(cells.positions, radius, shift), cells, radius), cells)
        for cells in orientations
        for shift in shifts
    ]
    sites, cells = min(
        trials, key=lambda trial: (len(trial[0]), float(_nearest(trial[1].positions, trial[0])[1].square().mean()))
    )
    sites = _lloyd(sites if cells is orientations[0] else sites.flip(-1), local, radius)
    # Rounded to lattice rows first, so that the order does not depend on rounding errors.
    row_keys = (sites[:, 0] / (0.1 * radius)).round() * 1e6 + sites[:, 1] / radius
    return sites[row_keys.argsort()] @ axes.T


def default_radius(ground_cells: Float[Tensor, "cells 2"], frames: int) -> float:
    """Return the smallest radius that covers the ground cells with the number of blocks that suits the frames."""
    target = max(1, min(max(DEFAULT_BLOCKS, frames // FRAMES_PER_BLOCK), frames // MIN_FRAMES))
    size = max(float((ground_cells.amax(0) - ground_cells.amin(0)).norm()), 1e-6)
    # At the lower bound the discs have too little area to cover a square of that diagonal.
    low, high = size / (4 * math.sqrt(target)), size
    for _ in range(SEARCHES):
        radius = math.sqrt(low * high)
        low, high = (low, radius) if len(place_grid(ground_cells, radius)) <= target else (radius, high)
    return high


def _lattice_size(cells: Tensor, radius: float) -> float:
    span = (cells.amax(0) - cells.amin(0)) / radius + 2
    count = float(span.prod()) * 2 / math.sqrt(3)
    check_count(count, radius)
    return count


def _occupied_sites(cells: Tensor, radius: float, offset: tuple[float, float]) -> Tensor:
    """Return the lattice sites that are nearest to some cell, those with the most cells last."""
    row_spacing = radius * math.sqrt(3) / 2
    low, high = cells.amin(0) - radius, cells.amax(0) + radius
    rows = torch.arange(math.ceil(float(high[1] - low[1]) / row_spacing) + 1)
    columns = torch.arange(math.ceil(float(high[0] - low[0]) / radius) + 1)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    sites = torch.stack([(x + (y % 2) / 2 + offset[0] - 0.5) * radius, (y + offset[1] - 0.5) * row_spacing], -1)
    sites = sites.reshape(-1, 2).to(cells) + low
    nearest, counts = torch.unique(_nearest(cells, sites)[0], return_counts=True)
    return sites[nearest[counts.argsort(stable=True)]]


class _Cells:
    """Positions to cover, and a tree of them."""

    def __init__(self, positions: Float[Tensor, "cells 2"]) -> None:
        self.positions = positions
        self._index = PositionIndex(positions)

    def covered_by(self, site: Float[Tensor, "2"], radius: float) -> Int[np.ndarray, "covered"]:
        """Return the cells within a radius of a site."""
        near = self._index.within((float(site[0]), float(site[1])), radius)
        return near[_distances(self.positions[near], site) <= radius].numpy()


def _drop_redundant(sites: Tensor, cells: _Cells, radius: float) -> Tensor:
    """Drop sites, fewest cells first, if others within `COVER_RADIUS` cover the cells and neighbors stay connected."""
    covers = [cells.covered_by(site, COVER_RADIUS * radius) for site in sites]
    adjacent = _adjacent(sites, 1.001 * radius)
    cover_count = np.zeros(len(cells.positions), np.int64)
    for covered in covers:
        cover_count[covered] += 1
    keep = np.ones(len(sites), bool)
    for i, covered in enumerate(covers):
        neighbors = {j for j in adjacent[i] if keep[j]}
        # On a hexagonal lattice the kept neighbors stay connected if they form one arc of the ring of six.
        one_arc = sum(len(adjacent[j] & neighbors) for j in neighbors) // 2 >= len(neighbors) - 1
        if one_arc and (cover_count[covered] > 1).all():
            keep[i] = False
            cover_count[covered] -= 1
    return sites[torch.from_numpy(keep)]


def _adjacent(sites: Tensor, radius: float) -> list[set[int]]:
    """Return the sites within a radius of each site."""
    index = _Cells(sites)
    return [set(index.covered_by(site, radius).tolist()) - {i} for i, site in enumerate(sites)]


def _lloyd(sites: Tensor, cells: Tensor, radius: float) -> Tensor:
    """Return the sites moved to the means of their nearest cells, unless that breaks the cover or the overlap."""
    moved = sites
    for _ in range(RELAXATIONS):
        nearest, _ = _nearest(cells, moved)
        total = torch.zeros_like(moved).index_add_(0, nearest, cells)
        counts = torch.bincount(nearest, minlength=len(moved))[:, None]
        moved = torch.where(counts > 0, total / counts.clamp_min(1), moved)
    covers_all = float(_nearest(cells, moved)[1].max()) <= COVER_RADIUS * radius
    return moved if covers_all and _overlap(moved, radius) else sites


def _overlap(sites: Tensor, radius: float) -> bool:
    """Return whether each site is half a radius to one radius from the nearest other one."""
    if len(sites) == 1:
        return True
    others = cKDTree(sites.double().numpy()).query(sites.double().numpy(), k=2)[1]
    # The nearest of all is the site itself, or its twin.
    other = torch.from_numpy(np.where(others[:, 0] == np.arange(len(sites)), others[:, 1], others[:, 0]))
    nearest = _distances(sites, sites[other])
    return bool(((nearest <= radius) & (nearest >= 0.5 * radius)).all())


def _nearest(
    positions: Float[Tensor, "positions 2"], sites: Float[Tensor, "sites 2"]
) -> tuple[Int[Tensor, "positions"], Float[Tensor, "positions"]]:
    """Return the nearest site of each position, the first of equally near ones, and its distance."""
    count = min(TIES, len(sites))
    found = cKDTree(sites.double().numpy()).query(positions.double().numpy(), k=range(1, count + 1))[1]
    candidates = torch.from_numpy(np.sort(found, axis=-1))
    distances = _distances(positions[:, None], sites[candidates])
    nearest = distances.amin(-1)
    column = (distances == nearest[:, None]).int().argmax(-1)
    return candidates.gather(1, column[:, None])[:, 0], nearest


def _distances(first: Tensor, second: Tensor) -> Float[Tensor, "..."]:
    """Return horizontal distances of positions, elementwise with broadcasting."""
    offset = first - second
    return (offset[..., 0].square() + offset[..., 1].square()).sqrt()


def _main_axes(ground_cells: Tensor) -> Float[Tensor, "2 2"]:
    """Return orthonormal columns, the first along the longest direction of the ground cells."""
    centered = (ground_cells - ground_cells.mean(0)).double()
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    return vectors.flip(-1).to(ground_cells)
