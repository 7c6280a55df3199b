"""The results page: tables and sentences are generated from the result files, so that both agree.

    python -m tests.benchmarks.paper.page

This command writes the text between `<!-- NAME -->` and `<!-- /NAME -->` in `data_samples/results/README.md`; the rest
of the page is written by hand.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from blocknerf.files import write_atomic
from blocknerf.json_file import read_json
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
        "psnr_shared": "PSNR, shared images",
        "ssim": "SSIM",
        "temporal": "temporal",
        "peak": "peak",
    },
    "real": {
        "name": "row",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "gap_recovered": "gap recovered",
        "centimeters": "distance to adjusted poses, cm",
        "degrees": "degrees",
    },
    "matching": {
        "name": "row",
        "difference": "difference",
        "maximum": "maximum",
        "ratio": "ratio",
        "same_segment": "same segment",
        "halfway": "halfway between two presets",
        "halfway_maximum": "maximum",
    },
}
"""Columns of each result: key of a row and title."""
FIGURES = {
    "table1": (
        "transients.jpg",
        "Held-out images, and renderings of trainings with masks, without masks, and with the trimmed loss.",
    ),
    "matching": (
        "blend.jpg",
        "From one appearance to another, down and then right; each half of a rendering is of one block.",
    ),
}
"""Figure file next to the result, and its caption."""
REFINEMENTS = {"raw_refined": "one round", "raw_refined_thrice": "three rounds"}
"""Rows with refined poses, and their description."""
BEHIND = {"full": "with masks", "no_masks": "without masks", "robust": "with the trimmed loss"}


def main() -> None:
    """Update the page from the result files."""
    write_atomic(PAGE, fill_page(PAGE.read_text(), RESULTS))


def fill_page(page: str, results: Path) -> str:
    """Return the page with the text between its marks regenerated."""

    def section(match: re.Match[str]) -> str:
        name = match[1]
        path = results / f"{name}.json"
        body = document(name, read_json(path, "result")) + figure(name, results) if path.exists() else NOT_YET
        return f"<!-- {name} -->\n{body}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", section, page, flags=re.DOTALL)


def document(name: str, result: Mapping[str, Any]) -> str:
    """Return the table of a result, a sentence of findings, and its origin."""
    columns, rows = COLUMNS[name], [flatten(row) for row in result["rows"]]
    lines = ["| " + " | ".join(columns.values()) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(cell(row, key) for key in columns) + " |" for row in rows]
    seeds = result["seeds"]
    seed_text = f"means ± standard deviations over the seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    origin = f"`{result['command']}` at commit `{result['commit']}`" + (f"; {seed_text}" if seed_text else "") + "."
    findings = FINDINGS[name](rows)
    return "\n".join([*lines, "", *([findings, ""] if findings else []), origin])


def figure(name: str, results: Path) -> str:
    """Return the Markdown of the figure of a result, or an empty text."""
    file, caption = FIGURES.get(name, ("", ""))
    return f"\n\n![{caption}]({file})\n\n*{caption}*" if file and (results / file).is_file() else ""


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with nested objects flattened to dotted keys.

    >>> flatten({"blocks": 1, "equal_size": {"psnr": 20.0}})
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
    gains = sorted((-known[key]["below_full"], title) for key, title in names.items() if key in known)
    sentences = (
        ["Worth: " + ", ".join(f"{title} {-negative:.2f} dB" for negative, title in gains) + "."] if gains else []
    )
    if "robust" in known:
        sentences.append(f"Without masks the trimmed loss is {known['robust']['below_full']:.2f} dB below full.")
    if all(known.get(key, {}).get("behind_cars") is not None for key in BEHIND):
        behind = [f"{known[key]['behind_cars']:.2f} dB {title}" for key, title in BEHIND.items()]
        sentences.append(f"Behind moving cars: {', '.join(behind)}.")
    full, thrice = known["full"], known.get("full_thrice")
    sentences.append(
        f"Pose error: {full['centimeters_before']:.1f} cm and {full['degrees_before']:.2f} degrees before,"
        f" {full['centimeters']:.1f} cm and {full['degrees']:.2f} degrees after refinement"
        + (f", {thrice['centimeters']:.1f} cm and {thrice['degrees']:.2f} degrees in three rounds." if thrice else ".")
    )
    return " ".join(sentences)


def _table2(rows: Rows) -> str:
    sentences = []
    for column, title in (("equal_size", "at equal size"), ("equal_total", "at equal total")):
        values = [row[f"{column}.psnr"] for row in rows]
        gains = ", ".join(f"{after - before:+.2f}" for before, after in pairwise(values))
        sentences.append(f"{title} {gains} dB")
    return "Gain per doubling of blocks: " + "; ".join(sentences) + "."


def _table3(rows: Rows) -> str:
    best, calmest = max(rows, key=lambda row: row["psnr"]), min(rows, key=lambda row: row["temporal"])
    return f"Best on images: `{best['name']}`; least temporal change: `{calmest['name']}`."


def _real(rows: Rows) -> str:
    known = {row["name"]: row for row in rows}
    if not {"adjusted", "raw"} <= known.keys():
        return ""
    raw, gap = known["raw"], known["adjusted"]["psnr"] - known["raw"]["psnr"]
    sentences = []
    for name, rounds in REFINEMENTS.items():
        if name in known:
            recovered, centimeters = known[name]["gap_recovered"], known[name]["centimeters"]
            between = f"of the {gap:.2f} dB between raw and adjusted poses, and "
            gained = "" if recovered is None else f"recovers {recovered:.0%} {between}"
            moved = f"brings the poses from {raw['centimeters']:.1f} cm to {centimeters:.1f} cm"
            sentences.append(f"Refinement in {rounds} {gained}{moved}.")
    return " ".join(sentences)


def _matching(rows: Rows) -> str:
    after = {row["name"]: row for row in rows}["matched"]
    halfway, same = after.get("halfway"), after.get("same_segment")
    unmatched = "" if same is None else f"; unmatched blocks with codes of the same segment differ by {same:.3f}"
    blended = "" if halfway is None else f"; halfway between two presets it is {halfway:.3f}"
    return f"Matching reduces the difference by a factor of {after['ratio']:.1f}{blended}{unmatched}."


FINDINGS: dict[str, Callable[[Rows], str]] = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "real": _real,
    "matching": _matching,
}


if __name__ == "__main__":
    main()
