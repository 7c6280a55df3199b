"""Text from elsewhere as a terminal may show it: names in files can hold what moves its cursor or turns its order."""

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of controls, of marks that are not seen, of halves of characters, and of line ends."""
_RAW_BYTES = range(0xDC80, 0xDD00)
"""How Python spells the bytes of a file name that are not of the system's encoding."""


def printable(text: str) -> str:
    r"""The text with every character that is not seen, but acts, written as its code.

    >>> print(printable("a\x1b[2Jb\u202ec\udcff"))
    a\x1b[2Jb\u202ec\xff
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(each) if unicodedata.category(each) in _HIDDEN else each for each in text)


def _code(character: str) -> str:
    number = ord(character)
    if number in _RAW_BYTES:
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
