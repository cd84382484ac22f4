"""Two processes that `torchrun` starts are one process with the joint batch."""

import os
import socket
import traceback

import pytest
import torch

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.processes import share
from pase_msa.training.run import prepare
from tests.toys import tiny_spec

BALANCING = {"plain": {"name": "none"}, "held out": {"name": "held_out", "exploration": 1.0}}


def trained(balancing, batch_size):
    """Weights and the validation metrics after two epochs without anything random but the order."""
    training = TrainingConfig(epochs=2, batch_size=batch_size, modality_dropout=0.0, threads=1, accelerator="cpu")
    training.optimizer, training.learning_rate = "sgd", 0.1
    encoders = {"default": {"hidden": 8, "dropout": 0.0}}
    model = {"name": "pase", "width": 8, "dropout": 0.0}
    config = RunConfig(model=model, encoders=encoders, balancing=balancing, training=training)
    table = synthetic_table(tiny_spec())
    prepared = prepare(config, table)
    trainer, _ = fit(config, prepared, None, progress=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    return prepared.model.state_dict(), metrics


def one_of_two(rank, port, folder):
    """What one of the processes does; it ends here."""
    try:
        torch.set_num_threads(1)
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
        }
        torch.save({name: trained(options, 8) for name, options in BALANCING.items()}, folder / f"{rank}.pt")
    except BaseException:
        (folder / f"{rank}.txt").write_text(traceback.format_exc())
    finally:
        os._exit(0)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Results of the two processes, which are forked so that nothing is imported again."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            one_of_two(rank, port, folder)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert not [file.read_text() for file in folder.glob("*.txt")]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    return {name: trained(options, 16) for name, options in BALANCING.items()}


@pytest.mark.parametrize("name", BALANCING)
def test_two_processes_have_the_weights_of_one_with_the_joint_batch(both, alone, name):
    weights = alone[name][0]
    for result in both:
        for key, value in result[name][0].items():
            torch.testing.assert_close(value, weights[key], atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.parametrize("name", BALANCING)
def test_shares_of_validation_give_the_metrics_of_all_of_it(both, alone, name):
    metrics = alone[name][1]
    for result in both:
        assert result[name][1] == pytest.approx(metrics, abs=1e-4)


@pytest.mark.parametrize(("count", "processes"), [(7, 2), (3, 3), (100, 8)])
def test_shares_are_all_rows_once_and_in_order(count, processes):
    rows = [row for number in range(processes) for row in range(count)[share(count, number, processes)]]
    assert rows == list(range(count))
