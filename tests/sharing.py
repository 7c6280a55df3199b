"""How worker processes share the tests (pytest-xdist): what rests on one costly thing goes to one worker."""

from xdist.scheduler import LoadScopeScheduling

WHOLE = (
    "tests/viewer",
    "tests/kernels",
    "tests/kernels/test_compiled.py",
    "tests/kernels/test_launched.py",
    "tests/paper",
    "tests/capture",
    "tests/training",
    "tests/project",
    "tests/partition",
)
"""What one worker takes whole, in the order in which it is begun, the longest first; of all other tests workers take
files.

Kernels for the processor are compiled before any begins. The town's photographs, a trained run and the browser are one
worker's, as are the kernels that an interpreter runs; machine code for a GPU is made by processes of its own.
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
