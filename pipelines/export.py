"""Export of a run's refined poses for other programs."""

from pathlib import Path

from blocknerf.capture.transforms_writer import write_transforms
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_images, capture_with_refined_poses
from blocknerf.errors import RunError
from pipelines.console import log


def export(run: Path, *, poses: Path, capture: Path | None = None) -> Path:
    """Write the refined poses as a transforms.json (nerfstudio format).

    The file is a capture like any other: 'blocknerf run FILE --out ANOTHER' reads it.

    Args:
        run: Run folder with aligned poses.
        poses: File to write, in the folder of the images or above it.
        capture: Folder of the capture, if it or the run was moved; remembered. Default: as recorded in the run.

    Returns:
        The path of the file.

    Raises:
        RunError: The run's poses were not refined, or are not aligned yet.
        CaptureError: The images are not below the file's folder, or a file is broken.
    """
    folder = RunFolder(run)
    capture_with_images(folder, capture)
    refined = capture_with_refined_poses(folder)
    if not folder.poses.exists():
        raise RunError(f"{folder.poses}: there are no aligned poses; run 'blocknerf align' after training")
    for line in write_transforms(refined, poses):
        log(f"warning: {line}")
    log(f"{poses}: {len(refined)} images with refined poses")
    return poses
