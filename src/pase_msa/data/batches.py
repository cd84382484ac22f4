"""Rows of a feature table as Arrow batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pase_msa.data.columns import Array
from pase_msa.data.unpickle import release_pages
from pase_msa.errors import PaSEError

if TYPE_CHECKING:
    from pase_msa.data.table import Schema, Utterance

_WHOLE = 2.0**24  # above which single precision does not hold every whole number
_BATCH = 512


def note_rounding(meta: dict[str, Any], rounded: Mapping[str, float]) -> None:
    """Say which modalities hold values too large for single precision, such as time stamps."""
    notes = [
        f"{name} holds values up to {largest:.3g}, which single precision rounds to steps of "
        f"{float(np.spacing(np.float32(largest))):g}; subtract an offset before."
        for name, largest in rounded.items()
    ]
    if notes:
        meta["notes"] = [*meta.get("notes", ()), *notes]


def record_batches(
    utterances: Iterable[Utterance], schema: Schema, arrow_schema: pa.Schema, rounded: dict[str, float]
) -> Iterator[pa.RecordBatch]:
    """Record batches of the Arrow schema from rows, a few hundred at a time.

    Args:
        utterances: rows, which may be views of a mapped file.
        schema: of the table.
        arrow_schema: the same for Arrow.
        rounded: filled with the largest value of each modality whose values single precision rounds.

    Errors:
        PaSEError: a row does not fit the schema.
    """
    rows = iter(utterances)
    while block := list(islice(rows, _BATCH)):
        columns: dict[str, list[Any]] = {name: [] for name in arrow_schema.names}
        for row in block:
            columns["id"].append(row.id)
            columns["video"].append(row.video)
            columns["split"].append(row.split)
            for name in schema.labels:
                columns[f"labels.{name}"].append(row.labels.get(name))
            for name, dim in schema.modalities.items():
                columns[f"features.{name}"].append(_flat(row, name, dim, rounded))
            if schema.text:
                columns["text"].append(row.text)
            if schema.speakers:
                columns["speaker"].append(row.speaker)
        arrays = [pa.array(columns[item.name], type=item.type) for item in arrow_schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=arrow_schema)
        release_pages()  # of what the rows were views of


def _flat(row: Utterance, name: str, dim: int, rounded: dict[str, float]) -> Array | None:
    value = row.features.get(name)
    if value is None or np.size(value) == 0:
        return None
    frames = np.asarray(value)
    if frames.dtype.kind not in "fiub":
        raise PaSEError(f"Utterance {row.id!r}: {name} must hold numbers, found {frames.dtype}.")
    if frames.ndim not in (1, 2) or frames.shape[-1] != dim:
        raise PaSEError(
            f"Utterance {row.id!r}: {name} must be frames of shape (steps, {dim}) or one vector ({dim},), "
            f"found {tuple(frames.shape)}; every utterance of a table has the same feature size."
        )
    single = np.ascontiguousarray(frames, dtype=np.float32)
    if frames.dtype.itemsize > 4 and frames.dtype.kind in "fiu":
        finite = np.abs(single[np.isfinite(single)])
        if finite.size and (largest := float(finite.max())) > _WHOLE and np.any(single != frames):
            rounded[name] = max(rounded.get(name, 0.0), largest)
    return single.reshape(-1)
