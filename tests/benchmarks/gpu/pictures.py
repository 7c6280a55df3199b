"""Milliseconds a picture of 1280x720 with one, two and three blocks, culling and blending included."""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import read_capture
from blocknerf.city.cache import LoadedBlock, Loader
from blocknerf.city.manifest import read_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.occupancy import OccupancyGrid

WIDTH, HEIGHT = 1280, 720


def copies(field: BlockField, cells: OccupancyGrid | None, places: dict[str, tuple[float, float, float]]) -> Loader:
    """Loads one trained block as if it stood where each of the others does."""
    blocks = {}
    for name, place in places.items():
        other = BlockField(replace(field.spec, origin=place)).to(field.origin.device)
        other.load_state_dict(field.state_dict())
        if cells is not None:
            other.set_occupancy(OccupancyGrid(cells.cells, place, cells.half_extent))
        blocks[name] = LoadedBlock(field=other.eval().requires_grad_(False))
    return lambda name: blocks[name]


def frame_times(
    run: Path, block: str, field: BlockField, cells: OccupancyGrid | None, pictures: int, size: tuple[int, int]
) -> dict[int, tuple[float, float, list[int]]]:
    """For one, two, three blocks: median and longest milliseconds, and how many were blended in each picture."""
    folder = RunFolder(run)
    city, capture = read_city(folder.city), read_capture(folder.capture)
    first = city.block(block)
    found = {}
    for number in (1, 2, 3):
        origins = [(first.origin[0] + 0.5 * i, *first.origin[1:]) for i in range(number)]
        blocks = tuple(replace(first, name=f"b{i:03d}", origin=origin) for i, origin in enumerate(origins))
        load = copies(field, cells, {each.name: each.origin for each in blocks})
        renderer = CityRenderer(
            folder, city=replace(city, blocks=blocks), load=load, device=field.origin.device, cache_bytes=1 << 34
        )
        cameras = _along(capture.cameras(), first.origin, pictures, size)
        times, blended = [], []
        for index in range(-3, len(cameras)):
            start = time.perf_counter()
            picture = renderer.render(cameras, max(index, 0), segment=next(iter(capture.segments)), on_cpu=False)
            if field.origin.is_cuda:
                torch.cuda.synchronize()
            if index >= 0:
                times.append(1e3 * (time.perf_counter() - start))
                blended.append(len(picture.rendered))
        found[number] = (round(median(times), 2), round(max(times), 2), sorted(set(blended)))
    return found


def _along(cameras: Cameras, origin: tuple[float, float, float], pictures: int, size: tuple[int, int]) -> Cameras:
    """Cameras nearest to a block's middle, as wide as a screen."""
    nearest = (cameras.centers - torch.tensor(origin)).norm(dim=-1).argsort()[:pictures]
    width, height = size
    return Cameras.pinhole(cameras.camera_to_world[nearest], focal=0.7 * width, width=width, height=height)
