"""What an importer is, and the options that a user may give to one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import CameraAxes, UpAxis
from blocknerf.options import check_number, check_whole
from blocknerf.sfm.options import SfmOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """Options of an import. All have defaults; an importer ignores those that do not concern its kind of source."""

    images: Path | None = None
    """Folder of the images, if the source does not say where they are."""
    keep_going: bool = False
    """Leave out frames with broken images, instead of stopping. 'run' also trains the other blocks if one fails."""
    up: UpAxis = "auto"
    """World axis that points up. auto decides from the cameras, and keeps z where the format fixes it."""
    camera_axes: CameraAxes = "auto"
    """Axes of the cameras in a transforms.json. auto decides from points and motion; the format's
    convention is opengl."""
    scene: str | None = None
    """Scene, drive or sequence of a driving data set that holds several."""
    cameras: tuple[str, ...] = ()
    """Cameras of a driving log, such as 2 3 or CAM_FRONT. Default: KITTI's color cameras, all cameras of other logs."""
    sweeps: bool = False
    """Whether to import the camera images between the key frames of nuScenes as well."""
    world_unit: float = 100.0
    """Meters per unit of the records of Waymo's Mission Bay, which do not hold it."""
    importer: str | None = None
    """A Python function that imports the source, as module:function. It takes the path and returns a Capture."""
    masks: Path | None = None
    """Folder of masks, named after the images: black is ignored in training."""
    mask_with: str | None = None
    """A Python function that finds movable objects, as module:function. It takes an image (uint8, height x width x 3)
    and returns a bool array (height x width). Its masks are written once."""
    mask_margin: int = 0
    """Grow what masks ignore by this many pixels."""
    invert_masks: bool = False
    """Masks are white where pixels are to be ignored."""
    test_list: Path | None = None
    """Text file with the names of the images to hold out for evaluation, one a line; all others train."""
    sfm: SfmOptions = field(default_factory=SfmOptions)
    """Options of the computation of poses from photos or a video."""

    def check(self) -> None:
        """Raise if a number is out of range.

        Raises:
            OptionError: names the option and its range.
        """
        check_whole(least=0, most=1_000, mask_margin=self.mask_margin)
        check_number(least=1e-6, most=1e6, world_unit=self.world_unit)
        self.sfm.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """A kind of source: how to recognize it, and how to read it."""

    kind: str
    """The source in a user's words, with an article: "a COLMAP model"."""
    recognizes: Callable[[Path], bool]
    """Whether a file or folder is of this kind; looks at names and the first bytes only, and imports nothing heavy."""
    defines_axes: bool = True
    """Whether the format's camera axes are beyond doubt; those of transforms.json are often another program's."""
    defines_up: bool = False
    """Whether z is up beyond doubt, even if images are rolled."""
    read: Callable[[Path, ImportOptions, Path], Capture]
    """Read the source. The third argument is a folder for files that the import makes, such as converted images or
    masks; the importer creates it when it needs it. Raises CaptureError."""


DEFAULT_OPTIONS = ImportOptions()
