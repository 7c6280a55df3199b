"""Train one block and watch it: print its loss, and save a rendering of one training view as it becomes sharper.

blocknerf ingest data_samples/mini_city runs/one && blocknerf partition runs/one
python examples/02_train_a_block.py runs/one b000 previews
"""

import argparse
from pathlib import Path

import blocknerf
from blocknerf.city.training_images import block_capture
from blocknerf.rendering.image import render_image

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", help="run folder, partitioned")
parser.add_argument("block", help="name of the block")
parser.add_argument("out", type=Path, help="folder for the previews")
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--every", type=int, default=100, help="steps between two previews")
parser.add_argument("--size", type=int, default=96, help="height of a preview, in pixels")
options = parser.parse_args()

run = blocknerf.load_run(options.run)
block = run.city.block(options.block)
capture = block_capture(run.folder, block.name)
frames = range(len(capture))
config = blocknerf.make_config(capture, frames, steps=options.steps, appearance_lr=1e-3)
trainer = blocknerf.make_trainer(capture, block, frames, config=config, field={"num_levels": 8})

view = capture.cameras()[frames[len(frames) // 2]]
view = view.scaled(options.size / int(view.height))
options.out.mkdir(parents=True, exist_ok=True)
while trainer.step < config.total_steps:
    metrics = trainer.train_step()
    if trainer.step % options.every == 0:
        code = trainer.field.mean_appearance_code()
        preview = render_image(trainer.field, view.generate_rays(0), code, trainer.field.spec.exposure_reference)
        blocknerf.write_image(options.out / f"{trainer.step:05d}.png", blocknerf.to_uint8(preview.color))
        print(f"step {trainer.step}: loss {metrics.loss:.4f}, training PSNR {metrics.psnr:.1f} dB")
