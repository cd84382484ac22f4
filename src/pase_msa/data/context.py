"""Context: what was said around an utterance in its video, as a modality of its own.

It is made of the features or the frozen text states of the *other* utterances, never of labels. The neighbours of an
utterance are the utterances of the same video and the same split, labelled or not, in the order of the table; with
"before", only those before it. A context holds their plain mean and their mean weighted by `exp(-gap / DISTANCE)`,
where the gap of adjacent utterances is 1. Where the training videos have several speakers, the same two means over the
neighbours of the same speaker and over those of other speakers follow, and two flags that say which of these exist.

An utterance without a neighbour, such as a single clip, lacks the modality.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from pase_msa.data.columns import Array, SequenceColumn
from pase_msa.data.dataset import name_numbers
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.ranges import nearest

ContextMode = Literal["none", "video", "before"]
MODES: tuple[str, ...] = get_args(ContextMode)

CONTEXT = "context"
DISTANCE = 3.0
"""Utterances over which a neighbour's weight falls by a factor of e."""
REACH = 256
"""Utterances on either side that count as neighbours; it bounds the time that one long video takes."""
_BLOCK = 256  # rows of a video whose weights are in memory at once
_CHUNK = 2000  # rows whose frames are in memory at once


def plan_context(table: FeatureTable, mode: ContextMode, of: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """The context modalities of a run, by name: {"mode": ..., "of": what it is made of}; empty without context.

    Made of one modality it is called "context", made of several each is called "context_NAME".

    Args:
        table: the data.
        mode: "video", "before" or "none".
        of: what context is made of; text if None, or the first modality where there is no text.

    Errors:
        PaSEError: the data lack such a modality, have none at all, or have one that is called as a context is.
    """
    if mode == "none":
        return {}
    held = [*(["text"] if table.schema.text and "text" not in table.modalities else []), *table.modalities]
    if not held:
        raise PaSEError("The data hold no modality that context could be made of: neither features nor text; add one.")
    sources = list(of or ["text" if "text" in held else held[0]])
    if unknown := [name for name in sources if name not in held]:
        raise PaSEError(
            f"context_of names {unknown[0]!r}, but the data have the modalities {', '.join(held)}; "
            f"{nearest(unknown[0], held, 'name some of these.')}"
        )
    names = [CONTEXT] if len(sources) == 1 else [f"{CONTEXT}_{source}" for source in sources]
    if taken := [name for name in names if name in table.modalities]:
        raise PaSEError(
            f"The data have a modality {taken[0]!r} of their own, which is the name of the context that is made of "
            "other utterances; rename the modality, or leave the option context out."
        )
    return {name: {"mode": mode, "of": source} for name, source in zip(names, sources, strict=True)}


def without_context(modalities: Iterable[str]) -> dict[str, Any]:
    """The options that keep a run on the named modalities from having a context besides; none if they name one."""
    named = any(name == CONTEXT or name.startswith(f"{CONTEXT}_") for name in modalities)
    return {} if named else {"context": "none", "context_of": None}


def several_speakers(table: FeatureTable) -> bool:
    """Whether a training video has two known speakers or more, so that it tells anything to part them."""
    speaker_of: dict[str, str] = {}
    return any(
        speaker and speaker_of.setdefault(table.videos[row], speaker) != speaker
        for row, speaker in enumerate(table.speakers or [])
        if table.splits[row] == "train"
    )


def context_size(size: int, *, speakers: bool) -> int:
    """Numbers of a context that is made of vectors of a size."""
    return 6 * size + 2 if speakers else 2 * size


def context_column(table: FeatureTable, context: Mapping[str, Any], source: SequenceColumn) -> SequenceColumn:
    """The context of every utterance of a table, one vector each; absent where an utterance has no neighbour.

    Args:
        table: videos, splits and speakers of all rows.
        context: "mode" and "speakers", as in `InputSpec.context`.
        source: the column that the context is made of. A sequence counts by its mean over time.
    """
    speakers = name_numbers(table.speakers or [None] * len(table)) if context["speakers"] else None
    places = [f"{split}\0{video}" if video else None for split, video in zip(table.splits, table.videos, strict=True)]
    values, present = context_vectors(
        utterance_vectors(source), source.present, name_numbers(places), speakers, before=context["mode"] == "before"
    )
    size = values.shape[1]
    return SequenceColumn([(values.reshape(-1), np.arange(len(values) + 1) * size)], present, size)


def utterance_vectors(column: SequenceColumn) -> Float[Array, "n d"]:
    """The mean over time of the finite values of every row, [N, d]; NaN where there is none."""
    result = np.full((len(column), column.dim), np.nan, dtype=np.float32)
    rows = np.flatnonzero(column.present)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        frames = column.frames(chunk)
        finite = np.isfinite(frames)
        begins = np.cumsum(column.lengths[chunk]) - column.lengths[chunk]
        sums = np.add.reduceat(np.where(finite, frames, 0.0), begins, axis=0, dtype=np.float64)
        result[chunk] = _ratio(sums, np.add.reduceat(finite, begins, axis=0, dtype=np.float64))
    return result


def context_vectors(
    values: Float[Array, "n d"],
    present: Bool[Array, " n"],
    videos: Int[Array, " n"],
    speakers: Int[Array, " n"] | None,
    *,
    before: bool,
) -> tuple[Float[Array, "n c"], Bool[Array, " n"]]:
    """The context of every utterance, and which utterances have one.

    Args:
        values: one vector per utterance, [N, d]; one that is not finite is left out of the means.
        present: whether an utterance has a vector, [N].
        videos: number of each utterance's video, [N]; those of -1 have no neighbours.
        speakers: number of who speaks, -1 where unknown, [N]; None where speakers are not told apart.
        before: whether only the utterances before count, and not those after.

    Returns:
        Vectors [N, 2 d], or [N, 6 d + 2] with speakers, zero where there is nothing to take a mean of; and flags [N].
    """
    size = context_size(values.shape[1], speakers=speakers is not None)
    result = np.zeros((len(values), size), dtype=np.float32)
    exists = np.zeros(len(values), dtype=bool)
    for rows, near, gaps in _blocks(videos):
        neighbours = present[near] & (np.abs(gaps) <= REACH) & (gaps > 0 if before else gaps != 0)
        masks = [neighbours]
        if speakers is not None:
            known = (speakers[rows, None] >= 0) & (speakers[near] >= 0)
            same = speakers[rows, None] == speakers[near]
            masks += [neighbours & known & same, neighbours & known & ~same]
        weights = [part for mask in masks for part in (mask.astype(np.float64), _by_distance(gaps, mask))]
        means = _means(np.stack(weights), values[near])
        result[rows, : means.shape[1]] = means
        result[rows, means.shape[1] :] = np.stack([mask.any(1) for mask in masks[1:]], axis=1) if masks[1:] else 0.0
        exists[rows] = neighbours.any(1)
    return result, exists


def _blocks(
    videos: Int[Array, " n"],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Int[Array, "b m"]]]:
    """Parts of the videos of two utterances or more: rows, their possible neighbours, and how far back these are."""
    order = np.argsort(videos, kind="stable")
    starts = np.flatnonzero(np.diff(videos[order], prepend=-1))  # those of -1 come first and are left out
    ends = np.append(starts, len(order))[1:]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        for first in range(start, end, _BLOCK) if end - start > 1 else ():
            last = min(first + _BLOCK, end)
            low, high = max(start, first - REACH), min(end, last + REACH)
            yield order[first:last], order[low:high], np.arange(first, last)[:, None] - np.arange(low, high)


