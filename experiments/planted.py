"""Planted data under which what a paper reports of its system should show, and the pair that is measured on them.

A measure is a function of the seed; it returns the value with the system and the one without it. The table is made by
`experiments.behaviours`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer

from pase_msa.data import FeatureTable
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.evaluation.inference import predict_coalitions
from pase_msa.models.base import Model
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import Prepared, fit, run_threads
from pase_msa.training.run import prepare

ONE_STEP = (1, 1)  # frames of an utterance
TRIO = ("a", "b", "c")
PATTERNS = [frozenset(part) for size in (1, 2) for part in itertools.combinations(TRIO, size)]
Pair = tuple[float, float]


def trained(
    table: FeatureTable,
    seed: int,
    model: Mapping[str, Any],
    *,
    balancing: Mapping[str, Any] | None = None,
    apart: bool = False,
    extra: Sequence[Callback] = (),
    **training: Any,
) -> Prepared:
    """A run in memory, with the weights of its best epoch.

    Args:
        table: planted data.
        seed: of the run.
        model: its name and options.
        balancing: likewise; it acts from the first step.
        apart: whether each utterance is a conversation of its own.
        extra: callbacks.
        training: options of training.
    """
    defaults = {"epochs": 30, "patience": 30, "learning_rate": 5e-3, "accelerator": "cpu", "modality_dropout": 0.0}
    config = RunConfig(
        seed=seed,
        model=dict(model),
        balancing=dict(balancing or {"name": "none"}),
        encoders={"default": {"hidden": 32, "dropout": 0.1}},
        phases=PhaseConfig(start="always", guard=10.0),
        training=TrainingConfig(**{**defaults, **training}),
    )
    prepared = prepare(config, table)
    if apart:
        prepared.train.videos = prepared.valid.videos = np.arange(len(table.ids))
    with run_threads(config, prepared.model):
        fit(config, prepared, None, progress=False, extra=extra)
    return prepared


def accuracies(
    model: Model,
    table: FeatureTable,
    coalitions: Sequence[Iterable[str]],
    *,
    having: str | None = None,
    apart: bool = False,
) -> list[float]:
    """Accuracy on the test utterances with only some modalities, one per coalition.

    Args:
        model: trained.
        table: planted data.
        coalitions: names of their modalities.
        having: of the utterances that have this modality alone; of all if None.
        apart: whether each utterance is a conversation of its own.
    """
    dataset = model.dataset(table, "test", labels=True)
    if apart:
        dataset.videos = np.arange(len(table.ids))
    if having is not None:
        dataset = dataset.over(dataset.rows[dataset.columns[having].present[dataset.rows]])
    logits = predict_coalitions(model, dataset, [frozenset(names) for names in coalitions])
    return [float((part.argmax(1) == dataset.targets()).float().mean()) for part in logits]


def planted_table(seed: int, modalities: Mapping[str, Mapping[str, Any]], **sizes: Any) -> FeatureTable:
    """Four classes, and one frame per utterance unless a modality says otherwise."""
    specs = {name: ModalitySpec(**{"length": ONE_STEP, **options}) for name, options in modalities.items()}
    defaults: dict[str, Any] = {"kind": "classification", "classes": 4, "valid": 200, "test": 2000}
    return synthetic_table(SyntheticSpec(specs, seed=seed, **{**defaults, **sizes}))


# MoMKE: a modality that few training utterances have

_RARE: dict[str, Any] = {"modality_dropout": 0.3, "epochs": 40, "learning_rate": 2e-3}


@cache
def _rare(seed: int) -> FeatureTable:
    rare = {"a": {"noise": 0.5}, "b": {"noise": 0.5, "missing": 0.9}}
    return planted_table(seed, rare, train=600, test=4000, utterances_per_video=1)


@cache
def _momke(seed: int, unimodal_epochs: int) -> float:
    options = {"name": "momke", "width": 32, "layers": 2, "dropout": 0.2, "unimodal_epochs": unimodal_epochs}
    model = trained(_rare(seed), seed, options, **_RARE).model
    return accuracies(model, _rare(seed), ["b"], having="b")[0]


def momke_rare(seed: int) -> Pair:
    """Both stages against concatenation."""
    concat = trained(_rare(seed), seed, {"name": "concat", "width": 32}, **_RARE).model
    return _momke(seed, 20), accuracies(concat, _rare(seed), ["b"], having="b")[0]


def momke_borrowing(seed: int) -> Pair:
    """Both stages against the first alone, where each modality has its own expert only."""
    return _momke(seed, 20), _momke(seed, 40)


# MCTN: a target that shares its noise with the source, and few labelled utterances


def _mctn(seed: int, translation: float) -> tuple[Model, FeatureTable]:
    source, target = {"dim": 32, "length": (2, 2)}, {"dim": 3, "length": (2, 2)}
    both = {"text": source | {"redundancy": 0.9}, "audio": target | {"redundancy": 0.9}}
    table = planted_table(seed, both, train=60)
    options = {"name": "mctn", "width": 16, "steps": 2, "translation": translation}
    return trained(table, seed, options, batch_size=20).model, table


def mctn_source(seed: int) -> Pair:
    """The source alone, and everything."""
    model, table = _mctn(seed, 1.0)
    alone, both = accuracies(model, table, [("text",), ("text", "audio")])
    return alone, both


def mctn_translation(seed: int) -> Pair:
    """With translation, and by the labels alone."""
    found = [accuracies(*_mctn(seed, weight), [("text",)])[0] for weight in (1.0, 0.0)]
    return found[0], found[1]


# MMIN and CorrKD: complete training data, modalities missing in the test


@cache
def _missing(seed: int, name: str, hiding: float) -> float:
    table = planted_table(seed, {m: {"noise": 0.5, "redundancy": 0.5, "length": (2, 4)} for m in TRIO}, train=600)
    options: dict[str, dict[str, Any]] = {
        "concat": {},
        "mmin": {"blocks": 2, "latent": 16, "hidden": 64, "dropout": 0.2, "warm_up": 10},
        "corrkd": {"dropout": 0.1, "warm_up": 10},
    }
    model = trained(table, seed, {"name": name, "width": 32, **options[name]}, modality_dropout=hiding).model
    return float(np.mean(accuracies(model, table, PATTERNS)))


def missing(name: str, hiding: float) -> Callable[[int], Pair]:
    """The system, which hides modalities itself, against concatenation with or without modality dropout."""
    return lambda seed: (_missing(seed, name, 0.0), _missing(seed, "concat", hiding))


# OGM-GE: one modality is learned first


@cache
def _gap(seed: int, epochs: int, rate: float, noise: str | None) -> float:
    """Between the accuracies of the two modalities alone, under SGD; without balancing where `noise` is None."""
    shown = {"a": {"noise": 0.7, "dominance": 6.0}, "b": {"noise": 0.7, "dominance": -0.7}}
    table = planted_table(seed, shown, train=600)
    balancing = {"name": "none"} if noise is None else {"name": "ogm_ge", "alpha": 0.8, "noise": noise}
    sgd = {"optimizer": "sgd", "learning_rate": rate, "gradient_clip": 0.0, "epochs": epochs}
    one, two = accuracies(
        trained(table, seed, {"name": "concat", "width": 32}, balancing=balancing, **sgd).model, table, ["a", "b"]
    )
    return abs(one - two)


def ogm_ge(epochs: int, rate: float, noise: str) -> Callable[[int], Pair]:
    """The gap with the method and without."""
    return lambda seed: (_gap(seed, epochs, rate, noise), _gap(seed, epochs, rate, None))


# Self-MM: the heads wait for their pseudo labels


class HeadLosses(Callback):
    """The mean loss of the modalities' heads in each epoch."""

    def __init__(self) -> None:
        self.means: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch."""
        means: Mapping[str, float] = pl_module.epoch_means  # type: ignore[assignment]
        self.means.append(float(np.mean([value for key, value in means.items() if key.startswith("train/unimodal/")])))


def self_mm(seed: int) -> Pair:
    """The loss of the heads in the first two epochs, and in the three after."""
    losses, spec = HeadLosses(), {name: ModalitySpec(dim=8, noise=0.7, length=ONE_STEP) for name in TRIO}
    table = synthetic_table(SyntheticSpec(spec, seed=seed, train=200, valid=50, test=50))
    trained(table, seed, {"name": "self_mm", "width": 32}, extra=[losses], epochs=5)
    return float(np.mean(losses.means[:2])), float(np.mean(losses.means[2:]))


# GCNet: utterances of a video resemble each other, and lack modalities


def gcnet(seed: int) -> Pair:
    """With its conversation, and with each utterance by itself."""
    weak = {"a": {"noise": 2.0, "missing": 0.4}, "b": {"noise": 2.0, "missing": 0.4}}
    table = planted_table(seed, weak, train=1000, clumping=0.9)
    options = {"name": "gcnet", "width": 32, "hidden": 24, "graph": 24, "dropout": 0.2}
    found = []
    for apart in (False, True):
        model = trained(table, seed, options, apart=apart, epochs=15, learning_rate=2e-3).model
        found += accuracies(model, table, [("a", "b")], apart=apart)
    return found[0], found[1]
