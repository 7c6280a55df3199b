"""Street placement: the blocks at the intersections of a street map that contain the capture's frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int
from scipy.spatial import cKDTree

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import without_outliers
from blocknerf.errors import PlacementError
from blocknerf.options import Preset
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partitioning.disc_index import PositionIndex
from blocknerf.partitioning.ground_coverage import ground_height, look_at_points
from blocknerf.partitioning.intersection_placement import MAX_RADIUS, StreetLayout, place_intersections
from blocknerf.partitioning.placement import join_names
from blocknerf.partitioning.radius import check_radius
from blocknerf.partitioning.route import MIN_FRAMES
from blocknerf.partitioning.street_map import read_streets
from blocknerf.partitioning.street_network import Line, densify

GRID_REFINEMENT: dict[Preset, float] = {"draft": 1.0, "standard": 2.0, "fine": 4.0}
"""Grid resolution of each preset relative to draft; blocks that many times as large have the same cell size."""
SPACING = 2.0
"""Sample spacing (m) along streets for distances to frames."""
TIE_DISTANCE = 3.0
"""A frame belongs to every block with streets at most this much farther away (m) than the nearest street."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockLayout:
    """The blocks of a capture, and the streets of the map."""

    blocks: tuple[Block, ...]
    streets: tuple[Line, ...] = ()
    """Centerlines of the map's streets, in world coordinates."""
    dropped: int = 0
    """Blocks of the map that were dropped: no frame is in them, or only a few that other blocks have too."""


def place_on_streets(
    capture: Capture, street_map: Path, radius: float | None = None, preset: Preset = "draft"
) -> BlockLayout:
    """Return blocks at the intersections of an OpenStreetMap extract, named in the order the capture meets them.

    The capture's geographic origin locates the map. `radius` is the maximum block radius (m); a street that needs a
    larger block is divided. By default it is the largest radius without coarser grid cells than those of a draft block
    of 60 m.

    Raises:
        PlacementError: the capture has no geographic origin or metric scale, the map is invalid or of another place, or
            a frame is not on its streets.
    """
    check_radius(radius)
    if capture.geo_origin is None or not capture.is_metric:
        missing = "no geographic origin" if capture.geo_origin is None else "no metric scale"
        hint = "place blocks along the route, on a grid or from a file"
        raise PlacementError(f"streets: the capture has {missing}, so it cannot be located on a map; {hint}")
    geometry = capture_geometry(without_outliers(capture))
    network = read_streets(street_map, capture.geo_origin)
    layout = place_intersections(network, MAX_RADIUS * GRID_REFINEMENT[preset] if radius is None else radius)
    kept = _occupied(geometry, layout, street_map)
    return BlockLayout(
        blocks=_blocks(geometry, layout, kept),
        streets=tuple(street.line for street in network.streets),
        dropped=len(layout.origins) - len(kept),
    )


def _occupied(geometry: CaptureGeometry, layout: StreetLayout, street_map: Path) -> list[int]:
    """Return the blocks to keep, in the order in which the frames meet them."""
    positions = look_at_points(geometry).double()
    index = PositionIndex(positions)
    nearest_frames = positions.numpy()[index.nearest(layout.origins)]
    gaps = np.linalg.norm(nearest_frames - layout.origins, axis=-1) - layout.radii
    candidates = np.flatnonzero(gaps <= 0).tolist()
    if not candidates:
        hint = "give a map of the place of the capture"
        raise PlacementError(f"{street_map}: its streets are {gaps.min():.0f} m and more from the capture; {hint}")
    frames, distances = zip(*(_distances_in_disc(index, layout, block) for block in candidates), strict=True)
    nearest = np.full(len(positions), np.inf, np.float32)
    for inside, own in zip(frames, distances, strict=True):
        nearest[inside] = np.minimum(nearest[inside], own)
    uncovered = [geometry.names[i] for i in np.flatnonzero(np.isinf(nearest))]
    if uncovered:
        hint = "give a map with their streets, or place blocks along the route"
        raise PlacementError(f"{join_names('frame', uncovered)}: in no block of the street map; {hint}")
    falls_in = [inside[own <= nearest[inside] + TIE_DISTANCE] for inside, own in zip(frames, distances, strict=True)]
    rank = np.empty(len(positions), np.int64)
    rank[np.concatenate(geometry.sorted_tracks())] = np.arange(len(positions))
    first_frame = [int(rank[inside].min()) if len(inside) else 0 for inside in falls_in]
    kept = _drop_redundant(frames, falls_in, len(positions))
    return [candidates[column] for column in sorted(kept, key=lambda column: (first_frame[column], column))]


def _distances_in_disc(
    index: PositionIndex, layout: StreetLayout, block: int
) -> tuple[Int[np.ndarray, "inside"], Float32[np.ndarray, "inside"]]:
    """Return the frames in the disc of a block, and their distances to its streets."""
    origin, radius = layout.origins[block], layout.radii[block]
    near = index.within((float(origin[0]), float(origin[1])), float(radius)).numpy()
    positions = index.positions.numpy()
    inside = near[np.linalg.norm(positions[near] - origin, axis=-1) <= radius]
    streets = np.concatenate([densify(line, SPACING) for line in layout.block_lines[block]])
    return inside, cKDTree(streets).query(positions[inside])[0].astype(np.float32)


def _drop_redundant(
    inside: Sequence[Int[np.ndarray, "_"]], falls_in: Sequence[Int[np.ndarray, "_"]], count: int
) -> list[int]:
    """Return the blocks to keep: those with few frames are dropped, fewest first, if every frame stays in a block."""
    cover_count = np.zeros(count, np.int64)
    for frames in inside:
        cover_count[frames] += 1
    kept = []
    for column in np.argsort([len(frames) for frames in falls_in], kind="stable").tolist():
        if len(falls_in[column]) < MIN_FRAMES and (cover_count[inside[column]] > 1).all():
            cover_count[inside[column]] -= 1
        else:
            kept.append(column)
    return kept


def _blocks(geometry: CaptureGeometry, layout: StreetLayout, kept: Sequence[int]) -> tuple[Block, ...]:
    """Return blocks at the height of the camera nearest to their origins, or of the ground for an aerial capture."""
    origins = layout.origins[kept]
    nearest = PositionIndex(geometry.centers).nearest(origins)
    heights = geometry.centers[torch.from_numpy(nearest), 2].tolist()
    if geometry.is_aerial:
        heights = [ground_height(geometry)] * len(kept)
    return tuple(
        Block(name=f"b{number:03d}", origin=(x, y, height), radius=float(layout.radii[block]))
        for number, (block, (x, y), height) in enumerate(zip(kept, origins.tolist(), heights, strict=True))
    )
