"""The offsets that blocks learned for the same photographs, brought into one trajectory."""

from pathlib import Path

from blocknerf.capture.capture import read_capture
from blocknerf.capture.pose_averaging import PoseAverage, average_poses
from blocknerf.capture.pose_averaging_file import write_pose_average
from blocknerf.capture.pose_corrections import read_corrections
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from pipelines.console import log, print_table, table
from pipelines.pose_residual_table import TABLE_CAPTION, TABLE_HEADER, residual_rows


def align(run: Path) -> PoseAverage | None:
    """Bring the refined poses of all blocks into one trajectory, and give it with the blocks' disagreement.

    Written to the run's poses.json, and always anew: it takes no time. None where no block refined poses.

    Args:
        run: The run folder, with all blocks trained.

    Raises:
        RunError: A block is not trained.
        CaptureError: A file of poses is broken, or blocks were trained with stretches of different lengths.
    """
    folder = RunFolder(run)
    city, capture = read_city(folder.city), read_capture(folder.capture)
    missing = [block.name for block in city.blocks if not folder.field(block.name).exists()]
    if missing:
        raise RunError(f"{folder.path}: block {missing[0]} is not trained; run 'blocknerf train' first")
    paths = {block.name: folder.pose_corrections(block.name) for block in city.blocks}
    offsets = {name: read_corrections(path) for name, path in paths.items() if path.exists()}
    if not offsets:
        # A trajectory of an earlier training is none of these fields'.
        folder.poses.unlink(missing_ok=True)
        log("poses are as given: no block refined them")
        return None
    found = average_poses(offsets)
    write_pose_average(found, folder.poses)
    print_table(table(TABLE_HEADER, residual_rows(found, metric=capture.is_metric)))
    log(TABLE_CAPTION)
    log(f"{folder.poses}: {len(found.trajectory.corrections)} offsets from {len(offsets)} blocks")
    return found
