"""The scores of held-out photographs (`evaluation.json`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean
from typing import Any

from blocknerf.capture.entry import Entry
from blocknerf.city.manifest import WEIGHTINGS, Weighting
from blocknerf.errors import RunError, one_of
from blocknerf.files import check_format, format_json, read_json, write_atomic
from pipelines.staleness import Inputs

EVALUATION_FORMAT = "blocknerf.evaluation/2"
_REMEDY = "remove the file and evaluate again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How scores were taken; printed with every table of them."""

    text: str
    held_out: int
    """Every n-th photograph was kept from training."""
    held_out_frames: int
    """How many that are."""
    scored_frames: int
    downscale: int
    fit_half: str
    fit_rays: int
    fit_steps: int
    scored_half: str
    weighting: Weighting
    power: float
    selection_radius: float
    visibility_threshold: float
    lpips: str
    """Which LPIPS, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How close pictures come to photographs; None where it cannot be said."""

    psnr: float | None
    ssim: float | None
    psnr_masked: float | None
    """Over pixels that masks call static; equal to `psnr` where there are no masks."""
    psnr_full: float | None
    """Over the whole photograph, the half on which codes were fitted included."""
    lpips: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScore:
    """The scores of one photograph."""

    name: str
    index: int
    """Position in the capture."""
    scores: Scores
    blocks: Mapping[str, float]
    """Weight of each block in the picture."""
    block_psnr: Mapping[str, float]
    """PSNR of the pictures that blocks with a large enough share make alone."""
    pictures: str | None = None
    """What the names of its pictures in the evaluation folder begin with, where they were kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockScore:
    """The scores of one block, over the photographs in whose pictures it has a large enough share."""

    psnr: float
    """Of the block's pictures alone."""
    frames: int
    weight: float
    """Its mean share in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All scores of a run."""

    protocol: Protocol
    inputs: Inputs
    """Blocks and poses that they are of."""
    mean: Scores
    """Means over photographs."""
    blocks: Mapping[str, BlockScore]
    frames: tuple[FrameScore, ...]


def summarize(protocol: Protocol, inputs: Inputs, frames: Sequence[FrameScore]) -> Evaluation:
    """The evaluation of some photographs, with means over photographs and by block."""
    keys = [field.name for field in fields(Scores)]
    means = {key: _mean([getattr(frame.scores, key) for frame in frames]) for key in keys}
    names = sorted({name for frame in frames for name in frame.block_psnr})
    blocks = {name: _block_score([frame for frame in frames if name in frame.block_psnr], name) for name in names}
    return Evaluation(protocol=protocol, inputs=inputs, mean=Scores(**means), blocks=blocks, frames=tuple(frames))


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write `evaluation.json`, whole or not at all. LPIPS has a key only where it could be computed."""
    document = {
        "format": EVALUATION_FORMAT,
        "protocol": asdict(evaluation.protocol),
        "inputs": evaluation.inputs.to_json(),
        "mean": _scores_data(evaluation.mean),
        "blocks": {name: asdict(block) for name, block in evaluation.blocks.items()},
        "frames": [_frame_data(frame) for frame in evaluation.frames],
    }
    write_atomic(path, format_json(document))


def read_evaluation(path: Path) -> Evaluation:
    """Read `evaluation.json`.

    Raises:
        RunError: it is missing, broken or of another format.
    """
    entry = Entry(read_json(path, "evaluation"), str(path), remedy=_REMEDY, error=RunError)
    check_format(entry.text("format"), EVALUATION_FORMAT, path, _REMEDY)
    blocks = entry.inner("blocks")
    return Evaluation(
        protocol=Protocol(**_flat(Protocol, entry.inner("protocol"))),
        inputs=Inputs.read(entry.inner("inputs")),
        mean=_read_scores(entry.inner("mean")),
        blocks={name: BlockScore(**_flat(BlockScore, blocks.inner(name))) for name in blocks},
        frames=tuple(_read_frame(frame) for frame in entry.objects("frames")),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(mean(known), 4) if known else None


def _block_score(frames: Sequence[FrameScore], name: str) -> BlockScore:
    psnr = mean(frame.block_psnr[name] for frame in frames)
    weight = mean(frame.blocks[name] for frame in frames)
    return BlockScore(psnr=round(psnr, 4), frames=len(frames), weight=round(weight, 4))


def _scores_data(scores: Scores) -> dict[str, Any]:
    data = {key: None if value is None else round(value, 4) for key, value in asdict(scores).items()}
    return data if data["lpips"] is not None else {key: value for key, value in data.items() if key != "lpips"}


def _frame_data(frame: FrameScore) -> dict[str, Any]:
    head = {"name": frame.name, "index": frame.index, **_scores_data(frame.scores)}
    tail = {"blocks": dict(frame.blocks), "block_psnr": dict(frame.block_psnr), "pictures": frame.pictures}
    return head | tail


def _flat(kind: type, entry: Entry) -> dict[str, Any]:
    """The values of a record of plain facts, each of the type that its field has."""
    readers: dict[Any, Callable[[str], Any]] = {
        int: entry.whole,
        float: entry.number,
        str: entry.text,
        Weighting: lambda key: one_of(entry.text(key), WEIGHTINGS, entry.place(key), remedy=_REMEDY),
    }
    return {field.name: readers[field.type](field.name) for field in fields(kind)}


def _read_scores(entry: Entry) -> Scores:
    known = {key: entry.has(key, added=key == "lpips") for key in (field.name for field in fields(Scores))}
    return Scores(**{key: entry.number(key) if there else None for key, there in known.items()})


def _read_frame(entry: Entry) -> FrameScore:
    return FrameScore(
        name=entry.text("name"),
        index=entry.whole("index"),
        scores=_read_scores(entry),
        blocks=entry.numbers_by_name("blocks"),
        block_psnr=entry.numbers_by_name("block_psnr"),
        pictures=entry.text("pictures") if entry.has("pictures") else None,
    )
