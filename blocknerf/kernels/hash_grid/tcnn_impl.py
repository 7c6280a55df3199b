"""Hash grid by tiny-cuda-nn, if it is installed, on the same table as the other backends.

The table layout is the same, so checkpoints are interchangeable. tiny-cuda-nn does not support footprints, so features
are weighted per level afterwards. Its gradients are summed in half precision, with the loss scaled by its binding.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.hash_grid.spec import GridSpec, level_weights_on_device
from blocknerf.kernels.hash_grid.torch_impl import antialiasing


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    spec: GridSpec,
    footprints: Float[Tensor, "points"] | None,
    active_levels: float | Tensor | None,
    half: Float16[Tensor, "entries features"] | None,
) -> Float[Tensor, "points encoded"]:
    """tiny-cuda-nn version of `torch_impl.encode`, in half precision."""
    gains = level_weights_on_device(spec, active_levels, table)
    encoding = _encoding(spec, points.device)
    encoded = torch.func.functional_call(encoding, {"params": table.reshape(-1)}, (points.clamp(0.0, 1.0),))
    levels = encoded.float().view(len(points), spec.num_levels, spec.features_per_level)
    if footprints is not None:
        levels = levels * torch.stack([antialiasing(footprints, scale) for scale in spec.scales], 1)[..., None]
    return (levels if gains is None else levels * gains[:, None]).flatten(1)


@cache
def _encoding(spec: GridSpec, device: torch.device) -> Any:
    """Return the tiny-cuda-nn module of a grid. Its own parameters are never used."""
    import tinycudann

    settings = {
        "otype": "HashGrid",
        "n_levels": spec.num_levels,
        "n_features_per_level": spec.features_per_level,
        "log2_hashmap_size": spec.log2_hashmap_size,
        "base_resolution": spec.base_resolution,
        "per_level_scale": spec.per_level_scale,
        "interpolation": "Linear",
    }
    with torch.cuda.device(device) if device.type == "cuda" else torch.device(device):
        encoding = tinycudann.Encoding(n_input_dims=3, encoding_config=settings)
    if encoding.params.numel() != spec.num_entries * spec.features_per_level:
        count = encoding.params.numel()
        raise ValueError(f"hash grid: tiny-cuda-nn has {count} parameters for {spec}; use another backend")
    return encoding
