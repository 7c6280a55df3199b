"""The lower limit of sample footprints, in plain PyTorch, for any device and floating type."""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def raise_std(
    std: Float[Tensor, "points"], cube: Float[Tensor, "points 3"], min_std: Float[Tensor, "side side side"]
) -> Float[Tensor, "points"]:
    """Return standard deviations of samples, raised to the limit at their positions in the unit cube.

    The limit is interpolated between the centers of the cells of `min_std`, and constant beyond the outermost centers.
    """
    positions = (2.0 * cube.detach() - 1.0).flip(-1).view(1, 1, 1, -1, 3)
    limit = torch.nn.functional.grid_sample(
        min_std[None, None].to(cube.dtype), positions, padding_mode="border", align_corners=False
    )
    return torch.maximum(std, limit.view(-1))
