"""Train the naive field and score it by the protocols of `tests.benchmarks.against_naive`, in its own process.

    ROOT=CAPTURE/ SECS=300 python -m tests.benchmarks.naive_field SCRIPT

The script takes its settings from the environment and scores renderings with the mean appearance code itself. The last
line of output is JSON.
"""

import json
import os
import re
import runpy
import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import torch

from blocknerf.metrics import psnr
from blocknerf.rendering.appearance_fit import CodePrior, optimize_code
from tests.benchmarks.against_naive import FIT_RAYS, fitted_frames, mean_scores, neighbor_frames


def half_image(naive: SimpleNamespace, frame: int) -> float:
    """Return the PSNR of a right half with a code fitted on the left half."""
    truth = torch.from_numpy(naive.ims[frame]).float().view(naive.H, naive.W, 3) / 255
    pixels = torch.arange(naive.H * naive.W).view(naive.H, naive.W)
    left, right = pixels[:, : naive.W // 2].flatten(), pixels[:, naive.W // 2 :].flatten()
    left = left[torch.randperm(len(left), generator=torch.Generator().manual_seed(0))[:FIT_RAYS]]
    prior = CodePrior.of(naive.emb.weight[naive.train])
    code = optimize_code(partial(render_pixels, naive, frame, left), truth.view(-1, 3)[left], prior=prior)
    with torch.no_grad():
        parts = [render_pixels(naive, frame, part, code) for part in right.split(4096)]
    return psnr(torch.cat(parts).clamp(0, 1).view(naive.H, -1, 3), truth[:, naive.W // 2 :])


def neighbor_code_psnr(naive: SimpleNamespace, frame: int) -> float:
    """Return the PSNR of a rendering with the mean code of the previous and next images."""
    code = naive.emb.weight[neighbor_frames(frame, naive.train.tolist())].mean(0)
    with torch.no_grad():
        parts = [render_pixels(naive, frame, part, code) for part in torch.arange(naive.H * naive.W).split(4096)]
    truth = torch.from_numpy(naive.ims[frame]).float() / 255
    return psnr(torch.cat(parts).clamp(0, 1).view(naive.H, -1, 3), truth.view(naive.H, -1, 3))


def render_pixels(naive: SimpleNamespace, frame: int, pixels: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Return the colors that the naive field renders for pixels of a frame."""
    origins = naive.Ot[frame].expand(len(pixels), 3)
    return naive.render(origins, naive.Dt[frame][pixels], code.expand(len(pixels), -1), True)[0]


def main() -> None:
    """Print one line of JSON."""
    script, output = Path(sys.argv[1]).resolve(), StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(output):  # it writes an image
        os.chdir(folder)
        naive = SimpleNamespace(**runpy.run_path(str(script)))
    for parameter in (naive.table, naive.tablep, *naive.params):
        parameter.requires_grad_(False)
    held_out = naive.test.tolist()
    frames = [{"neighbor_code": neighbor_code_psnr(naive, frame)} for frame in held_out]
    frames += [{"half": half_image(naive, frame)} for frame in fitted_frames(held_out)]
    mean_code = float(re.findall(r"PSNR ([\d.]+)", output.getvalue())[-1])
    print(json.dumps({"steps": naive.it, "mean_code": mean_code, **mean_scores(frames)}))


if __name__ == "__main__":
    main()
