"""Averaging of the poses that blocks refined for the same images."""

from pathlib import Path

from blocknerf.capture.capture_file import read_capture
from blocknerf.capture.pose_averaging import (
    RESIDUAL_CAPTION,
    RESIDUAL_HEADER,
    PoseAverage,
    average_poses,
    residual_rows,
)
from blocknerf.capture.pose_averaging_file import write_pose_average
from blocknerf.capture.pose_corrections import read_corrections
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from pipelines.console import log, print_table, table


def align(run: Path) -> PoseAverage | None:
    """Average the refined poses of overlapping blocks into one trajectory, and print the residuals.

    Writes poses.json in the run folder, even if it exists. Does nothing if no block refined its poses.

    Args:
        run: Run folder with all blocks trained.

    Returns:
        The common trajectory and the residuals of each block; None if no block refined its poses.

    Raises:
        RunError: A block is not trained.
        CaptureError: A file of poses is broken, or blocks were trained with pose segments of different lengths.
    """
    folder = RunFolder(run)
    city, capture = read_city(folder.city), read_capture(folder.capture)
    missing = [block.name for block in city.blocks if not folder.field(block.name).exists()]
    if missing:
        raise RunError(f"{folder.path}: block {missing[0]} is not trained; run 'blocknerf train' first")
    paths = {block.name: folder.pose_corrections(block.name) for block in city.blocks}
    corrections = {name: read_corrections(path) for name, path in paths.items() if path.exists()}
    if not corrections:
        # A trajectory of an earlier training does not belong to these fields.
        folder.poses.unlink(missing_ok=True)
        log("no block refined its poses; using the poses of the capture")
        return None
    average = average_poses(corrections)
    write_pose_average(average, folder.poses)
    print_table(table(RESIDUAL_HEADER, residual_rows(average, metric=capture.is_metric)))
    log(RESIDUAL_CAPTION)
    log(f"{folder.poses}: {len(average.trajectory.corrections)} pose corrections from {len(corrections)} blocks")
    return average
