"""What a folder holds, so that tests can tell whether anything in it changed."""

import hashlib
from pathlib import Path


def tree(folder: Path) -> dict[str, str]:
    """The digest of every file below a folder, by its path from there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
