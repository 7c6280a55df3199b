"""Images of a source: which folder holds them, close names, and images of another size."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from blocknerf.capture.frame import Intrinsics, check_relative
from blocknerf.errors import CaptureError, error_context
from blocknerf.images import image_size
from blocknerf.values import one_case

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
UNSUPPORTED_SUFFIXES = (
    ".heic", ".heif", ".avif", ".gif", ".exr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
)  # fmt: skip
"""Suffixes of images that have to be converted."""
MAX_LISTED = 1_000_000
"""Files listed of a folder to find one with a close name."""
IMAGES_HINT = "give the folder of the images with --images"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImages:
    """The files of named images."""

    folder: Path
    paths: tuple[str, ...]
    """One for each name, relative to the folder."""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class ImageFolder:
    """A folder in which images are found by name, also if case, Unicode form, %20 or the suffix differ."""

    path: Path
    _by_key: dict[str, list[str]] = field(default_factory=dict)
    """Files by their simplified path, with and without suffix; filled when a name is not found as it is."""

    @property
    def has_images(self) -> bool:
        if not self._by_key:
            self._list()
        return len(self._by_key) > 1

    def find(self, name: str) -> str | None:
        """Return the path of an image relative to the folder, or None.

        Raises:
            CaptureError: the name leaves the folder.
        """
        name = name.replace("\\", "/")
        check_relative(name)
        if (self.path / name).is_file():
            return str(PurePosixPath(name))
        if not self._by_key:
            self._list()
        key = _simplified(name)
        for candidates in (self._by_key.get(key, []), self._by_key.get(_stem(key), [])):
            # Of files that differ in case alone, none is better; of several suffixes, PNG holds more than JPEG.
            if len(candidates) == 1 or (candidates and key == _stem(key)):
                return min(candidates, key=_suffix_rank)
        return None

    def find_end(self, name: str) -> str | None:
        """Return the path of an image that ends like the name: other/a/b.jpg finds a/b.jpg."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)) if parts[start] not in ("/", ".."))
        return next((path for path in map(self.find, ends) if path is not None), None)

    def _list(self) -> None:
        count = 0
        for parent, _, files in os.walk(self.path):
            below = Path(parent).relative_to(self.path)
            for file in files:
                if (count := count + 1) > MAX_LISTED:
                    return
                if file.lower().endswith(IMAGE_SUFFIXES):
                    path = (below / file).as_posix()
                    key = _simplified(path)
                    for name in {key, _stem(key)}:
                        self._by_key.setdefault(name, []).append(path)
        self._by_key.setdefault("", [])


def find_images(source: Path, names: Sequence[str], folders: Iterable[Path], given: Path | None = None) -> FoundImages:
    """Return the files of a source's images.

    Args:
        source: The file or folder that names the images; starts messages.
        names: Paths of the images, as the source has them.
        folders: Folders to search, the likeliest first.
        given: The folder that the user gave; no other is searched.

    Raises:
        CaptureError: There is no such folder, or images are missing; the message names the first and counts them.
    """
    if given is not None and not given.is_dir():
        raise CaptureError(f"{given}: this folder of images does not exist; check --images")
    with error_context(str(source)):
        folder = ImageFolder(given) if given is not None else _fullest_folder(source, names, folders)
        paths = [folder.find(name) if given is None else folder.find_end(name) for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if path is None]
    if len(missing) == 1:
        raise CaptureError(f"{folder.path / missing[0]}: this image does not exist; restore it, or {IMAGES_HINT}")
    if missing:
        listed = ", ".join(map(one_case, missing[:3])) + (", ..." if len(missing) > 3 else "")
        count = f"{len(missing)} of {len(names)} images do not exist"
        raise CaptureError(f"{folder.path}: {count}: {listed}; restore them, or {IMAGES_HINT}")
    found = tuple(path for path in paths if path is not None)
    differing = [
        (name, path) for name, path in zip(names, found, strict=True) if given is None and _differs(name, path)
    ]
    notes: tuple[str, ...] = ()
    if differing:
        name, path = differing[0]
        notes = (f"{len(differing)} of {len(names)} images have other names on disk: {name} is {path}",)
    return FoundImages(folder=folder.path.resolve(), paths=found, notes=notes)


def fit_lenses(lenses: Sequence[Intrinsics], files: Sequence[Path]) -> tuple[list[Intrinsics], tuple[str, ...]]:
    """Return the lenses of images that may be stored at another resolution than their lenses say, and notes on it.

    Raises:
        CaptureError: an image cannot be read, or its shape differs from its lens's.
    """
    fitted = [_fit(lens, image_size(file), file) for lens, file in zip(lenses, files, strict=True)]
    changed = Counter((old.size, new.size) for old, new in zip(lenses, fitted, strict=True) if old.size != new.size)
    notes = tuple(
        f"{count} images are {new[0]}x{new[1]}, but their cameras {old[0]}x{old[1]}: "
        f"intrinsics are scaled by {new[0] / old[0]:.4g}"
        for (old, new), count in changed.items()
    )
    return fitted, notes


def _fit(lens: Intrinsics, size: tuple[int, int], file: Path) -> Intrinsics:
    if size == lens.size:
        return lens
    x, y = size[0] / lens.width, size[1] / lens.height
    sizes = f"{size[0]}x{size[1]}, but its camera says {lens.width}x{lens.height}"
    # Either side may be rounded by up to one pixel.
    if min(abs(size[1] - x * lens.height), abs(size[0] - y * lens.width)) > 1.0:
        if size == lens.size[::-1]:
            raise CaptureError(f"{file}: the image is {sizes}; rotate its pixels, and remove its EXIF orientation")
        raise CaptureError(f"{file}: the image is {sizes}, another shape; give the images that the cameras belong to")
    return replace(lens, width=size[0], height=size[1], fx=lens.fx * x, fy=lens.fy * y, cx=lens.cx * x, cy=lens.cy * y)


def _fullest_folder(source: Path, names: Sequence[str], folders: Iterable[Path]) -> ImageFolder:
    """Return the first folder that holds the first, middle or last image, else the first that holds any image."""
    existing = [ImageFolder(folder) for folder in dict.fromkeys(folders) if folder.is_dir()]
    if len(existing) == 1:
        return existing[0]
    sample = dict.fromkeys(names[i] for i in (0, len(names) // 2, -1))
    for folder in existing:
        if any(folder.find(name) is not None for name in sample):
            return folder
    if with_images := next((folder for folder in existing if folder.has_images), None):
        return with_images
    raise CaptureError(f"{source}: no folder of images was found for {one_case(names[0])}; {IMAGES_HINT}")


def _differs(name: str, path: str) -> bool:
    """Whether a file has another name, apart from a suffix that was left out."""
    name = str(PurePosixPath(name.replace("\\", "/")))
    return path not in (name, *(name + suffix for suffix in (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES))))


def _suffix_rank(path: str) -> int:
    return IMAGE_SUFFIXES.index(PurePosixPath(path).suffix.lower())


def _simplified(path: str) -> str:
    return unicodedata.normalize("NFC", unquote(str(PurePosixPath(path)))).casefold()


def _stem(path: str) -> str:
    return path.rsplit(".", 1)[0] if path.endswith(IMAGE_SUFFIXES) else path
