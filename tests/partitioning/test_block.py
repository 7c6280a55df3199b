"""Blocks as discs in the xy-plane."""

import torch

from blocknerf.partitioning.block import Block


def test_block_contains_points_at_any_height() -> None:
    block = Block(name="b000", origin=(10.0, 0.0, 5.0), radius=2.0)
    points = torch.tensor([[10.0, 0.0, 900.0], [12.0, 0.0, 0.0], [12.1, 0.0, 0.0], [12.5, 0.0, 0.0]])
    assert block.contains(points).tolist() == [True, True, False, False]
    assert block.contains(points, margin=0.1).tolist() == [True, True, True, False]
