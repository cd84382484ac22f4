"""A trained model as one ONNX file, from the features on.

The graph is what `model(batch)` computes in evaluation: scalers, encoders, imputation, the mixture of coalitions and of
the closed-form reference, and the calibrated confidence. Batch size and numbers of steps are free.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch
from pase_msa.calibration import unchecked_confidence
from pase_msa.encoders.scaler import Standardizer
from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, replacing
from pase_msa.heldout.mixture import CoalitionMixture, MixtureValues
from pase_msa.models.base import Model
from pase_msa.serve.onnx_model import FEATURES, LENGTH, METADATA, OnnxModel
from pase_msa.serve.predictor import Predictor

TOLERANCE = 1e-4
"""Largest difference between a file and PyTorch, in probabilities and in label units; relative above 1."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_SIZES = ((1, 1), (2, 3), (9, 8), (4, 40))  # utterances and steps of the rows that a file is checked on


class _FixedMixture(CoalitionMixture):
    """A mixture whose values are plain numbers, since the coalitions are fixed when the graph is made."""

    def __init__(self, mixture: CoalitionMixture) -> None:
        super().__init__(mixture.modalities)
        self.load_state_dict(mixture.state_dict())
        self._fixed = mixture.values

    @property
    def values(self) -> MixtureValues:
        """Those of the mixture that it was made from."""
        return self._fixed


class Graph(nn.Module):
    """The exported graph: lists of padded features and lengths, in the task's order, become named outputs.

    Args:
        model: the trained model; it is copied, and the copy stays on the CPU.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval()
        self.model.mixture = _FixedMixture(self.model.mixture)
        self.temperature = float(model.temperature)
        self.eval()

    def forward(
        self, features: list[Float[Tensor, "n t d"]], lengths: list[Int[Tensor, " n"]]
    ) -> dict[str, Float[Tensor, "n ..."]]:
        """Outputs; a length of 0 is an absent modality."""
        task = self.model.task
        steps = dict(zip(task.modalities, lengths, strict=True))
        batch = Batch(
            dict(zip(task.modalities, features, strict=True)), steps, {name: n > 0 for name, n in steps.items()}
        )
        outputs = self.model(batch)
        named = {"probabilities": outputs.probabilities}
        if outputs.score is not None:
            named["score"] = outputs.score
        return named | {"confidence": unchecked_confidence(task, outputs.logits, self.temperature)}


def export_onnx(source: str | Path | Model, out: str | Path | None = None) -> Path:
    """Write a model as an ONNX file, which is put in place only once it agrees with PyTorch.

    Args:
        source: a run folder, a folder that `save_pretrained` wrote, or a model.
        out: the file; `model.onnx` in the folder if left out.

    Errors:
        PaSEError: a fine-tuned language model, a model that PyTorch cannot trace, a file that would predict something
            else than PyTorch (it is then deleted), or a missing package of the extra `onnx`.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise PaSEError(
            f"An export needs the package {missing[0]}; install what is missing: pip install 'pase-msa[onnx]'."
        )
    if out is None and isinstance(source, Model):
        raise PaSEError("A model in memory has no folder to be exported to; give a file as `out`.")
    target = Path(out) if out is not None else Path(str(source)) / "model.onnx"
    model = source if isinstance(source, Model) else Predictor(source).model
    if tuned := [name for name, spec in model.inputs.items() if not spec.dim]:
        raise PaSEError(
            f"The modality {tuned[0]!r} is read by a fine-tuned language model, which cannot be exported: the file "
            "begins at features; train with --text.frozen true, so that text enters as features of a frozen one."
        )
    graph = Graph(model)
    program = _trace(graph)
    program.model.metadata_props[METADATA] = json.dumps(_metadata(model))
    make_folder(target.parent)
    with replacing(target, unique=True) as partial:
        program.save(str(partial), external_data=False)
        check(graph, partial)
    return target


