"""Scores of the photographs that training never saw, by the half-image protocol."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture, read_capture
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.city.appearance import code_for_block, exposure_for_block
from blocknerf.city.cache import block_loader
from blocknerf.city.manifest import City, Weighting, read_city, rendering_settings, with_rendering
from blocknerf.city.renderer import CityRenderer, CityRendering
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_images
from blocknerf.colormaps import depth_colors, error_colors
from blocknerf.errors import RunError
from blocknerf.images import to_float, to_uint8, write_image
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.kernels.threads import set_num_threads
from blocknerf.locks import clear_abandoned, exclusive
from blocknerf.metrics import lpips
from blocknerf.metrics.image_quality import psnr, ssim
from blocknerf.options import check_whole
from blocknerf.rendering.appearance_fit import FIT_STEPS, optimize_code
from blocknerf.training.block_spec import check_downscale
from pipelines.console import log, print_table, progress, skip_if_exists, table
from pipelines.evaluation_file import (
    EvalProtocol,
    Evaluation,
    ImageMetrics,
    Metrics,
    read_evaluation,
    summarize,
    write_evaluation,
)
from pipelines.staleness import CurrentInputs, changes
from pipelines.training_log import pose_segments_of_run, training_downscale

FIT_RAYS = 1024
"""Pixels on which an appearance code is fitted: 32 numbers need no more, and the time goes with them."""

MIN_BLOCK_WEIGHT = 0.1
"""Share of a picture from which a block is judged by it: one that only fades in is not meant to carry it."""

REFINED_POSES_NOTE = (
    "Poses are refined: each block sees a photograph from where it learned that the photograph's segment stands."
)

NUM_SHOWN = 6
"""Photographs of which pictures are kept for the report."""


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
    threads: int | None = None,
    device: Device = "auto",
) -> Evaluation:
    """Score the held-out photographs of a run, and give the scores.

    For each photograph and each block in its picture an appearance code is fitted on the left half; PSNR, SSIM
    and LPIPS (where its weights are installed) are taken on the right half. Deterministic. Scores that are there
    already are kept while the blocks that they are of stay the same.

    Args:
        run: The run folder, with trained blocks.
        capture: Where the images are now, if the run or the capture was moved: the capture's folder; remembered.
        downscale: Whole number by which photographs are shrunk; by default as in training.
        max_frames: Score no more photographs than this, evenly spread over the held-out ones.
        weighting: How blocks share the picture; by default as city.json says.
        power: Exponent of the inverse distance by which blocks are weighed; by default as city.json says.
        selection_radius: Take a block while the camera is within this many of its radii; by default as city.json says.
        visibility_threshold: Leave out blocks whose mean predicted visibility is below; by default as city.json says.
        threads: Processor threads; by default every core.
        device: Where to render: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.

    Raises:
        BackendError: There is no such device.
        OptionError: A number is out of range.
        CaptureError: The capture is broken, or its images are not where it says.
        LockedError: Another process evaluates the run.
        RunError: A block is not trained, a setting is out of range, or a file is broken.
    """
    place = resolve_device(device)
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
    own = pose_segments_of_run(folder, known)
    protocol = _protocol(city, len(held_out), len(chosen), scale, refined=own is not None)
    found = _valid_scores(folder, protocol)
    if found is None:
        pose_segments = {i: None if own is None else own[i] for i in chosen}
        images = capture_with_images(folder, capture)
        with exclusive(folder.evaluation_lock, "evaluation"):
            found = _score(folder, city, place, images, pose_segments, protocol)
            write_evaluation(found, folder.evaluation)
    else:
        clear_abandoned(folder.evaluation_lock)
    _print(found)
    return found


def _valid_scores(folder: RunFolder, protocol: EvalProtocol) -> Evaluation | None:
    """The scores that are there, if they are by this protocol and of the run as it is; else says why they are not."""
    if not folder.evaluation.exists():
        return None
    found = read_evaluation(folder.evaluation)
    if found.protocol != protocol:
        log(f"{folder.evaluation}: is by another protocol; scoring again")
        return None
    if why := changes(folder, found.inputs):
        log(f"{folder.evaluation}: stale: {'; '.join(why)}; scoring again")
        return None
    skip_if_exists(folder.evaluation)
    return found


def evenly_spaced(items: list[int], count: int) -> list[int]:
    """At most that many of the items, evenly spread, in order.

    >>> evenly_spaced([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[place] for place in places.round().astype(int).tolist()]


def _protocol(city: City, test_frames: int, eval_frames: int, downscale: int, *, refined: bool) -> EvalProtocol:
    kept = f"Every {city.test_every}th photograph was kept from training" if city.test_every else "None was kept back"
    part = "all of them" if eval_frames == test_frames else f"{eval_frames} of these {test_frames}, evenly spread"
    poses = REFINED_POSES_NOTE if refined else "Poses are as given."
    text = (
        f"{kept}; scored: {part}. For each and for each block in its picture, an appearance code is fitted on its "
        f"left half ({FIT_RAYS} pixels, {FIT_STEPS} steps, all weights frozen); scores are taken on its right half, "
        f"photographs shrunk by {downscale}. Masked scores count only pixels that masks call static, and equal the "
        f"others where there are no masks. Blocks are weighed by {city.weighting} with power {city.power:g}, within "
        f"{city.selection_radius:g} radii, and culled below a visibility of {city.visibility_threshold:g}. {poses} "
        f"Means are over photographs; those of a block alone are over the photographs of which it makes at least "
        f"{MIN_BLOCK_WEIGHT:.0%}."
    )
    known = lpips.weights_path() is not None
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
        lpips="AlexNet, v0.1" if known else f"not computed: {lpips.NOT_INSTALLED}",
    )


