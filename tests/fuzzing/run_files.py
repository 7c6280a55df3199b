"""Fuzz targets for the JSON files of a run, which jobs write and later jobs read."""

import json
from pathlib import Path

from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.pose_averaging import average_poses, residual_rows
from blocknerf.capture.pose_averaging_file import read_pose_average, write_pose_average
from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections, read_corrections, write_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.extras import read_training_record
from blocknerf.city.manifest import City, read_city, rendering_settings, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_refined_poses
from blocknerf.files import format_json, write_atomic
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import FrameAssignment, read_assignment, write_assignment
from blocknerf.partitioning.report import coverage, read_coverage, write_coverage
from pipelines.charts import Series, line_chart
from pipelines.console import format_duration
from pipelines.evaluation_file import EvalProtocol, ImageMetrics, Metrics, read_evaluation, summarize, write_evaluation
from pipelines.render_record import (
    FileMark,
    FrameRecord,
    PathOptions,
    RenderRecord,
    Statistics,
    VideoSettings,
    read_record,
    write_record,
)
from pipelines.run import SETTINGS_FORMAT, read_settings
from pipelines.staleness import Inputs
from pipelines.training_log import LogLine, read_log
from tests.fuzzing.mutations import encoded, mutated_bytes, mutated_json
from tests.fuzzing.targets import Target, json_target, small_capture, use_capture, use_city


def capture_json(folder: Path) -> Target:
    path = folder / "run" / "capture.json"
    write_capture(small_capture(folder), path)
    return json_target(path, lambda: use_capture(read_capture(path), folder))


def city_json(folder: Path) -> Target:
    path = folder / "run" / "city.json"
    write_city(City(blocks=_blocks(), test_every=4), path)
    return json_target(path, lambda: use_city(read_city(path), folder))


def _blocks() -> tuple[Block, ...]:
    return tuple(Block(name=f"b{i:03d}", origin=(8.0 * i, 0.0, 1.5), radius=8.0) for i in range(2))


def run_json(folder: Path) -> Target:
    path = folder / "run" / "run.json"
    write_atomic(path, format_json({"format": SETTINGS_FORMAT, "steps": 20, "pose_refinement": True}))
    return json_target(path, lambda: format_json(read_settings(path)))


def frames_json(folder: Path) -> Target:
    capture, path = small_capture(folder), folder / "run" / "frames.json"
    write_assignment(_assignment(), capture, path)

    def read() -> None:
        restored = read_assignment(path, capture)
        assert len(capture.select(restored.frames or (0,)))
        copy = folder / "copy" / "frames.json"
        write_assignment(restored, capture, copy)
        assert read_assignment(copy, capture) == restored

    return json_target(path, read)


def _assignment() -> FrameAssignment:
    return FrameAssignment(
        block="b000", frames=(0, 1), reasons=("position", "visible"), test_frames=(2,), skipped_static=(3,)
    )


def coverage_json(folder: Path) -> Target:
    path = folder / "run" / "coverage.json"
    other = FrameAssignment(block="b001", frames=(1,), reasons=("visible",))
    write_coverage(coverage(small_capture(folder), _blocks(), [_assignment(), other]), path, {"radius": 8.0})

    def read() -> None:
        for row in read_coverage(path).blocks:
            assert f"{row.pixels / 1e6:.1f} {row.overlap:.0%} {', '.join(row.neighbors)}"

    return json_target(path, read)


def block_poses_json(folder: Path) -> Target:
    path = folder / "run" / "poses.json"
    write_corrections(_corrections(0.1), path)

    def read() -> None:
        restored = read_corrections(path)
        assert all(correction.motion.matrix.isfinite().all() for correction in restored.corrections)
        assert average_poses({"b000": restored, "b001": restored}).residuals

    return json_target(path, read)


def run_poses_json(folder: Path) -> Target:
    run = RunFolder(folder / "run")
    write_capture(small_capture(folder), run.capture)
    write_pose_average(average_poses({"b000": _corrections(0.1), "b001": _corrections(0.2)}), run.poses)

    def read() -> None:
        assert capture_with_refined_poses(run).cameras().camera_to_world.isfinite().all()
        restored = read_pose_average(run.poses)
        assert all(motion.matrix.isfinite().all() for motion in restored.block_alignments.values())
        assert residual_rows(restored, metric=True)

    return json_target(run.poses, read)


