"""Occlusion of regions: a region that is left out has no visible point."""

import pytest
import torch

from blocknerf.training.depth_buffer import DepthBuffer

SIZE = torch.tensor([90.0, 70.0])


@pytest.mark.parametrize("count", [0, 20, 2000])
def test_regions_left_out_have_no_visible_point(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    buffer = DepthBuffer(width=90, height=70, focal=torch.tensor(60.0), spacing=0.5)
    buffer.write(torch.rand(count, 2, generator=generator) * SIZE, 4 + 4 * torch.rand(count, generator=generator))
    centers = torch.rand(500, 2, generator=generator) * SIZE
    reach, z_depth = 30 * torch.rand(500, generator=generator), 20 * torch.rand(500, generator=generator)
    kept = buffer.may_be_visible(centers, reach, z_depth)
    # Without occluders nothing is left out; with many, some of what is behind them is.
    assert (int(kept.sum()) < 400) == (count == 2000)
    for _ in range(50):
        offsets = torch.rand(500, 2, generator=generator) - 0.5
        points = centers + offsets / offsets.norm(dim=-1, keepdim=True) * reach[:, None]
        inside = ((points >= 0) & (points < SIZE)).all(-1)
        visible = buffer.is_visible(points[inside], z_depth[inside])
        assert bool(kept[inside][visible].all())


def test_written_points_are_visible_unless_one_is_in_front() -> None:
    buffer = DepthBuffer(width=90, height=70, focal=torch.tensor(60.0), spacing=0.01)
    pixels, z_depth = torch.tensor([[10.5, 9.5], [10.6, 9.6], [80.0, 9.5]]), torch.tensor([3.0, 5.0, 5.0])
    buffer.write(pixels, z_depth)
    assert buffer.is_visible(pixels, z_depth).tolist() == [True, False, True]
