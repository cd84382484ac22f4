"""Splits for data that define none: by group, seeded, with equal shares of the classes or scores where possible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pase_msa.data.holdout import hold_out
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError

_PARTS, _SEED, _BINS = 7, 0, 5
#: columns that say which utterances belong together, where there is no video
_GROUPS = ("speaker", "speaker_id", "author", "user", "session", "dialog", "dialogue", "conversation", "group")


def assign_splits(table: FeatureTable, label: str | None = None) -> FeatureTable:
    """The table with the splits that it lacks.

    Data without any split are divided into train, valid and test, about 5 : 1 : 1. Where only the validation or the
    test split is missing, it is taken from the training split. Splits that are there stay. Utterances of a video stay
    together, or those of a speaker where the data name speakers and no videos. The division is a function of the data.

    Args:
        table: the data.
        label: column whose values are to have equal shares in all splits; the only one if None.

    Errors:
        PaSEError: fewer than three groups.
    """
    splits = table.splits.copy().astype(object)
    here = {str(split) for split in splits}
    wanted = [name for name in ("test", "valid") if name not in here]
    source = "train" if "train" in here else ""
    rows = np.flatnonzero(splits == source)
    if not wanted or not len(rows):
        return table
    groups, by = _groups(table, rows)
    count = len(np.unique(groups))
    if count < len(wanted) + 1:
        raise PaSEError(
            f"--split auto needs {len(wanted) + 1} {by}s or more, so that no {by} is in two splits, found {count}; "
            "add data, or mark the splits yourself."
        )
    strata = _strata(table, rows, label)
    splits[rows] = "train"
    for name in wanted:
        left = splits[rows] == "train"
        # one seventh of all, also of what the split before has left
        share = 1 / (_PARTS - int((splits[rows] != "train").any()))
        held = hold_out(groups[left].astype(str).tolist(), share, _SEED, strata[left].astype(str).tolist(), exact=True)
        splits[rows[left][held]] = name
    drawn = [*([] if source else ["train"]), *reversed(wanted)]
    listed = " and ".join(filter(None, (", ".join(drawn[:-1]), drawn[-1])))
    note = f"The {listed} {'splits were' if len(drawn) > 1 else 'split was'} drawn by {by}."
    return table.with_splits([str(split) for split in splits], note)


def _groups(table: FeatureTable, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """Number of the group of each row, and what a group is: a video, a speaker, another group, or an utterance."""
    videos = np.array(table.videos, dtype=str)[rows]
    if len(np.unique(videos)) < len(rows):
        return np.unique(videos, return_inverse=True)[1], "video"
    if (speakers := table.speakers) is not None and any(speakers):
        # an utterance of an unknown speaker is a group by itself
        named = [speakers[row] or f"\0{row}" for row in rows]
        return np.unique(np.array(named, dtype=str), return_inverse=True)[1], "speaker"
    for name in table.schema.labels:
        if name.lower() in _GROUPS:
            values = np.array([str(value) for value in table.labels(name)], dtype=str)[rows]
            return np.unique(values, return_inverse=True)[1], name
    return np.arange(len(rows)), "utterance"


def _strata(table: FeatureTable, rows: NDArray[np.int64], label: str | None) -> NDArray[np.int64]:
    """Classes, or fifths of the scores, by row; all the same where no label is chosen."""
    if not label and len(table.schema.labels) == 1:
        label = next(iter(table.schema.labels))
    if label not in table.schema.labels:
        return np.zeros(len(rows), dtype=np.int64)
    values = table.labels(label)
    chosen = [values[row] for row in rows]
    if table.schema.labels[label] == "class":
        return np.unique([str(value) for value in chosen], return_inverse=True)[1].astype(np.int64)
    scores = np.array([np.nan if value is None else value for value in chosen], dtype=np.float64)
    known = scores[np.isfinite(scores)]
    if not len(known):
        return np.zeros(len(rows), dtype=np.int64)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.where(np.isfinite(scores), np.digitize(scores, edges), _BINS).astype(np.int64)
