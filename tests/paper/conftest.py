"""Trained runs to measure figures on, and one small reproduction: two modalities, two seeds, one epoch."""

import contextlib
import dataclasses
from pathlib import Path

import pytest
import yaml

from pase_msa.cli.main import main
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.evaluation.loaded import load_run
from pase_msa.paper import methods, table2, table3
from pase_msa.studies import training_cell
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.run import train
from tests.toys import tiny_spec

BASE = {
    "model": {"width": 4},
    "encoders": {"default": {"hidden": 4}},
    "training": {"epochs": 1, "batch_size": 16, "accelerator": "cpu"},
}
SHARED = ("table4", "figure1", "figure3", "figure4", "figure5", "confidence", "noise")


def two_modalities(kind="regression", **sizes):
    spec = tiny_spec(kind, **sizes)
    return dataclasses.replace(spec, modalities={name: spec.modalities[name] for name in ("text", "audio")})


class Made:
    """Where the reproduction is, and what was trained for it."""

    def __init__(self, home: Path) -> None:
        self.home, self.trained = home, []
        # the name tells which published figures stand beside it
        self.data = home / "mosi_toy"
        self.out, self.runs = home / "results" / "mosi_toy", home / "runs"

    def reproduce(self, *what: str, data: Path | None = None, seeds: int = 2, more: tuple[str, ...] = ()) -> int:
        words = ["reproduce", *what, "--data", str(data or self.data), "--seeds", str(seeds), "--jobs", "1", *more]
        words += ["--base", str(self.home / "base.yaml")]
        if "--out" not in more:
            words += ["--out", str(self.out), "--runs", str(self.runs)]
        return main(words)


@contextlib.contextmanager
def small(found):
    """Without the page of each run, and without parts and baselines that differ by options only."""
    trained = training_cell.train

    def counted(config, **options):
        found.trained.append(Path(config.out).name)
        return trained(config, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_cell, "train", counted)
        patch.setattr(methods, "baselines", lambda: ["concat"])
        patch.setattr(
            table2,
            "_balanced",
            lambda: {"concat + held_out": methods.with_our_balancing("concat")["concat + held_out"]},
        )
        patch.setattr(table3, "_PARTS", {name: table3._PARTS[name] for name in ("- PCL", "+ Sum")})
        yield


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """Tables and figures about scores, made by two calls."""
    found = Made(tmp_path_factory.mktemp("reproduce"))
    synthetic_table(two_modalities(), path=found.data)
    (found.home / "base.yaml").write_text(yaml.safe_dump(BASE))
    with small(found):
        assert found.reproduce("table3") == 0
        found.after_table3 = len(found.trained)
        assert found.reproduce(*SHARED) == 0
    return found


@pytest.fixture
def made(everything):
    """The same, ready for further calls."""
    with small(everything):
        yield everything


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Run folders: PaSE with and without SGM, on scores and on classes, and concatenation."""
    home = tmp_path_factory.mktemp("runs")
    for kind in ("regression", "classification"):
        synthetic_table(tiny_spec(kind), path=home / kind)

    def trained(name, kind="regression", **options):
        config = RunConfig(
            data=str(home / kind),
            out=str(home / name),
            encoders={"default": {"hidden": 8}},
            training=TrainingConfig(epochs=4, batch_size=16, threads=1, accelerator="cpu"),
            **({"balancing": {"name": "sgm"}, "model": {"name": "pase", "width": 8}} | options),
        )
        return train(config, progress=False).path

    concat = {"model": {"name": "concat", "width": 8}, "balancing": {"name": "none"}}
    return {
        "pase": trained("pase", phases=PhaseConfig(start="always")),
        "plain": trained("plain", phases=PhaseConfig(start="never")),
        "classes": trained("classes", "classification"),
        "concat": trained("concat", **concat),
    }


@pytest.fixture(scope="session")
def runs(folders):
    """The runs on validation, by name."""
    return {name: load_run(path, "valid", method=name) for name, path in folders.items()}
