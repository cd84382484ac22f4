"""What models with a prediction per modality share: losses over the utterances that have it."""

import pytest
import torch

from pase_msa.distributed import sum_over_processes
from pase_msa.models.unimodal import unimodal_loss
from pase_msa.objective import present_mean, task_losses
from tests.toys import toy_batch, toy_task


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_the_loss_is_that_of_the_task_over_the_utterances_that_have_the_modality(kind):
    task, batch = toy_task(kind), toy_batch(kind)
    logits, here = torch.randn(12, task.num_classes), torch.arange(12) % 3 > 0
    score = task.score(logits.softmax(1))[here] if kind == "regression" else None
    labels, weights = batch.labels[here], {"class_weight": 0.7, "score_weight": 0.4}
    expected = task_losses(logits[here], score, labels, task.membership(labels), **weights)
    found = unimodal_loss(task, logits, batch.labels, here, **weights)
    assert found.item() == pytest.approx(float(sum(expected.values())), rel=1e-5)


def test_where_no_utterance_has_the_modality_loss_and_gradient_are_zero():
    values = torch.randn(3, requires_grad=True)
    mean = present_mean(values, torch.zeros(3, dtype=torch.bool))
    mean.backward()
    assert mean == 0
    assert torch.equal(values.grad, torch.zeros(3))


def test_one_process_sums_over_itself():
    values = torch.randn(3)
    assert torch.equal(sum_over_processes(values), values)


def test_several_processes_sum_over_all_and_keep_their_own(monkeypatch):
    values = torch.tensor([1.0, 2.0])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(torch.tensor([3.0, 5.0])))
    assert sum_over_processes(values).tolist() == [4.0, 7.0]
    assert values.tolist() == [1.0, 2.0]
