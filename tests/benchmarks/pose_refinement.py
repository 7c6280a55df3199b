"""What refining poses is worth, and how near it comes to the truth, on a town whose true poses are known.

    python -m tests.benchmarks.pose_refinement [--steps 1500] [--capture FOLDER] [--rows displaced refined]

Three drives at noon, dusk and under clouds, each displaced by 10 cm and 0.3 degrees. The sample is made anew, or taken
from a folder that `blocknerf sample FOLDER --translation-noise 0.1 --rotation-noise 0.3` wrote. Rows: `displaced` trains on the
wrong poses as they are, `apply_corrections` corrects them, `exact` trains on the true ones, and `exact_refined` corrects what
needs no correction. PSNR is of right halves of held-out photographs, with codes fitted on the left, and from where the
row has it that they were taken.

Errors are of a drive's middle (centimeters) and of its turn (degrees). `absolute` compares with the truth as it is;
`relative` first takes out the one motion of all drives together that brings them nearest, since no photograph can
show it: it is what the refinement is judged by.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

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
SAID = 250
"""Steps between lines on the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseError:
    """How far drives are from the truth: means over drives, and the worst."""

    centimeters: float
    worst_centimeters: float
    degrees: float
    worst_degrees: float

    @classmethod
    def of(cls, motions: Sequence[PivotTransform]) -> "PoseError":
        shifts, turns = [100.0 * each.translation_norm for each in motions], [each.rotation_deg for each in motions]
        count = len(motions)
        return cls(
            centimeters=round(sum(shifts) / count, 2),
            worst_centimeters=round(max(shifts), 2),
            degrees=round(sum(turns) / count, 4),
            worst_degrees=round(max(turns), 4),
        )

    def __str__(self) -> str:
        shift = f"{self.centimeters:.1f} cm (worst {self.worst_centimeters:.1f})"
        return f"{shift}, {self.degrees:.3f} degrees (worst {self.worst_degrees:.3f})"


def pose_errors(capture: Capture, truth: Capture) -> tuple[PoseError, PoseError]:
    """Absolute and relative errors of the drives."""
    matrices, middles, counts = [], [], []
    for frames in capture.segments.values():
        found, true = (torch.tensor([c.frames[i].camera_to_world for i in frames]).double() for c in (capture, truth))
        matrices.append(compose(true[0], invert(found[0])))  # All of a drive are moved alike, so the first tells.
        middles.append(found[:, :, 3].mean(0))
        counts.append(float(len(frames)))
    _, common = mean_transform(matrices, middles, counts)
    apart = [compose(invert(common), matrix) for matrix in matrices]
    absolute, relative = (
        [PivotTransform.of_matrix(m, at) for m, at in zip(each, middles, strict=True)] for each in (matrices, apart)
    )
    return PoseError.of(absolute), PoseError.of(relative)


def run_row(name: str, folder: Path, steps: int) -> dict[str, object]:
    """Train and judge one row."""
    file, refines = ROWS[name]
    truth = read_transforms(folder / TRUE_TRANSFORMS)
    block = one_block(folder / file, steps=steps, pose_refinement=refines)
    trainer, found = block.trainer, block.capture
    while trainer.step < steps:
        report = trainer.train_step()
        if trainer.poses is not None:
            found = apply_corrections(block.capture, trainer.poses.corrections(0.0))
        if trainer.step % SAID == 0:
            print(
                f"{name}: step {trainer.step}, {report.psnr:.1f} dB, relative {pose_errors(found, truth)[1]}",
                flush=True,
            )
    absolute, relative = pose_errors(found, truth)
    psnr = score(replace(block, capture=found), 1)["half"]
    print(f"{name}: {psnr:.2f} dB; relative {relative}; absolute {absolute}", flush=True)
    facts = {"psnr": round(psnr, 2)}
    for kind, error in (("relative", relative), ("absolute", absolute)):
        facts |= {f"{kind}_centimeters": error.centimeters, f"{kind}_degrees": error.degrees}
    return {"name": name, **facts}


def main() -> None:
    """Print a line a row and one line of JSON."""
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
