"""A flight through 5 and through 500 blocks: time per frame, and memory within its budget.

    python -m tests.benchmarks.many_blocks RUN [--frames 60]

One trained block of a run is copied along a street, with neighbors overlapping by half. The same flight past the first
five blocks is rendered alternately in both cities; then a flight through all blocks of the large city. Finally, the
first flight in the viewer: from the request of the panel to the rendering, the minimap and the tables.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # before torch, which reads the wait policy on import

import torch  # noqa: E402

from blocknerf.cameras import Cameras, look_at  # noqa: E402
from blocknerf.capture.capture_file import read_capture  # noqa: E402
from blocknerf.city.appearance_track import AppearanceTrack  # noqa: E402
from blocknerf.city.cache import MIB, LoadedBlock, Loader  # noqa: E402
from blocknerf.city.manifest import read_city  # noqa: E402
from blocknerf.city.renderer import CityRenderer  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.fields.block_field import BlockField, OccupancyGrid  # noqa: E402
from blocknerf.fields.checkpoint import load_field  # noqa: E402
from blocknerf.fields.occupancy import load_occupancy  # noqa: E402
from blocknerf.partitioning.block import Block  # noqa: E402
from blocknerf.rendering.image import no_op  # noqa: E402
from tests.benchmarks.viewer import Stopwatch  # noqa: E402
from viewer.block_files import block_info_table  # noqa: E402
from viewer.minimap import draw_minimap, selection_table  # noqa: E402
from viewer.request_renderer import RenderRequest, RequestRenderer  # noqa: E402
from viewer.run_contents import RunContents  # noqa: E402

FEW, MANY, CACHED, REQUIRED_RATIO = 5, 500, 6, 1.2
"""Numbers of blocks in both cities and in the cache; maximum ratio of times."""
WIDTH, HEIGHT = 160, 90


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    run = RunFolder(options.run)
    city, original = read_city(run.city), run.trained_blocks()[0]
    first, segment = city.block(original), next(iter(read_capture(run.capture).segments))
    origins = [(first.origin[0] + i * first.radius, *first.origin[1:]) for i in range(MANY)]
    blocks = tuple(replace(first, name=f"b{i:03d}", origin=origin) for i, origin in enumerate(origins))
    load = block_copies(run, original, blocks)
    budget = CACHED * load(blocks[0].name).bytes
    cities = [replace(city, blocks=blocks[:count]) for count in (FEW, MANY)]
    renderers = [CityRenderer(run, city=copy, load=load, cache_bytes=budget) for copy in cities]
    seconds = fly(renderers, flight(blocks[:FEW], options.frames), segment)
    medians = [median(durations) for durations in seconds]
    print(f"{FEW} blocks: {medians[0]:.4f} s per frame of {WIDTH}x{HEIGHT}, {MANY}: {medians[1]:.4f} s")
    (flight_seconds,), held = fly(renderers[1:], flight(blocks, options.frames), segment), renderers[1].cache.held_bytes
    print(
        f"through all blocks: {median(flight_seconds):.4f} s per frame, including loading; "
        f"{held / MIB:.0f} of {budget / MIB:.0f} MiB cached"
    )
    ratio = medians[1] / medians[0]
    print(f"{ratio:.2f} times as long with {MANY} blocks; {THREADS} threads; required: at most {REQUIRED_RATIO}")
    total, overhead = view(renderers, flight(blocks[:FEW], options.frames), segment)
    viewer_ratio = median(total[1]) / median(total[0])
    print(
        f"in the viewer {viewer_ratio:.2f} times as long; outside the renderer: "
        f"{median(overhead[0]):.4f} s with {FEW}, {median(overhead[1]):.4f} s with {MANY}"
    )
    figures = {"ratio": round(ratio, 3), "viewer_ratio": round(viewer_ratio, 3), "held": held, "budget": budget}
    print(json.dumps({"benchmark": "many_blocks", **figures}))


def block_copies(run: RunFolder, original: str, blocks: tuple[Block, ...]) -> Loader:
    """Return a loader of copies of the trained block at the origins of all blocks."""
    origins = {block.name: block.origin for block in blocks}

    def load(name: str) -> LoadedBlock:
        trained, grid = load_field(run.field(original)), load_occupancy(run.occupancy(original))
        field = BlockField(replace(trained.spec, origin=origins[name]))
        field.load_state_dict(trained.state_dict())
        field.set_occupancy(OccupancyGrid(grid.binaries, origins[name], grid.half_extent))
        return LoadedBlock(field=field.eval().requires_grad_(False))

    return load


def flight(blocks: tuple[Block, ...], frames: int) -> Cameras:
    """Return cameras along the street that look ahead."""
    ends = torch.tensor([blocks[0].origin, blocks[-1].origin])
    centers = torch.lerp(ends[:1], ends[1:], torch.linspace(0.0, 1.0, frames)[:, None])
    return Cameras.pinhole(
        look_at(centers, centers + torch.tensor([1.0, 0.0, 0.0])), focal=0.6 * WIDTH, width=WIDTH, height=HEIGHT
    )


def fly(renderers: list[CityRenderer], cameras: Cameras, segment: str) -> list[list[float]]:
    """Return the seconds of each frame by each renderer, after a frame that loads and compiles."""
    seconds: list[list[float]] = [[] for _ in renderers]
    for renderer in renderers:
        renderer.render(cameras, 0, segment=segment)
    for index in range(len(cameras)):
        for durations, renderer in zip(seconds, renderers, strict=True):
            start = time.perf_counter()
            renderer.render(cameras, index, segment=segment)
            durations.append(time.perf_counter() - start)
            if renderer.cache.held_bytes > renderer.cache.budget_bytes:
                raise SystemExit(f"{renderer.cache.held_bytes} bytes cached of {renderer.cache.budget_bytes}")
    return seconds


def view(renderers: list[CityRenderer], cameras: Cameras, segment: str) -> tuple[list[list[float]], list[list[float]]]:
    """Return the seconds of each frame in the viewer, in total and outside the renderer, per city."""
    total: list[list[float]] = [[] for _ in renderers]
    overhead: list[list[float]] = [[] for _ in renderers]
    watch = Stopwatch()
    CityRenderer.render = watch.timed(CityRenderer.render)  # type: ignore[method-assign]
    contents = [replace(RunContents.of(renderer.run), city=renderer.city) for renderer in renderers]
    request_renderers = [RequestRenderer(renderer) for renderer in renderers]
    for index in range(len(cameras)):
        for city, (run_contents, request_renderer) in enumerate(zip(contents, request_renderers, strict=True)):
            watch.seconds, start = 0.0, time.perf_counter()
            rendering = request_renderer.render(request(run_contents, cameras[index], segment), 1.0, no_op)
            draw_minimap(run_contents, rendering.selection, rendering.camera)
            selection_table(rendering.selection)
            block_info_table(run_contents.run, sorted(use.name for use in rendering.selection))
            total[city].append(time.perf_counter() - start)
            overhead[city].append(total[city][-1] - watch.seconds)
    return total, overhead


def request(run_contents: RunContents, camera: Cameras, segment: str) -> RenderRequest:
    """Return the request of the control panel, which creates a new city for each frame."""
    city = run_contents.with_overrides(frozenset(), run_contents.city.power, run_contents.city.visibility_threshold)
    return RenderRequest(
        view=camera, appearance=AppearanceTrack(presets=(), segment=segment), city=city, weighting=city.weighting
    )


if __name__ == "__main__":
    main()
