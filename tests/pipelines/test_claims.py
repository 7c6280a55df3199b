"""Long jobs run in one process at a time; finished output needs no lock."""

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
def test_a_second_process_is_refused(work: str, exact_run: RunFolder) -> None:
    lock, job = JOBS[work]
    with (
        exclusive(lock(exact_run), "first"),
        pytest.raises(LockedError, match=f"^{work} is already running in proc"),
    ):
        job(exact_run)
    job(exact_run)
    assert not lock(exact_run).exists()
    with exclusive(lock(exact_run), "first"):
        job(exact_run)  # skipped


def test_only_one_process_matches_a_preset(exact_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.match.BlockGraph.reference", lambda graph, name: None)
    monkeypatch.setattr("pipelines.match.BlockGraph.__init__", lambda graph, *_, **__: None)
    with exclusive(exact_run.appearance_lock("dusk"), "first"):
        before = tree(exact_run.path)
        with pytest.raises(LockedError, match=r"^appearance preset dusk: matching is already running in process"):
            match(exact_run.path, appearance="dusk", threads=1)
        assert tree(exact_run.path) == before
