"""A capture on a street map: the blocks at its intersections that the capture's frames fall into."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from blocknerf.capture.capture import Capture
from blocknerf.errors import PlacementError
from blocknerf.partition.block import Block
from blocknerf.partition.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partition.ground_coverage import ground_height, look_at_points
from blocknerf.partition.intersection_placement import LARGEST, StreetLayout, place_intersections
from blocknerf.partition.placement import join_names
from blocknerf.partition.radius import check_radius
from blocknerf.partition.route import MIN_FRAMES
from blocknerf.partition.street_map import read_streets
from blocknerf.partition.street_network import Line, densify
from blocknerf.quality import Preset

FINER: dict[Preset, float] = {"draft": 1.0, "standard": 2.0, "fine": 4.0}
"""How much finer a preset's grid is than a draft's: blocks so many times as large get cells of the same size."""
SPACING = 2.0
"""Between the positions (m) by which a part of a street is found from a frame."""
TIE_DISTANCE = 3.0
"""A frame falls into every block whose streets are at most this much farther away (m) than the nearest."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockLayout:
    """The blocks of a capture, and what of a street map lies around them."""

    blocks: tuple[Block, ...]
    streets: tuple[Line, ...] = ()
    """Middle lines of the map's streets, in world coordinates."""
    dropped: int = 0
    """Blocks of the map that were left out: no frame falls into them, or a few that other blocks hold as well."""


def place_on_streets(
    capture: Capture, street_map: Path, radius: float | None = None, preset: Preset = "draft"
) -> BlockLayout:
    """Blocks at the intersections of an OpenStreetMap extract, named in the order in which the capture meets them.

    The map is placed by the capture's geographic origin. `radius` is that of the largest block (m): a street of
    which a block would have to cover more is divided. By default it is as large as the preset's grid can be
    without coarser cells than a draft's of 60 m.

    Raises:
        PlacementError: the capture does not know where on earth it is, the map cannot be used or is of another
            place, or a frame is off its streets.
    """
    check_radius(radius)
    if capture.geo_origin is None or not capture.is_metric:
        lacks = "no geographic origin" if capture.geo_origin is None else "no metric scale"
        remedy = "place its blocks along the route, on a grid or by hand"
        raise PlacementError(f"streets: the capture has {lacks}, so it cannot be laid on a map; {remedy}")
    known = capture_geometry(capture)
    network = read_streets(street_map, capture.geo_origin)
    placed = place_intersections(network, LARGEST * FINER[preset] if radius is None else radius)
    chosen = _occupied(known, placed, street_map)
    return BlockLayout(
        blocks=tuple(_block(known, placed, row, number) for number, row in enumerate(chosen)),
        streets=tuple(street.line for street in network.streets),
        dropped=len(placed.origins) - len(chosen),
    )


def _occupied(known: CaptureGeometry, placed: StreetLayout, street_map: Path) -> list[int]:
    """The blocks to keep, in the order in which the frames meet them."""
    positions = look_at_points(known).double().numpy()
    gaps = cKDTree(positions).query(placed.origins)[0] - placed.radii
    rows = np.flatnonzero(gaps <= 0).tolist()
    if not rows:
        remedy = "give a map of the place where it was taken"
        raise PlacementError(f"{street_map}: its streets lie {gaps.min():.0f} m and more from the capture; {remedy}")
    away = np.stack([_distances(positions, placed, row) for row in rows], -1)
    nearest = away.min(-1, keepdims=True)
    left_out = [name for name, street in zip(known.names, nearest[:, 0].tolist(), strict=True) if np.isinf(street)]
    if left_out:
        remedy = "give a map with the streets they were taken on, or place blocks along the route"
        raise PlacementError(f"{join_names('frame', left_out)} in no block of the street map; {remedy}")
    falls = away <= nearest + TIE_DISTANCE
    order = [i for track in known.sorted_tracks() for i in track]
    met = falls[order].argmax(0)
    kept = _drop_redundant(np.isfinite(away), falls)
    return [rows[column] for column in sorted(kept, key=lambda column: (met[column], column))]


def _distances(positions: Float[np.ndarray, "frames 2"], placed: StreetLayout, row: int) -> Float[np.ndarray, "frames"]:
    """From each frame to what a block covers of its streets; infinite where it lies outside of the block's disc."""
    inside = np.linalg.norm(positions - placed.origins[row], axis=-1) <= placed.radii[row]
    distances = np.full(len(positions), np.inf, np.float32)
    streets = np.concatenate([densify(line, SPACING) for line in placed.parts[row]])
    distances[inside] = cKDTree(streets).query(positions[inside])[0]
    return distances


def _drop_redundant(inside: Bool[np.ndarray, "frames blocks"], falls: Bool[np.ndarray, "frames blocks"]) -> list[int]:
    """The blocks without those that few frames fall into, fewest first, as long as every frame stays in one."""
    counts = falls.sum(0)
    times = inside.sum(-1)
    kept = []
    for column in counts.argsort(kind="stable"):
        if counts[column] < MIN_FRAMES and (times[inside[:, column]] > 1).all():
            times -= inside[:, column]
        else:
            kept.append(int(column))
    return kept


def _block(known: CaptureGeometry, placed: StreetLayout, row: int, number: int) -> Block:
    """A block as high as the camera nearest to its origin, or as the ground where cameras look down."""
    x, y = placed.origins[row].tolist()
    offsets = known.centers[:, :2].double().numpy() - placed.origins[row]
    height = float(known.centers[int(np.linalg.norm(offsets, axis=-1).argmin()), 2])
    z = ground_height(known) if known.is_aerial else height
    return Block(name=f"b{number:03d}", origin=(x, y, z), radius=float(placed.radii[row]))
