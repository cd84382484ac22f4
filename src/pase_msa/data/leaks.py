"""Leaks: a modality or a transcript that is a function of a label, and utterances that stand in two splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError

_MOST_ROWS, _MOST_DIMS, _LEAST_ROWS = 2000, 2048, 16
_CORRELATION, _EXACT = 0.999, 0.9999
"""Of one dimension with the label, and of its ranks or a linear map, above which features are the label itself."""
_LEAST_WORDS = 4  # of a transcript that two utterances share by chance no more


@dataclass(frozen=True)
class Leak:
    """A part of the data that holds a label.

    Attributes:
        modality: its name, "text" for transcripts.
        label: the column.
        how: what was found, for a sentence.
    """

    modality: str
    label: str
    how: str

    def __str__(self) -> str:
        return f"{self.modality} is a function of the label {self.label!r}: {self.how}"


def find_leaks(table: FeatureTable, modalities: Sequence[str] | None = None) -> list[Leak]:
    """Modalities, and transcripts, that hold a label of the table.

    Looked for are: one dimension that follows the label (by correlation, or by rank), a linear map of all dimensions
    that does, few distinct values each of which has one label, and transcripts that are the label's name. At most 2000
    rows, spread over the table, are read.

    Args:
        table: the data.
        modalities: those to look at; all, and the transcripts, if None.
    """
    leaks = []
    names = [*table.modalities, *(["text"] if table.schema.text and "text" not in table.modalities else [])]
    targets = {name: _target(table, name) for name in table.schema.labels}
    for name in names if modalities is None else [name for name in names if name in modalities]:
        if name not in table.modalities:
            leaks += [
                Leak(name, label, "it is the label's own name") for label in targets if _names_label(table, label)
            ]
            continue
        values, rows = _means(table, name)
        for label, target in targets.items():
            known = np.isfinite(target[rows]) if len(rows) else np.zeros(0, dtype=bool)
            if known.sum() >= _LEAST_ROWS and (how := _how(values[known], target[rows][known], table, label)):
                leaks.append(Leak(name, label, how))
    return leaks


def refuse_leaks(table: FeatureTable, modalities: Sequence[str]) -> None:
    """Refuse to train on a modality that holds a label.

    Errors:
        PaSEError: one does.
    """
    if leaks := find_leaks(table, modalities):
        others = ", ".join(name for name in modalities if name != leaks[0].modality)
        raise PaSEError(
            f"{leaks[0]}. A model would only copy it; leave it out"
            f"{f' (--modalities {others})' if others else ''}, or say --allow-leaks true if it is meant."
        )


def repeated_utterances(table: FeatureTable, digests: Mapping[str, Mapping[int, bytes]]) -> list[list[int]]:
    """Groups of rows in different splits that are the same in every modality and in the transcript.

    Rows that share no more than a transcript of a few words, or features of one value throughout, are not among them.

    Args:
        table: the data.
        digests: of the rows of each modality, by `pase_msa.data.feature_statistics.row_digests`.
    """
    texts = [" ".join((text or "").lower().split()) for text in table.texts or [None] * len(table)]
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, text in enumerate(texts):
        key = (text, *(own.get(row, b"").hex() for own in digests.values()))
        groups.setdefault(key, []).append(row)
    return [
        rows
        for rows in groups.values()
        if len({str(table.splits[row]) for row in rows} - {""}) > 1 and _tells_apart(table, rows[0], texts[rows[0]])
    ]


def _tells_apart(table: FeatureTable, row: int, text: str) -> bool:
    """Whether a row holds enough to be another utterance's only if that is a copy."""
    frames = (table.sequences(name)[row] for name in table.modalities)
    return len(text.split()) >= _LEAST_WORDS or any(f is not None and bool(np.any(f != f.flat[0])) for f in frames)


def _target(table: FeatureTable, label: str) -> NDArray[np.float64]:
    """Scores, or numbers of the classes, by row; NaN where unknown."""
    values = table.labels(label)
    if table.schema.labels[label] == "real":
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    numbers = {name: i for i, name in enumerate(sorted({value for value in values if value is not None}))}
    return np.array([np.nan if value is None else numbers[value] for value in values], dtype=np.float64)


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most 2000 of the rows, evenly spread."""
    return rows[:: max(1, -(-len(rows) // _MOST_ROWS))]


def _means(table: FeatureTable, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The mean step of each of some rows, [n, D], and the rows; values that are not finite are 0."""
    column = table.sequences(name)
    rows = _spread(np.flatnonzero(column.present).astype(np.int64))
    means = np.zeros((len(rows), min(column.dim, _MOST_DIMS)))
    for i, row in enumerate(rows):
        frames = column[int(row)]
        assert frames is not None
        finite = np.where(np.isfinite(frames), frames, 0)[:, :_MOST_DIMS]
        means[i] = finite.mean(axis=0, dtype=np.float64)
    return means, rows


