"""Checks of block radii: invalid lengths, and radii that would need too many blocks."""

from blocknerf.errors import PlacementError
from blocknerf.options import MAX_INT

MAX_BLOCKS = 20_000


def check_radius(radius: float | None) -> None:
    """Raise if the radius is not a valid length; None leaves it to the placement.

    Raises:
        PlacementError: it is not positive, or too large.
    """
    if radius is not None and not 0 < radius <= MAX_INT:
        raise PlacementError(f"--radius {radius:g} is not a positive length; omit it or give one")


def check_count(count: float, radius: float) -> None:
    """Raise if a radius needs too many blocks; call this before placing any, which would take forever.

    Raises:
        PlacementError: `count` exceeds `MAX_BLOCKS`.
    """
    if count > MAX_BLOCKS:
        raise PlacementError(f"placement: radius {radius:g} needs about {count:.0f} blocks; give a larger one")
