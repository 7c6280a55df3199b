"""Tensor files with changed content and matching digests, to test checks of the content."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from blocknerf.tensor_file import DATA_DIGEST, DIGEST, TensorFile


def rewrite(
    kind: TensorFile, path: Path, tensors: Mapping[str, Tensor | None] | None = None, **metadata: str | None
) -> None:
    """Rewrite a file with some tensors or metadata replaced, or removed if None; `format` may also be set."""
    old_metadata, new_tensors = kind.read(path)
    new_tensors |= tensors or {}  # type: ignore[arg-type]
    kept = {key: value for key, value in old_metadata.items() if key not in (DIGEST, DATA_DIGEST)}
    new_metadata = kept | metadata  # type: ignore[operator]
    changed_kind = replace(kind, format=new_metadata.pop("format") or kind.format)
    changed_kind.write(
        path,
        {name: value for name, value in new_tensors.items() if value is not None},
        {key: value for key, value in new_metadata.items() if value is not None},
    )