def _names_label(table: FeatureTable, label: str) -> bool:
    """Whether nearly all transcripts are the value of a label, such as "positive" or "2.0"."""
    pairs = [
        (text, value) for text, value in zip(table.texts or [], table.labels(label), strict=True) if text and value
    ]
    same = sum(
        str(text).strip().lower() in {str(value).lower(), f"{value:g}" if _is_real(value) else ""}
        for text, value in pairs
    )
    return len(pairs) >= _LEAST_ROWS and same > 0.9 * len(pairs)


def _is_real(value: object) -> bool:
    return isinstance(value, float)


def _how(values: NDArray[np.float64], target: NDArray[np.float64], table: FeatureTable, label: str) -> str:
    """In which way values [n, D] follow a target [n]; empty if they do not."""
    real = table.schema.labels[label] == "real"
    if len(np.unique(target)) < 2:
        return ""
    if how := _few_values(values, target):
        return how
    goals = [target] if real else [(target == number).astype(np.float64) for number in np.unique(target)]
    for goal in goals:
        if goal.std() and (how := _one_dimension(values, goal, ranks=real)):
            return how
    if values.shape[1] > 1 and 3 * values.shape[1] < len(values) and all(_linear(values, goal) for goal in goals):
        return f"a linear map of its {values.shape[1]} dimensions gives it"
    return ""


def _few_values(values: NDArray[np.float64], target: NDArray[np.float64]) -> str:
    """Whether there are few distinct values, each with one label: names of classes, or numbers for them."""
    rounded = np.round(values, 6)
    distinct, which = np.unique(rounded, axis=0, return_inverse=True)
    which = which.reshape(-1)
    if not 2 <= len(distinct) <= len(values) // 4:
        return ""
    low, high = np.full(len(distinct), np.inf), np.full(len(distinct), -np.inf)
    np.minimum.at(low, which, target)
    np.maximum.at(high, which, target)
    return f"it has {len(distinct)} distinct values, and each has one label" if (low == high).all() else ""


def _one_dimension(values: NDArray[np.float64], goal: NDArray[np.float64], *, ranks: bool) -> str:
    found = _correlations(values, goal)
    best = int(np.abs(found).argmax())
    if abs(found[best]) >= _CORRELATION:
        return f"dimension {best} follows it with a correlation of {found[best]:.4f}"
    if ranks:
        order = _correlations(np.argsort(np.argsort(values, axis=0), axis=0).astype(np.float64), _ranks(goal))
        best = int(np.abs(order).argmax())
        if abs(order[best]) >= _EXACT:
            return f"dimension {best} has the same order (rank correlation {order[best]:.4f})"
    return ""


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.argsort(np.argsort(values)).astype(np.float64)


def _correlations(values: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson correlation of each dimension with the goal; 0 where a dimension is constant."""
    centred, aim = values - values.mean(0), goal - goal.mean()
    scale = np.sqrt((centred**2).sum(0) * (aim**2).sum())
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        result = np.where(scale > 0, (aim @ centred) / np.where(scale > 0, scale, 1), 0.0)
    return np.nan_to_num(result)


def _linear(values: NDArray[np.float64], goal: NDArray[np.float64]) -> bool:
    """Whether a linear map, fitted on half of the rows, follows the goal on the other half."""
    scaled = (values - values.mean(0)) / np.where(values.std(0) > 0, values.std(0), 1)
    design = np.column_stack([scaled, np.ones(len(scaled))])
    # normal equations: the precision of a rank-revealing solution is not needed, and costs ten times as much
    half = design[::2]
    map_ = np.linalg.solve(half.T @ half + 1e-9 * len(half) * np.eye(half.shape[1]), half.T @ goal[::2])
    rest = goal[1::2]
    return bool(rest.std()) and bool(_correlations((design[1::2] @ map_)[:, None], rest)[0] >= _EXACT)


def leak_report(table: FeatureTable, digests: Mapping[str, Mapping[int, bytes]]) -> dict[str, Any]:
    """What `pase inspect` shows: "labels" (sentences) and "repeated" (count, and an example of ids)."""
    repeated = repeated_utterances(table, digests)
    example = repeated[0][:3] if repeated else []
    return {
        "labels": [str(leak) for leak in find_leaks(table)],
        "repeated": {"utterances": sum(map(len, repeated)), "example": [table.ids[row] for row in example]},
    }
