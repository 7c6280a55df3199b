"""Encoding of directions in PyTorch."""

import torch
from jaxtyping import Float
from torch import Tensor

DIRECTION_FEATURES = 16


def encode_ray_inputs(
    directions: Float[Tensor, "rays 3"], code: Float[Tensor, "rays codes"]
) -> Float[Tensor, "rays row"]:
    """Return encoded directions and codes, concatenated."""
    return torch.cat([encode_directions(directions), code], dim=-1)


def encode_directions(directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 16"]:
    """Return real spherical harmonics of degrees 0 to 3 of unit directions."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack(
        [
            torch.full_like(x, 0.28209479),
            -0.48860251 * y,
            0.48860251 * z,
            -0.48860251 * x,
            1.09254843 * x * y,
            -1.09254843 * y * z,
            0.31539157 * (3.0 * zz - 1.0),
            -1.09254843 * x * z,
            0.54627421 * (xx - yy),
            -0.59004359 * y * (3.0 * xx - yy),
            2.89061144 * x * y * z,
            -0.45704579 * y * (5.0 * zz - 1.0),
            0.37317633 * z * (5.0 * zz - 3.0),
            -0.45704579 * x * (5.0 * zz - 1.0),
            1.44530572 * z * (xx - yy),
            -0.59004359 * x * (xx - 3.0 * yy),
        ],
        dim=-1,
    )
