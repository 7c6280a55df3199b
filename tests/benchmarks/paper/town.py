"""The sample city as experiments take it: photographs on disk once, poses as wrong as they are asked to be."""

from dataclasses import replace
from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import pose_from_flat
from blocknerf.capture.transforms import read_transforms
from blocknerf.town.sample import read_spec
from blocknerf.town.views import SampleSpec, perturb_poses, plan_views
from pipelines.sample import sample


def photograph(folder: Path, spec: SampleSpec) -> Capture:
    """The capture of a spec, made where the folder does not hold it yet."""
    if read_spec(folder) != spec:
        sample(folder, **{name: getattr(spec, name) for name in SampleSpec.__dataclass_fields__})
    return read_transforms(folder)


def with_pose_error(capture: Capture, spec: SampleSpec, *, meters: float, degrees: float, seed: int) -> Capture:
    """The same photographs with those of each drive displaced together about their middle, otherwise for each seed."""
    shots = {shot.name: shot for shot in plan_views(spec)}
    taken = [shots[Path(frame.image).stem] for frame in capture.frames]
    wrong = perturb_poses(taken, replace(spec, translation_noise=meters, rotation_noise=degrees, seed=seed))
    poses = [pose_from_flat(pose.flatten().tolist()) for pose in wrong]
    frames = [replace(frame, camera_to_world=pose) for frame, pose in zip(capture.frames, poses, strict=True)]
    return replace(capture, frames=tuple(frames))


def without_masks(capture: Capture) -> Capture:
    """The same photographs, of which nobody says where something moves."""
    return replace(capture, frames=tuple(replace(frame, mask=None) for frame in capture.frames))


def without_exposures(capture: Capture) -> Capture:
    """The same photographs, of which nobody knows the exposure."""
    return replace(capture, frames=tuple(replace(frame, exposure=None) for frame in capture.frames))


def with_masks_of(masked: Capture, capture: Capture) -> Capture:
    """A capture with the masks of another one of the same photographs."""
    pairs = zip(capture.frames, masked.frames, strict=True)
    return replace(capture, frames=tuple(replace(frame, mask=other.mask) for frame, other in pairs))
