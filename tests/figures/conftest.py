"""Trained runs that the figures are measured on."""

import pytest

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.evaluation.loaded import load_run
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.run import train
from tests.toys import tiny_spec


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Run folders: PaSE with and without SGM, on scores and on classes, and concatenation."""
    home = tmp_path_factory.mktemp("figures")
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
