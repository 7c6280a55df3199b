"""Facts about blocks in the panel, known and unknown."""

import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from blocknerf.city.run_folder import RunFolder
from viewer.block_files import BlockInfo, block_info_table

WRITTEN = datetime(2024, 2, 29, 12)


@pytest.fixture
def run(town_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A run with the files of two blocks."""
    for name in ("b000", "b001"):
        shutil.copytree(town_run.block_folder(name), RunFolder(tmp_path).block_folder(name))
        os.utime(RunFolder(tmp_path).field(name), (WRITTEN.timestamp(), WRITTEN.timestamp()))
    return RunFolder(tmp_path)


def record(run: RunFolder, text: str) -> BlockInfo:
    run.train_summary("b000").write_text(text)
    return BlockInfo.of(run, "b000")


def row(run: RunFolder, name: str) -> list[str]:
    return re.findall(r"<td>([^<]*)</td>", block_info_table(run, [name]))


def test_info_comes_from_the_training_record(run: RunFolder) -> None:
    info = BlockInfo.of(run, "b000")
    summary = json.loads(run.train_summary("b000").read_text())
    assert (info.frames, info.psnr) == (summary["frames"], summary["psnr"])
    assert info.fault is None
    assert (info.trained, info.size) == (WRITTEN, run.field("b000").stat().st_size)
    cells = [info.frames, f"{info.psnr:.1f}", "2024-02-29", f"{info.size / 2**20:.1f}"]
    assert row(run, "b000") == ["b000", *map(str, cells)]


def test_a_retrained_block_is_read_again(run: RunFolder) -> None:
    for frames in (1, 17):
        assert record(run, json.dumps({"config": {"downscale": 1}, "frames": frames, "psnr": 20.0})).frames == frames
    before = BlockInfo.of(run, "b000").size
    shutil.copyfile(run.train_summary("b001"), run.field("b000"))
    assert BlockInfo.of(run, "b000").size != before


@pytest.mark.parametrize("text", ["no JSON", "[1]", "{}", '{"frames": "many", "psnr": null}', '{"psnr": NaN}'])
def test_a_broken_record_does_not_hide_the_block(run: RunFolder, text: str) -> None:
    info = record(run, text)
    assert (info.frames, info.psnr, info.trained) == (None, None, WRITTEN)
    assert str(info.fault).startswith(f"{run.train_summary('b000')}: ")
    assert row(run, "b000")[:4] == ["b000", "-", "-", "2024-02-29"]


def test_a_block_without_files_has_a_row(run: RunFolder) -> None:
    assert row(run, "b007") == ["b007", "-", "-", "-", "-"]
