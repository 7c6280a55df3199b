"""GPS positions of photos in meters around their middle."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blocknerf.geo import geodetic_to_enu
from blocknerf.sfm.alignment import MIN_POSITIONS
from blocknerf.sfm.exif import PhotoRecord

ERROR = 5.0
"""Horizontal error of a position in meters, where the receiver states none."""
VERTICAL_FACTOR = 2.0
"""Vertical error relative to the horizontal one."""
UNKNOWN_HEIGHT = 1000.0
"""Vertical error in meters of a position without altitude."""
MIN_EXTENT = 5.0
"""Extent of positions in meters below which they are the same fix, repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpsPositions:
    """East, north, up in meters of each photo; None for photos without a position."""

    origin: tuple[float, float, float]
    """Latitude, longitude, altitude of the origin: the median of the photos."""
    positions: tuple[tuple[float, float, float] | None, ...]
    errors: tuple[tuple[float, float], ...]
    """Expected horizontal and vertical error of each."""


def gps_positions(records: Sequence[PhotoRecord]) -> GpsPositions | None:
    """Return the positions; None if too few photos have one, or if all have the same."""
    fixes = [record.gps for record in records if record.gps is not None]
    if len(fixes) < MIN_POSITIONS:
        return None
    latitude, longitude = (float(np.median([fix[axis] for fix in fixes])) for axis in (0, 1))
    altitudes = [fix[2] for fix in fixes if fix[2] is not None]
    altitude = float(np.median(altitudes)) if altitudes else 0.0
    origin = latitude, longitude, altitude
    positions: list[tuple[float, float, float] | None] = []
    errors = []
    for record in records:
        horizontal = record.gps_error or ERROR
        if record.gps is None:
            positions.append(None)
            errors.append((horizontal, UNKNOWN_HEIGHT))
            continue
        east, north = geodetic_to_enu(record.gps[1], record.gps[0], origin)
        height = record.gps[2]
        positions.append((east, north, 0.0 if height is None else height - altitude))
        errors.append((horizontal, UNKNOWN_HEIGHT if height is None else VERTICAL_FACTOR * horizontal))
    known = np.array([position for position in positions if position is not None])
    if np.linalg.norm(np.ptp(known[:, :2], axis=0)) < MIN_EXTENT:
        return None
    return GpsPositions(origin=origin, positions=tuple(positions), errors=tuple(errors))
