"""Who speaks when: windows of speech are clustered by their voice, and stretches are cut where the voice changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.media.clip import Span
from pase_msa.media.config import MOST_SPEAKERS
from pase_msa.media.decode import RATE
from pase_msa.media.voices import STEP, WINDOW, load_voices

_SAME = 0.105  # cosine distance of two mean voices below which they are one speaker
_LEAST = 1.5  # seconds that a speaker talks at least
_BETTER = 0.02  # silhouette by which more speakers must be better than fewer
_SHORT = 1.0  # seconds; shorter stretches, such as a cough, are no speakers of their own
_ROUNDS = 5  # in which windows move to the nearest mean voice
_WINDOWS = 1500  # that are clustered at most, since the distances of all pairs are in memory
_SHARPNESS = 15.0  # nats per unit of cosine
_CHANGE = 3.0  # nats that a change of speaker within a stretch costs
_NEAR = STEP / 2 - 0.01  # seconds around a change in which the quietest moment is looked for; two never meet
_FRAME = RATE // 100  # samples of a measurement of loudness


@dataclass(frozen=True)
class Stretch:
    """A stretch of speech and its voices.

    Attributes:
        span: where it is.
        vectors: float32 [n, D], of unit length; vector i is of the window that begins i * `STEP` seconds after it.
        loudness: mean square of every 10 ms.
    """

    span: Span
    vectors: Array
    loudness: Array


@dataclass(frozen=True)
class Talk:
    """A part of a stretch in which one speaker talks.

    Attributes:
        start: in seconds from the beginning of the file.
        end: in seconds; after `start`.
        speaker: from 0, in the order in which they first talk.
    """

    start: float
    end: float
    speaker: int


def read_voices(sound: Array, spans: Sequence[Span], begin: float = 0.0) -> list[Stretch]:
    """The stretches of speech in a sound, with their voices.

    Args:
        sound: float32 [n] at `RATE` Hz.
        spans: of speech, in seconds from the beginning of the sound.
        begin: where the sound begins in its file; the stretches have times of the file.
    """
    stretches = []
    for span in spans:
        part = sound[round(span.start * RATE) : round(span.end * RATE)]
        if len(part) >= _FRAME:
            frames = part[: len(part) // _FRAME * _FRAME].reshape(-1, _FRAME)
            whole = Span(span.start + begin, span.end + begin)
            stretches.append(Stretch(whole, load_voices()(part), np.square(frames, dtype=np.float64).mean(1)))
    return stretches


def find_speakers(stretches: Sequence[Stretch], count: int | None = None) -> list[Talk]:
    """Who talks when, in order.

    The windows of all stretches are clustered by Ward's linkage, then some rounds of k-means. Vectors have unit length,
    so squared distances are twice the cosine distances. Within a stretch the speaker of each window is the most likely
    sequence, where a change has a price, and a change is moved to the quietest moment near it.

    Args:
        stretches: of speech, in order.
        count: of speakers; found by the distances of the mean voices if left out, `MOST_SPEAKERS` at most.
    """
    if not stretches:
        return []
    long = [stretch for stretch in stretches if stretch.span.end - stretch.span.start >= _SHORT] or stretches
    vectors = np.concatenate([stretch.vectors for stretch in long])
    if len(vectors) > _WINDOWS:
        vectors = vectors[np.linspace(0, len(vectors) - 1, _WINDOWS).astype(int)]
    centres = _clustered(vectors, count) if count is not None else _found(vectors)
    parts = [part for stretch in stretches for part in _parts(stretch, centres)]
    order = {speaker: number for number, speaker in enumerate(dict.fromkeys(speaker for _, speaker in parts))}
    return [Talk(span.start, span.end, order[speaker]) for span, speaker in parts]


def _clustered(vectors: Array, count: int) -> Array:
    """The mean voice of each cluster [k, D], of unit length; fewer where there are fewer windows."""
    from sklearn.cluster import AgglomerativeClustering  # takes a second, and few recordings need it

    count = min(count, len(vectors))
    if count == 1:
        return _unit(vectors.mean(0, keepdims=True))
    labels = AgglomerativeClustering(count, linkage="ward").fit_predict(vectors)
    centres = _unit(np.stack([vectors[labels == label].mean(0) for label in range(count)]))
    for _ in range(_ROUNDS):
        labels = (vectors @ centres.T).argmax(1)
        own = [vectors[labels == label] for label in range(count)]
        centres = _unit(np.stack([part.mean(0) if len(part) else centres[i] for i, part in enumerate(own)]))
    return centres


def _found(vectors: Array) -> Array:
    """The mean voices: as many as differ from each other, talk for long enough, and part the windows best."""
    from sklearn.metrics import silhouette_score

    best, found = 0.0, _clustered(vectors, 1)
    for count in range(2, min(MOST_SPEAKERS, len(vectors) - 1) + 1):
        centres = _clustered(vectors, count)
        labels = (vectors @ centres.T).argmax(1)
        if (1 - centres @ centres.T + 2 * np.eye(count)).min() < _SAME:
            break
        if np.bincount(labels, minlength=count).min() * STEP < _LEAST:
            continue
        silhouette = float(silhouette_score(vectors, labels, metric="cosine"))
        if silhouette > best + _BETTER:
            best, found = silhouette, centres
    return found


def _unit(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Array = vectors / np.maximum(lengths, 1e-12)
    return result


def _parts(stretch: Stretch, centres: Array) -> list[tuple[Span, int]]:
    """A stretch, cut where its speaker changes."""
    path = _likeliest(_SHARPNESS * stretch.vectors @ centres.T)
    runs = [(speaker, len(list(group))) for speaker, group in groupby(path)]
    edges, number = [stretch.span.start], 0
    for _, length in runs[:-1]:
        number += length
        edges.append(stretch.span.start + _quietest(stretch.loudness, WINDOW / 2 + (number - 0.5) * STEP))
    edges.append(stretch.span.end)
    return [(Span(edges[i], edges[i + 1]), speaker) for i, (speaker, _) in enumerate(runs)]


def _likeliest(scores: Array) -> list[int]:
    """The best sequence of speakers for windows with these scores [n, k] (Viterbi's algorithm)."""
    best, before = scores[0].astype(np.float64), []
    for row in scores[1:]:
        change = best.max() - _CHANGE
        before.append(np.where(best >= change, np.arange(len(best)), best.argmax()))
        best = np.maximum(best, change) + row
    path = [int(best.argmax())]
    for pointers in reversed(before):
        path.append(int(pointers[path[-1]]))
    return path[::-1]


def _quietest(loudness: Array, time: float) -> float:
    """The quietest moment near a time, in seconds from the beginning of the stretch."""
    first = max(0, round((time - _NEAR) * RATE / _FRAME))
    near = loudness[first : round((time + _NEAR) * RATE / _FRAME)]
    if not len(near):
        return time
    smooth = np.convolve(np.pad(near, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    return (first + int(smooth.argmin()) + 0.5) * _FRAME / RATE
