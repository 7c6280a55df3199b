"""Kills, full disks and damaged files, against a small run of the sample town: `python -m tests.benchmarks.faults`.

50 commands are killed at random times, half of them during a write, and restarted; 13 run on a disk that fills up, and
again with free space; 150 files of every kind are damaged, and read. Each trial must end with the output of an
undisturbed run, byte for byte, or with one line that names the file. Prints the trials tried, passed and failed per
kind, and one line of JSON.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.faults import commands
from tests.benchmarks.faults.damage import damaged_files
from tests.benchmarks.faults.disks import full_disks
from tests.benchmarks.faults.kills import kills
from tests.benchmarks.faults.town import SmallTown
from tests.benchmarks.faults.verdicts import Result, table

PARTS = {"kills": (kills, 50), "disks": (full_disks, 13), "damages": (damaged_files, 150)}


def main() -> int:
    """Print a table and one line of JSON; return 1 if a trial failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (_, count) in PARTS.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    commands.load_jobs()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as scratch:
        town = SmallTown.create(Path(scratch))
        for name, (trials, _) in PARTS.items():
            for result in trials(town, getattr(options, name), random.Random(options.seed)):
                results.append(result)
                if result.fault is not None:
                    print(f"failed: {result.kind}: {result.fault}", file=sys.stderr, flush=True)
    print(table(results))
    failed = sum(result.fault is not None for result in results)
    counts = {name: getattr(options, name) for name in PARTS}
    seconds = round(time.monotonic() - start)
    print(json.dumps({"benchmark": "faults", **counts, "tried": len(results), "failed": failed, "seconds": seconds}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
