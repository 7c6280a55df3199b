"""How workers share the tests: nothing is named that is not there, and each test belongs to one share."""

from pathlib import Path

import pytest

from tests.sharing import WHOLE, share_of, turn_of


def test_every_share_is_there(repository: Path) -> None:
    assert [share for share in WHOLE if not (repository / share).exists()] == []


@pytest.mark.parametrize(
    ("test", "share"),
    [
        ("tests/viewer/test_page.py::test_it", "tests/viewer"),
        ("tests/town/test_town.py::test_it[noon]", "tests/capture"),
        ("tests/kernels/test_compiled.py::test_it", "tests/kernels/test_compiled.py"),
        ("tests/kernels/test_parity.py::test_it", "tests/kernels"),
        ("tests/city/test_appearance_presets.py::test_it[tests/viewer::x]", "tests/city/test_appearance_presets.py"),
    ],
)
def test_a_test_belongs_to_its_folder_or_file(test: str, share: str) -> None:
    assert share_of(test) == share
    assert turn_of(test) == (WHOLE.index(share) if share in WHOLE else len(WHOLE))
