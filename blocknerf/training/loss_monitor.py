"""What the last step came to, and the first step whose loss was not finite, without waiting for a GPU to tell."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.errors import TrainingError


class LossMonitor:
    """Notes losses where they are computed; they are read when there is reason to wait."""

    def __init__(self, device: torch.device) -> None:
        self.last = torch.zeros(2, device=device)
        """The last step's loss, and its mean squared color error."""
        self._broken = torch.full((2,), -1.0, device=device)
        """The first step whose loss was not finite, -1 for none, and that loss."""

    def record(self, loss: Float[Tensor, ""], color_loss: Float[Tensor, ""], count: int | Float[Tensor, ""]) -> None:
        """Take down what a step, counted from one, came to."""
        loss, color_loss = loss.detach(), color_loss.detach()
        self.last.copy_(torch.stack([loss, color_loss]))
        step = (count if isinstance(count, Tensor) else torch.full_like(loss, count)) - 1.0
        first = (self._broken[0] < 0.0) & ~loss.isfinite()
        self._broken.copy_(torch.where(first, torch.stack([step, loss]), self._broken))

    def check(self) -> None:
        """Wait for all steps so far.

        Raises:
            TrainingError: the loss of one was not finite; names the first.
        """
        step, loss = self._broken.tolist()
        if step >= 0.0:
            raise TrainingError(
                f"loss is {loss} at step {int(step)}; the last good checkpoint is kept: "
                "check exposures and poses, or take another --seed"
            )


def psnr(squared_error: float) -> float:
    """In dB, of a mean squared error of colors in 0..1."""
    return -10.0 * math.log10(max(squared_error, 1e-10))
