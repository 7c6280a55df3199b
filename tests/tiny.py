"""A tiny draft preset, small overlaps and few fit steps, so that training, matching and evaluation take a second."""

from collections.abc import Callable
from functools import partial

from blocknerf.city import overlaps
from blocknerf.fields import spec
from blocknerf.fields.occupancy import extract_occupancy
from blocknerf.rendering.appearance_fit import optimize_code
from blocknerf.training import config
from pipelines import block_training
from pipelines import evaluate as evaluate_job
from pipelines import train as train_job

FIELD = {
    "num_levels": 3, "log2_hashmap_size": 10, "base_resolution": 4, "max_resolution": 32, "hidden_dim": 16,
    "appearance_dim": 4, "proposal_num_levels": 2, "proposal_log2_hashmap_size": 8, "proposal_max_resolution": 32,
    "visibility_log2_hashmap_size": 7, "visibility_max_resolution": 16, "num_proposal_samples": 12, "num_samples": 8,
}  # fmt: skip
RAYS = 64


def shrink_draft(patch: Callable[[object, str, object], None]) -> None:
    """Make the draft preset tiny, with `monkeypatch.setattr` in a test or `setattr` in a process of its own."""
    patch(spec, "_PRESETS", {**spec._PRESETS, "draft": FIELD})
    patch(config, "RAYS_PER_STEP", {**config.RAYS_PER_STEP, "draft": RAYS})
    patch(train_job, "max_parallel_blocks", lambda *sizes: 1)  # other processes would use the unpatched preset
    patch(block_training, "extract_occupancy", partial(extract_occupancy, resolution=8))


def shrink_overlaps(patch: Callable[[object, str, object], None]) -> None:
    """Match blocks in few small views, and at all overlaps, however poorly they were visible in training."""
    for name, value in (("VIEW_SIDE", 10), ("CANDIDATES", 4), ("VIEWS", 2), ("MIN_SHARED_VISIBILITY", -1.0)):
        patch(overlaps, name, value)


def shrink_fits(patch: Callable[[object, str, object], None]) -> None:
    """Fit the appearance codes of evaluation images in few steps, which is enough for fields of this size."""
    patch(evaluate_job, "optimize_code", partial(optimize_code, steps=4))
