"""The metrics on held-out images (`evaluation.json`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean
from typing import Any

from blocknerf.capture.json_reader import JsonReader
from blocknerf.city.manifest import WEIGHTINGS, Weighting
from blocknerf.errors import RunError, one_of
from blocknerf.files import check_format_version, format_json, read_json, write_atomic
from pipelines.staleness import Inputs

EVALUATION_FORMAT = "blocknerf.evaluation/3"
_HINT = "remove the file and evaluate again"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalProtocol:
    """How the metrics were computed; printed with every table of them."""

    text: str
    test_every: int
    """Every n-th instant was held out."""
    test_frames: int
    """Number of held-out images."""
    eval_frames: int
    """Number of evaluated images."""
    downscale: int
    fit_half: str
    fit_rays: int
    fit_steps: int
    eval_half: str
    weighting: Weighting
    power: float
    selection_radius: float
    visibility_threshold: float
    lpips: str
    """The LPIPS network and version, or why it was not computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Similarity of renderings and images; None if it could not be computed."""

    psnr: float | None
    ssim: float | None
    psnr_masked: float | None
    """Over pixels that masks call static; equal to `psnr` without masks."""
    psnr_full: float | None
    """Over the full image, including the half on which codes were fitted."""
    lpips: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMetrics:
    """The metrics of one image."""

    name: str
    index: int
    """Index in the capture."""
    metrics: Metrics
    blocks: Mapping[str, float]
    """Mean weight of each block in the rendering."""
    block_psnr: Mapping[str, float]
    """PSNR of each block rendered alone, for blocks with a large enough weight."""
    images: str | None = None
    """Prefix of its file names in the evaluation folder; None if no files were written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockScore:
    """The metrics of one block, over the images in which it has a large enough weight."""

    psnr: float
    """Of the block rendered alone."""
    frames: int
    weight: float
    """Its mean weight in these images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All metrics of a run."""

    protocol: EvalProtocol
    inputs: Inputs
    """The blocks and poses that were evaluated."""
    mean: Metrics
    """Means over images."""
    blocks: Mapping[str, BlockScore]
    frames: tuple[ImageMetrics, ...]


def summarize(protocol: EvalProtocol, inputs: Inputs, frames: Sequence[ImageMetrics]) -> Evaluation:
    """Return the evaluation of these images, with means over images and per block."""
    keys = [field.name for field in fields(Metrics)]
    means = {key: _mean([getattr(frame.metrics, key) for frame in frames]) for key in keys}
    names = sorted({name for frame in frames for name in frame.block_psnr})
    blocks = {name: _block_score([frame for frame in frames if name in frame.block_psnr], name) for name in names}
    return Evaluation(protocol=protocol, inputs=inputs, mean=Metrics(**means), blocks=blocks, frames=tuple(frames))


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write `evaluation.json` atomically. It has a key for LPIPS only if LPIPS could be computed."""
    document = {
        "format": EVALUATION_FORMAT,
        "protocol": asdict(evaluation.protocol),
        "inputs": evaluation.inputs.to_json(),
        "mean": _metrics_to_json(evaluation.mean),
        "blocks": {name: asdict(block) for name, block in evaluation.blocks.items()},
        "frames": [_frame_to_json(frame) for frame in evaluation.frames],
    }
    write_atomic(path, format_json(document))


def read_evaluation(path: Path) -> Evaluation:
    """Read `evaluation.json`.

    Raises:
        RunError: The file is missing, broken or of another format.
    """
    entry = JsonReader(read_json(path, "evaluation"), str(path), remedy=_HINT, error=RunError)
    check_format_version(entry.text("format"), EVALUATION_FORMAT, path, _HINT)
    blocks = entry.inner("blocks")
    return Evaluation(
        protocol=EvalProtocol(**_flat(EvalProtocol, entry.inner("protocol"))),
        inputs=Inputs.read(entry.inner("inputs")),
        mean=_read_metrics(entry.inner("mean")),
        blocks={name: BlockScore(**_flat(BlockScore, blocks.inner(name))) for name in blocks},
        frames=tuple(_read_frame(frame) for frame in entry.objects("frames")),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(mean(known), 4) if known else None


def _block_score(frames: Sequence[ImageMetrics], name: str) -> BlockScore:
    psnr = mean(frame.block_psnr[name] for frame in frames)
    weight = mean(frame.blocks[name] for frame in frames)
    return BlockScore(psnr=round(psnr, 4), frames=len(frames), weight=round(weight, 4))


def _metrics_to_json(metrics: Metrics) -> dict[str, Any]:
    data = {key: None if value is None else round(value, 4) for key, value in asdict(metrics).items()}
    return data if data["lpips"] is not None else {key: value for key, value in data.items() if key != "lpips"}


def _frame_to_json(frame: ImageMetrics) -> dict[str, Any]:
    first = {"name": frame.name, "index": frame.index, **_metrics_to_json(frame.metrics)}
    last = {"blocks": dict(frame.blocks), "block_psnr": dict(frame.block_psnr), "images": frame.images}
    return first | last


def _flat(kind: type, entry: JsonReader) -> dict[str, Any]:
    """Return the values of a flat record, each read as the type of its field."""
    readers: dict[Any, Callable[[str], Any]] = {
        int: entry.int_,
        float: entry.number,
        str: entry.text,
        Weighting: lambda key: one_of(entry.text(key), WEIGHTINGS, entry.location(key), remedy=_HINT),
    }
    return {field.name: readers[field.type](field.name) for field in fields(kind)}


def _read_metrics(entry: JsonReader) -> Metrics:
    known = {key: entry.optional(key, added=key == "lpips") for key in (field.name for field in fields(Metrics))}
    return Metrics(**{key: entry.number(key) if exists else None for key, exists in known.items()})


def _read_frame(entry: JsonReader) -> ImageMetrics:
    return ImageMetrics(
        name=entry.text("name"),
        index=entry.int_("index"),
        metrics=_read_metrics(entry),
        blocks=entry.numbers_by_name("blocks"),
        block_psnr=entry.numbers_by_name("block_psnr"),
        images=entry.text("images") if entry.optional("images") else None,
    )
