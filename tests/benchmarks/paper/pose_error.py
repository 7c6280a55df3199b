"""How far poses are from the truth, but for a motion of everything together, which no photograph can show."""

from statistics import mean

from jaxtyping import Float
from torch import Tensor

from blocknerf.capture.pose_averaging import mean_transform
from blocknerf.capture.rigid import PivotTransform
from blocknerf.geometry import compose, invert


def translation_noise(poses: Float[Tensor, "frames 3 4"], truth: Float[Tensor, "frames 3 4"]) -> tuple[float, float]:
    """Mean distance of the cameras from where they truly stood, and mean angle from how, in centimeters and degrees.

    A field trained on poses that are all displaced together is displaced with them and shows the same pictures. So
    the poses are first moved together by the rigid motion that turns them least wrongly, then shifts them.
    """
    found, true = poses.double(), truth.double()
    back = compose(true, invert(found))
    _, together = mean_transform(list(back), list(found[:, :, 3]), [1.0] * len(found))
    moved = compose(together.expand(len(found), 3, 4), found)
    # About the place where a camera stands, so that its shift is how far it stands from where it should.
    apart = [PivotTransform.of_matrix(*pair) for pair in zip(compose(true, invert(moved)), moved[:, :, 3], strict=True)]
    return 100.0 * mean(motion.translation_norm for motion in apart), mean(motion.rotation_deg for motion in apart)
