"""A tiny field."""

from collections.abc import Callable

import pytest
import torch

from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec

TINY = {
    "num_levels": 3, "log2_hashmap_size": 10, "base_resolution": 4, "max_resolution": 32, "hidden_dim": 16,
    "appearance_dim": 8, "proposal_num_levels": 2, "proposal_log2_hashmap_size": 10, "proposal_max_resolution": 32,
    "visibility_log2_hashmap_size": 10, "visibility_max_resolution": 32, "num_proposal_samples": 12, "num_samples": 8,
}  # fmt: skip


def make_spec(**changes: object) -> FieldSpec:
    """Return a tiny spec of a block at (10, -20, 2) with a half extent of 5 m."""
    placement = {"origin": (10.0, -20.0, 2.0), "half_extent": 5.0, "near": 0.1, "far": 500.0}
    content = {"frames": ("a.png", "b.png", "c.png"), "exposure_reference": 0.01, **placement, **TINY, **changes}
    return FieldSpec(**content)


def make_field(seed: int = 0, **changes: object) -> BlockField:
    """Return a tiny field with large table entries, so that no output is trivial."""
    torch.manual_seed(seed)
    field = BlockField(make_spec(**changes))
    with torch.no_grad():
        for name, value in field.named_parameters():
            if name.endswith("table"):
                value.uniform_(-1.0, 1.0)
        field.appearance_codes.normal_()
    return field


@pytest.fixture(scope="session")
def tiny_spec() -> Callable[..., FieldSpec]:
    return make_spec


@pytest.fixture(scope="session")
def tiny_field() -> Callable[..., BlockField]:
    return make_field
