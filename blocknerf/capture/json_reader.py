"""Strict reader of JSON objects: checks types and ranges; errors name the file and the key."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blocknerf import values
from blocknerf.errors import BlockNerfError, CaptureError


class JsonReader:
    """Reader of one JSON object of a file.

    An optional key may be null; without a `remedy`, it may also be absent.

    >>> JsonReader({"w": 640}, "capture.json: frames[0]").number("h")
    Traceback (most recent call last):
    blocknerf.errors.CaptureError: capture.json: frames[0].h is missing; add it
    """

    def __init__(
        self, data: object, where: str, *, remedy: str | None = None, error: type[BlockNerfError] = CaptureError
    ) -> None:
        """Wrap a parsed JSON value.

        Args:
            data: The parsed value.
            where: The file and the object in it; starts every message.
            remedy: How to recreate a file that blocknerf wrote; every key must then be present.
            error: The class of errors to raise.
        """
        if not isinstance(data, dict):
            raise error(f"{where} is not an object; write {{...}} there")
        self._data: dict[str, Any] = data
        self._read: set[str] = set()
        self.where, self.remedy, self.error = where, remedy, error

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def location(self, key: str) -> str:
        """Return file and key, as the start of a message."""
        return f"{self.where}{'.' if self.where.endswith(']') else ': '}{values.one_case(key)}"

    def hint(self, action: str) -> str:
        """Return what to do about a key, as the end of a message."""
        return action if self.remedy is None else f"{action}, or {self.remedy}"

    def text(self, key: str) -> str:
        value = self._value(key)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        return value

    def str_or_int(self, key: str) -> str:
        """Return text, or a whole number as text; files write camera and sequence names both ways."""
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self._wrong(key, value, "text or a whole number")
        return str(value)

    def bool_(self, key: str) -> bool:
        value = self._value(key)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def number(self, key: str) -> float:
        return self._number(key, self._value(key))

    def int_(self, key: str, least: int = 0) -> int:
        """Return a whole number, also if it is written as 96.0."""
        value = self._value(key)
        number = values.whole(value, least)
        if number is None:
            raise self._wrong(key, value, f"a whole number of {least} or more")
        return number

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        value = self._value(key)
        if not isinstance(value, list) or len(value) != count:
            raise self._wrong(key, value, f"a list of {count} numbers")
        return tuple(self._number(f"{key}[{i}]", item) for i, item in enumerate(value))

    def vec3(self, key: str) -> tuple[float, float, float]:
        first, second, third = self.numbers(key, 3)
        return first, second, third

    def numbers_by_name(self, key: str) -> dict[str, float]:
        inner = self.inner(key)
        return {name: inner.number(name) for name in inner}

    def items(self, key: str) -> list[Any]:
        value = self._value(key)
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._value(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, value, "a list of texts")
        return tuple(value)

    def objects(self, key: str) -> list["JsonReader"]:
        return [self._inner(item, f"{key}[{i}]") for i, item in enumerate(self.items(key))]

    def inner(self, key: str) -> "JsonReader":
        return self._inner(self._value(key), key)

    def optional(self, key: str, *, added: bool = False) -> bool:
        """Whether an optional key holds a value; a key `added` to the format later may be absent from any file.

        Raises:
            CaptureError: (or the class given as `error`) the reader has a remedy, and the key is absent.
        """
        if self.remedy is not None and not added and key not in self._data:
            raise self._missing(key)
        self._read.add(key)
        return key in self

    def reject_unknown(self) -> None:
        """Raise if the object has keys that were not read: a misspelled key must not pass as absent."""
        unknown = sorted(self._data.keys() - self._read)
        if unknown:
            raise self.error(f"{self.location(unknown[0])} is an unknown key; {self.hint('remove it')}")

    def _value(self, key: str) -> Any:
        if key not in self._data:
            raise self._missing(key)
        self._read.add(key)
        return self._data[key]

    def _number(self, key: str, value: object) -> float:
        number = values.finite(value)
        if number is None:
            kind = f"a finite number below {values.MAX_VALUE:.2g}" if isinstance(value, int | float) else "a number"
            raise self._wrong(key, value, kind)
        return number

    def _inner(self, data: object, key: str) -> "JsonReader":
        return JsonReader(data, self.location(key), remedy=self.remedy, error=self.error)

    def _missing(self, key: str) -> BlockNerfError:
        return self.error(f"{self.location(key)} is missing; {self.hint('add it')}")

    def _wrong(self, key: str, value: object, kind: str) -> BlockNerfError:
        return self.error(
            f"{self.location(key)} is {values.format_value(value)}, not {kind}; {self.hint('correct it')}"
        )


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Prefix the message of any `CaptureError` raised inside with `where`, unless it starts with it."""
    try:
        yield
    except CaptureError as error:
        raise CaptureError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
