"""Bounds of video size, frame count and frame rate, checked before memory is allocated."""

import math
from collections.abc import Callable

import pytest
import torch

from blocknerf.cameras import Cameras, look_at
from blocknerf.errors import RunError
from blocknerf.trajectory.flythrough import smooth_path
from blocknerf.trajectory.keyframes import through_keyframes
from blocknerf.trajectory.trajectory import MAX_FPS, MAX_FRAMES, MAX_PIXELS, MAX_SIDE, MIN_FPS, Trajectory, check_video
from blocknerf.video import MAX_ENCODER_FPS, MAX_ENCODER_SIDE, MIN_ENCODER_FPS

SMALL = {"frames": 2, "width": 8, "height": 6, "fps": 24.0}
OUT_OF_BOUNDS = [
    ({"frames": 0}, "it has 0 frames; use 1 to 100000"),
    ({"frames": 10**9}, "it has 1000000000 frames; use 1 to 100000"),
    ({"width": 10**9}, "its size is 1000000000x6; "),
    ({"height": 8193}, "its size is 8x8193; "),
    ({"width": 20_000, "height": 20_000}, "its size is 20000x20000; "),
    (
        {"width": 8192, "height": 4353},
        "its size is 8192x4353; .* at most 8192 pixels per side and 35651584 in total, as 8192x",
    ),
    ({"width": 0}, "its size is 0x6; use at least 1x1 pixels"),
    ({"width": -1, "height": -1}, "its size is -1x-1; use at least 1x1 pixels"),
    ({"fps": 0.0}, "fps is 0.0; use 0.01 to 1000"),
    ({"fps": 1e300}, r"fps is 1e\+300; use"),
    ({"fps": 1e-300}, "fps is 1e-300; use"),
    ({"fps": math.inf}, "fps is inf; use"),
    ({"fps": math.nan}, "fps is nan; use"),
]


def poses(count: int) -> torch.Tensor:
    eyes = torch.tensor([[float(i), 0.0, 1.0] for i in range(count)])
    return look_at(eyes, eyes + torch.tensor([1.0, 0.0, 0.0]))


class ImageFrame:
    name, segment, camera, timestamp = "a.png", "a", "front", None


def from_poses(frames: int, width: int, height: int, fps: float) -> Trajectory:
    camera_to_world = poses(1).expand(frames, 3, 4) if frames > 0 else poses(1)[:0]
    return Trajectory(
        camera_to_world=camera_to_world,
        focals=torch.ones(1).expand(max(0, frames)),
        width=width,
        height=height,
        fps=fps,
    )


def fly_through(frames: int, width: int, height: int, fps: float) -> Trajectory:
    cameras = Cameras.pinhole(poses(4), focal=10.0, width=16, height=12)
    return smooth_path(cameras, [ImageFrame()] * 4, frames=frames, width=width, height=height, fps=fps)


def from_keyframes(frames: int, width: int, height: int, fps: float) -> Trajectory:
    return through_keyframes(poses(3), torch.ones(3), frames=frames, width=width, height=height, fps=fps)


@pytest.mark.parametrize("make", [from_poses, fly_through, from_keyframes])
@pytest.mark.parametrize(("options", "message"), OUT_OF_BOUNDS)
def test_video_out_of_bounds_is_rejected(make: Callable[..., Trajectory], options: dict, message: str) -> None:
    if make is from_keyframes and options == {"frames": 0}:
        message = "3 keyframes and 0 frames; use at least 2 of each"
    with pytest.raises(RunError, match=f"^trajectory: {message}") as caught:
        make(**SMALL | options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [from_poses, fly_through, from_keyframes])
@pytest.mark.parametrize("size", [(7680, 4320), (8192, 4352), (4352, 8192), (1, 1), (5968, 5968)])
def test_video_within_bounds_is_allowed(make: Callable[..., Trajectory], size: tuple[int, int]) -> None:
    video = make(**SMALL | {"width": size[0], "height": size[1]})
    assert (video.width, video.height) == size


def test_resizing_out_of_bounds_is_rejected() -> None:
    with pytest.raises(RunError, match="its size is 20000x15000"):
        from_poses(**SMALL).resized(20_000, 15_000)


def test_bounds_are_within_the_limits_of_the_encoder() -> None:
    check_video(MAX_FRAMES, MAX_SIDE, MAX_PIXELS // MAX_SIDE, MAX_FPS)
    assert MAX_SIDE <= MAX_ENCODER_SIDE
    assert (MIN_ENCODER_FPS, MAX_ENCODER_FPS) == (MIN_FPS, MAX_FPS)
    assert MAX_PIXELS == 139_264 * 16**2  # macroblocks of level 6.2
    assert len(f"{MAX_FRAMES - 1:05d}") == 5
