"""What the panel tells of blocks, and what it does not know."""

import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from blocknerf.city.run_folder import RunFolder
from viewer.block_info import BlockInfo, block_info_table

WHEN = datetime(2024, 2, 29, 12)


@pytest.fixture
def run(town_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A run with the files of two blocks."""
    for name in ("b000", "b001"):
        shutil.copytree(town_run.block_folder(name), RunFolder(tmp_path).block_folder(name))
        os.utime(RunFolder(tmp_path).field(name), (WHEN.timestamp(), WHEN.timestamp()))
    return RunFolder(tmp_path)


def record(run: RunFolder, text: str) -> BlockInfo:
    run.train_summary("b000").write_text(text)
    return BlockInfo.of(run, "b000")


def row(run: RunFolder, name: str) -> list[str]:
    return re.findall(r"<td>([^<]*)</td>", block_info_table(run, [name]))


def test_facts_are_those_of_the_training(run: RunFolder) -> None:
    facts = BlockInfo.of(run, "b000")
    told = json.loads(run.train_summary("b000").read_text())
    assert (facts.frames, facts.psnr) == (told["frames"], told["psnr"])
    assert facts.fault is None
    assert (facts.trained, facts.size) == (WHEN, run.field("b000").stat().st_size)
    cells = [facts.frames, f"{facts.psnr:.1f}", "2024-02-29", f"{facts.size / 2**20:.1f}"]
    assert row(run, "b000") == ["b000", *map(str, cells)]


def test_a_block_that_is_trained_anew_tells_anew(run: RunFolder) -> None:
    for frames in (1, 17):
        assert record(run, json.dumps({"config": {"downscale": 1}, "frames": frames, "psnr": 20.0})).frames == frames
    before = BlockInfo.of(run, "b000").size
    shutil.copyfile(run.train_summary("b001"), run.field("b000"))
    assert BlockInfo.of(run, "b000").size != before


@pytest.mark.parametrize("text", ["no JSON", "[1]", "{}", '{"frames": "many", "psnr": null}', '{"psnr": NaN}'])
def test_a_broken_record_hides_no_block(run: RunFolder, text: str) -> None:
    facts = record(run, text)
    assert (facts.frames, facts.psnr, facts.trained) == (None, None, WHEN)
    assert str(facts.fault).startswith(f"{run.train_summary('b000')}: ")
    assert row(run, "b000")[:4] == ["b000", "-", "-", "2024-02-29"]


def test_a_block_without_files_has_a_row(run: RunFolder) -> None:
    assert row(run, "b007") == ["b007", "-", "-", "-", "-"]
