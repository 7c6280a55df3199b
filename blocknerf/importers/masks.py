"""Masks of movable objects: from a folder, from the source itself, or from a function of the user.

In a mask, black pixels are ignored. Masks are used where they lie. Those that have to be changed (inverted, grown,
combined with the user's function) are written once as PNG into the folder of the import.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from rich.console import Console
from rich.progress import track

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame
from blocknerf.capture.image_files import ImageFolder
from blocknerf.errors import CaptureError
from blocknerf.images import read_image, read_mask_levels, white_above, write_image
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.user_functions import errors_of, load_function
from blocknerf.kernels.threads import available_cores

DYNAMIC_PREFIX = "dynamic_mask_"
"""Masks of instant-ngp next to the images; white pixels are ignored."""
MAX_SMALL = 64
"""Masks with no brighter value than this are labels, unless they hold two values."""
MARGIN_LEVELS = 32
"""Distance from black and white within which values count as black or white; lossy files are off by less."""
MAX_GRAY_SHARE = 0.05
"""Share of other pixels in a mask; more than smooth edges account for is something else, such as labels."""
MANY = 0.5
"""Share of ignored pixels above which masks may be inverted."""
MAX_VALUES = 8
"""Values that a message lists."""

Item = TypeVar("Item")
MaskFunction = Callable[[UInt8[np.ndarray, "height width 3"]], Bool[np.ndarray, "height width"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The file of a mask, and whether white pixels are ignored instead of black ones."""

    path: Path
    inverted: bool = False


def apply_masks(capture: Capture, options: ImportOptions, work: Path) -> Capture:
    """Return the capture with its masks checked and completed as the options say, and notes on what they ignore.

    Args:
        capture: An imported capture; it may have masks of its own.
        options: Options of the import.
        work: Folder for masks that have to be written.

    Raises:
        CaptureError: a mask is missing, broken, of another size or holds labels, or the user's function fails.
    """
    sources, note = _sources(capture, options)
    if not sources and options.mask_with is None:
        if options.mask_margin or options.invert_masks:
            raise CaptureError("--mask-margin and --invert-masks change masks, but the capture has none; add --masks")
        return capture
    changes = options.mask_with or options.mask_margin or options.invert_masks
    if changes or any(source.inverted for source in sources.values()):
        masked, shares = _write(capture, sources, options, work)
    else:
        masked, shares = _use(capture, sources, options, work)
    notes = (*masked.notes, *note, *_shares_note(shares, len(capture), options))
    return replace(masked, notes=tuple(dict.fromkeys(notes)))  # A capture that is imported again has them.


def _sources(capture: Capture, options: ImportOptions) -> tuple[dict[int, _Source], list[str]]:
    """Return the mask of each frame that has one, and a note on where they are from."""
    found = {
        i: _Source(path=capture.mask_path(frame.mask), inverted=options.invert_masks)
        for i, frame in enumerate(capture.frames)
        if frame.mask is not None
    }
    if options.masks is not None:
        return found | _from_folder(capture, options.masks, options.invert_masks), []
    dynamic = {
        i: _Source(path=path, inverted=not options.invert_masks)
        for i, frame in enumerate(capture.frames)
        if i not in found and (path := _dynamic_mask(capture.image_dir / frame.image)).is_file()
    }
    note = [f"{len(dynamic)} images have a {DYNAMIC_PREFIX}*.png (instant-ngp): white is ignored"] if dynamic else []
    return found | dynamic, note


def _dynamic_mask(image: Path) -> Path:
    return image.with_name(f"{DYNAMIC_PREFIX}{image.stem}.png")


def _from_folder(capture: Capture, folder: Path, inverted: bool) -> dict[int, _Source]:
    """Return the masks in a folder, by the path of the image or its end, with any suffix: a/b.png, b.jpg.png."""
    if not folder.is_dir():
        raise CaptureError(f"{folder}: this folder of masks does not exist; check --masks")
    files, found = ImageFolder(folder), {}
    for i, frame in enumerate(capture.frames):
        if name := files.find_end(frame.image):
            found[i] = _Source(path=folder / name, inverted=inverted)
    if not found:
        name = PurePosixPath(capture.frames[0].image).with_suffix(".png").name
        raise CaptureError(f"{folder}: holds no mask of an image; name them after the images ({name})")
    return found


def read_usable(path: Path, size: tuple[int, int] | None = None) -> Bool[np.ndarray, "height width"]:
    """Return the usable (white) pixels of a mask; of a palette, of an alpha channel, of 0/1 and of 0/255.

    Raises:
        CaptureError: the file is missing, broken, of another size, or holds labels or shades instead of two values.
    """
    levels = read_mask_levels(path, size)
    values, counts = np.unique(levels, return_counts=True)
    top = int(values[-1])
    is_gray = (values > MARGIN_LEVELS) & (values < top - MARGIN_LEVELS)
    if (len(values) > 2 and top <= MAX_SMALL) or counts[is_gray].sum() > MAX_GRAY_SHARE * levels.size:
        listed = ", ".join(map(str, values[:MAX_VALUES])) + (", ..." if len(values) > MAX_VALUES else "")
        raise CaptureError(
            f"{path}: is no mask of two values but holds {listed}, such as labels; "
            "write 0 where pixels are to be ignored and 255 elsewhere"
        )
    return white_above(levels)


