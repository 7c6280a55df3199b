"""One JSON object being read: values with their kind and range checked, and refusals that name file and key."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blocknerf import values
from blocknerf.errors import BlockNerfError, CaptureError


class JsonReader:
    """A JSON object of a file.

    A key asked for as optional may be null; where there is no `remedy`, it may also be absent.

    >>> JsonReader({"w": 640}, "capture.json: frames[0]").number("h")
    Traceback (most recent call last):
    blocknerf.errors.CaptureError: capture.json: frames[0].h is missing; add it
    """

    def __init__(
        self, data: object, where: str, *, remedy: str | None = None, error: type[BlockNerfError] = CaptureError
    ) -> None:
        """Begin to read an object.

        Args:
            data: What stands in the file.
            where: The file, and which object in it, as the start of a message.
            remedy: How the file is made again, where it is one that blocknerf writes; a key is then never absent.
            error: The kind of its refusals.
        """
        if not isinstance(data, dict):
            raise error(f"{where} is not an object; write {{...}} there")
        self._data: dict[str, Any] = data
        self._seen: set[str] = set()
        self.where, self.remedy, self.error = where, remedy, error

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def location(self, key: str) -> str:
        """File and key, as the start of a message."""
        return f"{self.where}{'.' if self.where.endswith(']') else ': '}{values.one_case(key)}"

    def hint(self, mend: str) -> str:
        """What to do about a key, as the end of a message."""
        return mend if self.remedy is None else f"{mend}, or {self.remedy}"

    def text(self, key: str) -> str:
        value = self._value(key)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        return value

    def str_or_int(self, key: str) -> str:
        """Text, or a whole number taken as text: names of cameras and sequences are written both ways."""
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
        """A whole number, also one that is written with a point, as 96.0."""
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
        """Whether an optional key holds a value; one `added` to the format later may be absent from any file.

        Raises:
            CaptureError: (or the kind given as `error`) the entry has a remedy, and lacks the key.
        """
        if self.remedy is not None and not added and key not in self._data:
            raise self._missing(key)
        self._seen.add(key)
        return key in self

    def reject_unknown(self) -> None:
        """Refuse keys that nobody asked for: a misspelt key must not pass as an absent one."""
        unknown = sorted(self._data.keys() - self._seen)
        if unknown:
            raise self.error(f"{self.location(unknown[0])} is an unknown key; {self.hint('remove it')}")

    def _value(self, key: str) -> Any:
        if key not in self._data:
            raise self._missing(key)
        self._seen.add(key)
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
    """Put the place before the message of any refusal inside that does not name it."""
    try:
        yield
    except CaptureError as error:
        raise CaptureError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
