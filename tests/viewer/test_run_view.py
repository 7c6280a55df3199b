"""`blocknerf run --view`: a viewer runs alongside the job, shows blocks as they train, and ends with it."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from blocknerf.city.run_folder import RunFolder
from pipelines import block_training, cli
from pipelines import run as run_job
from tests.tiny import shrink_draft
from tests.viewer.websocket_client import PageClient, open_client

AFTER_TRAINING = ("align", "match", "render", "evaluate", "report")


class ProgressClient:
    """Client that checks the viewer after the first preview and after the first trained block."""

    def __init__(self, stack: ExitStack, output: pytest.CaptureFixture[str]) -> None:
        self._stack, self._output = stack, output
        self.page: PageClient | None = None
        self.port = 0
        self.states: list[tuple[str, str]] = []

    def check(self, path: Path) -> None:
        """Check the state of the block after a field was written."""
        name = "preview" if path.name.startswith("preview") else "field"
        if name in dict(self.states):
            return
        if self.page is None:
            (url,) = [line for line in self._output.readouterr().out.splitlines() if "http://127.0.0.1:" in line]
            self.port = int(url.rstrip("/").rpartition(":")[2])
            self.page = self._stack.enter_context(open_client(self.port))
        self.page.wait_for_rendering()
        self.states.append((name, self.page.states()["b000"]))


def test_blocks_are_shown_while_they_train(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shrink_draft(monkeypatch.setattr)
    monkeypatch.setattr(block_training, "PREVIEW_SECONDS", 0.0)
    for name in AFTER_TRAINING:
        monkeypatch.setattr(run_job, name, lambda *_, **__: None)
    monkeypatch.setattr(run_job, "segment_presets", lambda capture: {})
    save = block_training.save_field
    with ExitStack() as stack:
        client = ProgressClient(stack, capsys)

        def save_and_check(field: object, path: Path, **facts: object) -> None:
            save(field, path, **facts)
            client.check(path)

        monkeypatch.setattr(block_training, "save_field", save_and_check)
        town = str(repository / "data_samples" / "mini_city")
        arguments = ["run", town, "--out", str(tmp_path / "run"), "--steps", "4", "--downscale", "4", "--radius", "40"]
        assert cli.main([*arguments, "--view"]) == 0
        assert client.states == [("preview", "blended"), ("field", "blended")]
    assert RunFolder(tmp_path / "run").trained_blocks() != []
    with pytest.raises(ConnectionRefusedError), open_client(client.port):
        pass
