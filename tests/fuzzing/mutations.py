"""Hypothesis strategies that mutate a valid file in a few places of its structure or bytes."""

import codecs
import copy
import json
import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

MAX_EDITS = 3
NESTING = 100_000
"""Nesting depth, far beyond the recursion limit."""


class Raw(str):
    """Text that is inserted into a JSON file verbatim, such as values that `json.dumps` would not write."""


NUMBERS = (
    0, -1, 1, 2, 0.5, -0.0, 1e-300, 5e-324, 1e9, 1e18, 1e30, 1e38, 3.5e38, 1e300, 1.7e308, -1e300, 2**31, 2**53 + 1,
    2**63, 2**64, 10**400, -(10**400), True, False,
    *map(Raw, ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "9" * 4_301, "-" + "9" * 10_000)),
)  # fmt: skip
TEXTS = (
    "", " ", ".", "..", "../x", "/", "/etc/hostname", "~", "a/" * 300, "x" * 255, "x" * 300, "ä" * 200, "x" * 100_000,
    "a\x00b", "\ud800", "\udcff", "a\nb", "a\x1b[31mb", "C:\\x", "{}", "%s", "nan", "0", "b000", "-",
    "blocknerf.city/2", "blocknerf.capture/9", "blocknerf.city/" + "9" * 5_000,
)  # fmt: skip
UNUSUAL: tuple[Any, ...] = (
    None, [], {}, [[]], [None], {"": None}, [[[[]]]], [0] * 1_000, Raw("[" * NESTING + "]" * NESTING),
    Raw('{"a":' * NESTING + "1" + "}" * NESTING), Raw("[" * NESTING), Raw(""), Raw("nul"), Raw("{'a': 1}"), Raw("[1,]"),
)  # fmt: skip
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037", "surrogates")

_numbers = st.sampled_from(NUMBERS) | st.floats() | st.integers()
_texts = st.sampled_from(TEXTS) | st.text(max_size=20)
_values = st.one_of(_numbers, _texts, st.sampled_from(UNUSUAL).map(copy.deepcopy))


def mutated_json(document: Any) -> st.SearchStrategy[str]:
    """Return a strategy for JSON texts of a document with changed values, keys and items."""

    @st.composite
    def mutated(draw: st.DrawFn) -> str:
        edited = copy.deepcopy(document)
        for _ in range(draw(st.integers(1, MAX_EDITS))):
            edited = _edit(draw, edited)
        return to_json(edited)

    return mutated()


def to_json(node: Any) -> str:
    """Return JSON text with `Raw` values inserted verbatim."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {to_json(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(to_json, node)) + "]"
    return str(node) if isinstance(node, int) and abs(node) > 2**63 else json.dumps(node)


def _edit(draw: st.DrawFn, document: Any) -> Any:
    """Return the document with one change. The depth of the change is random, so that no level is rare."""
    parent: Any = None
    key: Any = None
    node = document
    while isinstance(node, dict | list) and len(node) and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(node))) if isinstance(node, dict) else draw(_indices(len(node)))
        parent, node = node, node[key]
    if parent is None:
        return _replacement(draw, node)
    draw(st.sampled_from(_EDITS))(draw, parent, key)
    return document


def _replace(draw: st.DrawFn, parent: Any, key: Any) -> None:
    parent[key] = _replacement(draw, parent[key])


def _remove(draw: st.DrawFn, parent: Any, key: Any) -> None:
    del parent[key]


def _add(draw: st.DrawFn, parent: Any, key: Any) -> None:
    """Duplicate an item, or add an unknown key."""
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[draw(_texts)] = draw(_values)


def _repeat(draw: st.DrawFn, parent: Any, key: Any) -> None:
    """Write a key of an object twice, or repeat an item many times."""
    if isinstance(parent, list):
        parent.extend(copy.deepcopy(parent[key]) for _ in range(20))
    else:
        parent[key] = Raw(f"{to_json(parent[key])}, {json.dumps(key)}: {to_json(draw(_values))}")


def _swap(draw: st.DrawFn, parent: Any, key: Any) -> None:
    """Swap two values."""
    other = draw(st.sampled_from(sorted(parent))) if isinstance(parent, dict) else draw(_indices(len(parent)))
    parent[key], parent[other] = parent[other], parent[key]


_EDITS: tuple[Callable[[st.DrawFn, Any, Any], None], ...] = (_replace, _replace, _remove, _add, _repeat, _swap)


def _replacement(draw: st.DrawFn, node: Any) -> Any:
    """Return another value, often of the same type, which passes more checks."""
    if isinstance(node, int | float) and draw(st.booleans()):
        return draw(_numbers)
    if isinstance(node, str) and draw(st.booleans()):
        return draw(_texts)
    return draw(_values)


@st.composite
def encoded(draw: st.DrawFn, text: str) -> bytes:
    """Return the text as bytes: mostly UTF-8, sometimes in another encoding."""
    if draw(st.integers(0, 7)):
        return text.encode("utf-8", "surrogatepass")
    encoding = draw(st.sampled_from(ENCODINGS))
    if encoding == "surrogates":  # invalid UTF-8
        return text.replace(r"\ud800", "\ud800").encode("utf-8", "surrogatepass")
    return codecs.encode(text, encoding, "replace")


def mutated_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for the bytes with parts flipped, removed, inserted, repeated or zeroed."""

    @st.composite
    def mutated(draw: st.DrawFn) -> bytes:
        mutated_content = content
        for _ in range(draw(st.integers(1, MAX_EDITS))):
            mutated_content = _mutate_bytes(draw, mutated_content)
        return mutated_content

    return mutated()


def _mutate_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    start = draw(_indices(len(content) + 1))
    end = min(len(content), start + draw(st.sampled_from((1, 2, 4, 16, 200, 1 << 20))))
    kind = draw(st.sampled_from(("flip", "flip", "truncate", "empty", "remove", "insert", "repeat", "zero", "append")))
    if kind == "flip":
        flipped = bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in content[start : start + 1])
        return content[:start] + flipped + content[start + 1 :]
    middles = {
        "truncate": b"",
        "empty": b"",
        "remove": b"",
        "insert": draw(st.binary(max_size=8)),
        "repeat": 2 * content[start:end],
        "zero": bytes(end - start),
        "append": content[start:end],
    }
    before = b"" if kind == "empty" else content if kind == "append" else content[:start]
    after = b"" if kind in ("truncate", "empty", "append") else content[start:] if kind == "insert" else content[end:]
    return before + middles[kind] + after


def mutated_words(text: str, vocabulary: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Return a strategy for the text with words or lines replaced, removed or repeated, with words of `vocabulary`."""

    @st.composite
    def mutated(draw: st.DrawFn) -> str:
        edited = text
        for _ in range(draw(st.integers(1, MAX_EDITS))):
            pattern = draw(st.sampled_from((r"[\w.+-]+", r"[\w.+-]+", r"[^\n]*\n")))
            spans = [match.span() for match in re.finditer(pattern, edited)] or [(0, len(edited))]
            start, end = spans[draw(_indices(len(spans)))]
            word = draw(st.sampled_from(("", 2 * edited[start:end], *vocabulary)) | (_numbers | _texts).map(_word))
            edited = edited[:start] + word + edited[end:]
        return edited

    return mutated()


def _word(value: Any) -> str:
    """Return a number or text as written in a file that is not JSON."""
    return value if isinstance(value, str) else str(value) if isinstance(value, float) else to_json(value)


def _indices(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, max(0, count - 1))
