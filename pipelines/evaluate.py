"""Metrics on held-out images, by the half-image protocol."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf import lpips
from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.city.appearance import code_for_block, exposure_for_block, prior_for_block
from blocknerf.city.cache import block_loader
from blocknerf.city.manifest import City, Weighting, read_city, rendering_settings, with_rendering
from blocknerf.city.renderer import CityRenderer, CityRendering
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_images, held_out_rule
from blocknerf.colormaps import depth_colors, error_colors
from blocknerf.errors import RunError
from blocknerf.images import to_float, to_uint8, write_image
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.kernels.threads import set_num_threads
from blocknerf.locks import clear_abandoned, exclusive
from blocknerf.metrics import masked_ssim, psnr, ssim
from blocknerf.options import check_whole
from blocknerf.rendering.appearance_fit import FIT_STEPS, cache_rays, optimize_code
from blocknerf.training.setup import check_downscale
from pipelines.console import log, print_table, progress, skip_if_exists, table
from pipelines.evaluation_file import (
    PROTOCOLS,
    EvalProtocol,
    Evaluation,
    ImageMetrics,
    Metrics,
    by_psnr,
    places,
    read_evaluation,
    summarize,
    used_columns,
    write_evaluation,
)
from pipelines.staleness import CurrentInputs, changes
from pipelines.training_log import pose_segments_of_run, training_downscale

FIT_RAYS = 1024
"""Pixels used to fit an appearance code. 32 numbers need no more, and the time is proportional to them."""

MIN_BLOCK_WEIGHT = 0.1
"""Mean weight in a rendering from which a block is evaluated alone; a block that only fades in is not."""

REFINED_POSES_NOTE = "Poses are refined: each block uses its own correction of the image's pose segment."


def evaluate(
    run: Path,
    *,
    capture: Path | None = None,
    downscale: int | None = None,
    max_frames: int | None = None,
    weighting: Weighting | None = None,
    power: float | None = None,
    selection_radius: float | None = None,
    visibility_threshold: float | None = None,
    sharp: bool = False,
    threads: int | None = None,
    device: Device = "auto",
) -> Evaluation:
    """Compute metrics on the held-out images of a run.

    For each image and each block in its rendering, an appearance code is fitted on the left half. PSNR, SSIM and LPIPS
    (if its weights are installed) are computed on the right half. They are also computed on whole images, rendered with
    each block's mean code of their segment. Deterministic. Existing metrics are kept while the blocks they depend on
    are unchanged.

    Args:
        run: Run folder with trained blocks.
        capture: Folder of the capture, if it or the run was moved; remembered. Default: as recorded in the run.
        downscale: Factor by which to downscale the images. Default: as in training.
        max_frames: Evaluate at most this many images, evenly spaced over the held-out ones. Default: all.
        weighting: How to weight blocks in a blend. Default: from city.json.
        power: Exponent of inverse-distance weighting. Default: from city.json.
        selection_radius: Use a block while the camera is within this many block radii. Default: from city.json.
        visibility_threshold: Leave out blocks with a lower mean predicted visibility. Default: from city.json.
        sharp: Sample finer than the training images saw a place too; shows grain. Default: never finer.
        threads: Number of CPU threads. Default: all cores.
        device: Device for rendering: auto (a GPU if there is one), cpu, cuda or cuda:1.

    Returns:
        The metrics of the run, of each block and of each image.

    Raises:
        BackendError: The device does not exist.
        OptionError: A number is out of range.
        CaptureError: The capture is broken, or its images are not where it says.
        LockedError: Another process is evaluating the run.
        RunError: A block is not trained, a setting is out of range, or a file is broken.
    """
    torch_device = resolve_device(device)
    set_num_threads(threads)
    check_whole(max_frames=max_frames)
    folder = RunFolder(run)
    known = read_capture(folder.capture)
    city = with_rendering(
        read_city(folder.city),
        weighting=weighting,
        power=power,
        selection_radius=selection_radius,
        visibility_threshold=visibility_threshold,
    )
    check_downscale(known, downscale)
    held_out = [i for i in range(len(known)) if city.is_test_frame(i)]
    chosen = evenly_spaced(held_out, max_frames or len(held_out))
    scale = training_downscale(folder) if downscale is None else downscale
    all_segments = pose_segments_of_run(folder, known)
    rule = held_out_rule(city, known)
    protocol = _protocol(city, rule, len(held_out), len(chosen), scale, refined=all_segments is not None, sharp=sharp)
    evaluation = _valid_evaluation(folder, protocol)
    if evaluation is None:
        pose_segments = {i: None if all_segments is None else all_segments[i] for i in chosen}
        images = capture_with_images(folder, capture)
        with exclusive(folder.evaluation_lock, "evaluation"):
            evaluation = _evaluate(folder, city, torch_device, images, pose_segments, protocol)
            write_evaluation(evaluation, folder.evaluation)
            _remove_other_images(folder, evaluation)
    else:
        clear_abandoned(folder.evaluation_lock)
    _print(evaluation)
    return evaluation


def _valid_evaluation(folder: RunFolder, protocol: EvalProtocol) -> Evaluation | None:
    """Return the existing metrics if they have this protocol and are up to date; otherwise print why not."""
    if not folder.evaluation.exists():
        return None
    evaluation = read_evaluation(folder.evaluation)
    if evaluation.protocol != protocol:
        log(f"{folder.evaluation}: has another protocol; evaluating again")
        return None
    if reasons := changes(folder, evaluation.inputs):
        log(f"{folder.evaluation}: stale: {'; '.join(reasons)}; evaluating again")
        return None
    skip_if_exists(folder.evaluation)
    return evaluation


def evenly_spaced(items: list[int], count: int) -> list[int]:
    """Return at most `count` of the items, evenly spaced, in order.

    >>> evenly_spaced([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    indices = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[index] for index in indices.round().astype(int).tolist()]


def _protocol(
    city: City, rule: str, test_frames: int, eval_frames: int, downscale: int, *, refined: bool, sharp: bool
) -> EvalProtocol:
    subset = "all of them" if eval_frames == test_frames else f"{eval_frames} of these {test_frames}, evenly spaced"
    poses = REFINED_POSES_NOTE if refined else "Poses are those of the capture."
    text = (
        f"{rule}; evaluated: {subset}. For each image and each block in its rendering, an appearance code is "
        f"fitted on the left half ({FIT_RAYS} pixels, {FIT_STEPS} steps, all weights frozen, the distribution of the "
        f"block's trained codes as prior). Metrics are computed on the right half, at 1/{downscale} of the image size. "
        f"Whole images are rendered with each block's mean code of their segment. Static metrics use only pixels that "
        f"masks call static, and equal the others if there are no masks. Blocks are blended by {city.weighting} with "
        f"power {city.power:g}, within {city.selection_radius:g} radii, and culled below a visibility of "
        f"{city.visibility_threshold:g}. {poses} Means are over images; those of a single block are over the images "
        f"in which its weight is at least {MIN_BLOCK_WEIGHT:.0%}."
    )
    has_lpips = lpips.weights_path() is not None
    return EvalProtocol(
        text=text,
        test_every=city.test_every,
        test_frames=test_frames,
        eval_frames=eval_frames,
        downscale=downscale,
        fit_half="left",
        fit_rays=FIT_RAYS,
        fit_steps=FIT_STEPS,
        eval_half="right",
        **rendering_settings(city),
        sharp=sharp,
        lpips="AlexNet, v0.1" if has_lpips else f"not computed: {lpips.NOT_INSTALLED}",
    )


def _evaluate(
    folder: RunFolder,
    city: City,
    device: torch.device,
    capture: Capture,
    pose_segments: Mapping[int, PoseSegment | None],
    protocol: EvalProtocol,
) -> Evaluation:
    current = CurrentInputs(folder)
    load = current.noted(block_loader(folder, city, device, sharp=protocol.sharp))
    renderer = CityRenderer(folder, city=city, load=load, device=device)
    frames, inputs = list[ImageMetrics](), []
    for i, pose_segment in progress(pose_segments.items(), "evaluate", len(pose_segments)):
        image = EvalImage.of(capture, i, protocol.downscale, pose_segment)
        rendering = render_eval_image(renderer, image)
        frames.append(_image_metrics(image, rendering, render_with_mean_codes(renderer, image)))
        inputs.append(current.of(rendering.considered))
    ranked = by_psnr(frames)
    shown = {ranked[place].index for place in places(len(ranked))}
    for i in shown:  # Rendered again: which images are shown is known only now.
        image = EvalImage.of(capture, i, protocol.downscale, pose_segments[i])
        _write_images(folder, image, render_eval_image(renderer, image))
    frames = [replace(frame, images=f"{frame.index:05d}") if frame.index in shown else frame for frame in frames]
    if reasons := changes(folder, *inputs):
        raise RunError(f"evaluate: {'; '.join(reasons)}, during the evaluation; run the same command again")
    return summarize(protocol, current.of(name for part in inputs for name in part.blocks), frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalImage:
    """A held-out image with its camera and mask."""

    index: int
    name: str
    camera: Cameras
    photo: Float[Tensor, "height width 3"]
    usable: Bool[Tensor, "height width"] | None
    """Pixels that the mask calls static; None without a mask."""
    pose_segment: PoseSegment | None = None
    """The pose segment of the image, if blocks refined their poses."""

    @classmethod
    def of(cls, capture: Capture, index: int, downscale: int, pose_segment: PoseSegment | None = None) -> "EvalImage":
        """Return the image at an index of the capture."""
        mask = capture.read_mask(index, downscale)
        return cls(
            index=index,
            name=capture.frames[index].name,
            camera=capture.cameras()[index].scaled(1.0 / downscale),
            photo=to_float(capture.read_image(index, downscale)),
            usable=None if mask is None else torch.from_numpy(mask.copy()),
            pose_segment=pose_segment,
        )

    @property
    def center(self) -> int:
        """The first column of the evaluated half."""
        return self.photo.shape[1] // 2

    def fit_pixels(self, count: int) -> Tensor:
        """Return indices into the flattened image of random usable pixels of the left half; always the same ones."""
        left = torch.zeros(self.photo.shape[:2], dtype=torch.bool, device=self.photo.device)
        left[:, : self.center] = True
        if self.usable is not None:
            left &= self.usable
        indices = left.flatten().nonzero()[:, 0]
        generator = torch.Generator().manual_seed(self.index)
        order = torch.randperm(len(indices), generator=generator, device=indices.device)
        return indices[order[:count]]


def render_eval_image(renderer: CityRenderer, image: EvalImage) -> CityRendering:
    """Return the rendering of an image, with the appearance codes of its left half."""
    names = [block.name for block in renderer.select(image.camera) if block.rendered]
    codes = fit_codes(renderer, image, names)
    return renderer.render(image.camera, frame=image.name, codes=codes, pose_segment=image.pose_segment)


def render_with_mean_codes(renderer: CityRenderer, image: EvalImage) -> CityRendering:
    """Return the rendering of an image with each block's mean code of the image's segment.

    The image itself has no code, since it was held out.
    """
    return renderer.render(image.camera, frame=image.name, pose_segment=image.pose_segment)


def fit_codes(renderer: CityRenderer, image: EvalImage, names: Iterable[str]) -> dict[str, Float[Tensor, "codes"]]:
    """Return the code of each block, fitted on the left half of an image; empty if masks cover that half."""
    appearance = renderer.appearance(frame=image.name)
    pixels = image.fit_pixels(FIT_RAYS)
    target, camera = image.photo.reshape(-1, 3)[pixels].to(renderer.device), image.camera.to(renderer.device)
    pixels, codes = pixels.to(renderer.device), {}
    for name in names if len(pixels) else ():
        block = renderer.cache.get(name)
        start, prior = code_for_block(block.field, appearance), prior_for_block(block.field)
        exposure = exposure_for_block(block.field, appearance.exposure_at(image.camera.centers[0]))
        rays = block.to_block_frame(camera, image.pose_segment).generate_rays(0).flatten()[pixels]
        color_of = partial(cache_rays(block.field, rays, exposure).color, block.field)
        codes[name] = optimize_code(color_of, target, prior=prior, initial_codes=[start])
    return codes


def _image_metrics(image: EvalImage, rendering: CityRendering, whole: CityRendering) -> ImageMetrics:
    """Return the metrics of a rendering with fitted codes, and of one with mean codes."""
    half = slice(image.center, None)
    photo, usable = image.photo[:, half], None if image.usable is None else image.usable[:, half]
    values = _similarity(rendering.color[:, half], photo, usable)
    values |= {f"whole_{key}": value for key, value in _similarity(whole.color, image.photo, image.usable).items()}
    metrics = Metrics(psnr_full=psnr(rendering.color, image.photo), **values)
    weights = {block.name: block.weight for block in rendering.rendered}
    evaluated = [part for part in rendering.parts if weights[part.name] >= MIN_BLOCK_WEIGHT]
    block_psnr = {part.name: psnr(part.image.color[:, half], photo) for part in evaluated}
    return ImageMetrics(
        name=image.name,
        index=image.index,
        metrics=metrics,
        blocks={name: round(weight, 6) for name, weight in weights.items()},
        block_psnr={name: round(value, 4) for name, value in block_psnr.items() if value is not None},
    )


def _similarity(
    color: Float[Tensor, "height width 3"],
    photo: Float[Tensor, "height width 3"],
    usable: Bool[Tensor, "height width"] | None,
) -> dict[str, float | None]:
    values = {"psnr": psnr(color, photo), "ssim": ssim(color, photo), "lpips": lpips.lpips(color, photo)}
    if usable is None:
        return values | {"psnr_masked": values["psnr"], "ssim_masked": values["ssim"]}
    return values | {"psnr_masked": psnr(color, photo, usable), "ssim_masked": masked_ssim(color, photo, usable)}


def _write_images(folder: RunFolder, image: EvalImage, rendering: CityRendering) -> None:
    """Write the image, its rendering, the error and the depth, for the report."""
    solid = rendering.depth[rendering.opacity > 0.5]
    near, far = (float(solid.quantile(level)) for level in (0.02, 0.98)) if len(solid) else (1.0, 100.0)
    outputs = {
        "photo": to_uint8(image.photo),
        "render": to_uint8(rendering.color),
        "error": error_colors((rendering.color - image.photo).abs().mean(-1).numpy()),
        "depth": depth_colors(rendering.depth.numpy(), 0.8 * near, 1.5 * far),
    }
    for kind, pixels in outputs.items():
        write_image(folder.evaluation_images / f"{image.index:05d}_{kind}.png", pixels)


def _remove_other_images(folder: RunFolder, evaluation: Evaluation) -> None:
    """Remove the images of earlier evaluations."""
    shown = {frame.images for frame in evaluation.frames}
    for path in folder.evaluation_images.glob("*_*.png"):
        if path.name.rpartition("_")[0] not in shown:
            path.unlink()


def _print(evaluation: Evaluation) -> None:
    if not evaluation.frames:
        log("no image is held out, so there are no metrics; partition with --test-every, or import with --test-list")
        return
    log(evaluation.protocol.text)
    used = used_columns(evaluation.mean)
    rows = [(f"{name} alone", str(block.frames), f"{block.psnr:.2f}") for name, block in evaluation.blocks.items()]
    result = table(("", "images", *(column.title for column in used)), rows)
    for prefix, name in PROTOCOLS.items():
        cells = (column.text(evaluation.mean, prefix) for column in used)
        result.add_row(f"city, {name}", str(len(evaluation.frames)), *cells, style="bold")
    print_table(result)
