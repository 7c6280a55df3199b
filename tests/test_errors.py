"""Control and invisible characters are escaped; other text is unchanged."""

import pytest

from blocknerf.errors import printable


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("images/0.png", "images/0.png"),
        ("Straße 3 – 東京 🚗", "Straße 3 – 東京 🚗"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\nc\td\x00\x7f", r"a\rb\nc\td\x00\x7f"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("photo\u202egnp.exe\u2066\u200f", r"photo\u202egnp.exe\u2066\u200f"),
        ("\ufeffa\u200bb\u2028c", r"\ufeffa\u200bb\u2028c"),
        (b"caf\xe9\xff".decode("utf-8", "surrogateescape"), r"caf\xe9\xff"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_control_characters_are_escaped(text: str, escaped: str) -> None:
    assert printable(text) == escaped
    assert printable(escaped) == escaped
