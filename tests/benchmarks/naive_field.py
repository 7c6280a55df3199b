"""Trains the naive field and scores it as `tests.benchmarks.against_naive` says, in a process of its own.

    ROOT=CAPTURE/ SECS=300 python -m tests.benchmarks.naive_field SCRIPT

Everything the script takes comes through the environment; the last line is JSON. The script itself scores whole
pictures with the mean appearance code.
"""

import json
import os
import re
import runpy
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import torch

from blocknerf.metrics.image_quality import psnr
from blocknerf.rendering.appearance_fit import FIT_RATE, FIT_STEPS
from tests.benchmarks.against_naive import FIT_RAYS, beside, mean_scores, scored


def half_image(naive: SimpleNamespace, frame: int) -> float:
    """PSNR of a right half, the code fitted on the left with everything else frozen."""
    truth = torch.from_numpy(naive.ims[frame]).float().view(naive.H, naive.W, 3) / 255
    cells = torch.arange(naive.H * naive.W).view(naive.H, naive.W)
    left, right = cells[:, : naive.W // 2].flatten(), cells[:, naive.W // 2 :].flatten()
    left = left[torch.randperm(len(left), generator=torch.Generator().manual_seed(0))[:FIT_RAYS]]
    code = naive.emb.weight[naive.train].mean(0).detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([code], lr=FIT_RATE)
    for step in range(FIT_STEPS):
        optimizer.param_groups[0]["lr"] = FIT_RATE * (1.0 - step / FIT_STEPS)
        error = (show(naive, frame, left, code) - truth.view(-1, 3)[left]).square().mean()
        (code.grad,) = torch.autograd.grad(error, code)
        optimizer.step()
    with torch.no_grad():
        parts = [show(naive, frame, part, code) for part in right.split(4096)]
    return psnr(torch.cat(parts).clamp(0, 1).view(naive.H, -1, 3), truth[:, naive.W // 2 :])


def whole_beside(naive: SimpleNamespace, frame: int) -> float:
    """PSNR of a picture with the mean code of the photographs before and after."""
    code = naive.emb.weight[beside(frame, naive.train.tolist())].mean(0)
    with torch.no_grad():
        parts = [show(naive, frame, part, code) for part in torch.arange(naive.H * naive.W).split(4096)]
    truth = torch.from_numpy(naive.ims[frame]).float() / 255
    return psnr(torch.cat(parts).clamp(0, 1).view(naive.H, -1, 3), truth.view(naive.H, -1, 3))


def show(naive: SimpleNamespace, frame: int, cells: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Colors that the naive field gives pixels of a frame."""
    origins = naive.Ot[frame].expand(len(cells), 3)
    return naive.render(origins, naive.Dt[frame][cells], code.expand(len(cells), -1), True)[0]


def main() -> None:
    """Print one line of JSON."""
    script, told = Path(sys.argv[1]).resolve(), StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(told):  # it leaves a picture behind
        os.chdir(folder)
        naive = SimpleNamespace(**runpy.run_path(str(script)))
    for parameter in (naive.table, naive.tablep, *naive.params):
        parameter.requires_grad_(False)
    held_out = naive.test.tolist()
    frames = [{"beside": whole_beside(naive, frame)} for frame in held_out]
    frames += [{"half": half_image(naive, frame)} for frame in scored(held_out)]
    whole = float(re.findall(r"PSNR ([\d.]+)", told.getvalue())[-1])
    print(json.dumps({"steps": naive.it, "whole": whole, **mean_scores(frames)}))


if __name__ == "__main__":
    main()
