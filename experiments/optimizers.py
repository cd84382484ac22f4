"""What an optimiser leaves of a balancing method: how far a factor on gradients, rates or losses changes the update.

    python -m experiments.optimizers --out docs/img/optimizers.png

Two modalities are equally informative, and "a" is learned first. A run with the method is trained for some steps. At
each of them the plain gradient at the same weights is taken, too, and a second optimiser of the same kind is given it,
which tells what the step would have been without the method. For each modality, with sums over those steps,

    asked     |sum of gradients, as the optimiser gets them, times the factor on the rate| / |sum of plain gradients|
    measured  |sum of updates| / |sum of updates without the method|

An optimiser that hands the method on has measured = asked. One that divides gradients by their own size has 1. A method
is balanced against the same losses without its factor: where it trains encoders by heads of their own, these losses are
part of "plain". Methods begin with the first step, or after a warm-up of plain steps, as they do by default. Gradients
are not clipped, and there is no dropout, so that the plain gradient is the one that the run would have had.

The figure is of the modality that is ahead. The values of each seed and of both modalities go to
`experiments/results/optimizers.csv`, the table of the figure to the Markdown file beside it. Runs that the CSV file
holds are kept; delete it to measure anew.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.optimizers_figure import Points, draw
from experiments.planted import planted_table
from pase_msa.balancing.base import BalancingMethod
from pase_msa.batch import Batch
from pase_msa.files import make_folder, replacing
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit, run_threads
from pase_msa.training.optimizers import make_optimizer
from pase_msa.training.run import prepare

RESULTS = Path(__file__).parent / "results" / "optimizers.csv"
FIELDS = ("method", "acts_on", "optimizer", "warm_up", "seed", "modality", "asked", "measured")
RATES = {"sgd": 0.02, "adam": 1e-3, "adamw": 1e-3}
STEPS, EPOCHS, WARM_UP = 8, 5, 10  # steps per epoch, epochs with the method, epochs of plain steps before
AHEAD = "a"


@dataclass(frozen=True)
class Method:
    """A balancing method as it is measured.

    Attributes:
        acts_on: "gradient", "rate" or "losses".
        name: of the plug-in.
        options: of the plug-in.
        heads: whether the losses of unimodal heads, with a weight of 1, are part of the plain run.
    """

    acts_on: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    heads: bool = False


# noise and further losses are left out, so that what is seen is the factor
METHODS = {
    "multi_head, gradient x 3": Method("gradient", "multi_head", {"factor": 3.0, "apply_to": "gradient"}, True),
    "ogm_ge": Method("gradient", "ogm_ge", {"noise": "none"}),
    "agm": Method("gradient", "agm"),
    "cggm": Method("gradient", "cggm", {"direction": 0.0}),
    "mmpareto": Method("gradient", "mmpareto", heads=True),
    "inforeg": Method("gradient", "inforeg", heads=True),
    "sgm, gradient": Method("gradient", "sgm", {"utility": "prediction", "apply_to": "gradient"}),
    "multi_head, rate x 3": Method("rate", "multi_head", {"factor": 3.0}, True),
    "sgm, rate": Method("rate", "sgm", {"utility": "prediction"}),
    "modality_lr": Method("rate", "modality_lr", {"rule": "utilisation"}),
    "gradient_blending": Method("losses", "gradient_blending", {"estimate": "online", "every": 2}, True),
    "lfm": Method("losses", "lfm"),
    "pmr": Method("losses", "pmr", {"mu": 0.0}),
}


class UpdateRecorder(Callback):
    """Sums gradients and updates of each modality, with the method and as they would have been without.

    Args:
        config: of the optimiser.
        method: it is switched on after the warm-up.
        heads: whether the losses of its heads are part of the plain run.
        warm_up: epochs of plain steps.

    Attributes:
        sums: by modality, the sums of "gradient" and "plain gradient", "update" and "plain update", flat.
    """

    def __init__(self, config: TrainingConfig, method: BalancingMethod, *, heads: bool, warm_up: int) -> None:
        self.config, self.method, self.heads, self.warm_up = config, method, heads, warm_up
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.own: dict[str, list[nn.Parameter]] = {}
        self._factors: dict[int, float] = {}
        self._before: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the second optimiser, and listen to the rates of the first one."""
        names: Sequence[str] = pl_module.modalities  # type: ignore[assignment]
        self.own = {name: list(pl_module.modality_parameters(name)) for name in names}  # type: ignore[operator]
        self.copies = nn.ParameterList([nn.Parameter(p.detach().clone()) for own in self.own.values() for p in own])
        self.optimizer = make_optimizer(self.copies, self.config)
        # after the hook of `scale_rates`, which a method registered before
        trainer.optimizers[0].register_step_pre_hook(self._note_rates)
        self.method.active = self.warm_up == 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Switch the method on once the warm-up is over."""
        self.method.active = trainer.current_epoch + 1 >= self.warm_up

    def _note_rates(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            factor = group["lr"] / self.config.learning_rate
            self._factors.update({id(parameter): factor for parameter in group["params"]})

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """The plain gradient, and the step that the second optimiser makes of it."""
        model: Any = pl_module.model
        outputs = model(batch)
        losses = model.losses(outputs, batch)
        if self.heads and self.method.active:
            losses |= self.method.heads.named_losses(outputs, batch)  # type: ignore[attr-defined]
        parameters = [parameter for own in self.own.values() for parameter in own]
        total = torch.stack(list(losses.values())).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        for copied, parameter, gradient in zip(self.copies, parameters, gradients, strict=True):
            copied.data.copy_(parameter.detach())
            copied.grad = gradient
        self._before = {name: _flat(own) for name, own in self.own.items()}
        self.optimizer.step()
        rest = list(zip(self.copies, gradients, strict=True))
        for name, own in self.own.items():
            mine, rest = rest[: len(own)], rest[len(own) :]
            plain = [torch.zeros_like(p) if g is None else g for p, g in mine]
            self._add(name, "plain gradient", _flat(plain))
            self._add(name, "plain update", _flat([p for p, _ in mine]) - self._before[name])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """What the optimiser gets, after the method's own hook."""
        for name, own in self.own.items():
            given = [torch.zeros_like(p) if p.grad is None else p.grad * self._factors[id(p)] for p in own]
            self._add(name, "gradient", _flat(given))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step that was made."""
        for name, own in self.own.items():
            self._add(name, "update", _flat(own) - self._before[name])

    def _add(self, name: str, what: str, value: Tensor) -> None:
        if self.method.active:
            sums = self.sums.setdefault(name, {})
            sums[what] = sums[what] + value if what in sums else value

    def ratios(self, name: str) -> tuple[float, float]:
        """asked and measured of the module's docstring."""
        size = {what: float(value.norm()) for what, value in self.sums[name].items()}
        return size["gradient"] / size["plain gradient"], size["update"] / size["plain update"]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def measure(method: str, optimizer: str, seed: int, *, warm_up: int = 0, epochs: int = EPOCHS) -> list[dict[str, Any]]:
    """One run with a method; a row of the CSV file per modality.

    Args:
        method: one of `METHODS`.
        optimizer: of `training.optimizer`.
        seed: of data and run.
        warm_up: epochs before the method begins.
        epochs: with the method.
    """
    what = METHODS[method]
    table = planted_table(
        seed, {AHEAD: {"noise": 0.7, "dominance": 3.0}, "b": {"noise": 0.7}}, train=64 * STEPS, valid=128, test=0
    )
    training = TrainingConfig(
        epochs=warm_up + epochs,
        patience=warm_up + epochs,
        optimizer=optimizer,  # type: ignore[arg-type]
        learning_rate=RATES[optimizer],
        gradient_clip=0.0,
        modality_dropout=0.0,
        accelerator="cpu",
    )
    config = RunConfig(
        seed=seed,
        model={"name": "concat", "width": 32, "dropout": 0.0},
        balancing={"name": what.name, **what.options},
        encoders={"default": {"hidden": 32, "dropout": 0.0}},
        phases=PhaseConfig(start="never"),  # the recorder switches the method on
        training=training,
    )
    prepared = prepare(config, table)
    recorder = UpdateRecorder(training, prepared.balancing, heads=what.heads, warm_up=warm_up)
    with run_threads(config, prepared.model):
        fit(config, prepared, None, progress=False, extra=[recorder])
    rows = []
    for name in prepared.task.modalities:
        asked, measured = recorder.ratios(name)
        values: tuple[Any, ...] = (
            method,
            what.acts_on,
            optimizer,
            warm_up * STEPS,
            seed,
            name,
            round(asked, 5),
            round(measured, 5),
        )
        rows.append(dict(zip(FIELDS, values, strict=True)))
    return rows