def _trace(graph: Graph) -> Any:
    task = graph.model.task
    features, lengths = _rows(graph.model, 3, 5, seed=0)
    free = torch.export.Dim.DYNAMIC
    names = [FEATURES.format(name) for name in task.modalities] + [LENGTH.format(name) for name in task.modalities]
    with torch.no_grad(), _quiet():
        outputs = graph(features, lengths)  # constants that a first pass caches must not be made within the trace
        try:
            return torch.onnx.export(
                graph,
                (features, lengths),
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=list(outputs),
                dynamic_shapes=([{0: free, 1: free}] * len(features), [{0: free}] * len(lengths)),
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            reason = str(cause).strip().splitlines()[0]
            raise PaSEError(
                f"The model {_name(graph.model)!r} cannot be exported, since torch.export cannot trace it ({reason}); "
                "no step of its evaluation may depend on the values of a batch."
            ) from error


def _metadata(model: Model) -> dict[str, Any]:
    """What the user of the file needs beside the graph."""
    return {
        "format": 1,
        "version": version("pase-msa"),
        "model": _name(model),
        "task": model.task.to_dict(),
        "inputs": {name: {"dim": spec.dim, "text": spec.text} for name, spec in model.inputs.items()},
        "temperature": float(model.temperature),
        "coalitions": [[sorted(names), weight] for names, weight in model.mixture.coalition_weights.items()],
        "reference": float(model.mixture.reference) if model.reference is not None else 0.0,
        "given": [
            [sorted(part), [[sorted(names), weight] for names, weight in weights.items()], share]
            for part, (weights, share) in model.mixture.given.items()
        ],
    }


def _name(model: Model) -> str:
    return str(model.recipe.get("name", type(model).__name__))


@torch.no_grad()
def check(graph: Graph, file: Path) -> None:
    """Refuse a file that disagrees with PyTorch on random rows like those of the training split.

    Errors:
        PaSEError: the largest difference is above `TOLERANCE`.
    """
    exported, task = OnnxModel(file), graph.model.task
    for seed, (count, steps) in enumerate(_SIZES):
        features, lengths = _rows(graph.model, count, steps, seed)
        expected = {name: value.numpy() for name, value in graph(features, lengths).items()}
        inputs = {FEATURES.format(n): f.numpy() for n, f in zip(task.modalities, features, strict=True)}
        inputs |= {LENGTH.format(n): steps.numpy() for n, steps in zip(task.modalities, lengths, strict=True)}
        outputs = exported.run(inputs)
        if "score" in expected:
            # rounding may put a score at the centre on either side, and confidence is about the side
            close = np.abs(expected["score"] - task.center) <= TOLERANCE
            for result in (expected, outputs):
                result["confidence"] = np.where(close, 0.5, result["confidence"])
        for name, value in expected.items():
            difference = np.abs(outputs[name] - value) / np.maximum(1, np.abs(value))
            if not bool((difference <= TOLERANCE).all()):
                raise PaSEError(
                    f"The exported {name} differs from PyTorch's by {float(difference.max()):.2g}, where {TOLERANCE:g} "
                    "is allowed, so no file was written; other versions of torch or onnxscript may do better."
                )


def _rows(model: Model, count: int, steps: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Random features and lengths, distributed as in training; the first utterance of several has no modality."""
    generator = torch.Generator().manual_seed(seed)
    features, lengths = [], []
    for name, spec in model.inputs.items():
        scaler = model.scalers[name]
        assert isinstance(scaler, Standardizer)
        scale, mean = scaler.inverse_scale, scaler.mean
        deviation = torch.where(scale > 0, 1 / scale, 0.0)
        values = mean + deviation * torch.randn(count, steps, spec.dim, generator=generator)
        values[-1, 0, 0] = torch.nan  # a value that an extractor could not measure
        valid = torch.randint(0, steps + 1, (count,), generator=generator)
        if count > 1:
            valid[:2] = torch.tensor([0, steps])
        features.append(values)
        lengths.append(valid)
    return features, lengths


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence exporters, which print their own progress and deprecations between PyTorch's modules."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "The tensor attributes .* assigned during export")  # of a torch.nn.LSTM
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