def _corrections(shift: float) -> PoseCorrections:
    motion = PivotTransform(pivot=(1.0, 0.0, 1.5), rotation=(0.0, 0.0, 0.01), translation=(shift, 0.0, 0.0))
    return PoseCorrections(
        corrections=(PoseCorrection(pose_segment=PoseSegment(segment="a"), frames=4, motion=motion),)
    )


def train_json(folder: Path) -> Target:
    path = folder / "run" / "train.json"
    record = {"config": {"downscale": 2, "seed": 0}, "frames": 12, "psnr": 21.5, "seconds": 61.0, "device": "cpu"}
    write_atomic(path, format_json({**record, "versions": {"torch": "2.5"}, "backends": {}}))

    def read() -> None:
        restored = read_training_record(path)
        assert 10 // restored.downscale >= 0
        assert format_duration(restored.seconds)

    return json_target(path, read)


def log_jsonl(folder: Path) -> Target:
    path = folder / "log.jsonl"
    rows = [{"step": 5 * i, "loss": 0.1 / i, "psnr": 15.0, "rays_per_second": 1e4, "seconds": 2.0} for i in (1, 2, 3)]
    lines = [(json.dumps(row) + "\n").encode() for row in rows]
    path.write_bytes(b"".join(lines))
    middle = mutated_json(rows[1]).flatmap(encoded).map(lambda line: lines[0] + line + b"\n" + lines[2])
    return Target(path=path, read=lambda: _use_log(read_log(path)), contents=middle | mutated_bytes(b"".join(lines)))


def _use_log(lines: tuple[LogLine, ...]) -> None:
    for key in ("loss", "psnr"):
        steps, values = [line.step for line in lines], [getattr(line, key) for line in lines]
        series = Series(name="b000", color="#123456", x=steps, y=values)
        line_chart([series], x_label="step", y_label=key, log=key == "loss")
    assert all(json.loads(line.text) for line in lines)


def evaluation_json(folder: Path) -> Target:
    path, copy = folder / "run" / "evaluation.json", folder / "copy" / "evaluation.json"
    scores = Metrics(psnr=20.0, ssim=0.8, psnr_masked=None, psnr_full=19.0, lpips=0.2)
    weights = {"b000": 0.7, "b001": 0.3}
    frames = [ImageMetrics(name="2.png", index=2, metrics=scores, blocks=weights, block_psnr=weights, images="00002")]
    protocol = EvalProtocol(
        text="a test", test_every=4, test_frames=1, eval_frames=1, downscale=1, fit_half="left", fit_rays=9,
        fit_steps=9, eval_half="right", lpips="none", **rendering_settings(City(blocks=_blocks())),
    )  # fmt: skip
    write_evaluation(summarize(protocol, _inputs(), frames), path)

    def read() -> None:
        restored = read_evaluation(path)
        assert all(f"{block.psnr:.2f} {block.weight:.0%} {block.frames:,}" for block in restored.blocks.values())
        write_evaluation(restored, copy)

    return json_target(path, read)


def _inputs() -> Inputs:
    return Inputs(blocks={"b000": "a digest"}, presets={"noon": {"b000": "a digest"}}, poses="a digest")


def render_json(folder: Path) -> Target:
    path, copy = folder / "run" / "render.json", folder / "copy" / "render.json"
    mark = FileMark(bytes=100, sha256="a digest")
    settings = VideoSettings(
        appearance=("noon",), codes_of=None, mix=None, exposure=0.1, block=None, hide=("b001",), max_blocks=4,
        **rendering_settings(City(blocks=_blocks())),
    )  # fmt: skip
    rows = [
        FrameRecord(frame=i, seconds=0.1, blocks={"b000": 1.0}, inputs=_inputs(), files={"frames": mark})
        for i in range(3)
    ]
    statistics = Statistics(
        width=96, height=54, fps=12.0, seconds=0.3, pixels_per_second=9000, mean_frame_difference=0.1,
        max_temporal_jump=1.5, frame_differences=(0.1, 0.1),
    )  # fmt: skip
    record = RenderRecord(
        settings=settings, path=PathOptions(given=False, segment="a"), frames={row.frame: row for row in rows},
        depth_range=(0.5, 9.0), videos={"frames": mark}, statistics=statistics,
    )  # fmt: skip
    write_record(record, path)

    def read() -> None:
        restored = read_record(path)
        restored.settings.difference(settings)
        write_record(restored, copy)
        assert read_record(copy) == restored

    return json_target(path, read)


RUN_FILES = (
    capture_json,
    city_json,
    run_json,
    frames_json,
    coverage_json,
    block_poses_json,
    run_poses_json,
    train_json,
    log_jsonl,
    evaluation_json,
    render_json,
)
