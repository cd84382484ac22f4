"""Computational sequences: features with intervals in time, by video (the SDK of CMU-MOSI and CMU-MOSEI)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.reading import as_text
from pase_msa.errors import PaSEError

if TYPE_CHECKING:
    import h5py

EPSILON = 1e-5
"""Seconds; intervals that share less time do not overlap."""
_SEVEN = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")


@dataclass
class ComputationalSequence:
    """One computational sequence of the CMU-MultimodalSDK, in an open HDF5 file.

    Attributes:
        root: its group in the file, with its metadata.
        parts: video -> (entry's name, entry's group); a video has several entries once it has been cut up.
    """

    root: Any
    parts: dict[str, list[tuple[str, Any]]]

    @classmethod
    def all_of(cls, file: h5py.File) -> dict[str, ComputationalSequence]:
        """The sequences of an open file, by name."""
        import h5py

        sequences = {}
        for name, root in file.items():
            data = root["data"] if isinstance(root, h5py.Group) and "data" in root else root
            parts: dict[str, list[tuple[str, Any]]] = {}
            for key, entry in data.items() if isinstance(data, h5py.Group) else ():
                if isinstance(entry, h5py.Group) and "features" in entry and "intervals" in entry:
                    parts.setdefault(key.split("[")[0], []).append((key, entry))
            if parts:
                sequences[name] = cls(root, parts)
        return sequences

    @property
    def _first(self) -> Any:
        """The features of the first entry that holds any; an extraction that failed leaves empty ones."""
        entries = (entry["features"] for parts in self.parts.values() for _, entry in parts)
        first = next(entries)
        return next((item for item in (first, *entries) if len(item.shape) and 0 not in item.shape), first)

    @property
    def strings(self) -> bool:
        """Whether it holds words rather than numbers."""
        return self._first.dtype.kind in "SO"

    @property
    def size(self) -> int:
        """Feature size D."""
        shape = self._first.shape
        return int(np.prod(shape[1:])) if len(shape) and 0 not in shape else 0

    def label_names(self) -> list[str]:
        """Names of the label columns: those of the metadata, or the customary ones for this number of columns."""
        try:
            names = [str(name) for name in json.loads(as_text(self.root["metadata"]["dimension names"][0]))]
        except (KeyError, ValueError, TypeError, IndexError):
            names = []
        if self.size == 1:
            return ["sentiment"]
        if len(set(names)) == self.size:
            return names
        return list(_SEVEN) if self.size == len(_SEVEN) else [f"label_{i}" for i in range(self.size)]

    def video(self, name: str) -> tuple[Array, Array]:
        """Intervals [n, 2] and features [n, D] of a video, by time."""
        parts = [content(entry) for _, entry in self.parts.get(name, ())]
        parts = [(intervals, features) for intervals, features in parts if len(intervals) and features.size]
        if odd := [features.shape[1] for _, features in parts if features.shape[1] != self.size]:
            raise PaSEError(f"{name!r} has features of size {odd[0]}, other videos have {self.size}; write it again.")
        if not parts:
            return np.zeros((0, 2)), np.zeros((0, self.size))
        intervals, features = (np.concatenate(items) for items in zip(*parts, strict=True))
        order = np.argsort(intervals[:, 0], kind="stable")
        return intervals[order], features[order]


def content(entry: Any) -> tuple[Array, Array]:
    """Intervals [n, 2] in seconds and features [n, D] of an entry."""
    intervals = np.asarray(entry["intervals"], dtype=np.float64).reshape(-1, 2)
    features = np.asarray(entry["features"])
    if not features.size:  # an extraction that failed: the modality is absent
        return np.zeros((0, 2)), np.zeros((0, 1))
    if len(features) != len(intervals):
        raise PaSEError(f"{entry.name} has {len(intervals)} intervals but {len(features)} features; write it again.")
    return intervals, features.reshape(len(features), -1)


def inside(intervals: Array, start: float, end: float) -> Array:
    """Which intervals overlap the time from start to end; an interval of no length does where it lies inside."""
    overlap = np.minimum(intervals[:, 1], end) - np.maximum(intervals[:, 0], start)
    point = intervals[:, 1] - intervals[:, 0] <= EPSILON
    return np.asarray((overlap > EPSILON) | (point & (intervals[:, 0] >= start) & (intervals[:, 0] < end)))
