"""Street placement: the blocks at the intersections of a street map that contain the capture's frames."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import without_outliers
from blocknerf.errors import PlacementError
from blocknerf.options import Preset
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import CaptureGeometry, capture_geometry
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
        blocks=tuple(_block(geometry, layout, index, number) for number, index in enumerate(kept)),
        streets=tuple(street.line for street in network.streets),
        dropped=len(layout.origins) - len(kept),
    )


def _occupied(geometry: CaptureGeometry, layout: StreetLayout, street_map: Path) -> list[int]:
    """Return the blocks to keep, in the order in which the frames meet them."""
    positions = look_at_points(geometry).double().numpy()
    gaps = cKDTree(positions).query(layout.origins)[0] - layout.radii
    candidates = np.flatnonzero(gaps <= 0).tolist()
    if not candidates:
        hint = "give a map of the place of the capture"
        raise PlacementError(f"{street_map}: its streets are {gaps.min():.0f} m and more from the capture; {hint}")
    distances = np.stack([_distances(positions, layout, index) for index in candidates], -1)
    nearest = distances.min(-1, keepdims=True)
    uncovered = [name for name, street in zip(geometry.names, nearest[:, 0].tolist(), strict=True) if np.isinf(street)]
    if uncovered:
        hint = "give a map with their streets, or place blocks along the route"
        raise PlacementError(f"{join_names('frame', uncovered)}: in no block of the street map; {hint}")
    falls_in = distances <= nearest + TIE_DISTANCE
    order = [i for track in geometry.sorted_tracks() for i in track]
    first_frame = falls_in[order].argmax(0)
    kept = _drop_redundant(np.isfinite(distances), falls_in)
    return [candidates[column] for column in sorted(kept, key=lambda column: (first_frame[column], column))]


def _distances(
    positions: Float[np.ndarray, "frames 2"], layout: StreetLayout, index: int
) -> Float[np.ndarray, "frames"]:
    """Return each frame's distance to the streets of a block; infinite for frames outside its disc."""
    inside = np.linalg.norm(positions - layout.origins[index], axis=-1) <= layout.radii[index]
    distances = np.full(len(positions), np.inf, np.float32)
    streets = np.concatenate([densify(line, SPACING) for line in layout.block_lines[index]])
    distances[inside] = cKDTree(streets).query(positions[inside])[0]
    return distances


def _drop_redundant(
    inside: Bool[np.ndarray, "frames blocks"], falls_in: Bool[np.ndarray, "frames blocks"]
) -> list[int]:
    """Return the blocks to keep: those with few frames are dropped, fewest first, if every frame stays in a block."""
    counts = falls_in.sum(0)
    cover_count = inside.sum(-1)
    kept = []
    for column in counts.argsort(kind="stable"):
        if counts[column] < MIN_FRAMES and (cover_count[inside[:, column]] > 1).all():
            cover_count -= inside[:, column]
        else:
            kept.append(int(column))
    return kept


def _block(geometry: CaptureGeometry, layout: StreetLayout, index: int, number: int) -> Block:
    """Return a block at the height of the camera nearest to its origin, or of the ground for an aerial capture."""
    x, y = layout.origins[index].tolist()
    offsets = geometry.centers[:, :2].double().numpy() - layout.origins[index]
    height = float(geometry.centers[int(np.linalg.norm(offsets, axis=-1).argmin()), 2])
    z = ground_height(geometry) if geometry.is_aerial else height
    return Block(name=f"b{number:03d}", origin=(x, y, z), radius=float(layout.radii[index]))
