"""Fixed encodings of directions and exposures in PyTorch."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

DIRECTION_FEATURES = 16
EXPOSURE_LEVELS = 4
EXPOSURE_FEATURES = 2 * EXPOSURE_LEVELS
EXPOSURE_STOPS = 8.0
"""Stops above and below the reference exposure that the encoding maps to distinct values."""


def encode_ray_inputs(
    directions: Float[Tensor, "rays 3"],
    code: Float[Tensor, "rays codes"],
    exposure: Float[Tensor, "rays"],
    reference_exposure: float,
) -> Float[Tensor, "rays row"]:
    """Return the three encodings, concatenated."""
    return torch.cat([encode_directions(directions), code, encode_exposure(exposure, reference_exposure)], dim=-1)


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


def encode_exposure(exposure: Float[Tensor, "rays"], reference_exposure: float) -> Float[Tensor, "rays 8"]:
    """Return sines and cosines of the exposure at 4 octaves (Tancik et al. 2022, section 4.2.3).

    The paper encodes exposure / 1000. Captures record exposure in many units, so here it is measured in stops from a
    reference that is stored with the field, scaled so that +-8 stops stay distinct.
    """
    stops = torch.log2(exposure.clamp_min(1e-12) / reference_exposure) / EXPOSURE_STOPS
    octaves = math.pi * 2.0 ** torch.arange(EXPOSURE_LEVELS, device=exposure.device, dtype=exposure.dtype)
    angles = stops.clamp(-1.0, 1.0)[:, None] * octaves
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
