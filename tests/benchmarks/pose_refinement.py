"""Effect and accuracy of pose refinement on the sample town, where the true poses are known.

    python -m tests.benchmarks.pose_refinement [--steps 1500] [--capture FOLDER] [--rows displaced refined]

Three segments (noon, dusk, overcast), each displaced by 10 cm and 0.3 degrees. The sample is created, or read from a
folder written by `blocknerf sample FOLDER --translation-noise 0.1 --rotation-noise 0.3`. Rows: `displaced` trains on
the displaced poses, `refined` refines them, `exact` trains on the true poses, and `exact_refined` refines true poses.
PSNR is of right halves of held-out images with codes fitted on the left, rendered from the poses of the row.

Errors are those of the center of a segment (centimeters) and of its rotation (degrees). `absolute` compares with the
true poses; `relative`, the relevant measure, first removes the common rigid motion that images cannot reveal.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

import torch  # noqa: E402

from blocknerf.capture.capture import Capture  # noqa: E402
from blocknerf.capture.pose_averaging import mean_transform  # noqa: E402
from blocknerf.capture.pose_corrections import apply_corrections  # noqa: E402
from blocknerf.capture.rigid import PivotTransform  # noqa: E402
from blocknerf.capture.transforms import read_transforms  # noqa: E402
from blocknerf.geometry import compose, invert  # noqa: E402
from blocknerf.town.sample import TRANSFORMS, TRUE_TRANSFORMS  # noqa: E402
from pipelines.sample import sample  # noqa: E402
from tests.benchmarks.against_naive import score  # noqa: E402
from tests.benchmarks.one_block import one_block  # noqa: E402

METERS, DEGREES = 0.1, 0.3
ROWS = {
    "displaced": (TRANSFORMS, False),
    "refined": (TRANSFORMS, True),
    "exact": (TRUE_TRANSFORMS, False),
    "exact_refined": (TRUE_TRANSFORMS, True),
}
LOG_STEPS = 250
"""Steps between progress lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseError:
    """Pose errors of segments: mean and maximum."""

    centimeters: float
    worst_centimeters: float
    degrees: float
    worst_degrees: float

    @classmethod
    def of(cls, motions: Sequence[PivotTransform]) -> "PoseError":
        translations = [100.0 * motion.translation_norm for motion in motions]
        rotations = [motion.rotation_deg for motion in motions]
        count = len(motions)
        return cls(
            centimeters=round(sum(translations) / count, 2),
            worst_centimeters=round(max(translations), 2),
            degrees=round(sum(rotations) / count, 4),
            worst_degrees=round(max(rotations), 4),
        )

    def __str__(self) -> str:
        translation = f"{self.centimeters:.1f} cm (worst {self.worst_centimeters:.1f})"
        return f"{translation}, {self.degrees:.3f} degrees (worst {self.worst_degrees:.3f})"


def pose_errors(capture: Capture, truth: Capture) -> tuple[PoseError, PoseError]:
    """Return the absolute and relative errors of the segments."""
    matrices, centers, counts = [], [], []
    for frames in capture.segments.values():
        estimate, true = (
            torch.tensor([c.frames[i].camera_to_world for i in frames]).double() for c in (capture, truth)
        )
        matrices.append(compose(true[0], invert(estimate[0])))  # a segment moves as one
        centers.append(estimate[:, :, 3].mean(0))
        counts.append(float(len(frames)))
    _, common = mean_transform(matrices, centers, counts)
    aligned = [compose(invert(common), matrix) for matrix in matrices]
    absolute, relative = (
        [PivotTransform.of_matrix(m, center) for m, center in zip(group, centers, strict=True)]
        for group in (matrices, aligned)
    )
    return PoseError.of(absolute), PoseError.of(relative)


def run_row(name: str, folder: Path, steps: int) -> dict[str, object]:
    """Train and evaluate one row."""
    file, refines = ROWS[name]
    truth = read_transforms(folder / TRUE_TRANSFORMS)
    block = one_block(folder / file, steps=steps, pose_refinement=refines)
    trainer, refined = block.trainer, block.capture
    while trainer.step < steps:
        report = trainer.train_step()
        if trainer.poses is not None:
            refined = apply_corrections(block.capture, trainer.poses.corrections(0.0))
        if trainer.step % LOG_STEPS == 0:
            print(
                f"{name}: step {trainer.step}, {report.psnr:.1f} dB, relative {pose_errors(refined, truth)[1]}",
                flush=True,
            )
    absolute, relative = pose_errors(refined, truth)
    psnr = score(replace(block, capture=refined), 1)["half"]
    print(f"{name}: {psnr:.2f} dB; relative {relative}; absolute {absolute}", flush=True)
    scores = {"psnr": round(psnr, 2)}
    for kind, error in (("relative", relative), ("absolute", absolute)):
        scores |= {f"{kind}_centimeters": error.centimeters, f"{kind}_degrees": error.degrees}
    return {"name": name, **scores}


def main() -> None:
    """Print one line per row and one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--capture", type=Path, default=None)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.capture or sample(Path(temporary) / "town", translation_noise=METERS, rotation_noise=DEGREES)
        rows = [run_row(name, folder, options.steps) for name in options.rows]
    print(json.dumps({"benchmark": "pose_refinement", "steps": options.steps, "rows": rows}))


if __name__ == "__main__":
    main()
