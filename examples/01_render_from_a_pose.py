"""Render the city from a pose that no image was taken from.

python examples/01_render_from_a_pose.py runs/mini_city rendering.png
"""

import argparse
from dataclasses import replace

import blocknerf

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", help="run folder")
parser.add_argument("out", help="PNG file to write")
parser.add_argument("--frame", type=int, default=0, help="start from the camera of this frame")
parser.add_argument("--up", type=float, default=1.0, help="move it up by this, in the capture's unit")
options = parser.parse_args()

run = blocknerf.load_run(options.run)
camera = run.capture.cameras()[options.frame]
camera_to_world = camera.camera_to_world.clone()  # [1, 3, 4], OpenCV axes, z of the world is up
camera_to_world[:, 2, 3] += options.up
rendering = run.renderer.render(replace(camera, camera_to_world=camera_to_world))

blocknerf.write_image(options.out, blocknerf.to_uint8(rendering.color))
for block in rendering.rendered:
    print(f"{block.name}: {block.weight:.0%} of the rendering, {block.distance:.1f} units from its origin")
