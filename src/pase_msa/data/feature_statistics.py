"""Statistics of one modality of a feature table, in one pass over blocks of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.columns import SequenceColumn
from pase_msa.data.scaling import Limits, column_limits
from pase_msa.data.table import FeatureTable

EXTREME = 20.0
"""Robust standard deviations from its dimension's mean beyond which a value is called extreme."""
_SHIFT = 10.0
"""Ratio of spreads, or distance of medians in spreads, from which two splits are said to differ in unit or offset."""
_FEWEST = 20  # utterances of a split whose median and spread are compared
_BLOCK = 512
_NAMED = 20


def row_digests(column: SequenceColumn) -> dict[int, bytes]:
    """A digest of the content of each row that has the modality; equal rows have the same."""
    rows = np.flatnonzero(column.present).tolist()
    return {row: hashlib.blake2b(np.ascontiguousarray(column[row]).tobytes(), digest_size=16).digest() for row in rows}


def modality_statistics(table: FeatureTable, name: str, digests: Mapping[int, bytes]) -> dict[str, Any]:
    """Presence, lengths, non-finite, constant and extreme values, and duplicates of one modality.

    Args:
        table: the data.
        name: of the modality.
        digests: of its rows, by `row_digests`.
    """
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
    training = rows[table.splits[rows] == "train"]
    sums = FeatureSums(column_limits(column, training if len(training) else rows))
    for start in range(0, len(rows), _BLOCK):
        sums.add(column.frames(rows[start : start + _BLOCK]))
    alike: dict[bytes, list[int]] = {}
    for row, digest in digests.items():
        alike.setdefault(digest, []).append(row)
    report.update(sums.report())
    report["extreme"]["utterance"] = _holder(table, column, report["extreme"])
    report["shifted"] = _shifted(table, column)
    groups = [group for group in alike.values() if len(group) > 1]
    across = [group for group in groups if len({str(table.splits[row]) for row in group} - {""}) > 1]
    report["duplicates"] = {
        "utterances": sum(map(len, groups)),
        "across_splits": sum(map(len, across)),
        "example": [table.ids[row] for row in max(across or groups, key=len, default=[])[:3]],
    }
    return report


def _holder(table: FeatureTable, column: SequenceColumn, extreme: dict[str, Any]) -> str | None:
    """The utterance with the most extreme value; None where no value is extreme."""
    if not extreme["dimensions"]:
        return None
    for row in np.flatnonzero(column.present):
        if (column[int(row)][:, extreme["dimension"]] == extreme["value"]).any():  # type: ignore[index]
            return table.ids[row]
    return None


def _shifted(table: FeatureTable, column: SequenceColumn) -> dict[str, dict[str, Any]]:
    """Splits whose features have another unit or offset than those of the training split, by name.

    Values per split: "dimensions", their number, the worst "dimension", and its "median" and "spread" (robust
    deviation) here and in training, as pairs.
    """
    rows = {split: table.rows(split) for split in ("train", "valid", "test")}
    rows = {split: part[column.present[part]] for split, part in rows.items()}
    if min(len(rows["train"]), column.dim) == 0 or len(rows["train"]) < _FEWEST:
        return {}
    train = column_limits(column, rows.pop("train"))
    found = {}
    for split, part in rows.items():
        if len(part) < _FEWEST:
            continue
        here = column_limits(column, part)
        varies = train.dense & here.dense  # where most values are the same, the spread is that of a few
        wide = np.where(varies, here.spread / np.where(varies, train.spread, 1.0), 1.0)
        ratio = np.maximum(wide, 1 / wide)
        far = np.abs(here.median - train.median) / np.where(varies, np.maximum(train.spread, here.spread), np.inf)
        strength = np.maximum(ratio, far)
        worst = int(strength.argmax())
        if strength[worst] > _SHIFT:
            found[split] = {
                "dimensions": int((strength > _SHIFT).sum()),
                "dimension": worst,
                "median": [float(here.median[worst]), float(train.median[worst])],
                "spread": [float(here.spread[worst]), float(train.spread[worst])],
            }
    return found


class FeatureSums:
    """Running statistics of the finite values of each dimension: one pass over data of any size.

    Mean and deviation are those of the values within the limits, as in training, so that an outlier is measured by
    the others and not by itself.
    """

    def __init__(self, limits: Limits) -> None:
        dim = len(limits.median)
        self.limits = limits
        self.count: NDArray[np.int64] = np.zeros(dim, dtype=np.int64)
        self.total, self.square = np.zeros(dim), np.zeros(dim)
        self.least, self.greatest = np.full(dim, np.inf), np.full(dim, -np.inf)
        self.values = self.frames = self.broken = 0

    def add(self, frames: NDArray[Any]) -> None:
        """Add frames [n, dim] to the running sums."""
        finite = np.isfinite(frames)
        # from the median, so that squares of large values do not lose the deviation
        low, middle, high = self.limits.low, self.limits.median, self.limits.high
        clean = np.clip(np.where(finite, frames, middle).astype(np.float64), low, high) - middle
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
        mean = mean + self.limits.median
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
