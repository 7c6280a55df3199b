"""HTML helpers for a self-contained page that loads nothing from the network."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from blocknerf.errors import RunError
from blocknerf.images import read_image

JPEG_QUALITY = 88

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --ink: #1d2328; --faint: #69737c; --line: #dfe2e0; --card: #fff;
  --accent: #1f6f8b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181b; --ink: #e6e9ea; --faint: #95a0a8; --line: #2c3338;
  --card: #1b2024; --accent: #6bb7d1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 1.5rem clamp(0.9rem, 3vw, 2rem) 4rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.2rem); line-height: 1.15; margin: 0.5rem 0 0.3rem; letter-spacing: -0.015em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 0.7rem; padding-top: 0.9rem; border-top: 1px solid var(--line); }
h3 { font-size: 0.95rem; margin: 1.4rem 0 0.4rem; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 0.5rem 0; max-width: 75ch; }
.faint, figcaption, caption { color: var(--faint); font-size: 0.88rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 0.7rem; margin: 1.2rem 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 0.7rem 0.9rem; }
.tiles b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--faint); font-size: 0.82rem; }
img, video, svg { display: block; max-width: 100%; height: auto; border-radius: 6px; }
video, .wide img { width: 100%; background: #000; }
video { max-height: 76vh; }
figure { margin: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 1rem; }
.four { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(48%, 250px), 1fr)); gap: 0.6rem; }
.four img { width: 100%; }
.wide-four { grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
figcaption { margin: 0.25rem 0 0.4rem; }
.half { position: relative; }
.half::after { content: ""; position: absolute; inset: 0 auto 0 50%; border-left: 2px dashed #ffffffb0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th, td { padding: 0.38rem 0.8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--faint); }
th:first-child, td:first-child { text-align: left; }
tbody tr:last-child td { border-bottom: 0; }
tr.sum td { font-weight: 650; border-top: 2px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1.2rem; font-size: 0.92rem; margin: 0.6rem 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.warn { border-left: 3px solid #d08a1d; padding-left: 0.8rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; padding: 0; margin: 0.4rem 0;
  font-size: 0.85rem; color: var(--faint); }
.legend i { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 3px; margin-right: 0.4em; }
svg { width: 100%; overflow: visible; } svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .grid { stroke: var(--line); } svg text { fill: var(--faint); font-size: 11px; }
svg .axis { text-anchor: middle; } .ribbon svg { height: 22px; margin-top: 0.4rem; border-radius: 4px; }
@media (max-width: 600px) { .map { margin: 0 -0.5rem; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 0.5rem; } th, td { padding: 0.35rem 0.55rem; } }
"""

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""Content security policy: the browser blocks every request to the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and the HTML under it."""

    title: str
    body: str


def document(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return a page. `lead` is HTML; the titles are plain text.

    Bytes of file names that are not UTF-8 become question marks.
    """
    shown = [section for section in sections if section.body]
    parts = [f"<section><h2>{escape(section.title)}</h2>{section.body}</section>\n" for section in shown]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><header><h1>{escape(title)}</h1>{lead}</header>\n{''.join(parts)}</main></body></html>\n"
    )
    return page.encode("utf-8", "replace").decode()


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def stat_cards(facts: Sequence[tuple[str, str]]) -> str:
    """Return cards with large values and small labels."""
    items = (f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in facts)
    return f'<div class="tiles">{"".join(items)}</div>'


def definition_list(facts: Sequence[tuple[str, str]]) -> str:
    """Return a list of keys and values."""
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in facts)}</dl>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], last: Sequence[str] | None = None) -> str:
    """Return a table of plain text, which scrolls if it is too wide. `last` is a total row."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in header)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    body += f'<tr class="sum">{_cells(last)}</tr>' if last is not None else ""
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(content: str, caption: str, kind: str = "") -> str:
    """Return HTML content with a caption of plain text."""
    return f'<figure><div class="{kind}">{content}</div><figcaption>{escape(caption)}</figcaption></figure>'


def img_tag(path: Path, alt: str, *, lossless: bool = False) -> str:
    """Return an embedded image: JPEG, or PNG if lossless, for sharp edges."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(read_image(path))
    if lossless:
        image.quantize(192, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    kind, (width, height) = "png" if lossless else "jpeg", image.size
    source = _data(f"image/{kind}", buffer.getvalue())
    return f'<img src="{source}" alt="{escape(alt)}" width="{width}" height="{height}">'


def video_tag(path: Path, label: str) -> str:
    """Return an embedded video."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); render it again") from None
    source = _data("video/mp4", content)
    return f'<video controls autoplay loop muted playsinline aria-label="{escape(label)}" src="{source}"></video>'


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row)


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
