"""A flight through 5 and through 500 blocks: what a picture costs, and whether memory keeps to its budget.

    python -m tests.benchmarks.many_blocks RUN [--pictures 60]

One trained block of a run stands many times along a street, neighbors overlapping by half. The same flight, past the
first five, is rendered in both cities, turn and turn about; then the large one is flown through from end to end. At
last the first flight as the viewer shows it: from what the panel asks for to the picture, the plan and the tables.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

import torch  # noqa: E402

from blocknerf.cameras import Cameras, look_at  # noqa: E402
from blocknerf.capture.capture import read_capture  # noqa: E402
from blocknerf.city.appearance_track import AppearanceTrack  # noqa: E402
from blocknerf.city.cache import MIB, LoadedBlock, Loader  # noqa: E402
from blocknerf.city.manifest import read_city  # noqa: E402
from blocknerf.city.renderer import CityRenderer  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.fields.block_field import BlockField  # noqa: E402
from blocknerf.fields.checkpoint import load_field  # noqa: E402
from blocknerf.fields.occupancy import OccupancyGrid, load_occupancy  # noqa: E402
from blocknerf.partition.block import Block  # noqa: E402
from blocknerf.rendering.image import no_op  # noqa: E402
from tests.benchmarks.viewer import Stopwatch  # noqa: E402
from viewer.block_info import block_info_table  # noqa: E402
from viewer.minimap import draw_minimap, selection_table  # noqa: E402
from viewer.request_renderer import RenderRequest, RequestRenderer  # noqa: E402
from viewer.run_contents import RunContents  # noqa: E402

FEW, MANY, HELD, REQUIRED_RATIO = 5, 500, 6, 1.2
"""Numbers of blocks: in the cities, and for how many there is memory."""
WIDTH, HEIGHT = 160, 90


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pictures", type=int, default=60)
    options = parser.parse_args()
    run = RunFolder(options.run)
    city, original = read_city(run.city), run.trained_blocks()[0]
    first, segment = city.block(original), next(iter(read_capture(run.capture).segments))
    origins = [(first.origin[0] + i * first.radius, *first.origin[1:]) for i in range(MANY)]
    blocks = tuple(replace(first, name=f"b{i:03d}", origin=origin) for i, origin in enumerate(origins))
    load = moved_copies(run, original, blocks)
    budget = HELD * load(blocks[0].name).bytes
    cities = [replace(city, blocks=blocks[:count]) for count in (FEW, MANY)]
    renderers = [CityRenderer(run, city=each, load=load, cache_bytes=budget) for each in cities]
    seconds = fly(renderers, flight(blocks[:FEW], options.pictures), segment)
    medians = [median(each) for each in seconds]
    print(f"{FEW} blocks: {medians[0]:.4f} s a picture of {WIDTH}x{HEIGHT}, {MANY}: {medians[1]:.4f} s")
    (through,), held = fly(renderers[1:], flight(blocks, options.pictures), segment), renderers[1].cache.held_bytes
    print(
        f"through all: {median(through):.4f} s, blocks loaded included; {held / MIB:.0f} of {budget / MIB:.0f} MiB held"
    )
    ratio = medians[1] / medians[0]
    print(f"{ratio:.2f} times as long among {MANY} blocks; {THREADS} threads; required: at most {REQUIRED_RATIO}")
    pictures, beside = view(renderers, flight(blocks[:FEW], options.pictures), segment)
    viewed = median(pictures[1]) / median(pictures[0])
    print(
        f"in the viewer {viewed:.2f} times as long; of that, beside the renderer's: "
        f"{median(beside[0]):.4f} s among {FEW}, {median(beside[1]):.4f} s among {MANY}"
    )
    figures = {"ratio": round(ratio, 3), "viewed": round(viewed, 3), "held": held, "budget": budget}
    print(json.dumps({"benchmark": "many_blocks", **figures}))


def moved_copies(run: RunFolder, original: str, blocks: tuple[Block, ...]) -> Loader:
    """Loads the one trained block as if it stood where each of the others does."""
    places = {block.name: block.origin for block in blocks}

    def load(name: str) -> LoadedBlock:
        trained, grid = load_field(run.field(original)), load_occupancy(run.occupancy(original))
        field = BlockField(replace(trained.spec, origin=places[name]))
        field.load_state_dict(trained.state_dict())
        field.set_occupancy(OccupancyGrid(grid.binaries, places[name], grid.half_extent))
        return LoadedBlock(field=field.eval().requires_grad_(False))

    return load


def flight(blocks: tuple[Block, ...], pictures: int) -> Cameras:
    """Along the street, looking ahead."""
    ends = torch.tensor([blocks[0].origin, blocks[-1].origin])
    eyes = torch.lerp(ends[:1], ends[1:], torch.linspace(0.0, 1.0, pictures)[:, None])
    return Cameras.pinhole(
        look_at(eyes, eyes + torch.tensor([1.0, 0.0, 0.0])), focal=0.6 * WIDTH, width=WIDTH, height=HEIGHT
    )


def fly(renderers: list[CityRenderer], cameras: Cameras, segment: str) -> list[list[float]]:
    """Seconds of each picture by each renderer, after one that loads and compiles."""
    seconds: list[list[float]] = [[] for _ in renderers]
    for renderer in renderers:
        renderer.render(cameras, 0, segment=segment)
    for index in range(len(cameras)):
        for own, renderer in zip(seconds, renderers, strict=True):
            start = time.perf_counter()
            renderer.render(cameras, index, segment=segment)
            own.append(time.perf_counter() - start)
            if renderer.cache.held_bytes > renderer.cache.budget_bytes:
                raise SystemExit(f"{renderer.cache.held_bytes} bytes held of {renderer.cache.budget_bytes}")
    return seconds


def view(renderers: list[CityRenderer], cameras: Cameras, segment: str) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds of each picture in each city as a visitor gets it, and what of them is not the renderer's."""
    whole: list[list[float]] = [[] for _ in renderers]
    beside: list[list[float]] = [[] for _ in renderers]
    watch = Stopwatch()
    CityRenderer.render = watch.timed(CityRenderer.render)  # type: ignore[method-assign]
    stocks = [replace(RunContents.of(renderer.run), city=renderer.city) for renderer in renderers]
    galleries = [RequestRenderer(renderer) for renderer in renderers]
    for index in range(len(cameras)):
        for city, (stock, gallery) in enumerate(zip(stocks, galleries, strict=True)):
            watch.seconds, start = 0.0, time.perf_counter()
            picture = gallery.render(wish(stock, cameras[index], segment), 1.0, no_op)
            draw_minimap(stock, picture.selection, picture.camera)
            selection_table(picture.selection)
            block_info_table(stock.run, sorted(use.name for use in picture.selection))
            whole[city].append(time.perf_counter() - start)
            beside[city].append(whole[city][-1] - watch.seconds)
    return whole, beside


def wish(stock: RunContents, camera: Cameras, segment: str) -> RenderRequest:
    """What the panel asks for there; it makes a city of its own for each picture."""
    city = stock.with_overrides(frozenset(), stock.city.power, stock.city.visibility_threshold)
    return RenderRequest(
        view=camera, appearance=AppearanceTrack(presets=(), segment=segment), city=city, weighting=city.weighting
    )


if __name__ == "__main__":
    main()
