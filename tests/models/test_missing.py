"""What models for missing modalities share: how modalities are hidden, frozen copies, and the warm-up."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn

from pase_msa.models.missing import FrozenCopy, WarmUp, frozen_encoders, frozen_vectors, hide, masked_mse
from tests.toys import NAMES, toy_batch, toy_model


def patterns(rows, complete):
    """How often each pattern of modalities is left, of rows that have the given ones."""
    present = dict(zip(NAMES, torch.tensor([rows] * 6000, dtype=torch.bool).unbind(1), strict=True))
    left = torch.stack(list(hide(present, complete=complete).values()), dim=1)
    return Counter(tuple(row) for row in left.int().tolist())


def test_all_proper_patterns_are_drawn_equally_often():
    found = patterns([1, 1, 1], complete=False)
    assert len(found) == 6
    assert (0, 0, 0) not in found
    assert (1, 1, 1) not in found
    assert all(abs(count - 1000) < 150 for count in found.values())


def test_the_whole_pattern_is_one_of_them_where_it_is_asked_for():
    found = patterns([1, 1, 1], complete=True)
    assert len(found) == 7
    assert abs(found[1, 1, 1] - 6000 / 7) < 150


@pytest.mark.parametrize("complete", [False, True])
def test_an_absent_modality_is_never_left_and_a_single_one_always(complete):
    assert set(patterns([0, 1, 1], complete)) == {(0, 1, 0), (0, 0, 1)} | ({(0, 1, 1)} if complete else set())
    assert set(patterns([0, 1, 0], complete)) == {(0, 1, 0)}
    assert set(patterns([0, 0, 0], complete)) == {(0, 0, 0)}


def test_a_frozen_copy_is_the_module_as_it_was_in_evaluation():
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    frozen, before, x = FrozenCopy(module), copy.deepcopy(module).eval(), torch.randn(5, 3)
    with torch.no_grad():
        module[0].weight.add_(1.0)
    result = frozen(module, x.requires_grad_())
    torch.testing.assert_close(result, before(x))
    assert not result.requires_grad
    assert all(part.training for part in module.modules())
    assert list(frozen.parameters()) == []
    frozen.take(module)
    torch.testing.assert_close(frozen(module, x), module.eval()(x))


def test_frozen_vectors_are_those_of_the_model_at_the_time():
    model, batch = toy_model("mmin").eval(), toy_batch()
    copies = frozen_encoders(model)
    with torch.no_grad():
        expected, _ = model.encode(batch)
    found = frozen_vectors(model, copies, batch)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in NAMES)
    assert found["vision"][0].abs().sum() == 0  # which is absent


def test_the_warm_up_is_over_behind_its_last_epoch_also_for_a_run_that_goes_on():
    stage, found = WarmUp(2), []
    for _ in range(4):
        first = stage.begin_epoch()
        resumed = WarmUp(2)
        assert not resumed.over
        resumed.load_state_dict(stage.state_dict())
        found.append((first, stage.over, resumed.over))
    assert found == [(False, False, False), (False, False, False), (True, True, True), (False, True, True)]


def test_the_masked_error_is_the_mean_over_the_rows_that_count():
    guess, target = torch.tensor([[1.0, 2.0], [5.0, 5.0]]), torch.tensor([[0.0, 0.0], [9.0, 9.0]])
    assert masked_mse(guess, target, torch.tensor([True, False])) == 2.5
    assert masked_mse(guess, target, torch.tensor([False, False])) == 0
