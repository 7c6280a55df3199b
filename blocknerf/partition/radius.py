"""Radii that no placement can follow: what is no length, and what asks for countless blocks."""

from blocknerf.errors import PlacementError
from blocknerf.options import MAX_INT

MAX_BLOCKS = 20_000


def check_radius(radius: float | None) -> None:
    """Refuse what is no length; None leaves the radius to the placement.

    Raises:
        PlacementError: it is not positive, or larger than any place.
    """
    if radius is not None and not 0 < radius <= MAX_INT:
        raise PlacementError(f"--radius {radius:g} is not a positive length; leave it out or give one")


def check_count(count: float, radius: float) -> None:
    """Refuse a radius that asks for so many blocks; to be called before any is placed, which would take forever.

    Raises:
        PlacementError: they are more than `MAX_BLOCKS`.
    """
    if count > MAX_BLOCKS:
        raise PlacementError(f"placement: radius {radius:g} asks for about {count:.0f} blocks; give a larger one")
