"""The Bayes rule of the synthetic benchmark, for every coalition of its modalities.

The frames of a modality depend on the class only through the mean `a_m` of their evidence directions over
the `T_m` frames, a sufficient statistic. Given class k, the means of a coalition are Gaussian around
`strength_m code_k`, with the covariance `C = diag(noise_m^2 - b_m^2 + .25 / T_m) + b b^T` between modalities
in each of the L dimensions. `C` does not depend on k, so with the strengths as a vector `s`::

    log p(k | a) = code_k . (a^T C^-1 s) - |code_k|^2 (s^T C^-1 s) / 2 + const

Modalities with deception or synergy share no noise. They are left out of `C` and add terms of their
own, with `N` the Gaussian density of variance `noise_m^2 + .25 / T_m` and r uniform over the classes::

    deception    log N(a_m; (strength_m + deception_m) code_k)                      in the training split
                 log mean_r N(a_m; strength_m code_k + deception_m code_r)          elsewhere
    synergy      log mean_h prod_m N(a_m; strength_m code_m[h, k])                  h = +-1, m in the pair

Identity is independent of the class and of the evidence, and clumping leaves the classes uniform: for an
utterance whose video has no other utterance here, neither changes the rule.

An absent modality is missing at random, so leaving it out of the sums is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from pase_msa.data.synthetic.generate import (
    FRAME_NOISE,
    POPULATION,
    Floats,
    class_codes,
    draw,
    frame_map,
    shared_noise,
    signed_codes,
    stream,
)
from pase_msa.data.synthetic.spec import SyntheticSpec
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError

Rows = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """What the Bayes rule depends on, of N utterances.

    Attributes:
        means: modality -> mean evidence over the frames, [N, L].
        lengths: modality -> frames, [N], 0 where absent.
        training: whether the utterance was drawn for the training split, where deception shows the class, [N].
    """

    means: Mapping[str, Floats]
    lengths: Mapping[str, NDArray[np.int64]]
    training: NDArray[np.bool_]


def observed_evidence(spec: SyntheticSpec, table: FeatureTable, rows: Rows) -> Evidence:
    """The evidence in the frames of a table's rows.

    Errors:
        PaSEError: the table was not drawn from `spec`.
    """
    _check(spec, table)
    index = np.asarray(rows, dtype=np.int64)
    size = class_codes(spec).shape[1]
    means, lengths = {}, {}
    for name, modality in spec.modalities.items():
        column = table.sequences(name)
        lengths[name] = column.lengths[index]
        there = lengths[name] > 0
        means[name] = np.zeros((len(index), size))
        if there.any():
            starts = np.cumsum(lengths[name][there]) - lengths[name][there]
            sums = np.add.reduceat(column.frames(index).astype(np.float64), starts, axis=0)
            directions = frame_map(spec, name)[:, :size] / (1 + modality.dominance)
            means[name][there] = (sums / lengths[name][there, None]) @ directions
    # the name of a video holds the split that it was drawn for, even where other splits were made since
    training = [table.videos[int(row)].startswith("train_") for row in index]
    return Evidence(means, lengths, np.array(training, dtype=bool))


def sampled_evidence(spec: SyntheticSpec, count: int) -> tuple[Evidence, NDArray[np.int64]]:
    """Evidence and classes [N] of `count` fresh utterances, in no split, without making their frames."""
    drawn = draw(spec, POPULATION, count)
    means, lengths = {}, {}
    for name, evidence in drawn.evidence.items():
        lengths[name] = np.where(drawn.present[name], drawn.lengths[name], 0)
        noise = stream(spec, "frames", name, POPULATION).standard_normal(evidence.shape)
        means[name] = evidence + FRAME_NOISE * noise / np.sqrt(drawn.lengths[name])[:, None]
    return Evidence(means, lengths, np.zeros(count, dtype=bool)), drawn.classes


def log_posterior(spec: SyntheticSpec, evidence: Evidence, modalities: frozenset[str]) -> Floats:
    """log p(class | evidence of the coalition), [N, K], nats; the uniform prior where none of it is present.

    Errors:
        PaSEError: a modality that the spec does not have.
    """
    if unknown := sorted(modalities - set(spec.modalities)):
        names = ", ".join(spec.modalities)
        raise PaSEError(f"The synthetic benchmark has the modalities {names}, not {unknown[0]!r}.")
    pair = modalities & frozenset(spec.synergy or ())
    deceptive = frozenset(name for name in modalities if spec.modalities[name].deception > 0)
    scores = _shared_noise_terms(spec, evidence, modalities - pair - deceptive)
    for name in sorted(deceptive):
        scores += _deception_term(spec, evidence, name)
    if pair:
        scores += _synergy_term(spec, evidence, pair)
    return np.asarray(log_softmax(scores, axis=1))


def _shared_noise_terms(spec: SyntheticSpec, evidence: Evidence, modalities: frozenset[str]) -> Floats:
    """Terms of the modalities that may share noise, [N, K], up to what all classes have in common."""
    codes, shared = class_codes(spec), shared_noise(spec)
    # Sherman and Morrison: with w = 1 / d, the inverse of diag(d) + b b^T maps u to
    # w u - w b (b^T w u) / (1 + b^T w b). An absent modality has w = 0. In the names below, s are the strengths and a
    # the means: read = s^T w a, reach = s^T w s, common_read = b^T w a, common_reach = b^T w s, common = 1 + b^T w b.
    count = len(evidence.training)
    read, reach = np.zeros((count, codes.shape[1])), np.zeros(count)
    common_read, common_reach, common = np.zeros_like(read), np.zeros(count), np.ones(count)
    for name in sorted(modalities):
        modality, b = spec.modalities[name], shared[name]
        weight = _precision(evidence, name, max(modality.noise**2 - b**2, 0.0))
        read += (weight * modality.strength)[:, None] * evidence.means[name]
        reach += weight * modality.strength**2
        common_read += (weight * b)[:, None] * evidence.means[name]
        common_reach += weight * b * modality.strength
        common += weight * b**2
    linear = read - (common_reach / common)[:, None] * common_read
    quadratic = reach - common_reach**2 / common
    return np.asarray(linear @ codes.T - quadratic[:, None] * np.sum(codes**2, axis=1) / 2)


def _deception_term(spec: SyntheticSpec, evidence: Evidence, name: str) -> Floats:
    """Term of a modality with deception, [N, K], up to what all classes have in common."""
    modality, codes = spec.modalities[name], class_codes(spec)
    elsewhere = modality.strength * codes[:, None] + modality.deception * codes
    training = (modality.strength + modality.deception) * codes
    mixed = logsumexp(_log_density(spec, evidence, name, elsewhere), axis=2)
    return np.where(evidence.training[:, None], _log_density(spec, evidence, name, training), mixed)


def _synergy_term(spec: SyntheticSpec, evidence: Evidence, pair: frozenset[str]) -> Floats:
    """Term of one or both modalities of the synergy pair, [N, K], up to what all classes have in common."""
    signed = {name: spec.modalities[name].strength * signed_codes(spec, name) for name in sorted(pair)}
    joint = sum(_log_density(spec, evidence, name, means) for name, means in signed.items())
    return np.asarray(logsumexp(joint, axis=1))


def _log_density(spec: SyntheticSpec, evidence: Evidence, name: str, means: Floats) -> Floats:
    """Log density [N, ...] of a modality's mean evidence around `means` [..., L], up to a constant of the row."""
    weight = _precision(evidence, name, spec.modalities[name].noise ** 2)
    flat = means.reshape(-1, means.shape[-1])
    logs = weight[:, None] * (evidence.means[name] @ flat.T - np.sum(flat**2, axis=1) / 2)
    return np.asarray(logs.reshape(-1, *means.shape[:-1]))


