"""A feature table from data in memory: arrays, lists of arrays, lists of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.conversion import is_missing, is_sparse, to_numpy
from pase_msa.data.modalities import Modalities
from pase_msa.data.table import FeatureTable, LabelKind, Schema, Utterance
from pase_msa.errors import PaSEError


@dataclass
class Samples:
    """N samples of one or more modalities.

    Attributes:
        features: modality name -> one array [T_i, D] or [D] per sample, None where absent.
        text: one transcript per sample, None where absent; None if "text" does not come as transcripts.
        names: all modalities that were given, "text" included, in the order given.
    """

    features: dict[str, list[Array | None]]
    text: list[str | None] | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(next(iter(self.features.values()), self.text or []))

    def has(self, name: str) -> bool:
        """Whether any sample has the modality."""
        if name == "text" and self.text is not None:
            return any(value is not None for value in self.text)
        return any(value is not None for value in self.features.get(name, []))

    def joined(self, other: Samples) -> Samples:
        """These samples followed by others; a modality that only one of both has is absent from the other's samples."""

        def rows(part: Samples, name: str) -> list[Array | None]:
            return part.features.get(name) or [None] * len(part)

        def texts(part: Samples) -> list[str | None]:
            return part.text or [None] * len(part)

        features = {name: rows(self, name) + rows(other, name) for name in {**self.features, **other.features}}
        text = None if self.text is None and other.text is None else texts(self) + texts(other)
        return Samples(features, text, tuple(dict.fromkeys(self.names + other.names)))


def read_samples(source: Any) -> Samples:
    """Samples from a mapping of modality name to one of:

    - an array, tensor or sparse matrix [N, D], or an array [N, T, D] whose T steps are all valid;
    - a list of N arrays [T_i, D] or [D];
    - under the name "text", a list of N strings;
    - None: the modality is absent throughout.

    A sample lacks a modality where its entry is None, NaN, pd.NA or an array of nothing but NaN.

    Errors:
        PaSEError: no mapping, no modality, no sample, samples that differ in number between modalities, or
            values of another kind or size; the sentence names the modality and the sample.
    """
    if not isinstance(source, Mapping | Modalities):
        raise PaSEError(
            "X must be a mapping of modality name to features, such as {'audio': array of shape (samples, "
            f"features)}}, not a {type(source).__name__}; of an array say which columns make up "
            "which modality with the parameter columns, such as columns={'audio': slice(0, 10)}."
        )
    if wrong := [name for name in source if not isinstance(name, str) or not name]:
        raise PaSEError(f"The names of modalities in X must be words, found {wrong[0]!r}.")
    given = {name: _rows(name, value) for name, value in source.items() if value is not None}
    if not given:
        raise PaSEError("X holds no modality; give one or more, such as {'audio': array of shape (samples, features)}.")
    counts = {name: len(rows) for name, rows in given.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise PaSEError(f"Every modality in X needs the same number of samples, found {listed}.")
    count = next(iter(counts.values()))
    if not count:
        raise PaSEError("X holds no sample; give one or more.")
    features, text = {}, None
    for name in source:
        rows = given.get(name, [None] * count)
        if any(isinstance(row, str) for row in rows):
            text = _texts(name, rows)
        else:
            features[name] = _frames(name, rows)
    return Samples(features, text, tuple(source.keys()))


def table_from_samples(
    samples: Samples,
    *,
    label: str = "label",
    kind: LabelKind = "real",
    labels: Sequence[Any] | None = None,
    videos: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> FeatureTable:
    """A feature table in memory. A modality that no sample has is left out.

    Args:
        samples: N of them.
        label: name of the label column, there if `labels` are.
        kind: "real" or "class".
        labels: real values or class names [N].
        videos: what each sample was cut from [N]; by default each is a video of its own.
        splits: "train", "valid", "test" or "" [N]; by default "".
        meta: the table's.
    """
    dims = {
        name: next(int(row.shape[-1]) for row in rows if row is not None)
        for name, rows in samples.features.items()
        if samples.has(name)
    }
    schema = Schema(dims, {} if labels is None else {label: kind}, text=samples.text is not None)
    rows = (
        Utterance(
            str(i),
            str(i) if videos is None else videos[i],
            "" if splits is None else splits[i],
            {} if labels is None else {label: labels[i]},
            {name: samples.features[name][i] for name in dims},
            None if samples.text is None else samples.text[i],
        )
        for i in range(len(samples))
    )
    return FeatureTable.build(rows, schema, meta=meta)


def _rows(name: str, value: Any) -> list[Any]:
    """One entry per sample; its content is checked later."""
    if isinstance(value, str | bytes | Mapping) or not (hasattr(value, "__iter__") or is_sparse(value)):
        raise PaSEError(
            f"X[{name!r}] must be an array or a list with one entry per sample, not a {type(value).__name__}."
        )
    if isinstance(value, list | tuple):
        return list(value)
    array = to_numpy(value, f"X[{name!r}]")
    if array.dtype.kind == "f" and array.ndim == 1 and len(array) and np.isnan(array).all():
        return [None] * len(array)  # a column of a data frame in which every sample is missing
    if array.dtype.kind in "fiub" and array.ndim not in (2, 3):
        raise PaSEError(
            f"X[{name!r}] must have the shape (samples, features) or (samples, steps, features), found {array.shape}."
        )
    return list(array)


def _texts(name: str, rows: list[Any]) -> list[str | None]:
    if name != "text":
        raise PaSEError(
            f"X[{name!r}] holds strings, but only the modality 'text' can be read from them; give features."
        )
    texts = [None if is_missing(row) else row for row in rows]
    for i, row in enumerate(texts):
        if row is not None and not isinstance(row, str):
            raise PaSEError(f"X['text'] must hold strings throughout or features throughout, but [{i}] is no string.")
    return [None if row is None else str(row) for row in texts]


def _frames(name: str, rows: list[Any]) -> list[Array | None]:
    dim: int | None = None
    result: list[Array | None] = []
    for i, row in enumerate(rows):
        if is_missing(row):
            result.append(None)
            continue
        frames = to_numpy(row, f"X[{name!r}][{i}]")
        if frames.ndim == 2 and is_sparse(row) and len(frames) == 1:
            frames = frames[0]
        if frames.dtype.kind not in "fiub":
            odd = ". Complex data not supported: give their real part or magnitude" if frames.dtype.kind == "c" else ""
            raise PaSEError(f"X[{name!r}][{i}] must hold numbers, found {frames.dtype}{odd}.")
        if frames.ndim not in (1, 2):
            raise PaSEError(
                f"X[{name!r}][{i}] must have the shape (steps, features) or (features,), not {frames.shape}."
            )
        if frames.size == 0 or (frames.dtype.kind == "f" and bool(np.isnan(frames).all())):
            result.append(None)
            continue
        dim = frames.shape[-1] if dim is None else dim
        if frames.shape[-1] != dim:
            raise PaSEError(
                f"X[{name!r}] has {dim} features in one sample and {frames.shape[-1]} in [{i}]; use one size."
            )
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which the scaler's rule covers
            result.append(frames.astype(np.float32))
    return result
