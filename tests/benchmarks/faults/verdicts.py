"""Results of trials, by kind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One trial."""

    kind: str
    fault: str | None
    """The failure; None if the trial passed."""


def table(results: Sequence[Result]) -> str:
    """Return a table of trials tried, passed and failed per kind, followed by the failures."""
    tried = Counter(result.kind for result in results)
    failed = Counter(result.kind for result in results if result.fault)
    lines = [f"{'':<44}{'tried':>7}{'passed':>8}{'failed':>8}"]
    for kind in [*sorted(tried), None]:
        count, bad = (tried.total(), failed.total()) if kind is None else (tried[kind], failed[kind])
        lines.append(f"{kind or 'all':<44}{count:>7}{count - bad:>8}{bad:>8}")
    return "\n".join([*lines, *(f"{result.kind}: {result.fault}" for result in results if result.fault)])
