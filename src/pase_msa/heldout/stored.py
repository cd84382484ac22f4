"""Diagnoses that are kept, so that runs on the same data with other seeds or options need not make them again.

A diagnosis is a function of pooled features, labels and videos alone. It is kept in `$PASE_CACHE` or
`~/.cache/pase-msa`, as safetensors under a hash of these and of the code that makes it, in the precision in which it
was made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pase_msa import shapley
from pase_msa.errors import PaSEError
from pase_msa.files import cache_folder, make_folder, replacing
from pase_msa.heldout.contributions import Estimate
from pase_msa.heldout.diagnosis import Diagnosis, ModalityDiagnosis
from pase_msa.heldout.pooling import Pooling
from pase_msa.heldout.reference import RidgeReference
from pase_msa.heldout.verdict import Evidence
from pase_msa.locks import one_after_the_other
from pase_msa.task import Task

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)


def kept(compute: Callable[[], Diagnosis], task: Task, key: str) -> Diagnosis:
    """The diagnosis of an earlier run, or a new one, which is kept.

    Args:
        compute: makes it.
        task: what is predicted.
        key: see `key_of`.
    """
    file = cache_folder("diagnoses") / f"{key}.safetensors"
    if (found := _load(file, task)) is not None:
        return found
    with one_after_the_other(file):  # the processes of a run, and the workers of a study, begin with the same data
        if (found := _load(file, task)) is not None:
            return found
        diagnosis = compute()
        try:
            _save(diagnosis, file)
        except PaSEError as error:  # the cache saves time, and no run needs it
            _log.warning("the diagnosis is not kept for later runs: %s", error)
        return diagnosis


def key_of(
    task: Task,
    features: Mapping[str, Array],
    labels: Array,
    videos: NDArray[np.int64],
    training: int,
    poolings: Mapping[str, Pooling],
    seed: int,
) -> str:
    """A hash of all that a diagnosis follows from; the arguments are those of `diagnose_features`."""
    digest = hashlib.sha256(_code().encode())
    digest.update(json.dumps([task.to_dict(), list(features), len(labels), training, seed]).encode())
    for values in (labels, videos, *features.values()):
        digest.update(np.ascontiguousarray(values).tobytes())
    for pooling in poolings.values():
        for part in dataclasses.astuple(pooling):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1)
def _code() -> str:
    """A hash of the code that makes a diagnosis."""
    digest = hashlib.sha256(f"torch {torch.__version__}, numpy {np.__version__}".encode())
    for file in (*sorted(Path(__file__).parent.glob("*.py")), Path(shapley.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _save(diagnosis: Diagnosis, file: Path) -> None:
    tensors = {
        "coalition_weights": diagnosis.coalition_weights,
        "gains": diagnosis.gains,
        "videos": diagnosis.videos,
        **{f"valid/{name}": values for name, values in diagnosis.valid_contributions.items()},
    }
    stored = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in tensors.items()}
    reference = diagnosis.reference
    if reference is not None:
        stored |= {f"reference/{name}": value.contiguous() for name, value in reference.state_dict().items()}
    content = {
        "modalities": {name: dataclasses.asdict(row) for name, row in diagnosis.modalities.items()},
        "coalitions": [sorted(coalition) for coalition in diagnosis.coalitions],
        "counts": diagnosis.counts,
        "shapes": None if reference is None else reference.shapes,
    }
    make_folder(file.parent)
    with replacing(file) as partial:
        save_file(stored, partial, metadata={"diagnosis": json.dumps(content)})


def _load(file: Path, task: Task) -> Diagnosis | None:
    """The diagnosis in a file; None where there is none, or a damaged one, which is then made anew."""
    try:
        with safe_open(file, framework="pt") as stored:
            content = json.loads(stored.metadata()["diagnosis"])
            tensors: dict[str, Tensor] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        reference = None
        if content["shapes"] is not None:
            reference = RidgeReference(task, content["shapes"])
            reference.load_state_dict(_below("reference", tensors))
        return Diagnosis(
            {name: _modality(row) for name, row in content["modalities"].items()},
            tuple(frozenset(names) for names in content["coalitions"]),
            tensors["coalition_weights"].numpy(),
            tensors["gains"].numpy(),
            tensors["videos"].numpy(),
            content["counts"],
            reference,
            {name: values.numpy() for name, values in _below("valid", tensors).items()},
        )
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
        return None


def _below(folder: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a folder, by the rest of their names."""
    return {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{folder}/")}


def _modality(row: Mapping[str, object]) -> ModalityDiagnosis:
    plain = dict(row)
    estimates = plain.pop("evidence")
    assert isinstance(estimates, dict)
    evidence = Evidence(**{source: Estimate(**values) for source, values in estimates.items()})
    return ModalityDiagnosis(evidence, **plain)  # type: ignore[arg-type]
