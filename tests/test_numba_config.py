"""The Numba cache folder depends on the sources."""

from pathlib import Path

import numba
import pytest

from blocknerf.numba_config import configure_numba_cache


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    for file in ("kernels/a.py", "kernels/deep/b.py", "town/c.py", "capture/d.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("one")
    return tmp_path


@pytest.mark.parametrize("file", ["kernels/a.py", "kernels/deep/b.py", "town/c.py"])
def test_a_change_in_a_compiled_source_changes_the_folder(package: Path, file: str, monkeypatch) -> None:
    before = configure_numba_cache(package)
    assert before.parent == package / "__pycache__"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    (package / file).write_text("two")
    assert configure_numba_cache(package) != before


def test_other_sources_do_not_matter_and_numba_is_configured(package: Path, monkeypatch) -> None:
    before = configure_numba_cache(package)
    assert str(before) == numba.config.CACHE_DIR
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    (package / "capture/d.py").write_text("two")
    assert configure_numba_cache(package) == before


def test_a_folder_set_by_the_user_is_respected(package: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    first = configure_numba_cache(package)
    assert first.parent == tmp_path / "mine"
    assert configure_numba_cache(package) == first
