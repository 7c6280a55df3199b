"""How time and memory grow with the frames, points and blocks of a city, next to the goals.

    python -m tests.benchmarks.scale [--large]

Each measurement runs in a process of its own, on one core: CPU seconds without imports, and peak memory. `--large` adds
100,000 frames with a million points. The previous values are those before blocks were searched by k-d trees.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from blocknerf.capture.capture_file import read_capture
from blocknerf.city.manifest import read_city
from blocknerf.city.overlaps import adjacent_blocks
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import block_capture
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import FrameAssignment
from blocknerf.partitioning.report import coverage
from blocknerf.training.setup import spec_for_block
from blocknerf.training.sparse_depth import DepthCloud
from blocknerf.view_frusta import ViewFrusta
from pipelines.partition import partition
from tests.benchmarks.large_captures import write_large_capture

RADIUS = 60.0
GRID = 100
"""Blocks along each side of the synthetic city for overlaps and coverage."""


def lattice() -> list[Block]:
    origins = [((i + 0.5 * (j % 2)) * RADIUS, j * RADIUS * 3**0.5 / 2) for j in range(GRID) for i in range(GRID)]
    return [Block(name=f"b{k}", origin=(x, y, 0.0), radius=RADIUS) for k, (x, y) in enumerate(origins)]


def partition_route(capture: Path) -> int:
    return len(partition(capture.parent, placement="route", radius=RADIUS).blocks)


def open_capture(capture: Path) -> int:
    return len(read_capture(capture).cameras())


def open_block(capture: Path) -> int:
    """Open what one block trains on, after `partition_route`: all that its training reads before the first image."""
    run = RunFolder(capture.parent)
    block = read_city(run.city).blocks[len(read_city(run.city).blocks) // 2]
    part = block_capture(run, block.name)
    return len(spec_for_block(part, block, range(len(part)), "draft").frames)


def find_adjacent(capture: Path) -> int:
    return len(list(adjacent_blocks(lattice())))


def report_coverage(capture: Path) -> int:
    blocks = lattice()
    members = [FrameAssignment(block=block.name, frames=(0, 1), reasons=("position",) * 2) for block in blocks]
    return len(coverage(read_capture(capture), blocks, members).blocks)


def project_depths(capture: Path) -> int:
    """Project the points into all images, 400 pixels wide, as training does before its first step."""
    opened = read_capture(capture)
    cloud = opened.read_sparse_points()
    assert cloud is not None
    depth_cloud, frusta = DepthCloud(cloud), ViewFrusta(opened.cameras().scaled(12.5))
    return sum(len(depth_cloud.project(frusta, index).points) > 0 for index in range(len(opened)))


Size = tuple[int, int]
SMALL, MIDDLE, LARGE, LARGEST = (1000, 10**6), (10_000, 10**4), (100_000, 10**4), (100_000, 10**6)
ROWS: list[tuple[str, Callable[[Path], int], Size, str, str]] = [
    ("open the capture", open_capture, LARGE, "5.4 s", "milliseconds"),
    ("partition", partition_route, MIDDLE, "11.7 s, 358 MB", "-"),
    ("partition", partition_route, LARGE, "70.9 s, 1332 MB", "15 s, 600 MB"),
    ("open a block", open_block, LARGE, "5.4 s", "as a capture of its own"),
    ("partition", partition_route, LARGEST, "not run", "60 s, 1000 MB"),
    ("overlaps of 10,000 blocks", find_adjacent, SMALL, "230 s", "2 s"),
    ("coverage of 10,000 blocks", report_coverage, SMALL, "500 s", "2 s"),
    ("depths of 1,000 images", project_depths, SMALL, "86 s", "10 s"),
]


def measure(row: int, capture: Path) -> dict[str, float]:
    """Return the result of one row, measured in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--row", str(row), str(capture)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    result: dict[str, float] = json.loads(lines[-1])
    return result


def run_row(row: int, capture: Path) -> None:
    torch.set_num_threads(1)
    started = time.process_time()
    count = ROWS[row][1](capture)
    seconds, megabytes = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": round(seconds, 3), "megabytes": round(megabytes), "count": count}))


def main(large: bool) -> None:
    results = []
    print(f"{'':26}{'frames':>8}{'points':>9}{'s':>8}{'MB':>6}{'count':>8}   previous; goal")
    with tempfile.TemporaryDirectory() as folder:
        for row, (title, _, size, previous, goal) in enumerate(ROWS):
            if size == LARGEST and not large:
                continue
            capture = Path(folder) / f"{size[0]}_{size[1]}" / "capture.json"
            if not capture.exists():
                write_large_capture(capture.parent, *size)
            result = measure(row, capture)
            results.append({"title": title, "frames": size[0], "points": size[1], **result})
            numbers = f"{result['seconds']:8.2f}{result['megabytes']:6.0f}{result['count']:8.0f}"
            print(f"{title:26}{size[0]:8}{size[1]:9}{numbers}   {previous}; {goal}", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        run_row(int(options.row[0]), Path(options.row[1]))
    else:
        main(options.large)
