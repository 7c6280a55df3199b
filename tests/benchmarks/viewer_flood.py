"""Effect of a client that floods the viewer with camera messages on other clients.

    python -m tests.benchmarks.viewer_flood RUN [--messages 75000] [--seconds 5]

Starts a viewer of the run. One client sends camera messages as fast as it can; then a second client connects. Prints
the latency of the second client's first rendering, and the memory of the viewer before, at the end of the flood, and
after both have left.
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

from tests.viewer.websocket_client import CAMERA, PageClient, open_client

SETTLE_SECONDS = 5.0
"""Seconds before memory is measured again."""


@contextlib.contextmanager
def viewer(run: Path) -> Iterator[tuple[int, int]]:
    """Run a viewer in its own process; yield its process ID and port."""
    command = [sys.executable, "-m", "pipelines", "view", str(run), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
    finally:
        process.terminate()
        process.communicate()


def resident_memory(process: int) -> float:
    """Return the resident memory of a process, in MiB."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def first_rendering(port: int) -> float:
    """Return the seconds until a new client receives a rendering."""
    start = time.monotonic()
    with open_client(port) as client:
        client.wait_for_rendering()
        return time.monotonic() - start


def flood(page: PageClient, count: int, seconds: float) -> int:
    """Send up to `count` camera messages within `seconds`; return the number sent."""
    camera = {"type": CAMERA["kind"], **{key: value for key, value in CAMERA.items() if key != "kind"}}
    sent = 0

    def send() -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionClosed, OSError):
            for sent in range(1, count + 1):
                page.connection.send(msgspec.msgpack.encode(camera | {"fov": 0.5 + sent % 100 / 100}))

    def receive() -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                page.connection.recv()

    threading.Thread(target=receive, daemon=True).start()
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    sender.join(seconds)
    return sent


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--messages", type=int, default=75_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with viewer(options.run) as (process, port):
        alone = min(first_rendering(port) for _ in range(3))
        memory = {"before": resident_memory(process)}
        with open_client(port) as page:
            page.wait_for_rendering()
            sent = flood(page, options.messages, options.seconds)
            memory["flood"] = resident_memory(process)
            waited = first_rendering(port)
        time.sleep(SETTLE_SECONDS)
        memory["after"] = resident_memory(process)
    print(f"{'messages sent':>14}{'first rendering':>20}{'in the flood':>15}" + "".join(f"{key:>10}" for key in memory))
    print(f"{sent:>14}{alone:>18.2f} s{waited:>13.2f} s", *(f"{size:>5.0f} MiB" for size in memory.values()))
    sizes = {key: round(size, 1) for key, size in memory.items()}
    times = {"sent": sent, "alone": round(alone, 3), "waited": round(waited, 3)}
    print(json.dumps({"benchmark": "viewer_flood", **times, "mebibytes": sizes}))


if __name__ == "__main__":
    main()
