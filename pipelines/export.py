"""What other programs can use of a run."""

from pathlib import Path

from blocknerf.capture.transforms_writer import write_transforms
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_images, capture_with_refined_poses
from blocknerf.errors import RunError
from pipelines.console import log


def export(run: Path, *, poses: Path, capture: Path | None = None) -> Path:
    """Write the refined poses as a transforms.json, and give its path.

    It is nerfstudio's form, and a capture like any other: `blocknerf run FILE --out ANOTHER` takes it.

    Args:
        run: The run folder, its poses reconciled.
        poses: The file to write, in the photographs' folder or above it.
        capture: Where the images are now, if the run or the capture was moved: the capture's folder; remembered.

    Raises:
        RunError: The run's poses were not refined, or are not reconciled yet.
        CaptureError: The photographs do not lie below the file's folder, or a file is broken.
    """
    folder = RunFolder(run)
    capture_with_images(folder, capture)
    refined = capture_with_refined_poses(folder)
    if not folder.poses.exists():
        raise RunError(f"{folder.poses}: there are no reconciled poses; run 'blocknerf align' after training")
    write_transforms(refined, poses)
    log(f"{poses}: {len(refined)} photographs with refined poses")
    return poses
