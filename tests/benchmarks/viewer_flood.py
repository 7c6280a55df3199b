"""What a visitor who floods the viewer with cameras costs the others.

    python -m tests.benchmarks.viewer_flood RUN [--messages 75000] [--seconds 5]

A viewer of the run is started. One visitor says where their camera is as often as they can; then the next visitor
comes. Printed are how long the next one waits for a first image, and the memory of the viewer before, at the end of
the flood, and when both have left.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from websockets.exceptions import ConnectionClosed

from tests.viewer.speaking import CAMERA, Speaker, speaker

REST = 5.0
"""Seconds after which memory is looked at once more."""


@contextlib.contextmanager
def viewer(run: Path) -> Iterator[tuple[int, int]]:
    """A viewer in a process of its own: its number and port."""
    command = [sys.executable, "-m", "pipelines", "view", str(run), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
    finally:
        process.terminate()
        process.communicate()


def resident(process: int) -> float:
    """Memory that a process holds, in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def first_image(port: int) -> float:
    """Seconds until a new visitor is shown something."""
    start = time.monotonic()
    with speaker(port) as visitor:
        visitor.wait_for_picture()
        return time.monotonic() - start


def flood(page: Speaker, count: int, seconds: float) -> int:
    """Say where the camera is, up to that often and long; gives how often it was said."""
    camera = {"type": CAMERA["kind"], **{key: value for key, value in CAMERA.items() if key != "kind"}}
    said = 0

    def say() -> None:
        nonlocal said
        with contextlib.suppress(ConnectionClosed, OSError):
            for said in range(1, count + 1):
                page.connection.send(msgspec.msgpack.encode(camera | {"fov": 0.5 + said % 100 / 100}))

    def listen() -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                page.connection.recv()

    threading.Thread(target=listen, daemon=True).start()
    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    saying.join(seconds)
    return said


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--messages", type=int, default=75_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with viewer(options.run) as (process, port):
        alone = min(first_image(port) for _ in range(3))
        memory = {"before": resident(process)}
        with speaker(port) as page:
            page.wait_for_picture()
            said = flood(page, options.messages, options.seconds)
            memory["flood"] = resident(process)
            waited = first_image(port)
        time.sleep(REST)
        memory["after"] = resident(process)
    print(
        f"{'cameras said':>14}{'first image alone':>20}{'in the flood':>15}" + "".join(f"{key:>10}" for key in memory)
    )
    print(f"{said:>14}{alone:>18.2f} s{waited:>13.2f} s", *(f"{size:>5.0f} MiB" for size in memory.values()))
    sizes = {key: round(size, 1) for key, size in memory.items()}
    times = {"said": said, "alone": round(alone, 3), "waited": round(waited, 3)}
    print(json.dumps({"benchmark": "viewer_flood", **times, "mebibytes": sizes}))


if __name__ == "__main__":
    main()
