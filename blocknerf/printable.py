"""Escaping of untrusted text for a terminal: names in files may move its cursor or change the text direction."""

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control characters, invisible format characters, surrogates and line separators."""
_RAW_BYTES = range(0xDC80, 0xDD00)
"""Code points with which Python represents undecodable bytes of a file name (`surrogateescape`)."""


def printable(text: str) -> str:
    r"""Return the text with every invisible or control character escaped.

    >>> print(printable("a\x1b[2Jb\u202ec\udcff"))
    a\x1b[2Jb\u202ec\xff
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number in _RAW_BYTES:
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