def _precision(evidence: Evidence, name: str, variance: float) -> Floats:
    """1 / variance of a modality's mean evidence, [N], 0 where it is absent, given that of the evidence."""
    lengths = evidence.lengths[name]
    return np.asarray((lengths > 0) / (variance + FRAME_NOISE**2 / np.maximum(lengths, 1)))


def bayes_posterior(spec: SyntheticSpec, table: FeatureTable, rows: Rows, modalities: frozenset[str]) -> Floats:
    """Exact class probabilities [n, K] given what the rows hold of a coalition.

    The classes are in the order of `spec.task.classes`.

    Errors:
        PaSEError: the table was not drawn from `spec`, or a modality is unknown.
    """
    return np.exp(log_posterior(spec, observed_evidence(spec, table, rows), modalities))


def true_classes(spec: SyntheticSpec, table: FeatureTable, rows: Rows) -> NDArray[np.int64]:
    """The class of each row, [n], from its label: jitter never takes one past the midpoint of two values."""
    task = spec.task
    column = table.labels(task.label)
    labels = [column[int(row)] for row in rows]
    if task.values is None:
        return np.array([task.classes.index(label) for label in labels], dtype=np.int64)
    gaps = np.abs(np.asarray(labels, dtype=np.float64)[:, None] - np.array(task.values))
    return np.asarray(np.argmin(gaps, axis=1), dtype=np.int64)


def _check(spec: SyntheticSpec, table: FeatureTable) -> None:
    stored, wanted = table.meta.get("spec"), spec.to_dict()
    # a table that is older than an option does not name it; the default fills it in
    stored = None if stored is None else SyntheticSpec.from_dict(stored).to_dict()
    # what the rule depends on; the sizes of the splits may differ
    relevant = ("seed", "kind", "classes", "modalities", "synergy")
    if stored is None or any(stored[key] != wanted[key] for key in relevant):
        raise PaSEError("The Bayes rule holds only for a table made by synthetic_table from the same spec.")
