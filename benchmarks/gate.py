"""What a change of structure must leave as it is: weights and metrics of a fixed set of small seeded runs.

    python -m benchmarks.gate                # one line per run: sha256 of the weights, of the predictions, and metrics
    python -m benchmarks.gate --out FILE     # also written to a file, to compare two versions with `diff`

Every model, every balancing method, both kinds of task, two and three modalities, one that is absent here and there,
every reading of an equation that has a switch, and a run that is stopped after two epochs and resumed. Hashes are those
of one machine with one set of versions; compare them there only.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
import torch
from lightning import Callback
from safetensors.torch import load_file

from pase_msa import plugins
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.files import read_json
from pase_msa.heldout.diagnose import diagnose
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.module import SentimentModule
from pase_msa.training.run import train

EPOCHS = 4
SHOWN = ("mae", "corr", "acc2_negpos", "accuracy", "f1_weighted", "nll")
#: readings of the equations, each against the default
READINGS: dict[str, dict[str, Any]] = {
    "fusion concat": {"fusion": "concat"},
    "fusion sum": {"fusion": "sum"},
    "fusion attention": {"fusion": "attention"},
    "marginals source": {"marginals": "source"},
    "gradient ema": {"prototype_gradient": "ema"},
    "entropy literal": {"entropy_sign": "literal"},
    "entropy uniform": {"entropy_sign": "uniform"},
    "gate label": {"gate_prototype": "label"},
    "gate hard": {"gate_prototype": "hard"},
    "without imputation": {"imputation": False},
    "without calibration": {"calibration": False},
    "without alignment": {"alignment": False},
    "alignment at every step": {"alignment_interval": 1},
}


def spec(kind: str, modalities: int) -> SyntheticSpec:
    """A benchmark that trains in a second; with three modalities, one is absent here and there and one deceives."""
    held = {
        "text": ModalitySpec(5, length=(1, 4), noise=0.5),
        "audio": ModalitySpec(4, length=(1, 3)),
        "vision": ModalitySpec(3, length=(1, 1), missing=0.3, strength=0.0, deception=1.0),
    }
    chosen = dict(list(held.items())[:modalities])
    classes = 3 if kind == "classification" else 7
    return SyntheticSpec(chosen, kind=kind, classes=classes, train=96, valid=32, test=32, utterances_per_video=4)  # type: ignore[arg-type]


def runs() -> Iterator[tuple[str, str, int, dict[str, Any], str | None, dict[str, Any]]]:
    """Name, kind of task, number of modalities, options of the model, balancing method and its options."""
    for kind in ("regression", "classification"):
        for model in plugins.names("models"):
            for count in (3, 2):
                yield f"{model} {kind} {count}", kind, count, {"name": model}, None, {}
        for method in plugins.names("balancing"):
            yield f"pase + {method} {kind}", kind, 3, {"name": "pase"}, method, {}
    for method in ("held_out", "ogm_ge", "agm", "gradient_blending"):
        yield f"concat + {method}", "regression", 3, {"name": "concat"}, method, {}
    yield "pase + sgm prediction", "regression", 3, {"name": "pase"}, "sgm", {"utility": "prediction"}
    yield "pase + sgm gradient", "regression", 3, {"name": "pase"}, "sgm", {"apply_to": "gradient"}
    for name, options in READINGS.items():
        yield f"pase {name}", "regression", 3, {"name": "pase", **options}, "sgm", {}


def config(
    data: Path, out: Path, model: Mapping[str, Any], method: str | None, options: Mapping[str, Any], epochs: int
) -> RunConfig:
    """The configuration of a run."""
    return RunConfig(
        data=str(data),
        out=str(out),
        model={"width": 8, **model},
        encoders={"default": {"hidden": 8}},
        balancing={**({} if method is None else {"name": method}), **options},
        phases=PhaseConfig(start="entropy" if method is None else "always"),
        training=TrainingConfig(epochs=epochs, batch_size=24, accelerator="cpu", threads=1),
    )


def digest(arrays: Mapping[str, torch.Tensor]) -> str:
    """sha256 over the tensors whatever their names; a stack of class prototypes counts by modality."""
    parts: list[torch.Tensor] = []
    for name, value in arrays.items():
        stacked = name.endswith(("prototypes", "initialised")) and value.ndim == (3 if "prototypes" in name else 2)
        parts += list(value.unbind()) if stacked else [value]
    hashes = sorted(hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest() for part in parts)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def line(name: str, run: Path) -> str:
    """What is printed of a run."""
    evaluate(run)
    weights = digest(load_file(run / "model" / "model.safetensors"))
    table = pd.read_csv(run / "predictions.csv").select_dtypes("number")
    said = hashlib.sha256(np.ascontiguousarray(table.to_numpy(dtype=np.float64)).tobytes()).hexdigest()
    found = read_json(run / "results.json")["validation"] | {
        f"test/{key}": value for key, value in read_json(run / "evaluation.json")["metrics"].items()
    }
    metrics = " ".join(f"{k}={v:.6f}" for k, v in found.items() if k.removeprefix("test/") in SHOWN)
    return f"{name:32s} {weights[:16]} {said[:16]} {metrics}"


class Stop(Callback):
    """Ends the process's training in the middle of the third epoch, as a kill does."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Raise."""
        if trainer.current_epoch == 2:
            raise RuntimeError("stopped")


def resumed(data: Path, out: Path, model: str) -> Path:
    """A run that was stopped in the middle of an epoch and given again."""
    made = config(data, out, {"name": model}, None, {}, EPOCHS)
    original = SentimentModule.configure_callbacks
    SentimentModule.configure_callbacks = lambda self: [Stop()]  # type: ignore[method-assign]
    try:
        train(made, progress=False)
    except RuntimeError as error:
        assert str(error) == "stopped"  # noqa: PT017
    finally:
        SentimentModule.configure_callbacks = original  # type: ignore[method-assign]
    return train(made, progress=False).path


def diagnosis(kind: str) -> str:
    """The diagnosis of a benchmark as a line."""
    found = diagnose(synthetic_table(spec(kind, 3)))
    parts = [found.coalition_weights, *(found.valid_contributions[name] for name in found.modalities)]
    content = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    verdicts = " ".join(f"{name}={row.verdict}" for name, row in found.modalities.items())
    return f"{'diagnosis ' + kind:32s} {hashlib.sha256(content).hexdigest()[:16]} {verdicts}"


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="runs whose name holds this")
    options = parser.parse_args()
    logging.getLogger("pase_msa").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    lines: list[str] = []

    def tell(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = {}
        for kind in ("regression", "classification"):
            for count in (2, 3):
                data[kind, count] = root / f"data-{kind}-{count}"
                synthetic_table(spec(kind, count)).save(data[kind, count])
        for number, (name, kind, count, model, method, rest) in enumerate(runs()):
            if options.only in name:
                made = config(data[kind, count], root / f"run{number}", model, method, rest, EPOCHS)
                tell(line(name, train(made, progress=False).path))
        for model in ("pase", "concat"):
            if options.only in f"{model} resumed":
                tell(line(f"{model} resumed", resumed(data["regression", 3], root / f"resumed-{model}", model)))
        for kind in ("regression", "classification"):
            if options.only in f"diagnosis {kind}":
                tell(diagnosis(kind))
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
