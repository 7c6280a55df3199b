"""Frames of a video are chosen by motion and sharpness."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from blocknerf.errors import CaptureError
from blocknerf.images import read_image
from blocknerf.sfm.video_frames import FrameMeasure, choose_frames, extract_frames, image_motion, measure
from blocknerf.video import write_video

WIDTH, HEIGHT = 320, 120


def texture(width: int = 1200) -> np.ndarray:
    noise = np.random.default_rng(2).integers(0, 256, (HEIGHT, width), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2.0).astype(np.float32)
    return np.clip((blurred - blurred.mean()) * 6.0 + 128.0, 0, 255).astype(np.uint8)


def frames(shifts: list[int], blurred: tuple[int, ...] = ()) -> list[np.ndarray]:
    """Views that slide along a texture, some of them blurred."""
    wall = np.repeat(texture()[..., None], 3, -1)
    views = [wall[:, shift : shift + WIDTH] for shift in shifts]
    return [cv2.GaussianBlur(view, (0, 0), 2.0) if i in blurred else view for i, view in enumerate(views)]


def test_motion_of_a_shifted_image() -> None:
    wall = texture()
    assert image_motion(wall[:, :WIDTH], wall[:, 8 : WIDTH + 8]) == pytest.approx(8.0 / WIDTH, rel=0.05)
    flat = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert image_motion(flat, flat) == 0.0


def test_still_frames_are_dropped_and_sharp_ones_kept(tmp_path: Path) -> None:
    """The camera does not move from frame 20 to 40; every other frame is blurred."""
    shifts = [2 * min(i, 20) + 2 * max(i - 40, 0) for i in range(70)]
    video = tmp_path / "walk.mp4"
    write_video(video, frames(shifts, blurred=tuple(range(0, 70, 2))))
    photos = extract_frames(video, tmp_path / "work", max_frames=400)
    numbers = [int(photo.path[:6]) for photo in photos]
    assert len([number for number in numbers if 21 <= number <= 39]) <= 1
    assert all(number % 2 for number in numbers[:-1])
    assert 12 <= len(numbers) <= 20
    assert photos[3].record.timestamp == pytest.approx(numbers[3] / 24.0, abs=1e-3)
    assert (photos[0].record.width, photos[0].record.height) == (WIDTH, HEIGHT)


def test_finished_frames_are_not_extracted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "walk.mp4"
    write_video(video, frames([4 * i for i in range(20)]))
    first = extract_frames(video, tmp_path / "work", 400)
    monkeypatch.setattr("blocknerf.sfm.video_frames.measure", lambda _: pytest.fail("measured again"))
    assert extract_frames(video, tmp_path / "work", 400) == first
    with pytest.raises(CaptureError, match="work: holds poses of another video or other options; choose another"):
        extract_frames(video, tmp_path / "work", 5, finished=True)
    (tmp_path / "work" / "frames" / first[0].path).unlink()
    with pytest.raises(pytest.fail.Exception):
        extract_frames(video, tmp_path / "work", 400)


@pytest.mark.parametrize("shifts", [[0] * 10, [0, 30]])
def test_a_camera_that_does_not_move_is_refused(shifts: list[int], tmp_path: Path) -> None:
    video = tmp_path / "still.mp4"
    write_video(video, frames(shifts))
    with pytest.raises(CaptureError, match=r"still\.mp4: the camera does not move .*; give a video from a moving"):
        extract_frames(video, tmp_path / "work", 400)
    assert not (tmp_path / "work").exists()


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"not a video" * 100)
    with pytest.raises(CaptureError, match=r"a\.mp4: this video cannot be decoded"):
        measure(path)


@pytest.mark.parametrize("most", [3, 10, 25])
def test_long_videos_are_thinned_evenly(most: int) -> None:
    measures = [FrameMeasure(time=i / 24.0, sharpness=1.0, motion=0.02) for i in range(200)]
    chosen = sorted(choose_frames(measures, most))
    assert 0.6 * most <= len(chosen) <= most
    steps = np.diff(chosen)
    assert steps.max() - steps.min() <= 1 + steps.max() // 4


def test_frames_are_turned_as_the_file_says(tmp_path: Path) -> None:
    """The display matrix of the track says to turn the frames clockwise, as in videos of a phone held upright."""
    video = tmp_path / "upright.mp4"
    views = [view.copy() for view in frames([8 * i for i in range(12)])]
    for view in views:
        view[:20] = 255
    write_video(video, views)
    data = bytearray(video.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30)
    video.write_bytes(data)
    photo = extract_frames(video, tmp_path / "work", 400)[0]
    image = read_image(tmp_path / "work" / "frames" / photo.path)
    assert image.shape[:2] == (photo.record.height, photo.record.width) == (WIDTH, HEIGHT)
    assert image[:, -15:].mean() > 240.0
    assert image[:, :15].mean() < 200.0
