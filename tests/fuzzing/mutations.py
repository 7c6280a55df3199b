"""Files that are nearly right: one that is valid, changed in a few places in its structure or in its bytes."""

import codecs
import copy
import json
import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as some

MOST_EDITS = 3
DEEP = 100_000
"""Levels of nesting, far beyond what any recursion holds."""


class Raw(str):
    """Text that stands in a JSON file as it is: what `json.dumps` would not write."""


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
ODD: tuple[Any, ...] = (
    None, [], {}, [[]], [None], {"": None}, [[[[]]]], [0] * 1_000, Raw("[" * DEEP + "]" * DEEP),
    Raw('{"a":' * DEEP + "1" + "}" * DEEP), Raw("[" * DEEP), Raw(""), Raw("nul"), Raw("{'a': 1}"), Raw("[1,]"),
)  # fmt: skip
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037", "surrogates")

_numbers = some.sampled_from(NUMBERS) | some.floats() | some.integers()
_texts = some.sampled_from(TEXTS) | some.text(max_size=20)
_values = some.one_of(_numbers, _texts, some.sampled_from(ODD).map(copy.deepcopy))


def changed_json(document: Any) -> some.SearchStrategy[str]:
    """Texts of a JSON document with some of its values, keys and items changed."""

    @some.composite
    def changed(draw: some.DrawFn) -> str:
        edited = copy.deepcopy(document)
        for _ in range(draw(some.integers(1, MOST_EDITS))):
            edited = _edited(draw, edited)
        return text_of(edited)

    return changed()


def text_of(node: Any) -> str:
    """JSON text, with raw pieces as they are."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {text_of(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(text_of, node)) + "]"
    return str(node) if isinstance(node, int) and abs(node) > 2**63 else json.dumps(node)


def _edited(draw: some.DrawFn, document: Any) -> Any:
    """The document with a change at one place: each step down goes on or stops, so that no level is rare."""
    parent: Any = None
    key: Any = None
    node = document
    while isinstance(node, dict | list) and len(node) and draw(some.integers(0, 4)):
        key = draw(some.sampled_from(sorted(node))) if isinstance(node, dict) else draw(_places(len(node)))
        parent, node = node, node[key]
    if parent is None:
        return _replacement(draw, node)
    draw(some.sampled_from(_EDITS))(draw, parent, key)
    return document


def _replace(draw: some.DrawFn, parent: Any, key: Any) -> None:
    parent[key] = _replacement(draw, parent[key])


def _remove(draw: some.DrawFn, parent: Any, key: Any) -> None:
    del parent[key]


def _add(draw: some.DrawFn, parent: Any, key: Any) -> None:
    """An item twice, or a key that nobody knows."""
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[draw(_texts)] = draw(_values)


def _repeat(draw: some.DrawFn, parent: Any, key: Any) -> None:
    """A key that stands twice in one object, or an item many times."""
    if isinstance(parent, list):
        parent.extend(copy.deepcopy(parent[key]) for _ in range(20))
    else:
        parent[key] = Raw(f"{text_of(parent[key])}, {json.dumps(key)}: {text_of(draw(_values))}")


def _exchange(draw: some.DrawFn, parent: Any, key: Any) -> None:
    """Two neighbors in each other's place."""
    other = draw(some.sampled_from(sorted(parent))) if isinstance(parent, dict) else draw(_places(len(parent)))
    parent[key], parent[other] = parent[other], parent[key]


_EDITS: tuple[Callable[[some.DrawFn, Any, Any], None], ...] = (_replace, _replace, _remove, _add, _repeat, _exchange)


def _replacement(draw: some.DrawFn, node: Any) -> Any:
    """Another value: often of the same kind, which comes further."""
    if isinstance(node, int | float) and draw(some.booleans()):
        return draw(_numbers)
    if isinstance(node, str) and draw(some.booleans()):
        return draw(_texts)
    return draw(_values)


@some.composite
def encoded(draw: some.DrawFn, text: str) -> bytes:
    """The text as bytes: mostly UTF-8, now and then what only some programs read."""
    if draw(some.integers(0, 7)):
        return text.encode("utf-8", "surrogatepass")
    encoding = draw(some.sampled_from(ENCODINGS))
    if encoding == "surrogates":  # as bytes, which are no UTF-8
        return text.replace(r"\ud800", "\ud800").encode("utf-8", "surrogatepass")
    return codecs.encode(text, encoding, "replace")


def changed_bytes(content: bytes) -> some.SearchStrategy[bytes]:
    """The bytes with some flipped, cut, put in, repeated or zeroed."""

    @some.composite
    def changed(draw: some.DrawFn) -> bytes:
        damaged = content
        for _ in range(draw(some.integers(1, MOST_EDITS))):
            damaged = _damaged(draw, damaged)
        return damaged

    return changed()


def _damaged(draw: some.DrawFn, content: bytes) -> bytes:
    start = draw(_places(len(content) + 1))
    end = min(len(content), start + draw(some.sampled_from((1, 2, 4, 16, 200, 1 << 20))))
    kind = draw(
        some.sampled_from(("flip", "flip", "truncate", "empty", "remove", "insert", "repeat", "zero", "append"))
    )
    if kind == "flip":
        flipped = bytes(byte ^ (1 << draw(some.integers(0, 7))) for byte in content[start : start + 1])
        return content[:start] + flipped + content[start + 1 :]
    middles = {
        "truncate": b"",
        "empty": b"",
        "remove": b"",
        "insert": draw(some.binary(max_size=8)),
        "repeat": 2 * content[start:end],
        "zero": bytes(end - start),
        "append": content[start:end],
    }
    head = b"" if kind == "empty" else content if kind == "append" else content[:start]
    tail = b"" if kind in ("truncate", "empty", "append") else content[start:] if kind == "insert" else content[end:]
    return head + middles[kind] + tail


def changed_words(text: str, odd: tuple[str, ...] = ()) -> some.SearchStrategy[str]:
    """Text with some of its words or lines replaced, left out or repeated; `odd` are words of its own language."""

    @some.composite
    def changed(draw: some.DrawFn) -> str:
        edited = text
        for _ in range(draw(some.integers(1, MOST_EDITS))):
            pattern = draw(some.sampled_from((r"[\w.+-]+", r"[\w.+-]+", r"[^\n]*\n")))
            found = [match.span() for match in re.finditer(pattern, edited)] or [(0, len(edited))]
            start, end = found[draw(_places(len(found)))]
            word = draw(some.sampled_from(("", 2 * edited[start:end], *odd)) | (_numbers | _texts).map(_word))
            edited = edited[:start] + word + edited[end:]
        return edited

    return changed()


def _word(value: Any) -> str:
    """A number or text as it stands in a file that is not JSON."""
    return value if isinstance(value, str) else str(value) if isinstance(value, float) else text_of(value)


def _places(count: int) -> some.SearchStrategy[int]:
    return some.integers(0, max(0, count - 1))
