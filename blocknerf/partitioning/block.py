"""A block: the part of the world that one field models."""

import re
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

MAX_NAME_LENGTH = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def is_file_name(name: object) -> bool:
    """Return whether a name of a block, an appearance preset or a video is valid as a file name.

    >>> is_file_name("b000"), is_file_name("../b"), is_file_name("b" * 300)
    (True, False, False)
    """
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and len(name) <= MAX_NAME_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A disc in the xy-plane around an origin (Tancik et al. 2022, section 3.1)."""

    name: str
    origin: tuple[float, float, float]
    """Center in world coordinates; the field is normalized around it."""
    radius: float
    """Horizontal radius, in world units."""

    def contains(self, points: Float[Tensor, "points axes"], margin: float = 0.0) -> Bool[Tensor, "points"]:
        """Return which points are inside the disc, widened by `margin`, a fraction of the radius; x and y decide."""
        offset = points[:, :2] - points.new_tensor(self.origin[:2])
        return offset.norm(dim=-1) <= self.radius * (1.0 + margin)
