"""Commands with standard streams that are closed, full, or cannot encode the characters of a name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS

ALL = """
import json, os, sys
from pathlib import Path
from pipelines.cli import COMMANDS, main

out, folder = Path(sys.argv[1]), sys.argv[2]
options = {"run": ["--out", f"{folder}/out"], "update": ["--block", "b0", "--capture", folder]}
options["export"] = ["--poses", "x"]
options["poses"] = ["--out", f"{folder}/posed"]
paths = {"run": [folder], "ingest": [folder, f"{folder}/run"], "sample": [f"{folder}/file"], "backends": []}
codes = {}
for name in COMMANDS:
    codes[name] = main([name, *paths.get(name, [f"{folder}/none"]), *options.get(name, [])])
opened = os.open(os.devnull, os.O_RDONLY)
out.write_text(json.dumps({"codes": codes, "opened": opened}))
"""


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_commands_work_with_closed_streams(streams: str, tmp_path: Path, repository: Path) -> None:
    if "full" in streams and not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    folder, out, errors = tmp_path / "input", tmp_path / "out.json", tmp_path / "errors.txt"
    folder.mkdir()
    (folder / "file").touch()
    script = f'"$0" -c "$1" "$2" "$3" 2>"$4" {streams}'
    command = ["sh", "-c", script, sys.executable, ALL, str(out), str(folder), str(errors)]
    subprocess.run(command, cwd=repository, check=False)
    assert "Traceback" not in errors.read_text()
    result = json.loads(out.read_text())
    assert result["codes"] == {name: 0 if name == "backends" else 2 for name in COMMANDS}
    assert result["opened"] > 2, "a file got the number of a standard stream"


@pytest.mark.parametrize("streams", [">/dev/full", ">&-"])
def test_no_error_is_printed_at_exit(streams: str, repository: Path) -> None:
    command = ["sh", "-c", f'"$0" -m pipelines --help {streams}', sys.executable]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    full = (
        "blocknerf: error: input or output: No space left on device; free some space and run the same command again\n"
    )
    assert (done.returncode, done.stderr) == ((2, full) if "full" in streams else (0, ""))


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp437"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_unencodable_names_are_escaped(environment: dict[str, str], tmp_path: Path, repository: Path) -> None:
    path = os.fsencode(tmp_path) + "/Bahnhofstraße \x1b[31m東京".encode() + b"\xff"
    command = [os.fsencode(sys.executable), b"-m", b"pipelines", b"sample", path]
    done = subprocess.run(command, cwd=repository, env={**os.environ, **environment}, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith(b"blocknerf: error: ")
    assert done.stderr.count(b"\n") == 1
    assert rb"\x1b[31m" in done.stderr
    assert b"\x1b" not in done.stderr
    assert rb"\xff: this path is not text in " in done.stderr
