"""Import a format of your own: a folder of images with one CSV file of poses.

    python examples/03_write_an_importer.py poses.csv runs/mine && blocknerf partition runs/mine

Each line of the CSV is `image,segment,x,y,z,yaw,focal`: the position in meters with z up, the heading in degrees
counterclockwise from the x axis, the focal length in pixels. An importer is a function that returns a `Capture`;
`check_files` checks its images, and `write_capture` starts a run.
"""

import argparse
import csv
import math
from pathlib import Path

import torch

import blocknerf
from blocknerf.cameras import look_at
from blocknerf.capture.capture import check_files
from blocknerf.images import image_size

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("poses", type=Path, help="CSV file; images are relative to its folder")
parser.add_argument("run", type=Path, help="run folder to create")
options = parser.parse_args()


def read_poses(path: Path) -> blocknerf.Capture:
    """Return the capture that a CSV file of poses describes."""
    frames = []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        eye = torch.tensor([[float(row[axis]) for axis in "xyz"]])
        heading = math.radians(float(row["yaw"]))
        ahead = torch.tensor([[math.cos(heading), math.sin(heading), 0.0]])
        pose = look_at(eye.double(), (eye + ahead).double())[0]
        width, height = image_size(path.parent / row["image"])
        frames.append(
            blocknerf.Frame(
                name=row["image"],
                image=row["image"],
                intrinsics=blocknerf.Intrinsics(
                    width=width,
                    height=height,
                    fx=float(row["focal"]),
                    fy=float(row["focal"]),
                    cx=width / 2,
                    cy=height / 2,
                ),
                camera_to_world=tuple(tuple(line) for line in pose.tolist()),
                segment=row["segment"],
                camera="front",
            )
        )
    return blocknerf.Capture(image_dir=path.parent, frames=tuple(frames), is_metric=True, source=path.name)


capture = read_poses(options.poses)
check_files(capture)
options.run.mkdir(parents=True)
blocknerf.write_capture(capture, options.run / "capture.json")
print(f"{options.run}: {len(capture)} images of {len(capture.segments)} segments")
