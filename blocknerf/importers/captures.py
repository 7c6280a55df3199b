"""Importers of captures in the project's own format and in that of nerfstudio and instant-ngp."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.capture_file import read_capture
from blocknerf.capture.capture_record import CAPTURE_FORMAT
from blocknerf.capture.frame import Split
from blocknerf.capture.transforms import read_transforms
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.importers.unsupported import read_head

BLENDER_FILES: dict[Split, str] = {split: f"transforms_{split}.json" for split in get_args(Split)}
"""Files of Blender scenes, as NeRF's synthetic data set has them."""
_OTHER_NAMES = ("reconstruction.json", "metadata.json")
"""JSON files of other importers."""


def _is_capture(path: Path) -> bool:
    if path.is_dir():
        return (path / "capture.json").is_file() and not (path / "transforms.json").is_file()
    return path.suffix == ".json" and CAPTURE_FORMAT.split("/")[0].encode() in read_head(path)[:1024]


def _is_transforms(path: Path) -> bool:
    if path.is_dir():
        return (path / "transforms.json").is_file()
    is_list = read_head(path).lstrip().startswith(b"[")
    return path.suffix == ".json" and path.name not in _OTHER_NAMES and not is_list


def _read_capture(path: Path, options: ImportOptions, work: Path) -> Capture:
    capture = read_capture(path / "capture.json" if path.is_dir() else path, use_table=False)
    check_files(capture)
    return capture


def _read_transforms(path: Path, options: ImportOptions, work: Path) -> Capture:
    return read_transforms(path, images=options.images)


def _is_blender(path: Path) -> bool:
    return (path / BLENDER_FILES["train"]).is_file()


def _read_blender(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Read the files of all splits as one capture.

    An image that trains and is in another split as well is held out, so that no score is of an image that trains. The
    split is left open if all images train, or none would, as in scenes where the files are copies of one.
    """
    parts: dict[Split, Capture] = {
        split: read_transforms(path / name, images=options.images)
        for split, name in BLENDER_FILES.items()
        if (path / name).is_file()
    }
    frames = {frame.image: frame for part in parts.values() for frame in part.frames}
    split_of = {frame.image: split for split, part in parts.items() for frame in part.frames}
    notes = [f"read {', '.join(BLENDER_FILES[split] for split in parts)}"]
    if {"train"} < set(split_of.values()):
        frames = {image: replace(frame, split=split_of[image]) for image, frame in frames.items()}
        if twice := sum(split_of[frame.image] != "train" for frame in parts["train"].frames):
            notes.append(f"{twice} images are for training and in another split as well; they are held out")
    return replace(parts["train"], frames=tuple(frames.values()), notes=(*notes, *parts["train"].notes))


CAPTURE = Importer(kind="a capture", recognizes=_is_capture, defines_up=True, read=_read_capture)
TRANSFORMS = Importer(kind="a transforms.json", recognizes=_is_transforms, read=_read_transforms, defines_axes=False)
BLENDER = Importer(kind="a Blender scene", recognizes=_is_blender, read=_read_blender)
