"""A block: the stretch of the world that one field is responsible for."""

import re
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

LONGEST_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def is_file_name(name: object) -> bool:
    """Whether files and folders can be called by a name of a block, an appearance preset or a video.

    >>> is_file_name("b000"), is_file_name("../b"), is_file_name("b" * 300)
    (True, False, False)
    """
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and len(name) <= LONGEST_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A disc in plan around an origin (Tancik et al. 2022, section 3.1)."""

    name: str
    origin: tuple[float, float, float]
    """Centre in world coordinates; the field is normalized around it."""
    radius: float
    """In world units, measured in plan (x, y)."""

    def contains(self, points: Float[Tensor, "points 3"], margin: float = 0.0) -> Bool[Tensor, "points"]:
        """Which points lie within the disc, widened by `margin` as a share of the radius."""
        offset = points[:, :2] - points.new_tensor(self.origin[:2])
        return offset.norm(dim=-1) <= self.radius * (1.0 + margin)
