"""Distribution of tests over workers (pytest-xdist), and which of them are slow."""

from xdist.scheduler import LoadScopeScheduling

GROUPS = (
    "tests/viewer",
    "tests/kernels",
    "tests/kernels/test_compiled.py",
    "tests/paper",
    "tests/kernels/test_launched.py",
    "tests/training",
    "tests/pipelines/test_whole_way.py",
    "tests/pipelines/test_parallel.py",
    "tests/project",
    "tests/fuzzing",
    "tests/town",
    "tests/partitioning",
)
"""Folders and files that one worker runs as a whole, in start order, the longest first; all other tests are distributed
by file.

CPU kernels are compiled before any test starts, and those of the town by the first test that needs them, in
`tests/paper`, long before the others. The images of the town, the trained run and the browser belong to one worker, as
do the interpreted kernels; GPU machine code is compiled in separate processes.
"""

SLOW = (
    "tests/fuzzing",
    "tests/kernels",
    "tests/paper",
    "tests/pipelines",
    "tests/town",
    "tests/training",
    "tests/viewer",
    "tests/capture/test_pose_averaging.py",
    "tests/city/test_matching.py",
    "tests/importers/test_mission_bay_logs.py",
    "tests/sfm/test_poses.py",
    "tests/test_examples.py",
    "tests/test_video.py",
    "tests/test_wheel.py",
)
"""Folders and files that `make check` leaves out: they train, compile, or start processes and browsers."""


def is_slow(test: str) -> bool:
    """Return whether `make check` leaves a test out, from its name."""
    return f"{test.partition('::')[0]}/".startswith(tuple(f"{path}/" for path in SLOW))


def scheduling_group(test: str) -> str:
    """Return the folder or file that a test is scheduled with, from its name."""
    file = test.partition("::")[0]
    return max((group for group in GROUPS if f"{file}/".startswith(f"{group}/")), key=len, default=file)


def start_rank(test: str) -> int:
    """Return the position of a test in the start order."""
    group = scheduling_group(test)
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


class Sharing(LoadScopeScheduling):
    """Schedules whole groups, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return scheduling_group(nodeid)
