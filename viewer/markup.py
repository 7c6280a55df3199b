"""Texts for the panel as HTML, and the one place where those that are not ours are escaped.

viser's Markdown renders raw HTML, follows image addresses, and makes links of what looks like one even where it was
escaped: it searches the finished text for them. In HTML escaping is complete.
"""

from collections.abc import Sequence
from html import escape as escape_html

from blocknerf.printable import printable

MAX_TEXT = 1000
"""Letters of a text that are shown."""
STYLE = """<style>
.told { margin: 0 0.75rem 0.6rem; font-size: 0.875rem; overflow-wrap: anywhere; white-space: pre-wrap; }
table.told { width: calc(100% - 1.5rem); border-collapse: collapse; font-size: 0.8rem; white-space: normal; }
.told td, .told th { padding: 0.15rem 0.4rem; text-align: left;
  border-bottom: 1px solid var(--mantine-color-default-border); }
</style>"""
"""How they look; the panel holds it once."""


def escape(text: str) -> str:
    """HTML that shows a text letter by letter, as content or as the value of an attribute.

    What is not seen, but acts, such as a mark that turns the direction of letters, is shown as its code.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    cut = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ..."
    return escape_html(printable(cut))


def paragraph(text: str, head: str = "") -> str:
    """A text, under a bold head where there is one."""
    return f'<p class="told">{f"<b>{escape(head)}</b> " if head else ""}{escape(text)}</p>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts under their titles."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="told"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
