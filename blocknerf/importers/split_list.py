"""Lists of the images to hold out for evaluation."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from blocknerf.capture.capture import Capture
from blocknerf.errors import CaptureError
from blocknerf.files import MAX_JSON_BYTES, read_bounded
from blocknerf.values import one_case


def apply_test_list(capture: Capture, path: Path | None) -> Capture:
    """Return the capture with the images of a list for testing, and all others for training.

    A line is an image's path or the end of one, with or without suffix; empty lines and comments (#) are ignored.

    Raises:
        CaptureError: the list cannot be read, or names an image that the capture does not have.
    """
    if path is None:
        return capture
    wanted = _names(path)
    by_name: dict[str, list[int]] = {}
    for i, frame in enumerate(capture.frames):
        parts = PurePosixPath(frame.image).parts
        ends = {"/".join(parts[start:]) for start in range(len(parts))}
        for name in ends | {_without_suffix(end) for end in ends}:
            by_name.setdefault(name, []).append(i)
    unknown = [name for name in wanted if name not in by_name]
    if unknown or not wanted:
        first = f"{one_case(unknown[0])} is no image of the capture" if unknown else "lists no image"
        count = f" ({len(unknown)} of {len(wanted)} names are not)" if len(unknown) > 1 else ""
        raise CaptureError(f"{path}: {first}{count}; write one image a line, as the capture names them")
    ambiguous = next((name for name in wanted if len(by_name[name]) > 1), None)
    if ambiguous is not None:
        raise CaptureError(f"{path}: {one_case(ambiguous)} is the name of several images; write it with its folder")
    test = {i for name in wanted for i in by_name[name]}
    frames = tuple(replace(frame, split="test" if i in test else "train") for i, frame in enumerate(capture.frames))
    return replace(capture, frames=frames)


def _names(path: Path) -> list[str]:
    try:
        text = read_bounded(path, "list of test images", CaptureError, MAX_JSON_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise CaptureError(f"{path}: this list of test images does not exist; check --test-list") from None
    except UnicodeError:
        raise CaptureError(f"{path}: this list of test images is not UTF-8 text; write one image a line") from None
    lines = (line.strip().replace("\\", "/").removeprefix("./") for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix else name
