"""Readers of the JSON files of a run, each with a valid file: what jobs write, and later ones read."""

import json
from pathlib import Path

from blocknerf.capture.capture import read_capture, write_capture
from blocknerf.capture.motion import Motion
from blocknerf.capture.offsets import PoseOffset, PoseOffsets, read_offsets, write_offsets
from blocknerf.capture.reconciled import read_reconciliation, write_reconciliation
from blocknerf.capture.reconciliation import reconcile
from blocknerf.capture.stretches import Stretch
from blocknerf.city.extras import read_training_record
from blocknerf.city.manifest import City, read_city, rendering_settings, write_city
from blocknerf.city.photographs import placed_capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.files import format_json, write_atomic
from blocknerf.partition.block import Block
from blocknerf.partition.membership import Membership, read_membership, write_membership
from blocknerf.partition.report import coverage, read_coverage, write_coverage
from pipelines.charts import Series, line_chart
from pipelines.disagreement import disagreement_rows
from pipelines.job import duration
from pipelines.records import LogLine, read_log
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
from pipelines.scores import FrameScore, Protocol, Scores, read_evaluation, summarize, write_evaluation
from pipelines.staleness import Inputs
from tests.fuzzing.mutations import changed_bytes, changed_json, encoded
from tests.fuzzing.subjects import Subject, json_subject, small_capture, use_capture, use_city


def capture_json(folder: Path) -> Subject:
    path = folder / "run" / "capture.json"
    write_capture(small_capture(folder), path)
    return json_subject(path, lambda: use_capture(read_capture(path), folder))


def city_json(folder: Path) -> Subject:
    path = folder / "run" / "city.json"
    write_city(City(blocks=_blocks(), held_out=4), path)
    return json_subject(path, lambda: use_city(read_city(path), folder))


def _blocks() -> tuple[Block, ...]:
    return tuple(Block(name=f"b{i:03d}", origin=(8.0 * i, 0.0, 1.5), radius=8.0) for i in range(2))


def run_json(folder: Path) -> Subject:
    path = folder / "run" / "run.json"
    write_atomic(path, format_json({"format": SETTINGS_FORMAT, "steps": 20, "pose_refinement": True}))
    return json_subject(path, lambda: format_json(read_settings(path)))


def frames_json(folder: Path) -> Subject:
    capture, path = small_capture(folder), folder / "run" / "frames.json"
    write_membership(_membership(), capture, path)

    def use() -> None:
        found = read_membership(path, capture)
        assert len(capture.select(found.frames or (0,)))
        again = folder / "again" / "frames.json"
        write_membership(found, capture, again)
        assert read_membership(again, capture) == found

    return json_subject(path, use)


def _membership() -> Membership:
    return Membership(block="b000", frames=(0, 1), reasons=("position", "sight"), held_out=(2,), thinned=(3,))


def coverage_json(folder: Path) -> Subject:
    path = folder / "run" / "coverage.json"
    other = Membership(block="b001", frames=(1,), reasons=("sight",))
    write_coverage(coverage(small_capture(folder), _blocks(), [_membership(), other]), path, {"radius": 8.0})

    def use() -> None:
        for row in read_coverage(path).blocks:
            assert f"{row.pixels / 1e6:.1f} {row.overlap:.0%} {', '.join(row.neighbors)}"

    return json_subject(path, use)


def poses_of_a_block(folder: Path) -> Subject:
    path = folder / "run" / "poses.json"
    write_offsets(_offsets(0.1), path)

    def use() -> None:
        found = read_offsets(path)
        assert all(offset.motion.matrix.isfinite().all() for offset in found.offsets)
        assert reconcile({"b000": found, "b001": found}).disagreements

    return json_subject(path, use)


def poses_of_a_run(folder: Path) -> Subject:
    run = RunFolder(folder / "run")
    write_capture(small_capture(folder), run.capture)
    write_reconciliation(reconcile({"b000": _offsets(0.1), "b001": _offsets(0.2)}), run.poses)

    def use() -> None:
        assert placed_capture(run).cameras().camera_to_world.isfinite().all()
        found = read_reconciliation(run.poses)
        assert all(motion.matrix.isfinite().all() for motion in found.places.values())
        assert disagreement_rows(found, metric=True)

    return json_subject(run.poses, use)


def _offsets(shift: float) -> PoseOffsets:
    motion = Motion(pivot=(1.0, 0.0, 1.5), rotation=(0.0, 0.0, 0.01), translation=(shift, 0.0, 0.0))
    return PoseOffsets(offsets=(PoseOffset(stretch=Stretch(segment="drive"), frames=4, motion=motion),))


