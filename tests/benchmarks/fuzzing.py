"""Fuzz every reader with mutated files: `python -m tests.benchmarks.fuzzing [--minutes 10]`.

It uses the strategies of `tests/fuzzing` with random seeds. A reader must return a valid object or raise a one-line
error that names the file, within limits of time and memory; anything else is a failure. The first failing files of
each reader are kept in a temporary folder and printed.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

import blocknerf.kernels.threads  # noqa: F401  # sets how threads wait, so it precedes torch
from tests.fuzzing.outcomes import READERS, try_reader

BATCH = 25
"""Files per reader and round."""
SECONDS = 10.0
"""Time limit of a reader for a file of a few kilobytes."""
MAX_KEPT = 5
"""Failing files to keep per reader."""


class ReaderFuzzer:
    """One target, with the outcomes so far."""

    def __init__(self, name: str, folder: Path, kept: Path) -> None:
        folder.mkdir()
        self.name, self.kept, self.count = name, kept, Counter[str]()
        self.reasons: list[str] = []
        self.target = READERS[name](folder)
        self.expected = self.target.read()

    def run(self, number: int) -> None:
        """Try a batch of files with a seed."""

        @seed(number)
        @settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(content=self.target.contents)
        def try_one(content: bytes) -> None:
            result = try_reader(self.target, content, self.expected, SECONDS)
            self.count[result.outcome] += 1
            if result.outcome == "failed" and len(self.reasons) < MAX_KEPT:
                copy = self.kept / f"{self.name}-{len(self.reasons)}{self.target.path.suffix}"
                copy.write_bytes(content)
                self.reasons.append(f"{copy}: {result.reason}")

        try_one()


def main() -> int:
    """Print a table and one line of JSON; return 1 if a reader failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="to repeat a run")
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    options = parser.parse_args()
    kept = Path(tempfile.mkdtemp(prefix="failed-"))
    with tempfile.TemporaryDirectory() as scratch:
        fuzzers = [ReaderFuzzer(name, Path(scratch) / name, kept) for name in options.readers]
        end, number = time.monotonic() + 60.0 * options.minutes, options.seed
        while time.monotonic() < end:
            for fuzzer in fuzzers:
                if time.monotonic() < end:
                    fuzzer.run(number)
            number += 1
    return _report(fuzzers, options, kept)


def _report(fuzzers: list[ReaderFuzzer], options: argparse.Namespace, kept: Path) -> int:
    total: Counter[str] = sum((fuzzer.count for fuzzer in fuzzers), Counter())
    print(f"{'reader':<26}{'tried':>9}{'accepted':>10}{'rejected':>9}{'failed':>7}   (seed {options.seed})")
    for name, count in [*((fuzzer.name, fuzzer.count) for fuzzer in fuzzers), ("all", total)]:
        counts = [count.total(), count["accepted"], count["rejected"], count["failed"]]
        print(f"{name:<26}{counts[0]:>9,}{counts[1]:>10,}{counts[2]:>9,}{counts[3]:>7,}")
    for fuzzer in fuzzers:
        for reason in fuzzer.reasons:
            print(reason)
    if not total["failed"]:
        shutil.rmtree(kept)
    result = {"benchmark": "fuzzing", "minutes": options.minutes, "seed": options.seed, "tried": total.total()}
    print(json.dumps({**result, **total, "passed": not total["failed"]}))
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
