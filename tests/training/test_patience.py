"""Early stopping: training stops when neither the metric nor the network by itself gets better."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from pase_msa.training.callbacks import Patience


def stopped_after(maes, progress=None, *, patience=3, cut=None):
    """Number of epochs until the stop, or None; `cut`: epoch after which the run is resumed from its state."""
    trainer = SimpleNamespace(
        callback_metrics={},
        fast_dev_run=False,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        sanity_checking=False,
        should_stop=False,
        current_epoch=0,
        world_size=1,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda stop, all: stop),
    )

    def make():
        return Patience("val/mae", mode="min", patience=patience, check_on_train_epoch_end=True)

    rule = make()
    for epoch, mae in enumerate(maes):
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"val/mae": torch.tensor(mae)}
        if progress is not None:
            trainer.callback_metrics["val/progress"] = torch.tensor(progress[epoch])
        rule.on_train_epoch_end(trainer, None)
        if trainer.should_stop:
            return epoch + 1
        if epoch == cut:
            state, rule = rule.state_dict(), make()
            rule.load_state_dict(state)
    return None


FLAT = [1.0] * 12


def test_without_progress_the_metric_alone_decides():
    assert stopped_after(FLAT) == 4


def test_training_goes_on_while_the_network_gets_better_by_itself():
    assert stopped_after(FLAT, [0.1 * epoch for epoch in range(12)]) is None


def test_the_wait_begins_when_progress_ends():
    assert stopped_after(FLAT, [-2.0, -1.9, -1.8, *[-1.85] * 9]) == 6


def test_progress_that_stands_still_changes_nothing():
    assert stopped_after(FLAT, [-2.0] * 12) == stopped_after(FLAT)


@pytest.mark.parametrize("cut", range(5))
def test_a_resumed_run_stops_where_the_other_one_did(cut):
    progress = [-2.0, -1.9, -1.8, *[-1.85] * 9]
    assert stopped_after(FLAT, progress, cut=cut) == stopped_after(FLAT, progress)