def train_json(folder: Path) -> Subject:
    path = folder / "run" / "train.json"
    record = {"config": {"downscale": 2, "seed": 0}, "frames": 12, "psnr": 21.5, "seconds": 61.0, "device": "cpu"}
    write_atomic(path, format_json({**record, "versions": {"torch": "2.5"}, "backends": {}}))

    def use() -> None:
        found = read_training_record(path)
        assert 10 // found.downscale >= 0
        assert duration(found.seconds)

    return json_subject(path, use)


def log_jsonl(folder: Path) -> Subject:
    path = folder / "log.jsonl"
    rows = [{"step": 5 * i, "loss": 0.1 / i, "psnr": 15.0, "rays_per_second": 1e4, "seconds": 2.0} for i in (1, 2, 3)]
    lines = [(json.dumps(row) + "\n").encode() for row in rows]
    path.write_bytes(b"".join(lines))
    middle = changed_json(rows[1]).flatmap(encoded).map(lambda line: lines[0] + line + b"\n" + lines[2])
    return Subject(path=path, read=lambda: _use_log(read_log(path)), contents=middle | changed_bytes(b"".join(lines)))


def _use_log(lines: tuple[LogLine, ...]) -> None:
    for key in ("loss", "psnr"):
        steps, figures = [line.step for line in lines], [getattr(line, key) for line in lines]
        series = Series(name="b000", color="#123456", x=steps, y=figures)
        line_chart([series], label=key, x_label="step", y_label=key, log=key == "loss")
    assert all(json.loads(line.text) for line in lines)


def evaluation_json(folder: Path) -> Subject:
    path, again = folder / "run" / "evaluation.json", folder / "again" / "evaluation.json"
    scores = Scores(psnr=20.0, ssim=0.8, psnr_masked=None, psnr_full=19.0, lpips=0.2)
    weights = {"b000": 0.7, "b001": 0.3}
    frames = [FrameScore(name="2.png", index=2, scores=scores, blocks=weights, block_psnr=weights, pictures="00002")]
    protocol = Protocol(
        text="a test", held_out=4, held_out_frames=1, scored_frames=1, downscale=1, fit_half="left", fit_rays=9,
        fit_steps=9, scored_half="right", lpips="none", **rendering_settings(City(blocks=_blocks())),
    )  # fmt: skip
    write_evaluation(summarize(protocol, _inputs(), frames), path)

    def use() -> None:
        found = read_evaluation(path)
        assert all(f"{block.psnr:.2f} {block.weight:.0%} {block.frames:,}" for block in found.blocks.values())
        write_evaluation(found, again)

    return json_subject(path, use)


def _inputs() -> Inputs:
    return Inputs(blocks={"b000": "a digest"}, presets={"noon": {"b000": "a digest"}}, poses="a digest")


def render_json(folder: Path) -> Subject:
    path, again = folder / "run" / "render.json", folder / "again" / "render.json"
    mark = FileMark(bytes=100, sha256="a digest")
    settings = VideoSettings(
        look="noon", codes_of=None, mix=None, exposure=0.1, block=None, hide=("b001",), max_blocks=4,
        **rendering_settings(City(blocks=_blocks())),
    )  # fmt: skip
    rows = [
        FrameRecord(frame=i, seconds=0.1, blocks={"b000": 1.0}, inputs=_inputs(), files={"frames": mark})
        for i in range(3)
    ]
    figures = Statistics(
        width=96, height=54, fps=12.0, seconds=0.3, pixels_per_second=9000, mean_change=0.1, largest_jump=1.5,
        changes=(0.1, 0.1),
    )  # fmt: skip
    record = RenderRecord(
        settings=settings, path=PathOptions(given=False, segment="drive"), frames={row.frame: row for row in rows},
        depth_range=(0.5, 9.0), videos={"frames": mark}, statistics=figures,
    )  # fmt: skip
    write_record(record, path)

    def use() -> None:
        found = read_record(path)
        found.settings.difference(settings)
        write_record(found, again)
        assert read_record(again) == found

    return json_subject(path, use)


RUN_FILES = (
    capture_json,
    city_json,
    run_json,
    frames_json,
    coverage_json,
    poses_of_a_block,
    poses_of_a_run,
    train_json,
    log_jsonl,
    evaluation_json,
    render_json,
)
