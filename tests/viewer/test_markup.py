"""Any text in the panel stays text, whatever it contains."""

from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.errors import printable
from viewer.markup import MAX_TEXT, escape, paragraph, table

HOSTILE = [
    "<script>parent.fallen = 1</script>",
    '<iframe srcdoc="<script>parent.fallen = 1</script>">',
    '<img src=x onerror="fallen = 1">\'',
    "![image](http://elsewhere.example/x.png) [link](javascript:fallen=1) <http://elsewhere.example/>",
    "http://elsewhere.example/ www.elsewhere.example me@elsewhere.example `code` {fallen = 1} | a | b |",
    "one\ntwo\r\nthree & &lt;b&gt; &#60; --> ]]> </p></table></svg>",
    '" onmouseover="fallen = 1',
    "half a pair: \ud800, nothing: \x00, and turned: \u202e",
]
PIECES = st.sampled_from([*HOSTILE, *"<>&\"'`=/|{}[]()!#\n", "--", "<!--", "]]>", "script", "on", "&#x3c;"])
TEXTS = st.lists(PIECES | st.characters(), max_size=12).map("".join)


class Page(HTMLParser):
    """Tags with their attribute names, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = unknown_decl = handle_pi = handle_comment


def literal(text: str) -> str:
    """Return a text as it must be displayed."""
    return printable(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ...")


@pytest.mark.parametrize(
    "function", [escape, paragraph, lambda text: paragraph("", f"-{text}"), lambda text: table([text], [[text]])]
)
@settings(deadline=None)
@given(text=TEXTS)
def test_a_text_is_displayed_literally(function: Callable[[str], str], text: str) -> None:
    page, plain = Page(function(text)), Page(function("plain"))
    assert page.tags == plain.tags
    assert page.text == plain.text.replace("plain", literal(text))


@settings(deadline=None)
@given(text=TEXTS)
def test_a_text_cannot_end_an_attribute(text: str) -> None:
    page = Page(f'<i title="{escape(text)}">x</i>')
    assert page.tags == [("i", ("title",))]
    assert page.text == "x"


def test_a_long_text_is_cut() -> None:
    assert len(escape("<" * 10 * MAX_TEXT)) == 4 * MAX_TEXT + 4
