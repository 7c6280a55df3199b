"""Jobs that take minutes are done by one process at a time; what is done already needs no lock."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocknerf.city.run_folder import RunFolder
from blocknerf.locks import LockedError, exclusive
from pipelines.evaluate import evaluate
from pipelines.match import match
from pipelines.render import render
from tests.tree import tree

JOBS: dict[str, tuple[Callable[[RunFolder], Path], Callable[[RunFolder], Any]]] = {
    "video walk: rendering": (
        lambda run: run.render_lock("walk"),
        lambda run: render(run.path, name="walk", frames=2, width=10, threads=1),
    ),
    "evaluation": (lambda run: run.evaluation_lock, lambda run: evaluate(run.path, max_frames=1, threads=1)),
}


@pytest.mark.parametrize("work", JOBS)
def test_the_second_of_two_is_told_of_the_first(work: str, exact_run: RunFolder) -> None:
    lock, job = JOBS[work]
    with (
        exclusive(lock(exact_run), "first"),
        pytest.raises(LockedError, match=f"^{work} is under way already, by proc"),
    ):
        job(exact_run)
    job(exact_run)
    assert not lock(exact_run).exists()
    with exclusive(lock(exact_run), "first"):
        job(exact_run)  # done already


def test_a_preset_is_matched_by_one_process(exact_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.match.BlockGraph.reference", lambda meetings, wanted: None)
    monkeypatch.setattr("pipelines.match.BlockGraph.__init__", lambda meetings, *_, **__: None)
    with exclusive(exact_run.appearance_lock("dusk"), "first"):
        before = tree(exact_run.path)
        with pytest.raises(LockedError, match=r"^look dusk: matching is under way already, by process"):
            match(exact_run.path, appearance="dusk", threads=1)
        assert tree(exact_run.path) == before
