"""HTML for the panel, and the one place where untrusted text is escaped.

viser's Markdown renders raw HTML, loads image URLs, and linkifies even escaped text, since it scans the rendered
result. In HTML, escaping is complete.
"""

from collections.abc import Sequence
from html import escape as escape_html

from blocknerf.errors import printable

MAX_TEXT = 1000
"""Longest text shown, in characters."""
STYLE = """<style>
.panel-text { margin: 0 0.75rem 0.6rem; font-size: 0.875rem; overflow-wrap: anywhere; white-space: pre-wrap; }
table.panel-text { width: calc(100% - 1.5rem); border-collapse: collapse; font-size: 0.8rem; white-space: normal; }
.panel-text td, .panel-text th { padding: 0.15rem 0.4rem; text-align: left;
  border-bottom: 1px solid var(--mantine-color-default-border); }
</style>"""
"""Style sheet; the panel contains it once."""


def escape(text: str) -> str:
    """Escape a text for HTML, as content or as an attribute value.

    Invisible characters with an effect, such as marks of text direction, are shown as their codes.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    shown = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ..."
    return escape_html(printable(shown))


def paragraph(text: str, head: str = "") -> str:
    """Return a text as a paragraph, after a bold head if given."""
    return f'<p class="panel-text">{f"<b>{escape(head)}</b> " if head else ""}{escape(text)}</p>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as a table with column titles."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="panel-text"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
