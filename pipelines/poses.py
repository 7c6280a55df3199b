"""The job that computes poses of photos or of a video."""

from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.errors import CaptureError, RunError
from blocknerf.options import check_whole
from blocknerf.sfm.options import SfmOptions
from blocknerf.sfm.poses import CAPTURE, is_video, poses_of_photos, poses_of_video
from blocknerf.sfm.stages import LOGGER
from pipelines.console import log, printing

DEFAULT_OPTIONS = SfmOptions()


def poses(
    images: Path, *, out: Path, sfm: SfmOptions = DEFAULT_OPTIONS, keep_going: bool = False, threads: int | None = None
) -> Capture:
    """Compute the poses of photos or of a video by structure from motion, and write them as a capture.

    An interrupted computation resumes with the same command. Photos stay where they are; frames of a video are written
    into the capture. `blocknerf run` takes the capture, and also photos or a video themselves. Needs the extra 'sfm'.

    Args:
        images: Folder of photos, or a video.
        out: Folder of the capture; created if it does not exist.
        sfm: Options of the computation.
        keep_going: Leave out photos that cannot be read, instead of stopping.
        threads: Number of CPU threads. Default: all cores.

    Returns:
        The capture.

    Raises:
        CaptureError: The images cannot be used, or too few of them could be registered.
        RunError: The folder contains other files.
    """
    check_whole(threads=threads)
    sfm.check()
    if not images.exists():
        raise CaptureError(f"{images}: does not exist; give a folder of photos or a video")
    _check_free(out)
    with printing(LOGGER):
        if is_video(images):
            capture = poses_of_video(images, out, sfm, threads=threads)
        else:
            capture = poses_of_photos(images, out, sfm, keep_going=keep_going, threads=threads)
    for line in capture.notes:
        log(line)
    log(f"{len(capture)} images with poses -> {out / CAPTURE}")
    return capture


def _check_free(out: Path) -> None:
    """Raise if a folder contains files, and is not that of a computation of poses."""
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: is a file, not a folder; give a folder for the capture")
    is_ours = (out / "sfm").is_dir() or (out / "frames.json").is_file()
    if out.is_dir() and any(out.iterdir()) and not is_ours:
        raise RunError(f"{out}: contains other files; give a new or empty folder")
