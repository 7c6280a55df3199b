"""How far poses are from the truth, but for a motion of everything together, which no photograph can show."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.geometry import compose


def pose_error(poses: Float[Tensor, "frames 3 4"], truth: Float[Tensor, "frames 3 4"]) -> tuple[float, float]:
    """Mean distance of the cameras from where they truly stood, and mean angle from how, in centimeters and degrees.

    A field trained on poses that are all displaced together is displaced with them and shows the same pictures. So
    the poses are first moved together by the rigid motion that turns them least wrongly, then shifts them.
    """
    moved = compose(common_motion(poses.double(), truth.double()).expand(len(poses), 3, 4), poses.double())
    distances = (moved[:, :, 3] - truth[:, :, 3]).norm(dim=-1)
    turns = moved[:, :, :3] @ truth[:, :, :3].double().transpose(-1, -2)
    # By the sine of half the angle: the cosine cannot tell angles below a tenth of a degree in single precision.
    half = (turns - torch.eye(3, dtype=torch.float64)).flatten(1).norm(dim=-1) / math.sqrt(8.0)
    angles = torch.rad2deg(2.0 * half.clamp(max=1.0).asin())
    return 100.0 * float(distances.mean()), float(angles.mean())


def common_motion(poses: Float[Tensor, "frames 3 4"], truth: Float[Tensor, "frames 3 4"]) -> Float[Tensor, "3 4"]:
    """The rigid motion of all poses together that brings them to the truth in the mean (chordal mean of the turns)."""
    turns = truth[:, :, :3] @ poses[:, :, :3].transpose(-1, -2)
    left, _, right = torch.linalg.svd(turns.sum(0))
    sign = torch.diag(torch.tensor([1.0, 1.0, float(torch.det(left @ right))], dtype=poses.dtype))
    turn = left @ sign @ right
    shift = (truth[:, :, 3] - poses[:, :, 3] @ turn.T).mean(0)
    return torch.cat([turn, shift[:, None]], -1)
