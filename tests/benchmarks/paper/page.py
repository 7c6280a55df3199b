"""The page of results: its tables and figures are written from the result files, so that both say the same.

    python -m tests.benchmarks.paper.page

Between `<!-- NAME -->` and `<!-- /NAME -->` in `data_samples/results/README.md` stands what this command writes; the
rest of the page is written by hand.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from blocknerf.files import read_json, write_atomic
from tests.benchmarks.paper.results import RESULTS, cell

Rows = Sequence[Mapping[str, Any]]
PAGE = RESULTS / "README.md"
NOT_YET = "Not measured yet."
COLUMNS: dict[str, dict[str, str]] = {
    "table1": {
        "name": "row",
        "psnr_masked": "PSNR, static pixels",
        "below_full": "below full",
        "behind_cars": "PSNR behind cars",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "centimeters": "pose error, cm",
        "degrees": "degrees",
    },
    "table2": {
        "blocks": "blocks",
        "equal_size.psnr": "PSNR, equal size",
        "equal_size.ssim": "SSIM",
        "equal_size.parameters": "parameters",
        "equal_total.psnr": "PSNR, equal total",
        "equal_total.ssim": "SSIM",
        "equal_total.parameters": "parameters",
        "equal_size.steps": "steps",
    },
    "table3": {
        "name": "weighting",
        "psnr": "PSNR",
        "psnr_shared": "PSNR where blocks share",
        "ssim": "SSIM",
        "temporal": "temporal",
        "peak": "peak",
    },
    "real": {
        "name": "row",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "gap_recovered": "gap recovered",
        "centimeters": "from adjusted poses, cm",
        "degrees": "degrees",
    },
    "matching": {
        "name": "row",
        "difference": "difference",
        "largest": "largest",
        "times_less": "times less",
        "same_light": "one light, as learned",
        "half_way": "half way between two lights",
        "half_way_largest": "largest",
    },
}
"""Key of a row and title, for each result."""
PICTURES = {
    "table1": (
        "transients.jpg",
        "Photographs kept back, and what trainings make of them: with masks, without, trimmed.",
    ),
    "matching": ("day.jpg", "From one light to another, down and then right; each half of a picture is of one block."),
}
"""File beside the result, and what it shows."""
ROUNDS = {"raw_refined": "one round", "raw_refined_thrice": "three rounds"}
"""Rows of refined poses, and how they are spoken of."""
BEHIND = {"full": "with masks", "no_masks": "without", "robust": "without but trimmed"}


def main() -> None:
    """Bring the page up to the result files."""
    write_atomic(PAGE, filled(PAGE.read_text(), RESULTS))


def filled(page: str, results: Path) -> str:
    """The page with everything between its marks written anew."""

    def section(found: re.Match[str]) -> str:
        name = found[1]
        path = results / f"{name}.json"
        body = document(name, read_json(path, "result")) + picture(name, results) if path.exists() else NOT_YET
        return f"<!-- {name} -->\n{body}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", section, page, flags=re.DOTALL)


def document(name: str, result: Mapping[str, Any]) -> str:
    """One result: its table, what it says in a sentence, and where it is from."""
    columns, rows = COLUMNS[name], [flattened(row) for row in result["rows"]]
    lines = ["| " + " | ".join(columns.values()) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(cell(row, key) for key in columns) + " |" for row in rows]
    seeds = result["seeds"]
    spread = f"means ± standard deviations over the seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    origin = f"`{result['command']}` at commit `{result['commit']}`" + (f"; {spread}" if spread else "") + "."
    said = FINDINGS[name](rows)
    return "\n".join([*lines, "", *([said, ""] if said else []), origin])


def picture(name: str, results: Path) -> str:
    """What shows a result's picture on the page, where it has one."""
    file, caption = PICTURES.get(name, ("", ""))
    return f"\n\n![{caption}]({file})\n\n*{caption}*" if file and (results / file).is_file() else ""


def flattened(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose columns are objects of their own, with dotted keys.

    >>> flattened({"blocks": 1, "equal_size": {"psnr": 20.0}})
    {'blocks': 1, 'equal_size.psnr': 20.0}
    """
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= {f"{key}.{inner}": item for inner, item in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _table1(rows: Rows) -> str:
    known = {row["name"]: row for row in rows}
    if "full" not in known:
        return ""
    names = {"no_appearance": "appearance codes", "no_exposure": "exposure", "no_pose": "pose refinement"}
    names["no_masks"] = "masks"
    worth = sorted((-known[key]["below_full"], title) for key, title in names.items() if key in known)
    said = ["Worth: " + ", ".join(f"{title} {-negative:.2f} dB" for negative, title in worth) + "."] if worth else []
    if "robust" in known:
        said.append(f"Without masks the trimmed loss is {known['robust']['below_full']:.2f} dB below full.")
    if all(known.get(key, {}).get("behind_cars") is not None for key in BEHIND):
        behind = [f"{known[key]['behind_cars']:.2f} dB {title}" for key, title in BEHIND.items()]
        said.append(f"Behind moving cars: {', '.join(behind)}.")
    full, again = known["full"], known.get("full_thrice")
    said.append(
        f"Pose error: {full['centimeters_before']:.1f} cm and {full['degrees_before']:.2f} degrees as given,"
        f" {full['centimeters']:.1f} cm and {full['degrees']:.2f} degrees refined"
        + (f", {again['centimeters']:.1f} cm and {again['degrees']:.2f} degrees in three rounds." if again else ".")
    )
    return " ".join(said)


def _table2(rows: Rows) -> str:
    said = []
    for column, title in (("equal_size", "at equal size"), ("equal_total", "at equal total")):
        values = [row[f"{column}.psnr"] for row in rows]
        gains = ", ".join(f"{after - before:+.2f}" for before, after in pairwise(values))
        said.append(f"{title} {gains} dB a step")
    return "From each number of blocks to the next: " + "; ".join(said) + "."


def _table3(rows: Rows) -> str:
    best, calm = max(rows, key=lambda row: row["psnr"]), min(rows, key=lambda row: row["temporal"])
    return f"Best on stills: `{best['name']}`; calmest in motion: `{calm['name']}`."


def _real(rows: Rows) -> str:
    known = {row["name"]: row for row in rows}
    if not {"adjusted", "raw"} <= known.keys():
        return ""
    raw, gap = known["raw"], known["adjusted"]["psnr"] - known["raw"]["psnr"]
    said = []
    for name, rounds in ROUNDS.items():
        if name in known:
            recovered, centimeters = known[name]["gap_recovered"], known[name]["centimeters"]
            between = f"of the {gap:.2f} dB between raw and adjusted poses, and "
            won = "" if recovered is None else f"recovers {recovered:.0%} {between}"
            moved = f"brings the poses from {raw['centimeters']:.1f} cm to {centimeters:.1f} cm"
            said.append(f"Refinement in {rounds} {won}{moved}.")
    return " ".join(said)


def _matching(rows: Rows) -> str:
    after = {row["name"]: row for row in rows}["seam_after"]
    half_way, same = after.get("half_way"), after.get("same_light")
    learned = (
        "" if same is None else f"; where blocks learned one light, they show it {same:.3f} apart without matching"
    )
    return (
        f"Matching makes the difference {after['times_less']:.1f} times less"
        f"{'' if half_way is None else f'; half way from one light to another it is {half_way:.3f}'}{learned}."
    )


FINDINGS: dict[str, Callable[[Rows], str]] = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "real": _real,
    "matching": _matching,
}


if __name__ == "__main__":
    main()
