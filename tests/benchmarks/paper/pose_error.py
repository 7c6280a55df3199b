"""Pose error up to a common rigid motion, which images cannot reveal."""

from statistics import mean

from jaxtyping import Float
from torch import Tensor

from blocknerf.capture.pose_averaging import mean_transform
from blocknerf.capture.rigid import PivotTransform
from blocknerf.geometry import compose, invert


def pose_error(poses: Float[Tensor, "frames 3 4"], truth: Float[Tensor, "frames 3 4"]) -> tuple[float, float]:
    """Return the mean distance (centimeters) and the mean angle (degrees) between poses and true poses.

    A field trained on poses with a common displacement is displaced with them and renders the same images. The poses
    are therefore first aligned with the true ones by a rigid motion: best rotation, then translation.
    """
    estimate, true = poses.double(), truth.double()
    corrections = compose(true, invert(estimate))
    _, common = mean_transform(list(corrections), list(estimate[:, :, 3]), [1.0] * len(estimate))
    aligned = compose(common.expand(len(estimate), 3, 4), estimate)
    # About the camera center, so that the translation is the distance of the centers.
    pairs = zip(compose(true, invert(aligned)), aligned[:, :, 3], strict=True)
    errors = [PivotTransform.of_matrix(matrix, center) for matrix, center in pairs]
    return 100.0 * mean(motion.translation_norm for motion in errors), mean(motion.rotation_deg for motion in errors)
