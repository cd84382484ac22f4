"""Intermediate training: a language model learns the sentiment of many sentences before it reads the data at hand.

Phang, Févry and Bowman 2018, "Sentence encoders on STILTs". The sentences are a run of text alone in the folder `run`.
The language model of its best epoch is saved beside it, so that `--text.model FOLDER` takes it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from pase_msa.cards.weights import language_model_licence
from pase_msa.data.pretrained import load_tokenizer
from pase_msa.data.sentences import sentence_table
from pase_msa.data.transcripts import TextConfig
from pase_msa.encoders.language_model import LanguageModelEncoder
from pase_msa.errors import PaSEError
from pase_msa.files import check_out, make_folder, read_json, write_json, write_text, writing
from pase_msa.models.base import Model
from pase_msa.training.config import FINE_TUNING, RunConfig, TrainingConfig
from pase_msa.training.run import train
from pase_msa.training.run_folder import RunFolder

RECORD = "adaptation.json"
_RUN = "run"


def _text() -> TextConfig:
    return TextConfig(source="transcripts", frozen=False, **FINE_TUNING["text"])


def _training() -> TrainingConfig:
    return TrainingConfig(**{**FINE_TUNING["training"], "epochs": 2, "patience": 2})


@dataclass
class AdaptConfig:
    """Options of an adaptation.

    Attributes:
        data: labelled sentences: a CSV file with the columns text and label, lines "LABEL TEXT", or a folder of such
            files.
        out: folder for the language model.
        seed: of everything random.
        text: which language model, and how it is trained.
        training: how long, and on what hardware.
    """

    data: str
    out: str
    seed: int = 1
    text: TextConfig = field(default_factory=_text)
    training: TrainingConfig = field(default_factory=_training)


def adapt(config: AdaptConfig, *, progress: bool = True) -> Path:
    """Train a language model on labelled sentences and save it.

    An adaptation that was cut short goes on from its last complete epoch when it is called again.

    Args:
        config: options.
        progress: whether to show a progress bar.

    Returns:
        The folder, which `--text.model` takes: the language model with its tokenizer, `adaptation.json` (what it was
        made from, and its validation metrics), a card, and the folder of the run without its checkpoints.

    Errors:
        PaSEError: sentences or options do not fit, or the folder holds something else.
    """
    out = Path(config.out)
    if config.text.frozen:
        raise PaSEError("An adaptation trains the language model; leave --text.frozen out.")
    if (out / RECORD).is_file():
        raise PaSEError(f"{out} holds an adapted language model already; give another --out, or remove the folder.")
    if out.exists() and (not out.is_dir() or any(file.name != _RUN for file in out.iterdir() if file.name[0] != ".")):
        raise PaSEError(f"{out} is there already and holds no adaptation; give another --out.")
    check_out(out, folder=True)
    table = sentence_table(config.data, seed=config.seed)
    run = RunFolder(out / _RUN)
    if not run.results.is_file():
        options = RunConfig(
            data=str(config.data),
            out=str(run.path),
            seed=config.seed,
            label="label",
            modalities=["text"],
            text=config.text,
            model={"name": "concat", "width": 64, "dropout": 0.2},
            balancing={"name": "none"},
            training=config.training,
        )
        train(options, progress=progress, table=table)
    with writing(out):
        _save(config, run, out)
    return out


def _save(config: AdaptConfig, run: RunFolder, out: Path) -> None:
    """Write the language model of a finished run; the record marks it as complete."""
    encoder = Model.from_pretrained(run.model).encoders["text"]
    assert isinstance(encoder, LanguageModelEncoder)
    make_folder(out)
    encoder.model.save_pretrained(out)
    load_tokenizer(config.text.model).save_pretrained(out)
    results, data = read_json(run.results), run.read_data()
    metrics = {name: value for name, value in results["validation"].items() if isinstance(value, float)}
    record = {
        "base": Path(config.text.model).name,
        "data": data["source"],
        "utterances": data["utterances"],
        "seed": config.seed,
        "best_epoch": results["best_epoch"],
        "validation": metrics,
    }
    shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    licence = language_model_licence(config.text.model)
    write_text(
        out / "README.md",
        f"---\nlicense: {(licence or 'unknown').lower()}\nlibrary_name: transformers\n---\n\n"
        f"# {record['base']}, adapted\n\nTrained further by `pase adapt` on {data['source']} "
        f"({data['utterances']['train']} sentences, labels in [-1, 1] or classes). On {data['utterances']['valid']} "
        f"sentences of validation, which chose the epoch: {shown}. The terms of the sentences hold beside "
        "the licence of the language model.\n",
    )
    # what is needed to go on, and a second copy of the weights
    for folder in (run.checkpoints, run.model):
        shutil.rmtree(folder, ignore_errors=True)
    write_json(out / RECORD, record)
