"""Latency of renderings in a real page, including network and browser.

    python -m tests.benchmarks.viewer_page RUN [--moves 20] [--clients 1]

`blocknerf view` runs in its own process, and Chromium with software WebGL on the same CPU. A page of 1280x720 shows
renderings of 640x360. The camera is dragged; measured are the times from the camera message to the first and to the
final rendering in the page. The pages of other clients are dragged at the same time.
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

from tests.viewer.browser import Page, open_browser
from tests.viewer.websocket_client import is_rendering, messages

IDLE_SECONDS = 3.0
"""Seconds without a new rendering after which the last one counts as final."""
MAX_SECONDS = 60.0
REQUIRED_FIRST = 0.25


class PageMonitor:
    """Times of the first camera message after a drag and of the renderings in a page."""

    def __init__(self, page: Page) -> None:
        self.page, self.sent_time, self.rendering_times = page, 0.0, list[float]()
        page.page.on("websocket", self._listen)
        page.page.reload()
        page.settled()

    def drag(self, direction: int) -> None:
        """Rotate the camera by a drag of 60 pixels."""
        self.sent_time, self.rendering_times = 0.0, []
        mouse = self.page.page.mouse
        mouse.move(500, 400)
        mouse.down()
        mouse.move(500 + 60 * direction, 400)
        mouse.up()

    @property
    def is_final(self) -> bool:
        """Whether the final rendering has arrived."""
        return bool(self.rendering_times) and time.perf_counter() - self.rendering_times[-1] > IDLE_SECONDS

    def _listen(self, socket: Any) -> None:
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    def _sent(self, payload: str | bytes) -> None:
        if not self.sent_time and isinstance(payload, bytes) and b"ViewerCameraMessage" in payload:
            self.sent_time = time.perf_counter()

    def _received(self, payload: str | bytes) -> None:
        now = time.perf_counter()
        if self.sent_time and isinstance(payload, bytes) and any(map(is_rendering, messages(payload))):
            self.rendering_times.append(now)


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--clients", type=int, default=1)
    options = parser.parse_args()
    with run_viewer(options.run) as url, open_browser() as browser:
        monitors = [PageMonitor(Page(browser, url)) for _ in range(options.clients)]
        firsts, lasts = watch(monitors, options.moves)
    figures = [median(firsts), max(firsts), median(lasts), max(lasts)]
    print(f"{'clients':>8}{'first, median':>16}{'maximum':>10}{'final, median':>19}{'maximum':>10}")
    print("{:>8}{:>16.3f}{:>10.3f}{:>19.3f}{:>10.3f}".format(options.clients, *figures))
    print(f"required: first in {REQUIRED_FIRST} s")
    result = {"clients": options.clients, "seconds": [round(figure, 4) for figure in figures]}
    print(json.dumps({"benchmark": "viewer_page", **result}))


def watch(monitors: list[PageMonitor], moves: int) -> tuple[list[float], list[float]]:
    """Return the seconds to the first and to the final rendering, per client and move."""
    firsts, lasts = [], []
    for move in range(moves):
        for monitor in monitors:
            monitor.drag(1 if move % 2 else -1)
        deadline = time.perf_counter() + MAX_SECONDS
        while not all(monitor.is_final for monitor in monitors):
            if time.perf_counter() > deadline:
                raise SystemExit("a rendering never arrived")
            monitors[0].page.page.wait_for_timeout(50)  # and process events
        firsts += [monitor.rendering_times[0] - monitor.sent_time for monitor in monitors]
        lasts += [monitor.rendering_times[-1] - monitor.sent_time for monitor in monitors]
    return firsts, lasts


@contextmanager
def run_viewer(run: Path) -> Iterator[str]:
    """Run the viewer in its own process; yield its URL."""
    command = [sys.executable, "-m", "pipelines", "view", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().rpartition(": ")[2].strip()
        process.terminate()


if __name__ == "__main__":
    main()
