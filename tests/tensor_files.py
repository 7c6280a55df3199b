"""Tensor files of other content, with digests that match it: for what is refused for its content."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from blocknerf.tensor_file import DATA_DIGEST, DIGEST, TensorFile


def rewrite(
    kind: TensorFile, path: Path, tensors: Mapping[str, Tensor | None] | None = None, **metadata: str | None
) -> None:
    """Write a file again with some tensors or metadata replaced, or removed where None; `format` may be given, too."""
    held, found = kind.read(path)[1], kind.read(path)[0]
    held |= tensors or {}  # type: ignore[operator]
    found = {key: value for key, value in found.items() if key not in (DIGEST, DATA_DIGEST)} | metadata  # type: ignore[operator]
    other = replace(kind, format=found.pop("format") or kind.format)
    other.write(
        path,
        {name: value for name, value in held.items() if value is not None},
        {key: value for key, value in found.items() if value is not None},
    )
