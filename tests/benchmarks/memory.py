"""Peak memory of training, for few and many images: `python -m tests.benchmarks.memory`.

Blocks of 40 and 400 images (1500x1000, 4.3 MiB each) are trained for a few steps by the train job, each in its own
process, with an image cache for about a hundred images. The peak must stay within the cache plus the job's reserve.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTS, STEPS, CACHE = (40, 400), 8, 0.5
"""Images, training steps, and GiB."""
WIDTH, HEIGHT = 1500, 1000


def write_run(path: Path, count: int) -> None:
    """Write a run of one block: cameras along a line, all images hard links to one file."""
    import numpy as np

    from blocknerf.capture.capture import Capture
    from blocknerf.capture.capture_file import write_capture
    from blocknerf.capture.frame import Frame, Intrinsics
    from blocknerf.city.manifest import City, write_city
    from blocknerf.city.run_folder import RunFolder
    from blocknerf.city.training_images import write_block_frames
    from blocknerf.images import write_image
    from blocknerf.partitioning.block import Block
    from blocknerf.partitioning.frame_assignment import FrameAssignment

    folder, lens = RunFolder(path), Intrinsics(width=WIDTH, height=HEIGHT, fx=1e3, fy=1e3, cx=750.0, cy=500.0)
    coarse = np.random.default_rng(0).integers(0, 256, (HEIGHT // 50, WIDTH // 50, 3), np.uint8)
    write_image(path / "images" / "0.jpg", coarse.repeat(50, 0).repeat(50, 1))
    for i in range(1, count):
        os.link(path / "images" / "0.jpg", path / "images" / f"{i}.jpg")
    frames = tuple(
        Frame(
            name=f"{i}.jpg", image=f"{i}.jpg", intrinsics=lens, segment="segment", camera="front",
            camera_to_world=((1.0, 0.0, 0.0, 0.1 * i), (0.0, 0.0, 1.0, 0.0), (0.0, -1.0, 0.0, 1.5)),
        )
        for i in range(count)
    )  # fmt: skip
    capture = Capture(image_dir=path / "images", frames=frames, is_metric=True, source="benchmark")
    block = Block(name="b000", origin=(0.05 * count, 0.0, 1.5), radius=20.0)
    write_capture(capture, folder.capture)
    city = City(blocks=(block,))
    write_city(city, folder.city)
    members = FrameAssignment(block="b000", frames=tuple(range(count)), reasons=("position",) * count)
    write_block_frames(folder, [members], capture, city)


def measure(count: int) -> None:
    """Train in this process, rotating cached images often, and print its peak in GiB."""
    import blocknerf.kernels.threads  # noqa: F401  # before torch: sets the wait policy of threads
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
    print(f"{'images':>12}{'GiB of pixels':>15}{'peak GiB':>10}   (budget {budget} GiB)")
    for count in COUNTS:
        completed = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.memory", str(count)], capture_output=True, check=True
        )
        peaks.append(round(float(completed.stdout.split()[-1]), 3))
        print(f"{count:>12}{count * WIDTH * HEIGHT * 3 / 2**30:>15.2f}{peaks[-1]:>10.2f}")
    passed = max(peaks) <= budget
    print(json.dumps({"benchmark": "memory", "peak_gib": peaks, "required": budget, "passed": passed}))


if __name__ == "__main__":
    measure(int(sys.argv[1])) if len(sys.argv) > 1 else main()