def _score(
    folder: RunFolder,
    city: City,
    device: torch.device,
    capture: Capture,
    chosen: Mapping[int, PoseSegment | None],
    protocol: EvalProtocol,
) -> Evaluation:
    now = CurrentInputs(folder)
    renderer = CityRenderer(folder, city=city, load=now.noted(block_loader(folder, city, device)), device=device)
    shown, frames, inputs = set(evenly_spaced(list(chosen), NUM_SHOWN)), [], []
    for i, stretch in progress(chosen.items(), "evaluate", len(chosen)):
        exam = EvalImage.of(capture, i, protocol.downscale, stretch)
        seen = render_eval_image(renderer, exam)
        frames.append(_frame_score(exam, seen, keep=i in shown))
        inputs.append(now.of(seen.considered))
        if i in shown:
            _write_images(folder, exam, seen)
    if why := changes(folder, *inputs):
        raise RunError(f"evaluate: {'; '.join(why)}, while it was scored; run the same command again")
    return summarize(protocol, now.of(name for part in inputs for name in part.blocks), frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalImage:
    """A held-out photograph: what it shows, from where, and which half gives the light."""

    index: int
    name: str
    camera: Cameras
    photo: Float[Tensor, "height width 3"]
    usable: Bool[Tensor, "height width"] | None
    """Pixels that the mask calls static; None without a mask."""
    pose_segment: PoseSegment | None = None
    """Whose offset applies, where blocks refined their poses."""

    @classmethod
    def of(cls, capture: Capture, index: int, downscale: int, stretch: PoseSegment | None = None) -> "EvalImage":
        """The photograph of that position in the capture."""
        mask = capture.read_mask(index, downscale)
        return cls(
            index=index,
            name=capture.frames[index].name,
            camera=capture.cameras()[index].scaled(1.0 / downscale),
            photo=to_float(capture.read_image(index, downscale)),
            usable=None if mask is None else torch.from_numpy(mask.copy()),
            pose_segment=stretch,
        )

    @property
    def center(self) -> int:
        """The column at which the scored half begins."""
        return self.photo.shape[1] // 2

    def fit_pixels(self, count: int) -> Tensor:
        """Positions in the flattened picture of some usable pixels of the left half; the same ones every time."""
        left = torch.zeros(self.photo.shape[:2], dtype=torch.bool, device=self.photo.device)
        left[:, : self.center] = True
        if self.usable is not None:
            left &= self.usable
        places = left.flatten().nonzero()[:, 0]
        generator = torch.Generator().manual_seed(self.index)
        order = torch.randperm(len(places), generator=generator, device=places.device)
        return places[order[:count]]


def render_eval_image(renderer: CityRenderer, exam: EvalImage) -> CityRendering:
    """What the city makes of the photograph, each block in the light of its left half."""
    names = [use.name for use in renderer.select(exam.camera) if use.rendered]
    codes = fit_codes(renderer, exam, names)
    return renderer.render(exam.camera, frame=exam.name, codes=codes, stretch=exam.pose_segment)


def fit_codes(renderer: CityRenderer, exam: EvalImage, names: Iterable[str]) -> dict[str, Float[Tensor, "codes"]]:
    """The code of each of some blocks that shows the photograph's left half best; none where masks cover that half."""
    light = renderer.appearance(frame=exam.name)
    places = exam.fit_pixels(FIT_RAYS)
    target, camera = exam.photo.reshape(-1, 3)[places], exam.camera.to(renderer.device)
    places, codes = places.to(renderer.device), {}
    for name in names if len(places) else ():
        block = renderer.cache.get(name)
        start = code_for_block(block.field, light)
        exposure = exposure_for_block(block.field, light.exposure_at(exam.camera.centers[0]))
        rays = block.to_block_frame(camera, exam.pose_segment).generate_rays(0).flatten()[places]
        codes[name] = optimize_code(block.field, rays, target, exposure, start=start)
    return codes


def _frame_score(exam: EvalImage, seen: CityRendering, *, keep: bool) -> ImageMetrics:
    half = slice(exam.center, None)
    shown, photo = seen.color[:, half], exam.photo[:, half]
    plain = psnr(shown, photo)
    scores = Metrics(
        psnr=plain,
        ssim=ssim(shown, photo),
        psnr_masked=plain if exam.usable is None else psnr(shown, photo, exam.usable[:, half]),
        psnr_full=psnr(seen.color, exam.photo),
        lpips=lpips.lpips(shown, photo),
    )
    weights = {use.name: use.weight for use in seen.rendered}
    judged = [part for part in seen.parts if weights[part.name] >= MIN_BLOCK_WEIGHT]
    alone = {part.name: psnr(part.image.color[:, half], photo) for part in judged}
    return ImageMetrics(
        name=exam.name,
        index=exam.index,
        metrics=scores,
        blocks={name: round(weight, 6) for name, weight in weights.items()},
        block_psnr={name: round(value, 4) for name, value in alone.items() if value is not None},
        images=f"{exam.index:05d}" if keep else None,
    )


def _write_images(folder: RunFolder, exam: EvalImage, seen: CityRendering) -> None:
    """Photograph, rendering, error and depth, for the report."""
    solid = seen.depth[seen.opacity > 0.5]
    near, far = (float(solid.quantile(share)) for share in (0.02, 0.98)) if len(solid) else (1.0, 100.0)
    shown = {
        "photo": to_uint8(exam.photo),
        "render": to_uint8(seen.color),
        "error": error_colors((seen.color - exam.photo).abs().mean(-1).numpy()),
        "depth": depth_colors(seen.depth.numpy(), 0.8 * near, 1.5 * far),
    }
    for kind, picture in shown.items():
        write_image(folder.evaluation_images / f"{exam.index:05d}_{kind}.png", picture)


def _print(evaluation: Evaluation) -> None:
    log(evaluation.protocol.text)
    head = ("", "photographs", "PSNR", "masked", "SSIM", "LPIPS", "PSNR, whole")
    alone = [(f"{name} alone", str(each.frames), f"{each.psnr:.2f}") for name, each in evaluation.blocks.items()]
    scores, mean = table(head, alone), evaluation.mean
    values = [(mean.psnr, 2), (mean.psnr_masked, 2), (mean.ssim, 3), (mean.lpips, 3), (mean.psnr_full, 2)]
    shown = ["-" if value is None else f"{value:.{digits}f}" for value, digits in values]
    scores.add_row("city", str(len(evaluation.frames)), *shown, style="bold")
    print_table(scores)
