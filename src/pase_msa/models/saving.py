"""A model as a folder: `config.json` describes how to build it, `model.safetensors` holds its weights.

`README.md` is its card.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pase_msa.cards.card import model_card, write_card
from pase_msa.data.guard import reading, refuse_several_targets
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, read_json, replacing, write_json
from pase_msa.heldout.reference import RidgeReference
from pase_msa.models.base import Model, build_model
from pase_msa.task import Task

# 2 since the reference has products, 3 since it has the class prior, 4 since the names below changed, 5 since the
# reference has the limits of frames, 6 since there are weights by what an utterance has
FORMAT = 6
_READ = (3, 4, 5, FORMAT)
CONFIG, WEIGHTS = "config.json", "model.safetensors"

#: weights that have another name since format 4, by the beginning of the name: (format 3, format 4)
RENAMED = (
    ("trust.", "mixture."),
    ("reference.waves_", "reference.fourier_"),
    ("reference.lead_", "reference.top_"),
    ("reference.shares", "reference.coalition_weights"),
    ("row_potentials", "aligner.row_potentials"),
    ("column_potentials", "aligner.column_potentials"),
)
#: format 3 has a tensor "banks.MODALITY.prototypes" per modality, format 4 one "bank.prototypes" of all, stacked
_STACKED = ("prototypes", "initialised")


def save_model(model: Model, folder: str | Path) -> Path:
    """Write weights, task, inputs, scalers and options to a folder, whole or not at all."""
    target = Path(folder)
    make_folder(target)
    content = {
        "reference": None if model.reference is None else model.reference.shapes,
        "format": FORMAT,
        "recipe": model.recipe,
        "task": model.task.to_dict(),
        "inputs": _saved_inputs(model, target),
        "extraction": model.extraction,
    }
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    with replacing(target / WEIGHTS) as weights:
        save_file(tensors, weights)
    write_json(target / CONFIG, content)
    write_card(target, model_card(content))
    return target


def _saved_inputs(model: Model, target: Path) -> dict[str, dict[str, Any]]:
    """Plain descriptions of the inputs; a language model's architecture and tokenizer are written to the folder."""
    inputs = {name: dataclasses.asdict(spec) for name, spec in model.inputs.items()}
    for name, spec in inputs.items():
        if spec["encoder"] == "language_model":
            # The weights are the model's own now. With architecture and tokenizer beside them, the folder is complete.
            from pase_msa.data.pretrained import load_tokenizer

            path = target / "encoders" / name
            if Path(spec["text"]["model"]).resolve() != path.resolve():
                shutil.rmtree(path, ignore_errors=True)
                model.encoders[name].model.config.save_pretrained(path)  # type: ignore[union-attr,operator]
                load_tokenizer(spec["text"]["model"]).save_pretrained(path)
            spec["text"] |= {"model": f"encoders/{name}", "pretrained": False}
    return inputs


def read_description(folder: str | Path) -> dict[str, Any]:
    """The description of a saved model, without its weights.

    Errors:
        PaSEError: the folder holds no description of a model, or a damaged one.
    """
    keys = ("format", "task", "inputs", "recipe", "reference")
    return dict(read_json(Path(folder) / CONFIG, keys=keys, remedy="save the model again"))


def read_task(folder: str | Path) -> Task:
    """The task of a saved model, without its weights.

    Errors:
        PaSEError: the folder holds no description of a model, or a damaged one.
    """
    file = Path(folder) / CONFIG
    with reading(file, "the description of a saved model", "save the model again"):
        return Task.from_dict(read_json(file, keys=("task",), remedy="save the model again")["task"])


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """The model that `save_model` wrote, in evaluation mode.

    Errors:
        PaSEError: the folder holds no model, a damaged one, or one of a format that is not read.
    """
    root = Path(folder)
    refuse_several_targets(root)
    if not (root / CONFIG).is_file() or not (root / WEIGHTS).is_file():
        raise PaSEError(f"{root} was to hold a saved model ({CONFIG} and {WEIGHTS}); give the `model` folder of a run.")
    content = read_json(
        root / CONFIG, keys=("format", "task", "inputs", "recipe", "reference"), remedy="save the model again"
    )
    number = content["format"]
    if number not in _READ:
        raise PaSEError(
            f"{root} was to hold a model of format {_READ[0]} to {FORMAT}, found {number}, which another "
            "version wrote; train it again."
        )
    with reading(root / CONFIG, "the description of a saved model", "save the model again"):
        inputs = {name: InputSpec(**spec) for name, spec in content["inputs"].items()}
        for spec in inputs.values():
            if spec.text and not spec.text.get("pretrained", True):
                spec.text["model"] = str(root / spec.text["model"])
        task = Task.from_dict(content["task"])
        _check_size(root, content, task, inputs)
        model = _built(content, task, inputs)
    with reading(root / WEIGHTS, f"the weights of the model in {CONFIG}", "save the model again"):
        tensors = load_file(root / WEIGHTS)
        if number != FORMAT:
            tensors = _later(model) | upgrade(tensors, task.modalities)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise PaSEError(f"{root / WEIGHTS} does not fit its {CONFIG}; save the model again.") from error
    model.extraction = content.get("extraction")
    return model.eval().to(device)


def _built(content: Mapping[str, Any], task: Task, inputs: Mapping[str, InputSpec]) -> Model:
    """The model that a description names, with initial weights."""
    model = build_model(content["recipe"]["name"], task, inputs, content["recipe"]["options"])
    if content["reference"] is not None:
        model.reference = RidgeReference(task, content["reference"])
    return model


def _check_size(root: Path, content: Mapping[str, Any], task: Task, inputs: Mapping[str, InputSpec]) -> None:
    """Refuse a description of more weights than the file can hold, before memory is taken for them."""
    with torch.device("meta"):
        described = sum(value.numel() for value in _built(content, task, inputs).state_dict().values())
    if described > (root / WEIGHTS).stat().st_size:
        raise PaSEError(
            f"{root / CONFIG} describes {described} weights, more than {WEIGHTS} can hold; save the model again."
        )


#: weights that older formats lack; as they are built they have no effect
_ADDED = ("reference.low_", "reference.high_", "reference.pattern_", "mixture.pattern")


def _later(model: Model) -> dict[str, Tensor]:
    """The weights that an older format lacks, as they are in a new model: without limits of frames and patterns."""
    return {name: value for name, value in model.state_dict().items() if name.startswith(_ADDED)}


def upgrade(tensors: Mapping[str, Tensor], modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Weights of format 3 under the names of format 4, which are left as they are."""
    result: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not name.startswith("banks."):
            before, after = next(((old, new) for old, new in RENAMED if name.startswith(old)), ("", ""))
            result[after + name.removeprefix(before)] = value
    for part in _STACKED:
        if f"banks.{modalities[0]}.{part}" in tensors:
            result[f"bank.{part}"] = torch.stack([tensors[f"banks.{name}.{part}"] for name in modalities])
    return result
