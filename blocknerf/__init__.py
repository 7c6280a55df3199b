"""City-scale neural radiance fields, one block at a time.

The names below load on first use, so `import blocknerf` needs no PyTorch. The jobs (`ingest`, `partition`, `train`,
`match`, ...) are the functions behind the commands of the same names.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Block": "blocknerf.partitioning.block",
    "BlockField": "blocknerf.fields.block_field",
    "BlockNerfError": "blocknerf.errors",
    "BlendInputs": "blocknerf.city.weighting",
    "Cameras": "blocknerf.cameras",
    "Capture": "blocknerf.capture.capture",
    "City": "blocknerf.city.manifest",
    "CityRenderer": "blocknerf.city.renderer",
    "FieldSpec": "blocknerf.fields.spec",
    "Frame": "blocknerf.capture.frame",
    "Intrinsics": "blocknerf.capture.frame",
    "Run": "blocknerf.city.run",
    "RunFolder": "blocknerf.city.run_folder",
    "TrainConfig": "blocknerf.training.config",
    "Trainer": "blocknerf.training.trainer",
    "Trajectory": "blocknerf.trajectory.trajectory",
    "load_run": "blocknerf.city.run",
    "make_config": "blocknerf.training.setup",
    "make_trainer": "blocknerf.training.setup",
    "read_capture": "blocknerf.capture.capture_file",
    "to_uint8": "blocknerf.images",
    "write_capture": "blocknerf.capture.capture_file",
    "write_image": "blocknerf.images",
    **{
        name: f"pipelines.{name}"
        for name in (
            "align",
            "evaluate",
            "export",
            "ingest",
            "inspect",
            "match",
            "partition",
            "poses",
            "render",
            "report",
            "run",
            "train",
            "update",
        )
    },
}
"""Each public name with the module that defines it. `__init__.pyi` repeats them for type checkers."""

__all__ = ["__version__", *sorted(_NAMES)]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'blocknerf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
