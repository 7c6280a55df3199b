"""How long a visitor waits for pictures in a real page, the network and the browser included.

    python -m tests.benchmarks.viewer_page RUN [--moves 20] [--visitors 1]

`blocknerf view` runs as a process of its own, and Chromium, with WebGL in software, on the same processor. A page of
1280x720 shows pictures of 640x360. The camera is dragged; timed are, from when the page tells where it stands, the
arrival of the first picture in the page and of the finished one. Other visitors' pages are dragged at the same time.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.viewer.browsing import Page, opened_browser
from tests.viewer.speaking import is_picture, messages

LEVELS_END = 3.0
"""Seconds without a new picture after which the last one counts as finished."""
MOST_SECONDS = 60.0
REQUIRED_FIRST = 0.25


class Watch:
    """When a page told its camera first after a drag, and when pictures came."""

    def __init__(self, page: Page) -> None:
        self.page, self.told, self.pictures = page, 0.0, list[float]()
        page.page.on("websocket", self._listen)
        page.page.reload()
        page.settled()

    def drag(self, way: int) -> None:
        """Turn the camera by a hand's breadth of the page."""
        self.told, self.pictures = 0.0, []
        mouse = self.page.page.mouse
        mouse.move(500, 400)
        mouse.down()
        mouse.move(500 + 60 * way, 400)
        mouse.up()

    @property
    def rests(self) -> bool:
        """Whether the finished picture must have come."""
        return bool(self.pictures) and time.perf_counter() - self.pictures[-1] > LEVELS_END

    def _listen(self, socket: Any) -> None:
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    def _sent(self, payload: str | bytes) -> None:
        if not self.told and isinstance(payload, bytes) and b"ViewerCameraMessage" in payload:
            self.told = time.perf_counter()

    def _received(self, payload: str | bytes) -> None:
        now = time.perf_counter()
        if self.told and isinstance(payload, bytes) and any(map(is_picture, messages(payload))):
            self.pictures.append(now)


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--visitors", type=int, default=1)
    options = parser.parse_args()
    with viewed(options.run) as url, opened_browser() as browser:
        watches = [Watch(Page(browser, url)) for _ in range(options.visitors)]
        firsts, lasts = watch(watches, options.moves)
    figures = [median(firsts), max(firsts), median(lasts), max(lasts)]
    print(f"{'visitors':>8}{'first, median':>16}{'longest':>10}{'finished, median':>19}{'longest':>10}")
    print("{:>8}{:>16.3f}{:>10.3f}{:>19.3f}{:>10.3f}".format(options.visitors, *figures))
    print(f"required: first in {REQUIRED_FIRST} s")
    found = {"visitors": options.visitors, "seconds": [round(figure, 4) for figure in figures]}
    print(json.dumps({"benchmark": "viewer_page", **found}))


def watch(watches: list[Watch], moves: int) -> tuple[list[float], list[float]]:
    """Seconds to the first and to the finished picture, of each visitor and move."""
    firsts, lasts = [], []
    for move in range(moves):
        for each in watches:
            each.drag(1 if move % 2 else -1)
        deadline = time.perf_counter() + MOST_SECONDS
        while not all(each.rests for each in watches):
            if time.perf_counter() > deadline:
                raise SystemExit("a picture never came")
            watches[0].page.page.wait_for_timeout(50)  # and let events in
        firsts += [each.pictures[0] - each.told for each in watches]
        lasts += [each.pictures[-1] - each.told for each in watches]
    return firsts, lasts


@contextmanager
def viewed(run: Path) -> Iterator[str]:
    """The viewer of a run, as a process; gives its address."""
    command = [sys.executable, "-m", "pipelines", "view", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().rpartition(": ")[2].strip()
        process.terminate()


if __name__ == "__main__":
    main()