def points(rows: Sequence[Mapping[str, Any]], modality: str = AHEAD) -> Points:
    """Geometric means over seeds of (asked, measured), by method, optimiser and steps of warm-up."""
    found: Points = {}
    for key in dict.fromkeys((row["method"], row["optimizer"], int(row["warm_up"])) for row in rows):
        values = [
            [float(row["asked"]), float(row["measured"])]
            for row in rows
            if (row["method"], row["optimizer"], int(row["warm_up"])) == key and row["modality"] == modality
        ]
        asked, measured = np.exp(np.log(values).mean(0)).tolist()
        found[key] = (asked, measured)
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """asked -> measured of the modality that is ahead, in Markdown."""
    found = points(rows)
    columns = sorted(
        {(steps, optimizer) for _, optimizer, steps in found}, key=lambda c: (c[0], list(RATES).index(c[1]))
    )
    names = [
        f"{optimizer}, {f'after {steps} steps' if steps else 'from the first step'}" for steps, optimizer in columns
    ]
    lines = [f"| method | acts on | {' | '.join(names)} |", "| --- | --- |" + " --- |" * len(columns)]
    for name, method in METHODS.items():
        cells = []
        for steps, optimizer in columns:
            pair = found.get((name, optimizer, steps))
            cells.append("" if pair is None else f"{pair[0]:.2f} -> {pair[1]:.2f}")
        if any(cells):
            lines.append(f"| {name} | {method.acts_on} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/img/optimizers.png"), help="the figure, .svg or .png")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if options.out.suffix not in (".svg", ".png"):
        parser.error(f"--out is a file that ends in .svg or .png, found {options.out}")
    logging.getLogger("pase_msa").setLevel(logging.ERROR)
    rows: list[dict[str, Any]] = []
    if RESULTS.is_file():
        with RESULTS.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    done = {(row["method"], row["optimizer"], int(row["warm_up"]), int(row["seed"])) for row in rows}
    seeds = range(1, options.seeds + 1)
    make_folder(RESULTS.parent)
    for method, warm_up, optimizer, seed in itertools.product(METHODS, (0, WARM_UP), RATES, seeds):
        if (method, optimizer, warm_up * STEPS, seed) in done:
            continue
        rows += measure(method, optimizer, seed, warm_up=warm_up)
        print(rows[-2], flush=True)
        with replacing(RESULTS) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    rows = [row for row in rows if int(row["seed"]) in seeds]
    text = f"# Optimisers and the factors of balancing methods: asked -> measured\n\n{table(rows)}\n"
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(points(rows), {name: method.acts_on for name, method in METHODS.items()}, options.out)
    print(text)


if __name__ == "__main__":
    main()
