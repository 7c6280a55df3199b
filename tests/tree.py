"""The content of a folder, to detect changes."""

import hashlib
from pathlib import Path


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file in a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
