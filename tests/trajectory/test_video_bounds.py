"""How large a video may be, whoever asks for it, and that nothing of that size is made before it is refused."""

import math
from collections.abc import Callable

import pytest
import torch

from blocknerf.cameras import Cameras, look_at
from blocknerf.errors import RunError
from blocknerf.trajectory.flythrough import smooth_path
from blocknerf.trajectory.keyframes import through_keyframes
from blocknerf.trajectory.trajectory import MAX_FPS, MAX_FRAMES, MAX_PIXELS, MAX_SIDE, MIN_FPS, Trajectory, check_video
from blocknerf.video import FASTEST, MAX_ENCODER_SIDE, SLOWEST

SMALL = {"frames": 2, "width": 8, "height": 6, "fps": 24.0}
BEYOND = [
    ({"frames": 0}, "it has 0 frames; give 1 to 100000"),
    ({"frames": 10**9}, "it has 1000000000 frames; give 1 to 100000"),
    ({"width": 10**9}, "its size is 1000000000x6; "),
    ({"height": 8193}, "its size is 8x8193; "),
    ({"width": 20_000, "height": 20_000}, "its size is 20000x20000; "),
    (
        {"width": 8192, "height": 4353},
        "its size is 8192x4353; .* at most 8192 pixels a side and 35651584 in all, as 8192x",
    ),
    ({"width": 0}, "its size is 0x6; give at least 1x1 pixels"),
    ({"width": -1, "height": -1}, "its size is -1x-1; give at least 1x1 pixels"),
    ({"fps": 0.0}, "fps is 0.0; give 0.01 to 1000 frames a second"),
    ({"fps": 1e300}, r"fps is 1e\+300; give"),
    ({"fps": 1e-300}, "fps is 1e-300; give"),
    ({"fps": math.inf}, "fps is inf; give"),
    ({"fps": math.nan}, "fps is nan; give"),
]


def poses(count: int) -> torch.Tensor:
    eyes = torch.tensor([[float(i), 0.0, 1.0] for i in range(count)])
    return look_at(eyes, eyes + torch.tensor([1.0, 0.0, 0.0]))


class Shot:
    name, segment, camera, timestamp = "a.png", "drive", "front", None


def constructed(frames: int, width: int, height: int, fps: float) -> Trajectory:
    motion = poses(1).expand(frames, 3, 4) if frames > 0 else poses(1)[:0]
    return Trajectory(
        camera_to_world=motion, focals=torch.ones(1).expand(max(0, frames)), width=width, height=height, fps=fps
    )


def followed(frames: int, width: int, height: int, fps: float) -> Trajectory:
    cameras = Cameras.pinhole(poses(4), focal=10.0, width=16, height=12)
    return smooth_path(cameras, [Shot()] * 4, frames=frames, width=width, height=height, fps=fps)


def through(frames: int, width: int, height: int, fps: float) -> Trajectory:
    return through_keyframes(poses(3), torch.ones(3), frames=frames, width=width, height=height, fps=fps)


@pytest.mark.parametrize("make", [constructed, followed, through])
@pytest.mark.parametrize(("beyond", "complaint"), BEYOND)
def test_what_cannot_be_encoded_is_refused_before_it_is_made(
    make: Callable[..., Trajectory], beyond: dict, complaint: str
) -> None:
    if make is through and beyond == {"frames": 0}:
        complaint = "3 keyframes and 0 frames; give at least 2 of each"
    with pytest.raises(RunError, match=f"^trajectory: {complaint}") as caught:
        make(**SMALL | beyond)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [constructed, followed, through])
@pytest.mark.parametrize("size", [(7680, 4320), (8192, 4352), (4352, 8192), (1, 1), (5968, 5968)])
def test_what_can_be_encoded_is_allowed(make: Callable[..., Trajectory], size: tuple[int, int]) -> None:
    video = make(**SMALL | {"width": size[0], "height": size[1]})
    assert (video.width, video.height) == size


def test_a_video_resized_beyond_the_bounds_is_refused() -> None:
    with pytest.raises(RunError, match="its size is 20000x15000"):
        constructed(**SMALL).resized(20_000, 15_000)


def test_all_that_is_allowed_the_encoder_takes() -> None:
    check_video(MAX_FRAMES, MAX_SIDE, MAX_PIXELS // MAX_SIDE, MAX_FPS)
    assert MAX_SIDE <= MAX_ENCODER_SIDE
    assert (SLOWEST, FASTEST) == (MIN_FPS, MAX_FPS)
    assert MAX_PIXELS == 139_264 * 16**2  # macroblocks of level 6.2
    assert len(f"{MAX_FRAMES - 1:05d}") == 5
