"""The sample city for experiments: images written once, with poses of a given error."""

from dataclasses import replace
from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import pose_from_flat
from blocknerf.capture.transforms import read_transforms
from blocknerf.town.sample import read_spec
from blocknerf.town.views import SampleSpec, perturb_poses, plan_views
from pipelines.sample import sample


def sample_capture(folder: Path, spec: SampleSpec) -> Capture:
    """Return the capture of a spec; write it first if the folder does not contain it."""
    if read_spec(folder) != spec:
        sample(folder, **{name: getattr(spec, name) for name in SampleSpec.__dataclass_fields__})
    return read_transforms(folder)


def with_pose_error(capture: Capture, spec: SampleSpec, *, meters: float, degrees: float, seed: int) -> Capture:
    """Return the capture with each segment displaced rigidly about its center, differently for each seed."""
    views = plan_views(spec)
    by_name = {view.name: view for view in views}
    frame_views = [by_name[Path(frame.image).stem] for frame in capture.frames]
    perturbed = perturb_poses(frame_views, replace(spec, translation_noise=meters, rotation_noise=degrees, seed=seed))
    poses = [pose_from_flat(pose.flatten().tolist()) for pose in perturbed]
    frames = [replace(frame, camera_to_world=pose) for frame, pose in zip(capture.frames, poses, strict=True)]
    return replace(capture, frames=tuple(frames))


def without_masks(capture: Capture) -> Capture:
    """Return the capture without masks."""
    return replace(capture, frames=tuple(replace(frame, mask=None) for frame in capture.frames))


def without_exposures(capture: Capture) -> Capture:
    """Return the capture without exposures."""
    return replace(capture, frames=tuple(replace(frame, exposure=None) for frame in capture.frames))


def with_masks_of(masked: Capture, capture: Capture) -> Capture:
    """Return a capture with the masks of another capture of the same images."""
    pairs = zip(capture.frames, masked.frames, strict=True)
    return replace(capture, frames=tuple(replace(frame, mask=masked_frame.mask) for frame, masked_frame in pairs))