def _use(
    capture: Capture, sources: Mapping[int, _Source], options: ImportOptions, work: Path
) -> tuple[Capture, dict[int, float]]:
    """Use masks where they are, unless sky masks are in another folder."""
    files = [(i, source.path, capture.frames[i].intrinsics.size) for i, source in sources.items()]
    with ThreadPoolExecutor(available_cores()) as pool:
        shares = pool.map(lambda file: 1.0 - float(read_usable(file[1], file[2]).mean()), files)
        counted = dict(zip(sources, _progress(shares, "checking masks", len(files)), strict=True))
    if options.masks is None:
        return capture, counted
    if any(frame.sky_mask is not None for frame in capture.frames):
        return _write(capture, sources, options, work)[0], counted
    folder = options.masks.resolve()
    paths = {i: source.path.relative_to(options.masks).as_posix() for i, source in sources.items()}
    return _with_masks(capture, folder, paths), counted


def _write(
    capture: Capture, sources: Mapping[int, _Source], options: ImportOptions, work: Path
) -> tuple[Capture, dict[int, float]]:
    """Write the masks of all frames that have one; those of an interrupted import with the same options are kept."""
    function = None if options.mask_with is None else load_function(options.mask_with, "--mask-with")
    folder = work / f"masks-{_digest(sources, options, function)}"
    frames = range(len(capture)) if function is not None else sources
    make = partial(_make, capture, sources, options, function, folder)
    shares = {i: make(i) for i in _progress(frames, "masks", len(frames))}
    return _with_masks(capture, folder.resolve(), {i: _file_name(capture.frames[i]) for i in frames}), shares


def _make(
    capture: Capture,
    sources: Mapping[int, _Source],
    options: ImportOptions,
    function: MaskFunction | None,
    folder: Path,
    index: int,
) -> float:
    """Write one mask if it is not there yet, and return the share that it ignores."""
    frame = capture.frames[index]
    path = folder / _file_name(frame)
    if path.is_file():
        return 1.0 - float(read_usable(path, frame.intrinsics.size).mean())
    usable = np.ones(frame.intrinsics.size[::-1], dtype=bool)
    if source := sources.get(index):
        usable = read_usable(source.path, frame.intrinsics.size) ^ source.inverted
    if function is not None:
        image = read_image(capture.image_dir / frame.image, 1, frame.intrinsics.size)
        usable &= ~_movable(function, image, f"--mask-with {options.mask_with}: {frame.name}")
    usable = _shrink(usable, options.mask_margin)
    write_image(path, usable.astype(np.uint8) * 255)
    return 1.0 - float(usable.mean())


def _movable(
    function: MaskFunction, image: UInt8[np.ndarray, "height width 3"], where: str
) -> Bool[np.ndarray, "height width"]:
    """Return the movable pixels that the user's function finds in an image."""
    with errors_of(where):
        result = np.asarray(function(image))
    if result.dtype != bool or result.shape != image.shape[:2]:
        found = f"{result.dtype} of shape {result.shape}"
        raise CaptureError(f"{where}: returned {found}, not bool of shape {image.shape[:2]}; return True where movable")
    return result


def _shrink(usable: Bool[np.ndarray, "height width"], margin: int) -> Bool[np.ndarray, "height width"]:
    """Return the usable pixels that are farther than `margin` pixels from ignored ones."""
    if margin == 0 or usable.all():
        return usable
    return cv2.distanceTransform(usable.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > margin


def _with_masks(capture: Capture, folder: Path, masks: Mapping[int, str]) -> Capture:
    """Return the capture with masks of another folder; masks and sky masks share it, so sky masks are copied there."""
    frames = list(capture.frames)
    for i, frame in enumerate(frames):
        sky = None if frame.sky_mask is None else f"skies/{frame.sky_mask}"
        if sky is not None and not (folder / sky).is_file():
            (folder / sky).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(capture.mask_path(str(frame.sky_mask)), folder / sky)
        frames[i] = replace(frame, mask=masks.get(i), sky_mask=sky)
    return replace(capture, mask_dir=folder, frames=tuple(frames))


def _file_name(frame: Frame) -> str:
    return f"{frame.image}.png"


def _digest(sources: Mapping[int, _Source], options: ImportOptions, function: Callable[..., Any] | None) -> str:
    """Return a digest of what the masks are made from: files with their times, options, and the user's module."""
    import inspect

    digest = hashlib.sha256(repr((options.mask_with, options.mask_margin)).encode())
    for source in sources.values():
        status = source.path.stat()
        digest.update(repr((str(source.path), source.inverted, status.st_size, status.st_mtime_ns)).encode())
    if function is not None and (module := inspect.getsourcefile(function)):
        digest.update(Path(module).read_bytes())
    return digest.hexdigest()[:12]


def _shares_note(shares: Mapping[int, float], total: int, options: ImportOptions) -> Iterator[str]:
    mean = float(np.mean(list(shares.values()))) if shares else 0.0
    some = "" if len(shares) == total else f" of {len(shares)} of {total} images"
    yield f"masks ignore {mean:.1%} of the pixels{some}"
    if mean > MANY:
        action = "leave out --invert-masks" if options.invert_masks else "give --invert-masks"
        yield f"warning: masks ignore most pixels; if white marks what is to be ignored, {action}"


def _progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items, with a progress bar if standard output is a terminal."""
    console = Console()
    yield from track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
