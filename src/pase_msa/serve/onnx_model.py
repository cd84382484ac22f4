"""An exported model without PyTorch: ONNX Runtime and NumPy are all it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pase_msa.errors import PaSEError

FEATURES, LENGTH = "{}.features", "{}.length"
"""Names of a modality's two inputs: padded sequences [N, T, D] float32, and valid steps [N] int64, 0 where absent."""
METADATA = "pase_msa"
"""Key of the JSON object in the file's metadata."""


class OnnxModel:
    """A file of `pase export`, ready to predict.

    Args:
        file: the file.
        threads: number of threads of a prediction; ONNX Runtime's own choice if left out.

    Attributes:
        metadata: task, inputs (feature size, and how text becomes features), temperature, coalition weights, version.
        modalities: names, in the task's order.
        classes: names of the classes, in the order of the probabilities.

    Errors:
        PaSEError: no such file, a file that `pase export` did not write, or no `onnxruntime`.
    """

    def __init__(self, file: str | Path, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise PaSEError(
                "An exported model runs on onnxruntime; install it: pip install 'pase-msa[onnx]'."
            ) from error
        if not Path(file).is_file():
            raise PaSEError(f"There is no file {str(file)!r}; `pase export RUN` makes one.")
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            metadata = self.session.get_modelmeta().custom_metadata_map[METADATA]
        except Exception as error:  # onnxruntime has an exception class for every kind of damage, without a common base
            raise PaSEError(f"{file} was to be a file of `pase export` and is not; export the run again.") from error
        self.metadata: dict[str, Any] = json.loads(metadata)
        self.modalities: tuple[str, ...] = tuple(self.metadata["task"]["modalities"])
        self.classes: tuple[str, ...] = tuple(self.metadata["task"]["classes"])

    def predict(self, features: Mapping[str, Sequence[ArrayLike | None]]) -> dict[str, NDArray[np.float32]]:
        """Predictions of N utterances.

        Args:
            features: by modality, one sequence [T, D] or vector [D] per utterance, None where it is absent. A modality
                that is left out is absent throughout.

        Returns:
            "probabilities" [N, K], "confidence" [N], and "score" [N] where the task is a regression.

        Errors:
            PaSEError: an unknown modality, unequal numbers of utterances, or another feature size.
        """
        if unknown := [name for name in features if name not in self.modalities]:
            raise PaSEError(f"The model reads {', '.join(self.modalities)}, not {unknown[0]!r}; name some of these.")
        counts = {name: len(rows) for name, rows in features.items()}
        if len(set(counts.values())) != 1:
            raise PaSEError(f"Every modality needs one entry (or None) for each utterance, found {counts or 'none'}.")
        count = next(iter(counts.values()))
        inputs: dict[str, NDArray[Any]] = {}
        for name in self.modalities:
            size = int(self.metadata["inputs"][name]["dim"])
            padded, lengths = _padded(name, features.get(name, [None] * count), size)
            inputs |= {FEATURES.format(name): padded, LENGTH.format(name): lengths}
        return self.run(inputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name, from padded inputs by name (`FEATURES`, `LENGTH`)."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, dict(inputs)), strict=True))


def _padded(name: str, rows: Sequence[ArrayLike | None], size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    frames = [None if row is None else np.atleast_2d(np.asarray(row, dtype=np.float32)) for row in rows]
    for row in frames:
        if row is not None and (row.ndim != 2 or row.shape[1] != size):
            raise PaSEError(f"The model reads {name} in sequences of shape (steps, {size}), found {row.shape}.")
    lengths = np.array([0 if row is None else len(row) for row in frames], dtype=np.int64)
    padded = np.zeros((len(frames), max(1, int(lengths.max(initial=0))), size), dtype=np.float32)
    for index, row in enumerate(frames):
        if row is not None:
            padded[index, : len(row)] = row
    return padded, lengths
