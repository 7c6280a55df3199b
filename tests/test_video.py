"""Written videos can be played, and partial files never appear."""

import math
from collections.abc import Iterator
from pathlib import Path

import imageio.v3
import numpy as np
import pytest

from blocknerf.errors import RunError
from blocknerf.video import MAX_ENCODER_FPS, MAX_ENCODER_SIDE, MIN_ENCODER_FPS, pad_to_even, write_video


def _frames(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    ramp = np.linspace(40, 200, width, dtype=np.uint8)
    for i in range(count):
        yield np.broadcast_to(np.roll(ramp, 2 * i)[None, :, None], (height, width, 3)).copy()


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 61)])
def test_a_video_round_trips(height: int, width: int, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    assert write_video(path, _frames(12, height, width), fps=12.0) == 12
    decoded = imageio.v3.imread(path, plugin="pyav")
    assert decoded.shape == (12, height + height % 2, width + width % 2, 3)
    first = next(_frames(1, height, width))
    assert np.abs(decoded[0, :height, :width].astype(int) - first).mean() < 6
    properties = imageio.v3.immeta(path, plugin="pyav")
    assert properties["codec"] == "h264"
    assert properties["fps"] == 12.0
    assert properties["duration"] == pytest.approx(1.0)
    assert [file.name for file in tmp_path.iterdir()] == ["video.mp4"]


def test_the_index_is_at_the_front(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", _frames(3, 32, 32))
    content = (tmp_path / "video.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert b"avcC" in content


def test_odd_sizes_are_padded() -> None:
    image = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    even = pad_to_even(image)
    assert even.shape == (4, 6, 3)
    assert (even[:3, :5] == image).all()
    assert (even[3, :5] == image[2]).all()
    assert (even[:3, 5] == image[:, 4]).all()


def test_a_failed_write_leaves_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"old")

    def failing() -> Iterator[np.ndarray]:
        yield from _frames(2, 16, 16)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, failing())
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_no_frames_or_mixed_sizes_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no frames"):
        write_video(tmp_path / "video.mp4", iter([]))
    mixed = [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 18, 3), np.uint8)]
    with pytest.raises(RunError, match="frame 1 is 18x16, not 16x16"):
        write_video(tmp_path / "video.mp4", mixed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0.0, -1.0, 1e-300, 0.009, 1001.0, 1e300, math.inf, math.nan])
def test_unsupported_frame_rates_are_rejected(fps: float, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"video\.mp4: .* frames/s cannot be encoded; give 0\.01 to 1000"):
        write_video(tmp_path / "video.mp4", _frames(2, 16, 16), fps=fps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [MIN_ENCODER_FPS, MAX_ENCODER_FPS])
def test_frame_rates_at_the_bounds_are_encoded(fps: float, tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", _frames(3, 16, 16), fps=fps)
    assert imageio.v3.immeta(tmp_path / "video.mp4", plugin="pyav")["fps"] == pytest.approx(fps)


@pytest.mark.parametrize("shape", [(MAX_ENCODER_SIDE + 1, 2), (2, MAX_ENCODER_SIDE + 1)])
def test_frames_too_large_for_the_encoder_are_rejected(shape: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be encoded; give at most 16384 pixels a side"):
        write_video(tmp_path / "video.mp4", [np.zeros((*shape, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []


def test_the_largest_frames_of_the_encoder_are_encoded(tmp_path: Path) -> None:
    assert write_video(tmp_path / "video.mp4", [np.zeros((16, MAX_ENCODER_SIDE, 3), np.uint8)]) == 1
