"""Masks: where they are found, what their pixels mean, and those that are written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.capture.capture import Capture
from blocknerf.errors import CaptureError
from blocknerf.images import write_image
from blocknerf.importers import masks
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source

WIDTH, HEIGHT = 20, 10
IGNORED = np.zeros((HEIGHT, WIDTH), dtype=bool)
IGNORED[4:7, 5:9] = True
SHARE = "masks ignore 6.0% of the pixels"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture of three images without masks."""
    frames = []
    for i in range(3):
        write_image(tmp_path / "capture" / "images" / f"{i}.jpg", np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
        pose = [[1.0, 0.0, 0.0, i], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
        frames.append({"file_path": f"images/{i}.jpg", "transform_matrix": pose})
    (tmp_path / "capture" / "transforms.json").write_text(json.dumps({"fl_x": 15.0, "frames": frames}))
    return tmp_path / "capture"


def load(capture: Path, **options: object) -> Capture:
    return load_source(capture, ImportOptions(**options), capture.parent / "work")  # type: ignore[arg-type]


def write_masks(folder: Path, pattern: str = "{}.png", image: np.ndarray | None = None) -> None:
    for i in range(3):
        write_image(folder / pattern.format(i), np.where(IGNORED, 0, 255).astype(np.uint8) if image is None else image)


def assert_masked(capture: Capture) -> None:
    for i in range(len(capture)):
        mask = capture.read_mask(i)
        assert mask is not None
        assert (mask == ~IGNORED).all()


@pytest.mark.parametrize("pattern", ["{}.png", "{}.jpg.png", "images/{}.png", "{}.PNG", "images/{}.jpg.png"])
def test_masks_of_a_folder_are_used_where_they_are(capture: Path, tmp_path: Path, pattern: str) -> None:
    write_masks(tmp_path / "masks", pattern)
    masked = load(capture, masks=tmp_path / "masks")
    assert_masked(masked)
    assert masked.mask_dir == tmp_path / "masks"
    assert masked.notes[-1] == SHARE
    assert not (tmp_path / "work").exists()


def test_masks_of_some_images_are_counted(capture: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "masks" / "1.png", np.where(IGNORED, 0, 255).astype(np.uint8))
    masked = load(capture, masks=tmp_path / "masks")
    assert [frame.mask for frame in masked.frames] == [None, "1.png", None]
    assert masked.notes[-1] == f"{SHARE} of 1 of 3 images"


def save(image: Image.Image, folder: Path) -> None:
    folder.mkdir()
    for i in range(3):
        image.save(folder / f"{i}.png")


def test_masks_in_an_alpha_channel_or_a_palette(capture: Path, tmp_path: Path) -> None:
    rgba = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    rgba[IGNORED, 3] = 0
    save(Image.fromarray(rgba), tmp_path / "alpha")
    assert_masked(load(capture, masks=tmp_path / "alpha"))
    palette = Image.fromarray(np.where(IGNORED, 0, 1).astype(np.uint8)).convert("P")
    palette.putpalette([200, 0, 0, 0, 200, 0] + [0] * 762)
    save(palette, tmp_path / "palette")
    assert_masked(load(capture, masks=tmp_path / "palette"))


@pytest.mark.parametrize(("brightest", "values"), [(11, "0, 1, 11"), (200, "0, 100, 200")])
def test_labels_are_refused_with_their_values(capture: Path, tmp_path: Path, brightest: int, values: str) -> None:
    labels = np.where(IGNORED, 0, brightest).astype(np.uint8)
    labels[:, :3] = 1 if brightest == 11 else 100
    write_masks(tmp_path / "masks", image=labels)
    with pytest.raises(CaptureError, match=rf"0\.png: is no mask of two values but holds {values}, such as labels"):
        load(capture, masks=tmp_path / "masks")


def test_smooth_edges_are_no_labels(capture: Path, tmp_path: Path) -> None:
    smooth = np.where(IGNORED, 0, 255).astype(np.uint8)
    smooth[3, 5:9] = 120
    write_masks(tmp_path / "masks", image=smooth)
    assert load(capture, masks=tmp_path / "masks").frames[0].mask == "0.png"


def test_inverted_masks_are_noticed_and_inverted(capture: Path, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", image=np.where(IGNORED, 255, 0).astype(np.uint8))
    assert load(capture, masks=tmp_path / "masks").notes[-2:] == (
        "masks ignore 94.0% of the pixels",
        "warning: masks ignore most pixels; if white marks what is to be ignored, give --invert-masks",
    )
    inverted = load(capture, masks=tmp_path / "masks", invert_masks=True)
    assert_masked(inverted)
    assert inverted.notes[-1] == SHARE


def test_dynamic_masks_of_instant_ngp_are_used(capture: Path) -> None:
    write_masks(capture / "images", "dynamic_mask_{}.png", np.where(IGNORED, 255, 0).astype(np.uint8))
    masked = load(capture)
    assert_masked(masked)
    assert masked.notes[-2:] == ("3 images have a dynamic_mask_*.png (instant-ngp): white is ignored", SHARE)


def test_a_margin_grows_what_is_ignored(capture: Path, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks")
    mask = load(capture, masks=tmp_path / "masks", mask_margin=2).read_mask(0)
    assert mask is not None
    rows, columns = np.indices(mask.shape)
    distance = np.hypot(
        np.maximum(0, np.maximum(4 - rows, rows - 6)), np.maximum(0, np.maximum(5 - columns, columns - 8))
    )
    assert (mask == (distance > 2)).all()


FUNCTIONS = """
import numpy as np

calls = []

def movable(image):
    calls.append(image)
    found = np.zeros(image.shape[:2], bool)
    found[:2] = True
    return found

def gray(image):
    return image[..., 0]

def fails(image):
    raise RuntimeError("no model")
"""


@pytest.fixture
def functions(capture: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The capture, with a module of mask functions in the current folder."""
    (capture.parent / "own_masks.py").write_text(FUNCTIONS)
    monkeypatch.chdir(capture.parent)
    return capture


def test_a_function_of_the_user_makes_masks_once(functions: Path) -> None:
    import importlib

    write_masks(functions.parent / "masks")
    options = {"masks": functions.parent / "masks", "mask_with": "own_masks:movable"}
    masked = load(functions, **options)
    mask = masked.read_mask(1)
    assert mask is not None
    assert not mask[:2].any()
    assert (mask[2:] == ~IGNORED[2:]).all()
    calls = importlib.import_module("own_masks").calls
    assert len(calls) == 3
    assert calls[0].shape == (HEIGHT, WIDTH, 3)
    masked.mask_path("images/1.jpg.png").unlink()
    assert load(functions, **options) == masked
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gray", r"--mask-with own_masks:gray: images/0\.jpg: returned uint8 of shape \(10, 20\), not bool"),
        ("fails", r"images/0\.jpg raised RuntimeError \(no model\) in own_masks\.py line 16; correct the function"),
        ("other", "own_masks has no function other"),
    ],
)
def test_a_wrong_function_is_one_line(functions: Path, name: str, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        load(functions, mask_with=f"own_masks:{name}")


def test_sky_masks_stay(capture: Path, tmp_path: Path) -> None:
    write_image(capture / "skies" / "1.png", np.where(IGNORED, 255, 0).astype(np.uint8))
    document = json.loads((capture / "transforms.json").read_text())
    document["frames"][1]["sky_mask_path"] = "skies/1.png"
    (capture / "transforms.json").write_text(json.dumps(document))
    write_masks(tmp_path / "masks")
    masked = load(capture, masks=tmp_path / "masks")
    assert_masked(masked)
    sky = masked.read_sky_mask(1)
    assert sky is not None
    assert (sky == IGNORED).all()


def test_options_without_masks_are_refused(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureError, match=r"empty: holds no mask of an image; name them after the images \(0\.png\)"):
        load(capture, masks=tmp_path / "empty")
    with pytest.raises(CaptureError, match="nowhere: this folder of masks does not exist"):
        load(capture, masks=tmp_path / "nowhere")
    with pytest.raises(CaptureError, match="the capture has none; add --masks"):
        load(capture, mask_margin=3)


def test_masks_of_another_size_are_refused(capture: Path, tmp_path: Path) -> None:
    write_masks(tmp_path / "masks", image=np.full((4, 4), 255, np.uint8))
    with pytest.raises(CaptureError, match="the image is 4x4 but its camera says 20x10"):
        load(capture, masks=tmp_path / "masks")


def test_small_values_of_two_kinds_are_a_mask(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.where(IGNORED, 0, 1).astype(np.uint8))
    assert (masks.read_usable(tmp_path / "a.png") == ~IGNORED).all()
