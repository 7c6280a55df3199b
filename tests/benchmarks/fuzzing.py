"""Damaged files of every kind against every reader: `python -m tests.benchmarks.fuzzing [--minutes 10]`.

The strategies are those of `tests/fuzzing`, the seeds others each time. A reader has to give a valid object or refuse
the file in one line that names it, within seconds and a bound of memory; anything else fell. Files that fell are kept,
the first of each kind, in a temporary folder that is named.
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

import blocknerf.kernels.threads  # noqa: F401  # decides how threads wait, so it comes before torch
from tests.fuzzing.judging import READERS, judged

EACH = 25
"""Files that a reader gets in a row."""
SECONDS = 10.0
"""That a reader may take for a file of a few kilobytes."""
KEPT = 5
"""Files that fell of which each reader keeps a copy."""


class Attempts:
    """One reader, and what came of the files that it was given."""

    def __init__(self, name: str, folder: Path, kept: Path) -> None:
        folder.mkdir()
        self.name, self.kept, self.count = name, kept, Counter[str]()
        self.reasons: list[str] = []
        self.subject = READERS[name](folder)
        self.expected = self.subject.read()

    def more(self, number: int) -> None:
        """Try some more files, chosen by this seed."""

        @seed(number)
        @settings(
            max_examples=EACH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(content=self.subject.contents)
        def try_one(content: bytes) -> None:
            verdict = judged(self.subject, content, self.expected, SECONDS)
            self.count[verdict.outcome] += 1
            if verdict.outcome == "fell" and len(self.reasons) < KEPT:
                copy = self.kept / f"{self.name}-{len(self.reasons)}{self.subject.path.suffix}"
                copy.write_bytes(content)
                self.reasons.append(f"{copy}: {verdict.reason}")

        try_one()


def main() -> int:
    """Print a table and one line of JSON; 1 where a reader fell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="to repeat what was tried")
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    options = parser.parse_args()
    kept = Path(tempfile.mkdtemp(prefix="fell-"))
    with tempfile.TemporaryDirectory() as scratch:
        everyone = [Attempts(name, Path(scratch) / name, kept) for name in options.readers]
        ends, number = time.monotonic() + 60.0 * options.minutes, options.seed
        while time.monotonic() < ends:
            for attempts in everyone:
                if time.monotonic() < ends:
                    attempts.more(number)
            number += 1
    return _report(everyone, options, kept)


def _report(everyone: list[Attempts], options: argparse.Namespace, kept: Path) -> int:
    total: Counter[str] = sum((attempts.count for attempts in everyone), Counter())
    print(f"{'reader':<26}{'tried':>9}{'accepted':>10}{'refused':>9}{'fell':>6}   (seed {options.seed})")
    for name, count in [*((attempts.name, attempts.count) for attempts in everyone), ("all", total)]:
        shown = [count.total(), count["accepted"], count["refused"], count["fell"]]
        print(f"{name:<26}{shown[0]:>9,}{shown[1]:>10,}{shown[2]:>9,}{shown[3]:>6,}")
    for attempts in everyone:
        for reason in attempts.reasons:
            print(reason)
    if not total["fell"]:
        shutil.rmtree(kept)
    result = {"benchmark": "fuzzing", "minutes": options.minutes, "seed": options.seed, "tried": total.total()}
    print(json.dumps({**result, **total, "passed": not total["fell"]}))
    return 1 if total["fell"] else 0


if __name__ == "__main__":
    sys.exit(main())
