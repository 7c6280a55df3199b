"""The metrics on held-out images (`evaluation.json`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import msgspec

from blocknerf.city.manifest import Weighting
from blocknerf.json_file import Count, JsonFile, Number, Record
from pipelines.staleness import Inputs


class EvalProtocol(Record, frozen=True, kw_only=True):
    """How the metrics were computed; printed with every table of them."""

    text: str
    test_every: Count
    """Every n-th instant was held out."""
    test_frames: Count
    """Number of held-out images."""
    eval_frames: Count
    """Number of evaluated images."""
    downscale: Count
    fit_half: str
    fit_rays: Count
    fit_steps: Count
    eval_half: str
    weighting: Weighting
    power: Number
    selection_radius: Number
    visibility_threshold: Number
    sharp: bool = False
    """Whether footprints may be finer than those of training; missing in files of earlier versions."""
    lpips: str
    """The LPIPS network and version, or why it was not computed."""


class Metrics(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Similarity of renderings and images; None if it could not be computed.

    Masked metrics are over pixels that masks call static, and equal the others without masks.
    """

    psnr: Number | None
    """Of the right half, with codes fitted on the left half, as are all without `whole`."""
    ssim: Number | None
    psnr_masked: Number | None
    psnr_full: Number | None
    """Over the full image, including the half on which codes were fitted."""
    ssim_masked: Number | None = None
    lpips: Number | None = None
    whole_psnr: Number | None = None
    """Of the whole image, with each block's mean code of its segment, as are all with `whole`."""
    whole_psnr_masked: Number | None = None
    whole_ssim: Number | None = None
    whole_ssim_masked: Number | None = None
    whole_lpips: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricColumn:
    """A metric in a table."""

    key: str
    title: str
    digits: int

    def value(self, metrics: Metrics, prefix: str = "") -> float | None:
        """Return the metric; None if it could not be computed. `prefix` is one of `PROTOCOLS`."""
        value: float | None = getattr(metrics, prefix + self.key)
        return value

    def text(self, metrics: Metrics, prefix: str = "") -> str:
        """Return the metric as text; a dash if it could not be computed."""
        value = self.value(metrics, prefix)
        return "-" if value is None else f"{value:.{self.digits}f}"


METRIC_COLUMNS = (
    MetricColumn(key="psnr", title="PSNR", digits=2),
    MetricColumn(key="psnr_masked", title="PSNR, static", digits=2),
    MetricColumn(key="ssim", title="SSIM", digits=3),
    MetricColumn(key="ssim_masked", title="SSIM, static", digits=3),
    MetricColumn(key="lpips", title="LPIPS", digits=3),
)
PROTOCOLS = {"": "right halves, fitted codes", "whole_": "whole images, mean codes"}
"""The names of the two sets of metrics, by the prefix of their keys."""


def used_columns(means: Metrics) -> list[MetricColumn]:
    """Return the columns of a table of metrics: PSNR, and those that are neither empty nor those of all pixels."""
    return [column for column in METRIC_COLUMNS if column.key == "psnr" or _adds_information(column, means)]


def _adds_information(column: MetricColumn, means: Metrics) -> bool:
    unmasked = getattr(means, column.key.removesuffix("_masked"))
    return column.value(means) is not None and (not column.key.endswith("_masked") or column.value(means) != unmasked)


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


class BlockScore(Record, frozen=True, kw_only=True):
    """The metrics of one block, over the images in which it has a large enough weight."""

    psnr: Number
    """Of the block rendered alone."""
    frames: Count
    weight: Number
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


class _FrameRecord(Metrics, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    index: Count
    blocks: Mapping[str, Number]
    block_psnr: Mapping[str, Number]
    images: str | None


class _EvaluationRecord(Record, frozen=True, kw_only=True, tag_field="format", tag="blocknerf.evaluation/3"):
    protocol: EvalProtocol
    inputs: Inputs
    mean: Metrics
    blocks: dict[str, BlockScore]
    frames: list[_FrameRecord]


_FILE = JsonFile(content=_EvaluationRecord, what="evaluation", remedy="remove the file and evaluate again")
_METRICS = Metrics.__struct_fields__


def summarize(protocol: EvalProtocol, inputs: Inputs, frames: Sequence[ImageMetrics]) -> Evaluation:
    """Return the evaluation of these images, with means over images and per block."""
    means = {key: _mean([getattr(frame.metrics, key) for frame in frames]) for key in _METRICS}
    names = sorted({name for frame in frames for name in frame.block_psnr})
    blocks = {name: _block_score([frame for frame in frames if name in frame.block_psnr], name) for name in names}
    return Evaluation(protocol=protocol, inputs=inputs, mean=Metrics(**means), blocks=blocks, frames=tuple(frames))


def by_psnr(frames: Iterable[ImageMetrics], prefix: str = "") -> list[ImageMetrics]:
    """Return the images that have a PSNR, best first; `prefix` is one of `PROTOCOLS`."""
    values = [(getattr(frame.metrics, f"{prefix}psnr"), frame) for frame in frames]
    ranked = sorted((-value, place) for place, (value, _) in enumerate(values) if value is not None)
    return [values[place][1] for _, place in ranked]


def marked_images(frames: Iterable[ImageMetrics], prefix: str = "") -> dict[int, str]:
    """Return the indices of the worst, the median and the best image by PSNR, with these words."""
    ranked = by_psnr(frames, prefix)
    return {ranked[place].index: word for place, word in places(len(ranked)).items()}


def places(count: int) -> dict[int, str]:
    """Return the places of the images that the report shows, of so many sorted by PSNR, with their names.

    >>> places(7), places(1)
    ({6: 'worst', 3: 'median', 0: 'best'}, {0: 'best'})
    """
    return {count - 1: "worst", (count - 1) // 2: "median", 0: "best"} if count else {}


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write `evaluation.json` atomically. It has a key for LPIPS only if LPIPS could be computed."""
    record = _EvaluationRecord(
        protocol=evaluation.protocol,
        inputs=evaluation.inputs,
        mean=_rounded(evaluation.mean),
        blocks=dict(evaluation.blocks),
        frames=[
            _FrameRecord(
                name=frame.name,
                index=frame.index,
                blocks=frame.blocks,
                block_psnr=frame.block_psnr,
                images=frame.images,
                **msgspec.structs.asdict(_rounded(frame.metrics)),
            )
            for frame in evaluation.frames
        ],
    )
    _FILE.write(record, path)


def read_evaluation(path: Path) -> Evaluation:
    """Read `evaluation.json`.

    Raises:
        RunError: The file is missing, broken or of another format.
    """
    record = _FILE.read(path)
    frames = [
        ImageMetrics(
            name=frame.name,
            index=frame.index,
            metrics=Metrics(**{key: getattr(frame, key) for key in _METRICS}),
            blocks=frame.blocks,
            block_psnr=frame.block_psnr,
            images=frame.images,
        )
        for frame in record.frames
    ]
    return Evaluation(
        protocol=record.protocol, inputs=record.inputs, mean=record.mean, blocks=record.blocks, frames=tuple(frames)
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(mean(known), 4) if known else None


def _block_score(frames: Sequence[ImageMetrics], name: str) -> BlockScore:
    psnr = mean(frame.block_psnr[name] for frame in frames)
    weight = mean(frame.blocks[name] for frame in frames)
    return BlockScore(psnr=round(psnr, 4), frames=len(frames), weight=round(weight, 4))


def _rounded(metrics: Metrics) -> Metrics:
    values = msgspec.structs.asdict(metrics)
    return Metrics(**{key: None if value is None else round(value, 4) for key, value in values.items()})
