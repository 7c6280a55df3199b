"""Block placement: along the route, on a grid over the ground, or from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import without_outliers
from blocknerf.errors import PlacementError, one_of
from blocknerf.partitioning import grid, route
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.blocks_file import read_blocks
from blocknerf.partitioning.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partitioning.disc_index import PositionIndex
from blocknerf.partitioning.ground_coverage import (
    ground_cells,
    ground_height,
    hits_ground,
    look_at_points,
)
from blocknerf.partitioning.radius import MAX_BLOCKS, check_count, check_radius
from blocknerf.partitioning.view_distance import view_distance
from blocknerf.trajectory.orbit import common_look_at

Placement = Literal["auto", "route", "grid"]
FAR_VIEW = 3.0
"""Cameras within this fraction of the scene's distance all see the same scene: it is one block, as far as they see."""
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


def place_blocks(
    capture: Capture, kind: Placement = "auto", radius: float | None = None, file: Path | None = None
) -> list[Block]:
    """Return blocks that cover the capture, named b000, b001, ... along the route or over the grid.

    `auto` returns one block for a capture of one object and for cameras that stand close together and look far, a
    grid for an aerial capture, and blocks along the route otherwise. Cameras far from all others are left out of the
    placement (`examination.outlying_frames`). A `file` lists the blocks (see `blocks_file.read_blocks`) and need not
    cover every frame; `assign_frames` reports the frames it leaves out. By default the `radius` is derived from the
    capture.

    Raises:
        PlacementError: the kind, the radius or the file is invalid, or a frame is in no block.
    """
    one_of(kind, PLACEMENTS, "placement: kind", PlacementError)
    check_radius(radius)
    capture = without_outliers(capture)
    geometry = capture_geometry(capture)
    if file is not None:
        return read_blocks(file, radius=radius, height=_typical_height(geometry), geo_origin=capture.geo_origin)
    distance = view_distance(capture) if kind == "auto" and radius is None else None
    blocks = _blocks(*_origins(geometry, kind, radius, distance))
    check_coverage(geometry, blocks)
    return blocks


def check_coverage(geometry: CaptureGeometry, blocks: Sequence[Block]) -> None:
    """Raise if a frame is in no block.

    Raises:
        PlacementError: the message names the first such frames.
    """
    uncovered = [
        name
        for name, inside in zip(geometry.names, covered_frames(geometry, blocks).tolist(), strict=True)
        if not inside
    ]
    if uncovered:
        raise PlacementError(
            f"{join_names('frame', uncovered)}: in no block; give a larger radius, or list blocks in a file"
        )


def join_names(noun: str, names: Sequence[str]) -> str:
    """Return the first names with their noun, as the subject of a message.

    >>> join_names("frame", ["a"]), join_names("block", ["a", "b", "c", "d", "e"])
    ('frame a', 'blocks a, b, c and 2 more')
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"


def covered_frames(geometry: CaptureGeometry, blocks: Sequence[Block]) -> Bool[Tensor, "frames"]:
    """Return which frames are inside a block, or look down at the ground of one."""
    down = hits_ground(geometry).nonzero()[:, 0]
    centers, targets = PositionIndex(geometry.centers), PositionIndex(look_at_points(geometry)[down])
    inside = torch.zeros(len(geometry), dtype=torch.bool)
    for block in blocks:
        inside[centers.inside(block)] = True
        inside[down[targets.inside(block)]] = True
    return inside


def _origins(
    geometry: CaptureGeometry, kind: Placement, radius: float | None, distance: float | None
) -> tuple[Float[Tensor, "blocks 3"], float]:
    """Return the origins of the placement, and the radius."""
    target = common_look_at(geometry.cameras)
    if kind == "auto" and target is not None:
        return _around_target(geometry, target, radius)
    if distance is not None and distance > FAR_VIEW * geometry.extent:
        low, high = geometry.centers.amin(0), geometry.centers.amax(0)
        return ((low + high) / 2)[None], distance
    if kind == "grid" or (kind == "auto" and geometry.is_aerial):
        return _on_grid(geometry, radius)
    paths = [path for _, path in route.split_tracks(geometry)]
    radius = radius or route.default_radius(geometry)
    # Measuring the route takes much longer than adding up its paths, which is an upper bound.
    if route.total_length(paths) > MAX_BLOCKS * radius:
        check_count(route.route_length(paths) / radius, radius)
    return route.place_route(paths, radius), radius


def _around_target(
    geometry: CaptureGeometry, target: Float[Tensor, "3"], radius: float | None
) -> tuple[Float[Tensor, "1 3"], float]:
    """Return one block around the cameras and the object that they look at."""
    positions = torch.cat([geometry.centers, target[None]])
    center = (positions.amin(0) + positions.amax(0)) / 2
    # 5 % more, so that the outermost frame is inside despite rounding.
    enclosing_radius = float((positions - center)[:, :2].norm(dim=-1).max()) * 1.05
    return center[None], radius or enclosing_radius


def _on_grid(geometry: CaptureGeometry, radius: float | None) -> tuple[Float[Tensor, "blocks 3"], float]:
    cells = ground_cells(geometry)
    if not geometry.is_aerial:
        cells = torch.cat([cells, geometry.centers[:, :2]])
    radius = radius or grid.default_radius(cells, len(geometry))
    xy = grid.place_grid(cells, radius)
    return torch.cat([xy, xy.new_full((len(xy), 1), _typical_height(geometry))], -1), radius


def _typical_height(geometry: CaptureGeometry) -> float:
    """Return the ground height of an aerial capture, else the median height of the cameras."""
    return ground_height(geometry) if geometry.is_aerial else float(geometry.centers[:, 2].median())


def _blocks(origins: Float[Tensor, "blocks 3"], radius: float) -> list[Block]:
    numbered = enumerate(origins.tolist())
    return [Block(name=f"b{i:03d}", origin=(x, y, z), radius=radius) for i, (x, y, z) in numbered]
