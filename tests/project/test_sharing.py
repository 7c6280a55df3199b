"""Distribution of tests over workers: all groups exist, and each test belongs to one group."""

from pathlib import Path

import pytest

from tests.sharing import GROUPS, SLOW, is_slow, scheduling_group, start_rank


def test_every_group_exists(repository: Path) -> None:
    assert [path for path in (*GROUPS, *SLOW) if not (repository / path).exists()] == []


def test_slow_tests_are_those_of_slow_folders_and_files() -> None:
    names = ("tests/viewer/test_page.py::a", "tests/test_wheel.py::b[c]", "tests/test_cameras.py::d", "tests/city/a.py")
    assert [is_slow(name) for name in names] == [True, True, False, False]


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
