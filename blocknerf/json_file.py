"""JSON files with typed content: msgspec decodes and checks them; errors name the file, the key and what to do."""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from blocknerf.errors import BlockNerfError, RunError
from blocknerf.files import MAX_JSON_BYTES, check_format_version, format_json, read_bounded, write_atomic
from blocknerf.values import MAX_COORDINATE, MAX_VALUE, format_value, one_case

Number = Annotated[float, msgspec.Meta(ge=-MAX_VALUE, le=MAX_VALUE)]
Positive = Annotated[float, msgspec.Meta(ge=1 / MAX_VALUE, le=MAX_VALUE)]
"""A positive number with an inverse in range."""
Coordinate = Annotated[float, msgspec.Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
Whole = Annotated[float, msgspec.Meta(ge=0, le=2**53, multiple_of=1)]
"""A whole number that other programs may write as 96.0."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
PositiveCount = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Vec3 = tuple[Number, Number, Number]

Content = TypeVar("Content")

_LOCATED = re.compile(r"(?P<problem>.*?)(?: - at (?:`key` in )?`\$(?P<key>[^`]*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?P<problem>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected (?P<kind>.*?)(?:, got .*)?")
_MALFORMED = re.compile(r"JSON is malformed: (?P<reason>.*) \(byte (?P<byte>\d+)\)")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|\[\.\.\.\]")
_KINDS = {
    "array": "a list", "object": "an object", "str": "text", "int": "a whole number", "float": "a number",
    "bool": "true or false", "null": "null",
}  # fmt: skip
_MULTIPLE = "a number that's a multiple of 1.0"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the content of files that blocknerf writes; a misspelled key must not pass as absent.

    A field without a default must be present, even if it may be null.
    """


class _Format(msgspec.Struct):
    format: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFile(Generic[Content]):
    """A type of file: its content, its name in messages, and what to do if it cannot be read.

    If the content is a struct with a tag, the tag is the format ("blocknerf.city/2") that a file must have.
    """

    content: type[Content] | GenericAlias
    """A struct, or a list or dictionary of any type that msgspec decodes."""
    what: str
    """Name in messages, like "city"."""
    remedy: str | None = None
    """How to recreate a broken file; None for a file that only its author can correct."""
    error: type[BlockNerfError] = RunError
    """Type of the error that is raised if the file cannot be read."""

    def read(self, path: Path | str, max_bytes: int = MAX_JSON_BYTES) -> Content:
        """Return the content of a file.

        Raises:
            RunError: (or `error`) the file is missing, unreadable, too large, not JSON, of another format or invalid.
        """
        try:
            data = read_bounded(path, f"{self.what} file", self.error, max_bytes)
        except FileNotFoundError:
            hint = "check the path, or run the job that writes it"
            raise self.error(f"{path}: this {self.what} file does not exist; {hint}") from None
        return self.decode(data, str(path))

    def decode(self, data: bytes, where: str) -> Content:
        """Return the content of a JSON text, in UTF-8 with or without a byte order mark; messages begin with `where`.

        Raises:
            RunError: (or `error`) as for `read`.
        """
        data = data.removeprefix(b"\xef\xbb\xbf")
        try:
            self._check_format(data, where)
            return msgspec.json.decode(data, type=self.content)
        except msgspec.ValidationError as fault:
            raise self.error(_invalid(str(fault), data, where, self.remedy)) from None
        except UnicodeError:
            problem = "is not UTF-8 text"
        except RecursionError:
            problem = "is not valid JSON (nested too deeply)"
        except msgspec.DecodeError as fault:
            if key := _non_finite(data):
                raise self.error(
                    f"{_location(where, key)} is not a finite number; {_advice('correct it', self.remedy)}"
                ) from None
            problem = f"is not valid JSON ({_position(str(fault), data)})"
        advice = "correct it or write it again" if self.remedy is None else f"correct it, or {self.remedy}"
        raise self.error(f"{where}: this {self.what} file {problem}; {advice}")

    def write(self, content: Content, path: Path | str) -> None:
        """Write a file atomically.

        Raises:
            RunError: the disk is full, the folder is not writable, or `path` exists and is not a file.
            ValueError: a number is NaN or infinite.
        """
        write_atomic(path, format_json(to_builtins(content)))

    def _check_format(self, data: bytes, where: str) -> None:
        config = getattr(self.content, "__struct_config__", None)
        if config is not None and config.tag is not None:
            found = msgspec.json.decode(data, type=_Format).format
            check_format_version(found, config.tag, where, self.remedy or "correct it", self.error)


def to_builtins(content: Any) -> Any:
    """Return structs as dictionaries, for Python's JSON writer; msgspec's would write NaN as null."""
    return msgspec.to_builtins(content, enc_hook=_to_builtin)


def read_json(path: Path | str, what: str, error: type[BlockNerfError] = RunError) -> dict[str, Any]:
    """Return the object in a JSON file, unchecked; `what` is the name of the file in a message.

    Raises:
        RunError: (or `error`) the file is missing, unreadable or not a JSON object.
    """
    return JsonFile(content=dict[str, Any], what=what, error=error).read(path)


def read_format(path: Path | str, what: str, error: type[BlockNerfError] = RunError) -> str:
    """Return the format that a JSON file of any kind names; empty if it names none.

    Raises:
        RunError: (or `error`) the file is missing, unreadable or no JSON object.
    """
    return str(JsonFile(content=_Format, what=what, error=error).read(path).format or "")


def _to_builtin(value: Any) -> object:
    """Return a number, text or mapping of another class, such as one of NumPy, as a plain one."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, float | str):
        return float(value) if isinstance(value, float) else str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _invalid(text: str, data: bytes, where: str, remedy: str | None) -> str:
    """Return a message of msgspec as one of ours: file and key, what is wrong, and what to do."""
    located = _LOCATED.fullmatch(text)
    problem, key = (located["problem"], located["key"] or "") if located else (text, "")
    if field := _FIELD.fullmatch(problem):
        key = f"{key}.{one_case(field['name'])}"
        is_missing = field["problem"] == "missing required"
        problem, action = ("is missing", "add it") if is_missing else ("is an unknown key", "remove it")
    else:
        problem, action = _wrong_value(problem, _value(data, key)), "correct it"
    return f"{_location(where, key)} {problem}; {_advice(action, remedy)}"


def _wrong_value(problem: str, value: str | None) -> str:
    """Return what is wrong with a value: "is 'x', not a whole number"."""
    found = "is" if value is None else f"is {value},"
    if not (expected := _EXPECTED.fullmatch(problem)):
        return f"{found} out of range" if "range" in problem else f"{found} not a known value"
    kind = re.sub(r"`(.*?)`", _in_words, expected["kind"]).replace(_MULTIPLE, "a whole number")
    return f"{found} not {kind}"


def _in_words(kind: re.Match[str]) -> str:
    return " or ".join(_KINDS.get(name, name) for name in kind[1].split(" | "))


def _value(data: bytes, key: str) -> str | None:
    """Return the text of the value at a key like ".frames[3].w"; None if msgspec left out a key of a mapping."""
    with suppress(ValueError, RecursionError, LookupError, TypeError):
        value = json.loads(data)
        for name, index in _STEP.findall(key):
            value = value[name or int(index)]
        return format_value(value)
    return None


def _non_finite(data: bytes) -> str | None:
    """Return the key of the first NaN or infinity, which Python writes as words that are not JSON."""
    with suppress(ValueError, RecursionError):
        return _find_non_finite(json.loads(data), "")
    return None


def _find_non_finite(value: Any, key: str) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else key
    items = {f".{one_case(name)}": item for name, item in value.items()} if isinstance(value, dict) else {}
    items |= {f"[{i}]": item for i, item in enumerate(value)} if isinstance(value, list) else {}
    return next(filter(None, (_find_non_finite(item, key + name) for name, item in items.items())), None)


def _position(text: str, data: bytes) -> str:
    """Return msgspec's message on malformed JSON with line and column instead of an offset."""
    malformed = _MALFORMED.fullmatch(text)
    reason, offset = (malformed["reason"], int(malformed["byte"])) if malformed else ("cut short", len(data))
    before = data[:offset]
    return f"line {before.count(10) + 1} column {offset - before.rfind(10)}: {reason}"


def _location(where: str, key: str) -> str:
    """Return file and key, as the start of a message.

    >>> _location("capture.json", ".frames[1].w"), _location("log.jsonl: line[2]", ".loss")
    ('capture.json: frames[1].w', 'log.jsonl: line[2].loss')
    """
    if not key:
        return f"{where}: the content"
    return where + key if where.endswith("]") else f"{where}: {key.removeprefix('.')}"


def _advice(action: str, remedy: str | None) -> str:
    return action if remedy is None else f"{action}, or {remedy}"
