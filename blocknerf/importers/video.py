"""Importer of videos: their frames get poses by structure from motion."""

from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.sfm.poses import is_video, poses_of_video


def _read(path: Path, options: ImportOptions, work: Path) -> Capture:
    return poses_of_video(path, work, options.sfm)


VIDEO = Importer(kind="a video", recognizes=is_video, defines_up=True, read=_read)
