"""What compiled functions may assume of numbers, and where what was compiled is kept."""

import hashlib
import os
import sys
from pathlib import Path

FASTMATH = {"contract", "reassoc", "nsz", "arcp", "afn"}
"""Everything but assumptions that NaN and infinity never happen: training has to notice them."""
FASTMATH_ORDERED = {"contract", "nsz", "arcp"}
"""The same, but sums keep their order, and nothing is approximated."""

COMPILED_PACKAGES = ("kernels", "town")
"""Folders whose functions are compiled."""


def configure_numba_cache(package: Path = Path(__file__).parent) -> Path:
    """Keep what Numba compiles in a folder of its own for each state of the sources, and give it.

    Numba compiles a function anew where the file that it stands in has changed, but not where one has whose
    functions it calls: after an update it would run old machine code. The folder lies in NUMBA_CACHE_DIR where that
    is set, else in the package; where it cannot be written, Numba takes its own. Call it before Numba looks for
    what it has compiled.
    """
    digest = hashlib.sha256()
    for path in sorted(file for folder in COMPILED_PACKAGES for file in (package / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    name = f"blocknerf-{digest.hexdigest()[:16]}"
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or package / "__pycache__")
    # A process that was started by another finds the folder set already.
    folder = base if base.name == name else base / name
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder
