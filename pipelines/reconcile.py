"""The offsets that blocks learned for the same photographs, brought into one trajectory."""

from pathlib import Path

from blocknerf.capture.capture import read_capture
from blocknerf.capture.offsets import read_offsets
from blocknerf.capture.reconciled import write_reconciliation
from blocknerf.capture.reconciliation import Reconciliation
from blocknerf.capture.reconciliation import reconcile as bring_together
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from pipelines.disagreement import CAPTION, HEAD, disagreement_rows
from pipelines.job import say, show, table


def reconcile(run: Path) -> Reconciliation | None:
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
    paths = {block.name: folder.offsets(block.name) for block in city.blocks}
    offsets = {name: read_offsets(path) for name, path in paths.items() if path.exists()}
    if not offsets:
        # A trajectory of an earlier training is none of these fields'.
        folder.poses.unlink(missing_ok=True)
        say("poses are as given: no block refined them")
        return None
    found = bring_together(offsets)
    write_reconciliation(found, folder.poses)
    show(table(HEAD, disagreement_rows(found, metric=capture.metric)))
    say(CAPTION)
    say(f"{folder.poses}: {len(found.trajectory.offsets)} offsets from {len(offsets)} blocks")
    return found
