"""Captures (posed images of one place) and their importers."""

from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.points import PointCloud, read_ply, write_ply
from blocknerf.capture.transforms import read_transforms

__all__ = [
    "Capture",
    "Frame",
    "Intrinsics",
    "PointCloud",
    "check_files",
    "read_capture",
    "read_ply",
    "read_transforms",
    "write_capture",
    "write_ply",
]