def _by_distance(gaps: Int[Array, "b m"], mask: Bool[Array, "b m"]) -> Float[Array, "b m"]:
    """Weights exp(-|gap| / DISTANCE) of the neighbours of each row, as a multiple of its nearest one's."""
    distance = np.where(mask, np.abs(gaps), 2 * REACH)
    # the nearest neighbour has weight 1, so that the weights do not vanish where all are far
    relative = distance - distance.min(axis=1, keepdims=True)
    weights: Array = np.where(mask, np.exp(-relative / DISTANCE), 0.0)
    return weights


def _means(weights: Float[Array, "w b m"], values: Float[Array, "m d"]) -> Float[Array, "b f"]:
    """Weighted means of the values, those of each weighting one after the other, [b, w d].

    A mean over nothing is zero. One over neighbours of which none has a finite value is NaN, as a feature that is not
    known is.
    """
    count, rows, _ = weights.shape
    flat = weights.reshape(count * rows, -1)
    finite = np.asarray(np.isfinite(values))
    sums = flat @ np.where(finite, values, 0.0).astype(np.float64)
    seen = flat.any(axis=1, keepdims=True)
    totals = flat.sum(axis=1, keepdims=True) if finite[flat.any(axis=0)].all() else flat @ finite.astype(np.float64)
    means = np.where(seen, _ratio(sums, totals), 0.0)
    return means.reshape(count, rows, -1).transpose(1, 0, 2).reshape(rows, -1)


def _ratio(sums: Array, totals: Array) -> Array:
    """Their ratio, NaN where the total is zero."""
    return np.divide(sums, totals, out=np.full_like(sums, np.nan), where=totals > 0)
