"""Milliseconds per 1280x720 frame with one, two and three blocks, including culling and blending."""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from blocknerf.cameras import Cameras
from blocknerf.capture.capture_file import read_capture
from blocknerf.city.cache import LoadedBlock, Loader
from blocknerf.city.manifest import read_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.fields.block_field import BlockField, OccupancyGrid

WIDTH, HEIGHT = 1280, 720


def copies(field: BlockField, cells: OccupancyGrid | None, origins: dict[str, tuple[float, float, float]]) -> Loader:
    """Return a loader that provides copies of one trained block at several origins."""
    blocks = {}
    for name, origin in origins.items():
        copy = BlockField(replace(field.spec, origin=origin)).to(field.origin.device)
        copy.load_state_dict(field.state_dict())
        if cells is not None:
            copy.set_occupancy(OccupancyGrid(cells.cells, origin, cells.half_extent))
        blocks[name] = LoadedBlock(field=copy.eval().requires_grad_(False))
    return lambda name: blocks[name]


def frame_times(
    run: Path, block: str, field: BlockField, cells: OccupancyGrid | None, num_frames: int, size: tuple[int, int]
) -> dict[int, tuple[float, float, list[int]]]:
    """Return median and maximum milliseconds and the numbers of blended blocks, for one, two and three blocks."""
    folder = RunFolder(run)
    city, capture = read_city(folder.city), read_capture(folder.capture)
    first = city.block(block)
    results = {}
    for num_blocks in (1, 2, 3):
        origins = [(first.origin[0] + 0.5 * i, *first.origin[1:]) for i in range(num_blocks)]
        blocks = tuple(replace(first, name=f"b{i:03d}", origin=origin) for i, origin in enumerate(origins))
        load = copies(field, cells, {block.name: block.origin for block in blocks})
        renderer = CityRenderer(
            folder, city=replace(city, blocks=blocks), load=load, device=field.origin.device, cache_bytes=1 << 34
        )
        cameras = _nearest_cameras(capture.cameras(), first.origin, num_frames, size)
        times, blended = [], []
        for index in range(-3, len(cameras)):
            start = time.perf_counter()
            rendering = renderer.render(cameras, max(index, 0), segment=next(iter(capture.segments)), to_cpu=False)
            if field.origin.is_cuda:
                torch.cuda.synchronize()
            if index >= 0:
                times.append(1e3 * (time.perf_counter() - start))
                blended.append(len(rendering.rendered))
        results[num_blocks] = (round(median(times), 2), round(max(times), 2), sorted(set(blended)))
    return results


def _nearest_cameras(
    cameras: Cameras, origin: tuple[float, float, float], num_frames: int, size: tuple[int, int]
) -> Cameras:
    """Return the cameras nearest to a block's center, in screen size."""
    nearest = (cameras.centers - torch.tensor(origin)).norm(dim=-1).argsort()[:num_frames]
    width, height = size
    return Cameras.pinhole(cameras.camera_to_world[nearest], focal=0.7 * width, width=width, height=height)
