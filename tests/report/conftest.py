"""Evaluated runs of three configurations with two seeds each, on the same data."""

import pytest

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import train
from tests.toys import tiny_spec

CONFIGURATIONS = {
    "concat": {"model": {"name": "concat", "width": 4}, "balancing": {"name": "none"}},
    "PaSE": {"model": {"name": "pase", "width": 4}, "balancing": {"name": "held_out"}},
    "PaSE_paper": {"model": {"name": "pase", "width": 4}, "balancing": {"name": "sgm"}},
}


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """Run folders by configuration."""
    root = tmp_path_factory.mktemp("report")
    synthetic_table(tiny_spec(), path=root / "data")

    def run(name, seed):
        config = RunConfig(
            data=str(root / "data"),
            out=str(root / f"{name}-seed{seed}"),
            seed=seed,
            encoders={"default": {"hidden": 4}},
            training=TrainingConfig(epochs=1, batch_size=16, threads=1, accelerator="cpu"),
            **CONFIGURATIONS[name],
        )
        folder = train(config, progress=False).path
        evaluate(folder)
        return folder

    return {name: [run(name, seed) for seed in (1, 2)] for name in CONFIGURATIONS}
