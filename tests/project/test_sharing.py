"""Distribution of tests over workers: all groups exist, and each test belongs to one group."""

from pathlib import Path

import pytest

from tests.sharing import GROUPS, scheduling_group, start_rank


def test_every_group_exists(repository: Path) -> None:
    assert [group for group in GROUPS if not (repository / group).exists()] == []


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/viewer/test_page.py::test_it", "tests/viewer"),
        ("tests/town/test_town.py::test_it[noon]", "tests/town"),
        ("tests/kernels/test_compiled.py::test_it", "tests/kernels/test_compiled.py"),
        ("tests/kernels/test_parity.py::test_it", "tests/kernels"),
        ("tests/city/test_appearance_presets.py::test_it[tests/viewer::x]", "tests/city/test_appearance_presets.py"),
    ],
)
def test_a_test_is_scheduled_with_its_folder_or_file(test: str, group: str) -> None:
    assert scheduling_group(test) == group
    assert start_rank(test) == (GROUPS.index(group) if group in GROUPS else len(GROUPS))
