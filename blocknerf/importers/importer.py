"""What an importer is, and the options that a user may give to one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from blocknerf.capture.capture import Capture
from blocknerf.sfm.options import SfmOptions

UpAxis = Literal["auto", "x", "y", "z", "-x", "-y", "-z"]
CameraAxes = Literal["auto", "opengl", "opencv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """Options of an import. All have defaults; an importer ignores those that do not concern its kind of source."""

    images: Path | None = None
    """Folder of the images, if the source does not say where they are."""
    importer: str | None = None
    """A Python function that imports the source, as module:function. It takes the path and returns a Capture."""
    sfm: SfmOptions = field(default_factory=SfmOptions)
    """Options of the computation of poses from photos or a video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """A kind of source: how to recognize it, and how to read it."""

    kind: str
    """The source in a user's words, with an article: "a COLMAP model"."""
    recognizes: Callable[[Path], bool]
    """Whether a file or folder is of this kind; looks at names and the first bytes only, and imports nothing heavy."""
    read: Callable[[Path, ImportOptions, Path], Capture]
    """Read the source. The third argument is a folder for files that the import makes, such as converted images or
    masks; the importer creates it when it needs it. Raises CaptureError."""
