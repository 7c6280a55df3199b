"""Search by discs, against comparison of all pairs."""

import numpy as np
import pytest
import torch

from blocknerf.partitioning.block import Block
from blocknerf.partitioning.disc_index import PositionIndex, overlapping_discs


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    """Discs of very different sizes, some inside others."""
    generator = np.random.default_rng(0)
    origins, radii = generator.uniform(0, 300, (120, 3)), 2.0 ** generator.uniform(0, 7, 120)
    return [
        Block(name=f"b{i}", origin=tuple(origin), radius=radius)
        for i, (origin, radius) in enumerate(zip(origins.tolist(), radii.tolist(), strict=True))
    ]


@pytest.mark.parametrize("offset", [0.0, 1e5])
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_positions_inside_are_those_the_block_contains(blocks: list[Block], margin: float, offset: float) -> None:
    positions = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) * 300 + offset
    index = PositionIndex(positions)
    for block in blocks:
        moved = Block(name="a", origin=(block.origin[0] + offset, block.origin[1] + offset, 0.0), radius=block.radius)
        expected = moved.contains(positions, margin).nonzero()[:, 0]
        assert torch.equal(index.inside(moved, margin), expected)


def test_positions_on_the_rim_are_inside() -> None:
    positions = torch.tensor([[3.0, 4.0], [30.0, 40.0], [-6.0, 8.0]])
    assert PositionIndex(positions).inside(Block(name="a", origin=(0.0, 0.0, 0.0), radius=10.0)).tolist() == [0, 2]


def test_index_of_no_positions() -> None:
    index = PositionIndex(torch.zeros(0, 3))
    assert index.inside(Block(name="a", origin=(0.0, 0.0, 0.0), radius=1.0)).tolist() == []


def test_overlapping_discs_are_those_of_all_pairs(blocks: list[Block]) -> None:
    origins, radii = np.array([block.origin[:2] for block in blocks]), np.array([block.radius for block in blocks])
    distances = np.linalg.norm(origins[:, None] - origins, axis=-1)
    touch = distances < radii[:, None] + radii
    np.fill_diagonal(touch, False)
    for i, (others, between) in enumerate(overlapping_discs(blocks)):
        assert others.tolist() == np.flatnonzero(touch[i]).tolist()
        assert np.array_equal(between, distances[i, others])
