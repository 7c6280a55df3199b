"""Record the loss of the last step and the first step with a non-finite loss, without GPU synchronization."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.errors import TrainingError


class LossMonitor:
    """Keeps losses on the device that computes them; only `check` synchronizes."""

    def __init__(self, device: torch.device) -> None:
        self.last = torch.zeros(2, device=device)
        """Loss and mean squared color error of the last step."""
        self._first_invalid = torch.full((2,), -1.0, device=device)
        """The first step with a non-finite loss (-1 for none), and that loss."""

    def record(self, loss: Float[Tensor, ""], color_loss: Float[Tensor, ""], count: int | Float[Tensor, ""]) -> None:
        """Record the losses of step number `count`, counted from one."""
        loss, color_loss = loss.detach(), color_loss.detach()
        self.last.copy_(torch.stack([loss, color_loss]))
        step = (count if isinstance(count, Tensor) else torch.full_like(loss, count)) - 1.0
        is_first = (self._first_invalid[0] < 0.0) & ~loss.isfinite()
        self._first_invalid.copy_(torch.where(is_first, torch.stack([step, loss]), self._first_invalid))

    def check(self) -> None:
        """Wait for all steps so far and check their losses.

        Raises:
            TrainingError: A loss was not finite; names the first such step.
        """
        step, loss = self._first_invalid.tolist()
        if step >= 0.0:
            raise TrainingError(
                f"loss is {loss} at step {int(step)}; the last good checkpoint is kept: "
                "check exposures and poses, or use another --seed"
            )


def psnr(squared_error: float) -> float:
    """Return the PSNR in dB of a mean squared error of colors in 0..1."""
    return -10.0 * math.log10(max(squared_error, 1e-10))
