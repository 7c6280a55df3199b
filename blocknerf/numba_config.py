"""Floating-point flags and cache folder of Numba."""

import hashlib
import os
import sys
from pathlib import Path

FASTMATH = {"contract", "reassoc", "nsz", "arcp", "afn"}
"""All fastmath flags but `nnan` and `ninf`, since training must detect NaN and infinity."""
FASTMATH_ORDERED = {"contract", "nsz", "arcp"}
"""The same without reordering of sums and without approximate functions."""

COMPILED_PACKAGES = ("kernels", "town")
"""Folders with compiled functions."""


def configure_numba_cache(package: Path = Path(__file__).parent) -> Path:
    """Set a separate Numba cache folder for each state of the sources, and return it.

    Numba recompiles a function if its own file has changed, but not if a file with functions that it calls has: after
    an update, it would run old machine code. The folder is inside NUMBA_CACHE_DIR if set, else inside the package; if
    it is not writable, Numba uses its default. Call this before Numba looks up compiled functions.
    """
    digest = hashlib.sha256()
    for path in sorted(file for folder in COMPILED_PACKAGES for file in (package / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    name = f"blocknerf-{digest.hexdigest()[:16]}"
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or package / "__pycache__")
    # A child process finds the folder already set.
    folder = base if base.name == name else base / name
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder
