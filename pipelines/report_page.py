"""The page of the report: its template, and the files that it embeds, so that it loads nothing from the network."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocknerf.errors import RunError
from blocknerf.images import read_image

if TYPE_CHECKING:
    from jinja2 import Template

JPEG_QUALITY = 88


def render_page(**values: Any) -> str:
    """Return the page for the values that `templates/report.html.j2` uses. Texts are escaped.

    Bytes of file names that are not UTF-8 become question marks.
    """
    return _template().render(values).encode("utf-8", "replace").decode()


def embedded_image(path: Path, *, lossless: bool = False) -> str:
    """Return an image as a data URL: JPEG, or PNG if lossless, for sharp edges."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(read_image(path))
    if lossless:
        image.quantize(192, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return _data_url("image/png" if lossless else "image/jpeg", buffer.getvalue())


def embedded_video(path: Path) -> str:
    """Return a video as a data URL.

    Raises:
        RunError: The file cannot be read.
    """
    try:
        return _data_url("video/mp4", path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); render it again") from None


def number(value: float | None, digits: int) -> str:
    """Return a number with a fixed count of digits; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "block"), counted(2, "block")
    ('1 block', '2 blocks')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipelines"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2")


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
