"""Blend blocks by a rule of your own, and compare it with the default.

    python examples/04_write_a_weighting.py runs/mini_city weighting.png

A weighting is a function of `BlendInputs` that returns a score of each block, `[blocks]` for the whole rendering or
`[blocks, height, width]` for each pixel. The renderer normalizes the scores over the blocks.
"""

import argparse

import torch

import blocknerf

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", help="run folder")
parser.add_argument("out", help="PNG file to write: default above, own weighting below")
parser.add_argument("--frame", type=int, default=0)
options = parser.parse_args()


def visible_and_near(inputs: blocknerf.BlendInputs) -> torch.Tensor:
    """Weight each pixel by predicted visibility over squared distance."""
    return inputs.visibility / inputs.distances[:, None, None].clamp_min(1e-6) ** 2


run = blocknerf.load_run(options.run)
camera = run.capture.cameras()[options.frame]
default = run.renderer.render(camera)
own = run.renderer.render(camera, weighting=visible_and_near)

blocknerf.write_image(options.out, blocknerf.to_uint8(torch.cat([default.color, own.color])))
for name, rendering in (("default", default), ("own", own)):
    print(name, {block.name: round(block.weight, 3) for block in rendering.rendered})
print(f"mean difference: {float((default.color - own.color).abs().mean()):.4f}")
