"""`blocknerf run --view`: a page stands beside the run, shows blocks as they train, and ends with it."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from blocknerf.city.run_folder import RunFolder
from pipelines import block_training, cli
from pipelines import run as run_job
from tests.tiny import shrink_draft
from tests.viewer.speaking import Speaker, speaker

AFTER_TRAINING = ("reconcile", "match", "render", "evaluate", "report")


class Onlooker:
    """Looks in while the job waits: at the first preview of a block, and when the first block is done."""

    def __init__(self, stack: ExitStack, output: pytest.CaptureFixture[str]) -> None:
        self._stack, self._output = stack, output
        self.page: Speaker | None = None
        self.port = 0
        self.seen: list[tuple[str, str]] = []

    def saved(self, path: Path) -> None:
        """A field is written: see it."""
        name = "preview" if path.name.startswith("preview") else "field"
        if name in dict(self.seen):
            return
        if self.page is None:
            (address,) = [line for line in self._output.readouterr().out.splitlines() if "http://127.0.0.1:" in line]
            self.port = int(address.rstrip("/").rpartition(":")[2])
            self.page = self._stack.enter_context(speaker(self.port))
        self.page.wait_for_picture()
        self.seen.append((name, self.page.states()["b000"]))


def test_a_run_is_looked_at_while_its_blocks_train(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shrink_draft(monkeypatch.setattr)
    monkeypatch.setattr(block_training, "PREVIEW_SECONDS", 0.0)
    for name in AFTER_TRAINING:
        monkeypatch.setattr(run_job, name, lambda *_, **__: None)
    save = block_training.save_field
    with ExitStack() as stack:
        onlooker = Onlooker(stack, capsys)

        def noted(field: object, path: Path, **facts: object) -> None:
            save(field, path, **facts)
            onlooker.saved(path)

        monkeypatch.setattr(block_training, "save_field", noted)
        town = str(repository / "data_samples" / "mini_city")
        words = ["run", town, "--out", str(tmp_path / "run"), "--steps", "4", "--downscale", "4", "--radius", "40"]
        assert cli.main([*words, "--view"]) == 0
        assert onlooker.seen == [("preview", "blended"), ("field", "blended")]
    assert RunFolder(tmp_path / "run").trained_blocks() != []
    with pytest.raises(ConnectionRefusedError), speaker(onlooker.port):
        pass
