"""Where a capture's blocks lie: along its route, on a grid over what it sees, or as listed by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.errors import PlacementError, one_of
from blocknerf.partition import grid, route
from blocknerf.partition.block import Block
from blocknerf.partition.blocks_file import read_blocks
from blocknerf.partition.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partition.ground_coverage import common_look_at, ground_cells, ground_height, hits_ground, look_at_points
from blocknerf.partition.radius import check_count, check_radius

Placement = Literal["auto", "route", "grid"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


def place_blocks(
    capture: Capture, kind: Placement = "auto", radius: float | None = None, file: Path | None = None
) -> list[Block]:
    """Blocks that cover the capture, named b000, b001, ... along the route or over the grid.

    `auto` makes one block of a capture whose cameras all look at one object, a grid where they look down, and
    follows the route otherwise. A `file` lists the blocks by hand (see `manual.read_blocks`) and need not
    cover every frame: membership says which it leaves out. Without a `radius` one is derived from the capture.

    Raises:
        PlacementError: the kind, the radius or the file is unusable, or a frame is left out.
    """
    one_of(kind, PLACEMENTS, "placement: kind", PlacementError)
    check_radius(radius)
    known = capture_geometry(capture)
    if file is not None:
        return read_blocks(file, radius=radius, height=_typical_height(known), geo_origin=capture.geo_origin)
    blocks = _blocks(*_origins(known, kind, radius))
    check_coverage(known, blocks)
    return blocks


def check_coverage(known: CaptureGeometry, blocks: Sequence[Block]) -> None:
    """Refuse blocks that leave a frame out.

    Raises:
        PlacementError: naming the first frames that no block holds.
    """
    left_out = [
        name for name, inside in zip(known.names, covered_frames(known, blocks).tolist(), strict=True) if not inside
    ]
    if left_out:
        raise PlacementError(f"{join_names('frame', left_out)} in no block; give a larger radius, or blocks by hand")


def join_names(noun: str, names: Sequence[str]) -> str:
    """The first names, as the subject of a message.

    >>> join_names("frame", ["a"]), join_names("block", ["a", "b", "c", "d", "e"])
    ('frame a: is', 'blocks a, b, c and 2 more: are')
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    plural = len(names) > 1
    return f"{noun}{'s' if plural else ''} {', '.join(names[:3])}{more}: {'are' if plural else 'is'}"


def covered_frames(known: CaptureGeometry, blocks: Sequence[Block]) -> Bool[Tensor, "frames"]:
    """Which frames stand in a block, or look down at the ground of one."""
    gaze, down = look_at_points(known), hits_ground(known)
    inside = torch.zeros(len(known), dtype=torch.bool)
    for block in blocks:
        inside |= block.contains(known.centers) | (down & block.contains(torch.nn.functional.pad(gaze, (0, 1))))
    return inside


def _origins(known: CaptureGeometry, kind: Placement, radius: float | None) -> tuple[Float[Tensor, "blocks 3"], float]:
    """Origins of the chosen placement, and the radius used."""
    point = common_look_at(known)
    if kind == "auto" and point is not None:
        return _around(known, point, radius)
    if kind == "grid" or (kind == "auto" and known.is_aerial):
        return _over_ground(known, radius)
    paths = [path for _, path in route.split_tracks(known)]
    radius = radius or route.default_radius(known)
    check_count(route.route_length(paths) / radius, radius)
    return route.place_route(paths, radius), radius


def _around(
    known: CaptureGeometry, point: Float[Tensor, "3"], radius: float | None
) -> tuple[Float[Tensor, "1 3"], float]:
    """One block around the cameras and the object that they look at."""
    everything = torch.cat([known.centers, point[None]])
    middle = (everything.amin(0) + everything.amax(0)) / 2
    # A twentieth more, so that the frame farthest out is inside despite rounding.
    reach = float((everything - middle)[:, :2].norm(dim=-1).max()) * 1.05
    return middle[None], radius or reach


def _over_ground(known: CaptureGeometry, radius: float | None) -> tuple[Float[Tensor, "blocks 3"], float]:
    ground = ground_cells(known)
    if not known.is_aerial:
        ground = torch.cat([ground, known.centers[:, :2]])
    radius = radius or grid.default_radius(ground, len(known))
    plan = grid.place_grid(ground, radius)
    return torch.cat([plan, plan.new_full((len(plan), 1), _typical_height(known))], -1), radius


def _typical_height(known: CaptureGeometry) -> float:
    """The ground's height where cameras look down on it, else the cameras' own."""
    return ground_height(known) if known.is_aerial else float(known.centers[:, 2].median())


def _blocks(origins: Float[Tensor, "blocks 3"], radius: float) -> list[Block]:
    named = enumerate(origins.tolist())
    return [Block(name=f"b{i:03d}", origin=(x, y, z), radius=radius) for i, (x, y, z) in named]
