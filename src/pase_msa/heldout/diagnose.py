"""`diagnose`: from a feature table to the diagnosis of its modalities. The test split is not read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from pase_msa.data.context import ContextMode
from pase_msa.data.dataset import UtteranceDataset
from pase_msa.data.opening import SplitRule, open_data
from pase_msa.data.problem import Problem, ProblemOptions
from pase_msa.data.table import FeatureTable
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.heldout.diagnosis import Diagnosis, diagnose_features
from pase_msa.heldout.pooling import pool
from pase_msa.heldout.stored import kept, key_of
from pase_msa.task import Task

_log = logging.getLogger(__name__)
_MOST = 5000  # utterances of a split; more take longer and change the intervals little


def diagnose(
    data: str | Path | FeatureTable | None = None,
    *,
    label: str | None = None,
    kind: Literal["auto", "regression", "classification"] = "auto",
    num_classes: int | None = None,
    modalities: Sequence[str] | None = None,
    text: TextConfig | None = None,
    seed: int = 0,
    split: SplitRule = "given",
    context: ContextMode = "none",
    context_of: Sequence[str] | None = None,
) -> Diagnosis:
    """Tell useful from uninformative, memorised, identity-leaking and deceptive modalities, before any training.

    A closed-form reference model (ridge regression on pooled features) is fitted on every coalition of modalities, and
    measured in sample, on random folds, on folds by video and on validation. What is lost from one of these to the next
    has a cause of its own: memorising, the identity of the video, contamination or a shift.

    Args:
        data: table, or folder or file in any known format; the bundled synthetic benchmark if left out.
        label: label column, see `RunConfig`.
        kind: of task, see `RunConfig`.
        num_classes: ordered classes of a regression.
        modalities: those to use; all that the data hold if left out.
        text: how transcripts become features; always frozen here.
        seed: of folds and bootstrap, from 0 to 2^32 - 1.
        split: "auto" draws the splits that data at a path lack, see `pase_msa.data.splits`.
        context: whether what was said around an utterance is a modality, see `RunConfig`.
        context_of: what context is made of, see `RunConfig`.

    Errors:
        PaSEError: no training or validation split, no label, an unknown modality, a seed out of range.
    """
    if not 0 <= seed < 2**32:
        raise PaSEError(f"seed must be 0 or more and less than 2^32, found {seed}; give such a number.")
    table = data if isinstance(data, FeatureTable) else open_data(data, split, label)
    frozen = replace(text or TextConfig(), frozen=True)
    options = ProblemOptions(label, kind, num_classes, modalities, frozen, context=context, context_of=context_of)
    return diagnose_problem(Problem.from_table(table, options), seed=seed)


def diagnose_problem(problem: Problem, *, seed: int = 0, keep: bool = False) -> Diagnosis:
    """Diagnose the datasets that a run trains on, with frozen states where the run fine-tunes a language model.

    Args:
        problem: what a run trains on.
        seed: of folds and bootstrap.
        keep: the result in the cache, or take it from there, see `pase_msa.heldout.stored`.
    """
    readable = problem.frozen()
    return diagnose_datasets(readable.task, readable.train, readable.valid, seed=seed, keep=keep)


def diagnose_datasets(
    task: Task, train: UtteranceDataset, valid: UtteranceDataset, *, seed: int = 0, keep: bool = False
) -> Diagnosis:
    """Diagnose the datasets that a run trains on; of a large split, some of its videos.

    The arguments are those of `diagnose_problem`.
    """
    if not len(valid):
        raise PaSEError(
            "A diagnosis wants a validation split (split 'valid'): only data from outside the training "
            "split can unmask a deceptive modality; mark one."
        )
    assert train.labels is not None
    chosen = train.subsample(_MOST, seed).rows
    if len(chosen) < len(train):
        _log.info("the diagnosis reads %d of %d training utterances", len(chosen), len(train))
    rows = np.concatenate([chosen, valid.subsample(_MOST, seed).rows])
    pooled = {name: pool(column, rows, len(chosen)) for name, column in train.columns.items()}
    features = {name: values for name, (values, _) in pooled.items()}
    poolings = {name: pooling for name, (_, pooling) in pooled.items()}
    labels, videos = train.labels[rows], train.videos[rows]
    compute = partial(diagnose_features, task, features, labels, videos, len(chosen), poolings=poolings, seed=seed)
    if not keep:
        return compute()
    return kept(compute, task, key_of(task, features, labels, videos, len(chosen), poolings, seed))
