"""Options of structure from motion."""

from dataclasses import dataclass
from typing import Literal, get_args

from blocknerf.errors import OptionError, one_of
from blocknerf.options import check_number, check_whole

Lens = Literal["simple_radial", "radial", "opencv"]
Matching = Literal["auto", "exhaustive", "sequential"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SfmOptions:
    """Options of the computation of poses from photos or a video; other sources ignore them."""

    min_registered: float = 0.6
    """Photos and videos: fail if fewer than this fraction of the images can be registered."""
    matching: Matching = "auto"
    """Photos and videos: pairs of images to match. exhaustive takes all pairs; sequential takes neighbors by time, GPS
    position and similarity. auto takes all pairs of up to 200 photos."""
    features: int = 0
    """Photos and videos: maximum features per image. 0 takes 8192 for up to 45 images, otherwise 4096."""
    feature_image_size: int = 1600
    """Photos and videos: features are found in images shrunk to this many pixels on the longer side."""
    lens: Lens = "simple_radial"
    """Photos and videos: lens model. simple_radial has k1, radial k1 and k2, opencv k1, k2, p1 and p2."""
    max_frames: int = 400
    """Videos: maximum number of frames to use."""

    def check(self) -> None:
        """Raise if an option is out of range.

        Raises:
            OptionError: names the option and its range.
        """
        one_of(self.matching, get_args(Matching), "matching", OptionError)
        one_of(self.lens, get_args(Lens), "lens", OptionError)
        check_number(most=1.0, min_registered=self.min_registered)
        check_whole(least=0, most=32_768, features=self.features)
        check_whole(least=100, most=16_384, feature_image_size=self.feature_image_size)
        check_whole(least=3, most=100_000, max_frames=self.max_frames)
