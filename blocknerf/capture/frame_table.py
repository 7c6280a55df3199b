"""Frames in columns: a large capture takes as much memory as its numbers and paths, and a frame is made when read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, get_args, overload

import numpy as np
from jaxtyping import Float64, Int, UInt8

from blocknerf.capture.frame import Frame, Intrinsics, Split, pose_from_flat

TEXTS = ("name", "image")
PATHS = ("mask", "sky_mask", "depth")
"""Columns of paths or None, which is an empty text; left out if no frame has one."""
LABELS = ("segment", "camera")
"""Columns of texts with few distinct values."""
NUMBERS = ("timestamp", "exposure")
"""Columns of numbers or None, which is NaN."""
_SPLITS: tuple[str | None, ...] = (None, *get_args(Split))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """Texts in one buffer."""

    data: UInt8[np.ndarray, "bytes"]
    """The texts in UTF-8, one after another."""
    ends: Int[np.ndarray, "texts"]
    """The end of each text in the buffer."""

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> "TextColumn":
        """Return the column of some texts."""
        encoded = [(text or "").encode("utf-8", "surrogatepass") for text in texts]
        data = np.frombuffer(b"".join(encoded), np.uint8)
        return cls(data=data, ends=np.cumsum([len(text) for text in encoded], dtype=np.int64))

    def __getitem__(self, index: int) -> str:
        start = self.ends[index - 1] if index else 0
        return self.data[start : self.ends[index]].tobytes().decode("utf-8", "surrogatepass")

    def select(self, indices: Int[np.ndarray, "few"]) -> "TextColumn":
        """Return the column of some of the texts."""
        starts = np.where(indices > 0, self.ends[indices - 1], 0)
        lengths = self.ends[indices] - starts
        ends = np.cumsum(lengths)
        offsets = np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths)
        return TextColumn(data=self.data[offsets], ends=ends)

    def all(self) -> list[str]:
        """Return all texts."""
        data, bounds = self.data.tobytes(), [0, *self.ends.tolist()]
        return [data[start:end].decode("utf-8", "surrogatepass") for start, end in pairwise(bounds)]


class FrameTable(Sequence[Frame]):
    """Frames that were checked before, in columns; equal to a tuple of the same frames."""

    def __init__(self, columns: dict[str, np.ndarray], lenses: Sequence[Intrinsics]) -> None:
        """Take the arrays that `columns` returns."""
        self._columns, self.lenses = columns, tuple(lenses)
        self.poses: Float64[np.ndarray, "frames 3 4"] = columns["camera_to_world"].reshape(-1, 3, 4)
        self.lens_of_frame: Int[np.ndarray, "frames"] = columns["intrinsics"]
        self._texts = {
            key: TextColumn(data=columns[f"{key}_data"], ends=columns[f"{key}_ends"])
            for key in (*TEXTS, *PATHS, *LABELS)
            if f"{key}_data" in columns
        }
        self._labels = {key: self._texts[key].all() for key in LABELS}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The arrays of a file."""
        return self._columns

    def name(self, index: int) -> str:
        """Return the name of a frame."""
        return self._texts["name"][index]

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the names of some frames."""
        return self._texts["name"].select(np.asarray(indices, np.int64)).all()

    def column(self, key: str) -> list[Any]:
        """Return one field of all frames."""
        if key in LABELS:
            return [self._labels[key][label] for label in self._columns[key].tolist()]
        if key in TEXTS:
            return self._texts[key].all()
        if key in PATHS:
            return [text or None for text in self._texts[key].all()] if key in self._texts else [None] * len(self)
        if key in NUMBERS:
            return [None if number != number else number for number in self._columns[key].tolist()]
        if key == "intrinsics":
            return [self.lenses[lens] for lens in self.lens_of_frame.tolist()]
        if key == "split":
            return [_SPLITS[number] for number in self._columns["split"].tolist()]
        return [getattr(frame, key) for frame in self]

    def select(self, indices: Sequence[int]) -> "FrameTable":
        """Return the table of some of the frames, with the lenses and labels that they have."""
        rows = np.asarray(indices, np.int64)
        texts = {f"{key}_{part}" for key in self._texts for part in ("data", "ends")}
        columns = {key: values[rows] for key, values in self._columns.items() if key not in texts}
        lenses, columns["intrinsics"] = _renumbered(columns["intrinsics"])
        for key in LABELS:
            labels, columns[key] = _renumbered(columns[key])
            columns |= _arrays(key, TextColumn.of(self._labels[key][label] for label in labels))
        for key in self._texts.keys() - set(LABELS):
            found = self._texts[key].select(rows)
            if key in TEXTS or len(found.data):
                columns |= _arrays(key, found)
        return FrameTable(columns, [self.lenses[lens] for lens in lenses])

    def checked(self) -> tuple[Frame, ...]:
        """Return the frames, each checked as its constructor does; for a table of unknown origin.

        Raises:
            CaptureError: a frame is not valid.
            LookupError, TypeError, ValueError: the columns are not those of a table.
        """
        return tuple(replace(frame) for frame in self)

    def __len__(self) -> int:
        return len(self.poses)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Frame, ...]: ...
    def __getitem__(self, index: int | slice) -> Frame | tuple[Frame, ...]:
        if isinstance(index, slice):
            return tuple(self._frame(i) for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._frame(index % len(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Frame.__eq__, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def _frame(self, index: int) -> Frame:
        columns = self._columns
        values: dict[str, Any] = {key: self._texts[key][index] for key in TEXTS}
        values |= {key: self._texts[key][index] or None for key in PATHS if key in self._texts}
        values |= {key: self._labels[key][columns[key][index]] for key in LABELS}
        values |= {key: None if np.isnan(columns[key][index]) else float(columns[key][index]) for key in NUMBERS}
        gps, colmap_id = columns["gps"][index].tolist(), int(columns["colmap_id"][index])
        values |= {
            "intrinsics": self.lenses[self.lens_of_frame[index]],
            "camera_to_world": pose_from_flat(columns["camera_to_world"][index].tolist()),
            "gps": None if np.isnan(gps).any() else tuple(gps),
            "grayscale": bool(columns["grayscale"][index]),
            "split": _SPLITS[columns["split"][index]],
            "colmap_id": None if colmap_id < 0 else colmap_id,
        }
        # Not through the constructor, which would check the frame again.
        frame = object.__new__(Frame)
        for field in _FIELDS:
            object.__setattr__(frame, field, values.get(field))
        return frame


_FIELDS = tuple(field.name for field in fields(Frame))


def to_table(frames: Sequence[Frame]) -> FrameTable:
    """Return frames as a table."""
    if isinstance(frames, FrameTable):
        return frames
    lenses = list(dict.fromkeys(frame.intrinsics for frame in frames))
    lens_numbers = {lens: i for i, lens in enumerate(lenses)}
    unknown = (np.nan,) * 3
    columns = {
        "camera_to_world": np.array([frame.camera_to_world for frame in frames]).reshape(-1, 12),
        "intrinsics": np.array([lens_numbers[frame.intrinsics] for frame in frames]),
        "gps": np.array([frame.gps or unknown for frame in frames], dtype=np.float64),
        "grayscale": np.array([frame.grayscale for frame in frames], dtype=np.uint8),
        "split": np.array([_SPLITS.index(frame.split) for frame in frames], dtype=np.uint8),
        "colmap_id": np.array([-1 if frame.colmap_id is None else frame.colmap_id for frame in frames]),
    }
    for key in NUMBERS:
        columns[key] = np.array([getattr(frame, key) for frame in frames], dtype=np.float64)
    for key in LABELS:
        texts = [getattr(frame, key) for frame in frames]
        labels = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        columns[key] = np.array([labels[text] for text in texts])
        columns |= _arrays(key, TextColumn.of(labels))
    for key in (*TEXTS, *PATHS):
        texts = [getattr(frame, key) for frame in frames]
        if key in TEXTS or any(texts):
            columns |= _arrays(key, TextColumn.of(texts))
    return FrameTable(columns, lenses)


def _renumbered(numbers: Int[np.ndarray, "frames"]) -> tuple[list[int], Int[np.ndarray, "frames"]]:
    """Return the distinct numbers in the order of first appearance, and the position of each number among them."""
    distinct, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    order = first.argsort()
    return distinct[order].tolist(), order.argsort()[inverse.reshape(-1)]


def _arrays(key: str, column: TextColumn) -> dict[str, np.ndarray]:
    return {f"{key}_data": column.data, f"{key}_ends": column.ends}
