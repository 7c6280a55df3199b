"""Latency of the viewer, and its overhead over rendering.

    python -m tests.benchmarks.viewer RUN [--moves 20]

All clients move at the same time to other positions along the camera path, at 640x360. Measured are the first and the
final rendering after a move, with all work per page except the network: scheduling, JPEG, minimap and table. `overhead`
is the time of one client outside rendering, as a fraction of the rendering time.
"""

import argparse
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # before torch, which reads the wait policy on import

import cv2  # noqa: E402

from blocknerf.city.renderer import CityRenderer  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from viewer.minimap import draw_minimap, selection_table  # noqa: E402
from viewer.request_renderer import RenderedImage, RenderRequest, RequestRenderer  # noqa: E402
from viewer.run_contents import RunContents  # noqa: E402
from viewer.scheduler import ClientState, RenderScheduler  # noqa: E402
from viewer.session import DRAFT_QUALITY, QUALITY  # noqa: E402

WIDTH, HEIGHT = 640, 360
REQUIRED_FIRST, REQUIRED_OVERHEAD = 0.25, 0.15


class Stopwatch:
    """Accumulates the time of function calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return call


class Client:
    """Simulated page: receives renderings like a session, and records their times."""

    def __init__(
        self, contents: RunContents, scheduler: RenderScheduler[RenderRequest, RenderedImage], work: Stopwatch
    ) -> None:
        self.contents, self.scheduler = contents, scheduler
        self.move_time, self.first, self.final, self.finished = 0.0, 0.0, 0.0, threading.Event()
        self.state: ClientState[RenderRequest, RenderedImage] = scheduler.add(work.timed(self.receive), self.fail)

    def move(self, request: RenderRequest) -> None:
        self.finished.clear()
        self.first, self.move_time = 0.0, time.perf_counter()
        self.scheduler.submit(self.state, request)

    def receive(self, rendering: RenderedImage, level: float) -> None:
        quality = QUALITY if level == 1.0 else DRAFT_QUALITY
        cv2.imencode(".jpg", rendering.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        draw_minimap(self.contents, rendering.selection, rendering.camera)
        selection_table(rendering.selection)
        self.first = self.first or time.perf_counter() - self.move_time
        if level == 1.0:
            self.final = time.perf_counter() - self.move_time
            self.finished.set()

    def fail(self, error: Exception) -> None:
        raise error


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--moves", type=int, default=20)
    options = parser.parse_args()
    contents, render, work = RunContents.of(RunFolder(options.run)), Stopwatch(), Stopwatch()
    renderer = CityRenderer(contents.run, city=contents.city)
    renderer.render = render.timed(renderer.render)  # type: ignore[method-assign]
    request_renderer = RequestRenderer(renderer)
    request_renderer.warm_up(contents)
    scheduler = RenderScheduler(work.timed(request_renderer.render))
    print(f"{'clients':>8}{'first, median':>16}{'maximum':>10}{'final, median':>19}{'maximum':>10}")
    results, overhead = {}, 0.0
    for count in (3, 1):
        clients = [Client(contents, scheduler, work) for _ in range(count)]
        render.seconds = work.seconds = 0.0
        firsts, lasts = watch(contents, clients, options.moves)
        overhead = work.seconds / render.seconds - 1.0
        figures = [median(firsts), max(firsts), median(lasts), max(lasts)]
        print("{:>8}{:>16.3f}{:>10.3f}{:>19.3f}{:>10.3f}".format(count, *figures))
        results[count] = [round(figure, 4) for figure in figures]
        for client in clients:
            scheduler.remove(client.state)
    scheduler.close()
    print(f"overhead {overhead:.1%} (required {REQUIRED_OVERHEAD:.0%}); {THREADS} threads")
    print(f"required: first in {REQUIRED_FIRST} s")
    print(json.dumps({"benchmark": "viewer", "overhead": round(overhead, 4), "clients": results}))


def watch(contents: RunContents, clients: list[Client], moves: int) -> tuple[list[float], list[float]]:
    """Return the seconds to the first and to the final rendering, per client and move."""
    path, rng = list(contents.path), random.Random(0)
    firsts, lasts = [], []
    for _ in range(moves):
        for client in clients:
            camera = contents.image(rng.choice(path))
            view = camera.scaled(max(WIDTH / float(camera.width[0]), HEIGHT / float(camera.height[0])))
            appearance = contents.appearance(contents.appearance_options[0], None, None)
            client.move(
                RenderRequest(view=view, appearance=appearance, city=contents.city, weighting=contents.city.weighting)
            )
        for client in clients:
            if not client.finished.wait(120.0):
                raise SystemExit("a rendering was never finished")
            firsts.append(client.first)
            lasts.append(client.final)
        time.sleep(0.2)
    return firsts, lasts


if __name__ == "__main__":
    main()
