"""Import a format of your own: a folder of images with one CSV file of poses.

    blocknerf run poses.csv --out runs/mine --importer examples.03_write_an_importer:read_poses

Each line of the CSV is `image,segment,x,y,z,yaw,focal`: the position in meters with z up, the heading in degrees
counterclockwise from the x axis, the focal length in pixels. An importer is a function that takes the path and returns
a `Capture`. Modules are found in the current folder, and the images are checked afterwards.
"""

import csv
import math
from pathlib import Path

import torch

import blocknerf
from blocknerf.cameras import look_at
from blocknerf.images import image_size


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
