"""How worker processes share the tests (pytest-xdist): what rests on one costly thing goes to one worker."""

from xdist.scheduler import LoadScopeScheduling

WHOLE = (
    "tests/kernels",
    "tests/capture",
    "tests/project",
    "tests/partition",
    "tests/kernels/test_compiled.py",
    "tests/kernels/test_launched.py",
    "tests/viewer",
    "tests/paper",
    "tests/training",
)
"""What one worker takes whole, in the order in which it is begun; of all other tests workers take files.

Compiling the kernels takes minutes where nothing was compiled before. Who begins with it finds nobody else at it: what
stands between it and the viewer needs hardly any of them, and the rest are compiled when the viewer's run is trained.
Machine code for a GPU is made by a process of its own. The town's photographs, that run and the browser are one
worker's.
"""


def share_of(test: str) -> str:
    """What a test is taken together with, from its name: a folder or a file."""
    file = test.partition("::")[0]
    return max((share for share in WHOLE if f"{file}/".startswith(f"{share}/")), key=len, default=file)


def turn_of(test: str) -> int:
    """How early a test is begun."""
    share = share_of(test)
    return WHOLE.index(share) if share in WHOLE else len(WHOLE)


class Sharing(LoadScopeScheduling):
    """Gives out whole shares, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)
