"""Retired words stay out of code, tests and documents: one term for one thing, and the term of the field."""

import re
from pathlib import Path

import pytest

RETIRED = {
    r"photographs?": "image",
    r"films?|filmed|filming": "video, or rendering",
    r"pictures?": "image (captured), rendering, or frame (of a video)",
    r"glances?|glanced": "proposal rendering",
    r"sightings?|lookouts?": "scored block, block selector",
    r"(?<!line.of.)sights?": "visibility, or view overlap",
    r"residence": "image cache",
    r"crowds?|crowded": "robust mask, inliers, outliers",
    r"pace|paces|paced": "schedule, or speed",
    r"stretch(es)?": "pose segment, or substring of a line",
    r"seams?": "overlap of two blocks",
    r"reconcil\w*": "align, pose average",
    r"(a|an|the|this|stored|default|other|another|no|of|such|named|its) looks?|looks? (of|is|are|named)": "preset",
    r"anew": "again, or from scratch",
    r"at once": "in parallel, or immediately",
    r"beside": "next to, or together with",
    r"judge[sd]?|judging": "evaluate",
    r"painters?|gallery|studios?|onlookers?": "scheduler, renderer, queue, viewer",
    r"wish|wishes|wished": "request",
    r"meetings?|exams?": "overlap, evaluation image",
    r"gives": "returns",
    r"tells|told": "prints, reports, expected",
    r"way (there|back)": "forward, backward",
    r"slopes?": "gradient",
    r"(?<!multi.)processors?": "CPU",
    r"whose|of which|thereof|wherein": "(split the sentence)",
    r"begun": "started",
    r"in plan": "horizontally, or in the xy-plane",
    r"stands|lies": "is, is located",
    r"centre[sd]?|neighbours?|grey|(kilo|centi|milli)?metres?|colour\w*": "(American spelling)",
}
"""Patterns of whole words, where an underscore ends a word, with the words to use instead."""
PLACES = (
    "blocknerf/capture", "blocknerf/city", "blocknerf/fields", "blocknerf/kernels", "blocknerf/partitioning",
    "blocknerf/rendering", "blocknerf/town", "blocknerf/training", "blocknerf/trajectory",
    "blocknerf", "pipelines", "viewer", "tests", "data_samples", ".",
)  # fmt: skip
"""A file belongs to the first of these that it is under; of the top level, files alone."""
SUFFIXES = {".py", ".md", ".toml", ".txt", ".yml"}
WORDS = re.compile("|".join(f"(?P<w{i}>(?<![a-z])(?:{pattern})(?![a-z]))" for i, pattern in enumerate(RETIRED)), re.I)


def findings(path: Path) -> list[str]:
    """Each retired word of a file, with its line and what to write instead."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for match in WORDS.finditer(line):
            instead = list(RETIRED.values())[int(str(match.lastgroup)[1:])]
            found.append(f"{path}:{number}: {match[0]!r}; write: {instead}")
    return found


def files_of(place: str, repository: Path) -> list[Path]:
    """The texts of one of `PLACES`, without those of the places before it."""
    folder = repository / place
    earlier = [repository / other for other in PLACES[: PLACES.index(place)]]
    files = folder.iterdir() if place == "." else folder.rglob("*")
    return [
        path
        for path in sorted(files)
        if path.suffix in SUFFIXES and path != Path(__file__) and not any(other in path.parents for other in earlier)
    ]


@pytest.mark.parametrize("place", PLACES)
def test_no_retired_word_is_used(place: str, repository: Path) -> None:
    files = files_of(place, repository)
    assert files
    assert [line for path in files for line in findings(path)] == []


def test_a_retired_word_is_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('def block_photographs():\n    """Gives line_of_sight, a color and a glance\'s colour."""\n')
    assert [line.split(": ", 1)[1].split(";")[0] for line in findings(path)] == [
        "'photographs'", "'Gives'", "'glance'", "'colour'",
    ]  # fmt: skip
