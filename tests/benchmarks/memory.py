"""The most memory that training holds, for few and many photographs: `python -m tests.benchmarks.memory`.

Blocks of 40 and of 400 photographs (1500x1000, 4.3 MiB each) are trained for a few steps by the job itself, with an
image cache that holds a hundred of the 400; each in a process of its own. The peak has to stay within that cache and
what the job reserves besides it.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTS, STEPS, CACHE = (40, 400), 8, 0.5
"""Photographs, training steps, and GiB."""
WIDTH, HEIGHT = 1500, 1000


def write_run(path: Path, count: int) -> None:
    """A run of one block: cameras along a line, all photographs the same picture under as many names."""
    import numpy as np

    from blocknerf.capture.capture import Capture, write_capture
    from blocknerf.capture.frame import Frame, Intrinsics
    from blocknerf.city.manifest import City, write_city
    from blocknerf.city.run_folder import RunFolder
    from blocknerf.images import write_image
    from blocknerf.partition.block import Block
    from blocknerf.partition.frame_assignment import FrameAssignment, write_assignment

    folder, lens = RunFolder(path), Intrinsics(width=WIDTH, height=HEIGHT, fx=1e3, fy=1e3, cx=750.0, cy=500.0)
    coarse = np.random.default_rng(0).integers(0, 256, (HEIGHT // 50, WIDTH // 50, 3), np.uint8)
    write_image(path / "photos" / "0.jpg", coarse.repeat(50, 0).repeat(50, 1))
    for i in range(1, count):
        os.link(path / "photos" / "0.jpg", path / "photos" / f"{i}.jpg")
    frames = tuple(
        Frame(
            name=f"{i}.jpg", image=f"{i}.jpg", intrinsics=lens, segment="drive", camera="front",
            camera_to_world=((1.0, 0.0, 0.0, 0.1 * i), (0.0, 0.0, 1.0, 0.0), (0.0, -1.0, 0.0, 1.5)),
        )
        for i in range(count)
    )  # fmt: skip
    capture = Capture(image_dir=path / "photos", frames=frames, is_metric=True, source="benchmark")
    block = Block(name="b000", origin=(0.05 * count, 0.0, 1.5), radius=20.0)
    write_capture(capture, folder.capture)
    write_city(City(blocks=(block,)), folder.city)
    members = FrameAssignment(block="b000", frames=tuple(range(count)), reasons=("position",) * count)
    write_assignment(members, capture, folder.frames("b000"))


def measure(count: int) -> None:
    """Train in this process, changing photographs often, and print its peak in GiB."""
    import blocknerf.kernels.threads  # noqa: F401  # decides how threads wait, so it comes before torch
    from blocknerf.training import image_cache
    from pipelines.train import train

    image_cache.ROTATE_STEPS = 2
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), count)
        train(Path(folder), steps=STEPS, downscale=1, image_cache_gb=CACHE, jobs=1)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30)


def main() -> None:
    """Print a table and one line of JSON."""
    from pipelines.train import RESERVED_BYTES

    budget, peaks = CACHE + RESERVED_BYTES / 2**30, []
    print(f"{'photographs':>12}{'GiB of pixels':>15}{'peak GiB':>10}   (budget {budget} GiB)")
    for count in COUNTS:
        told = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.memory", str(count)], capture_output=True, check=True
        )
        peaks.append(round(float(told.stdout.split()[-1]), 3))
        print(f"{count:>12}{count * WIDTH * HEIGHT * 3 / 2**30:>15.2f}{peaks[-1]:>10.2f}")
    passed = max(peaks) <= budget
    print(json.dumps({"benchmark": "memory", "peak_gib": peaks, "required": budget, "passed": passed}))


if __name__ == "__main__":
    measure(int(sys.argv[1])) if len(sys.argv) > 1 else main()
