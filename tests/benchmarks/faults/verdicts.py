"""What came of trials, by kind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One trial."""

    kind: str
    fault: str | None
    """What went wrong; None where the product held."""


def table(results: Sequence[Result]) -> str:
    """Tried, held and fell of each kind, and below what fell."""
    tried, fell = Counter(each.kind for each in results), Counter(each.kind for each in results if each.fault)
    lines = [f"{'':<44}{'tried':>7}{'held':>7}{'fell':>7}"]
    for kind in [*sorted(tried), None]:
        count, bad = (tried.total(), fell.total()) if kind is None else (tried[kind], fell[kind])
        lines.append(f"{kind or 'all':<44}{count:>7}{count - bad:>7}{bad:>7}")
    return "\n".join([*lines, *(f"{each.kind}: {each.fault}" for each in results if each.fault)])
