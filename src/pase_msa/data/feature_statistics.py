"""Statistics of one modality of a feature table, in one pass over blocks of rows."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.table import FeatureTable

EXTREME = 20.0
"""Standard deviations from its dimension's mean beyond which a value is called extreme."""
_BLOCK = 512
_NAMED = 20


def modality_statistics(table: FeatureTable, name: str) -> dict[str, Any]:
    """Presence, lengths, non-finite, constant and extreme values, and duplicates of one modality."""
    column = table.sequences(name)
    rows = np.flatnonzero(column.present)
    lengths = column.lengths[rows]
    report: dict[str, Any] = {
        "dim": column.dim,
        "present": len(rows),
        "presence": {
            split: float(column.present[table.splits == split].mean()) for split in set(table.splits.tolist())
        },
        "length": {
            "min": int(lengths.min()) if len(rows) else 0,
            "median": float(np.median(lengths)) if len(rows) else 0.0,
            "max": int(lengths.max()) if len(rows) else 0,
        },
    }
    sums = FeatureSums(column.dim)
    digests: dict[bytes, list[int]] = {}
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        sums.add(column.frames(block))
        for row in block:
            content = np.ascontiguousarray(column[int(row)]).tobytes()
            digests.setdefault(hashlib.blake2b(content, digest_size=16).digest(), []).append(int(row))
    report.update(sums.report())
    groups = [group for group in digests.values() if len(group) > 1]
    across = [group for group in groups if len({str(table.splits[row]) for row in group} - {""}) > 1]
    report["duplicates"] = {
        "utterances": sum(map(len, groups)),
        "across_splits": sum(map(len, across)),
        "example": [table.ids[row] for row in max(across or groups, key=len, default=[])[:3]],
    }
    return report


class FeatureSums:
    """Running statistics of the finite values of each dimension: one pass over data of any size."""

    def __init__(self, dim: int) -> None:
        self.count: NDArray[np.int64] = np.zeros(dim, dtype=np.int64)
        self.total, self.square = np.zeros(dim), np.zeros(dim)
        self.least, self.greatest = np.full(dim, np.inf), np.full(dim, -np.inf)
        self.values = self.frames = self.broken = 0

    def add(self, frames: NDArray[Any]) -> None:
        """Add frames [n, dim] to the running sums."""
        finite = np.isfinite(frames)
        clean = np.where(finite, frames, 0.0).astype(np.float64)
        self.values += frames.size
        self.frames += len(frames)
        self.broken += int((~finite).any(axis=1).sum())
        self.count += finite.sum(axis=0)
        self.total += clean.sum(axis=0)
        self.square += (clean**2).sum(axis=0)
        if len(frames):
            self.least = np.minimum(self.least, np.where(finite, frames, np.inf).min(axis=0))
            self.greatest = np.maximum(self.greatest, np.where(finite, frames, -np.inf).max(axis=0))

    def report(self) -> dict[str, Any]:
        """Counts of non-finite values, constant dimensions, range and the most extreme value."""
        seen = self.count > 0
        mean = self.total / np.maximum(self.count, 1)
        deviation = np.sqrt(np.maximum(self.square / np.maximum(self.count, 1) - mean**2, 0))
        constant = np.flatnonzero(self.least >= self.greatest)
        low, high = np.where(seen, self.least, 0.0), np.where(seen, self.greatest, 0.0)
        scale = np.where(deviation > 0, deviation, np.inf)
        far = np.maximum((high - mean) / scale, (mean - low) / scale) * (low < high)
        worst = int(far.argmax()) if len(far) else 0
        above = bool(len(far)) and high[worst] - mean[worst] >= mean[worst] - low[worst]
        return {
            "nonfinite": {
                "values": int(self.values - self.count.sum()),
                "frames": self.broken,
                "total": self.values,
            },
            "constant": {"count": len(constant), "dimensions": constant[:_NAMED].tolist()},
            "range": [
                float(low.min(initial=np.inf, where=seen)),
                float(high.max(initial=-np.inf, where=seen)),
            ]
            if seen.any()
            else None,
            "extreme": {
                "deviations": float(far[worst]) if len(far) else 0.0,
                "dimension": worst,
                "value": float((high if above else low)[worst]) if len(far) else 0.0,
                "dimensions": int((far > EXTREME).sum()),
            },
        }
