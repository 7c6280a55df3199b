"""How long a visitor of the viewer waits, and what the viewer itself costs beside rendering.

    python -m tests.benchmarks.viewer RUN [--moves 20]

Visitors stand still, then all move at once to other places along the photographs' way, at 640x360. Timed are the first
picture and the finished one after a move, with all that is done for a page: the painter's turns, JPEG, plan and table;
not the network. `overhead` is the time of one visitor's pictures that is not the city's rendering, as a share of it.
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

THREADS = set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

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
    """Adds up the time that functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*words, **options)
            finally:
                self.seconds += time.perf_counter() - start

        return call


class Visitor:
    """Stands for a page: takes pictures as a session does, and notes when they come."""

    def __init__(
        self, stock: RunContents, painter: RenderScheduler[RenderRequest, RenderedImage], work: Stopwatch
    ) -> None:
        self.stock, self.painter = stock, painter
        self.moved, self.first, self.last, self.finished = 0.0, 0.0, 0.0, threading.Event()
        self.visit: ClientState[RenderRequest, RenderedImage] = painter.add(work.timed(self.show), self.fail)

    def move(self, wish: RenderRequest) -> None:
        self.finished.clear()
        self.first, self.moved = 0.0, time.perf_counter()
        self.painter.submit(self.visit, wish)

    def show(self, picture: RenderedImage, level: float) -> None:
        quality = QUALITY if level == 1.0 else DRAFT_QUALITY
        cv2.imencode(".jpg", picture.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        draw_minimap(self.stock, picture.selection, picture.camera)
        selection_table(picture.selection)
        self.first = self.first or time.perf_counter() - self.moved
        if level == 1.0:
            self.last = time.perf_counter() - self.moved
            self.finished.set()

    def fail(self, error: Exception) -> None:
        raise error


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--moves", type=int, default=20)
    options = parser.parse_args()
    stock, render, work = RunContents.of(RunFolder(options.run)), Stopwatch(), Stopwatch()
    renderer = CityRenderer(stock.run, city=stock.city)
    renderer.render = render.timed(renderer.render)  # type: ignore[method-assign]
    gallery = RequestRenderer(renderer)
    gallery.warm_up(stock)
    painter = RenderScheduler(work.timed(gallery.render))
    print(f"{'visitors':>8}{'first, median':>16}{'longest':>10}{'finished, median':>19}{'longest':>10}")
    results, overhead = {}, 0.0
    for count in (3, 1):
        visitors = [Visitor(stock, painter, work) for _ in range(count)]
        render.seconds = work.seconds = 0.0
        firsts, lasts = watch(stock, visitors, options.moves)
        overhead = work.seconds / render.seconds - 1.0
        figures = [median(firsts), max(firsts), median(lasts), max(lasts)]
        print("{:>8}{:>16.3f}{:>10.3f}{:>19.3f}{:>10.3f}".format(count, *figures))
        results[count] = [round(figure, 4) for figure in figures]
        for visitor in visitors:
            painter.remove(visitor.visit)
    painter.close()
    print(f"overhead {overhead:.1%}; {THREADS} threads; required: first in {REQUIRED_FIRST} s, {REQUIRED_OVERHEAD:.0%}")
    print(json.dumps({"benchmark": "viewer", "overhead": round(overhead, 4), "visitors": results}))


def watch(stock: RunContents, visitors: list[Visitor], moves: int) -> tuple[list[float], list[float]]:
    """Seconds to the first and to the finished picture, of each visitor and move."""
    way, chance = list(stock.path), random.Random(0)
    firsts, lasts = [], []
    for _ in range(moves):
        for visitor in visitors:
            camera = stock.image(chance.choice(way))
            view = camera.scaled(max(WIDTH / float(camera.width[0]), HEIGHT / float(camera.height[0])))
            light = stock.appearance(stock.presets[0], None, None)
            visitor.move(RenderRequest(view=view, appearance=light, city=stock.city, weighting=stock.city.weighting))
        for visitor in visitors:
            if not visitor.finished.wait(120.0):
                raise SystemExit("a picture was never finished")
            firsts.append(visitor.first)
            lasts.append(visitor.last)
        time.sleep(0.2)
    return firsts, lasts


if __name__ == "__main__":
    main()
