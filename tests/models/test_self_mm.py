"""Self-MM: pseudo labels against the formula, when they move, and what they rest on."""

import copy

import numpy as np
import pytest
import torch

from pase_msa.models.self_mm import pseudo_label, relative_distance
from tests.reference import systems
from tests.toys import NAMES, toy_batch, toy_model

LABEL = torch.tensor([1.0, -2.0, 0.4])
OWN, FUSED = torch.tensor([0.25, -1 / 3, 2.0]), torch.tensor([1.0, -2 / 3, 0.05])


def test_a_pseudo_label_is_that_of_the_formula():
    found = pseudo_label(LABEL, OWN, FUSED, 3.0)
    assert found.tolist() == pytest.approx([0.25, -4 / 3, 3.0], abs=1e-4)
    assert np.allclose(found, systems.pseudo_label(LABEL.numpy(), OWN.numpy(), FUSED.numpy(), 3.0), atol=1e-5)


def test_a_feature_at_the_positive_centre_is_far_on_its_side():
    positive, negative = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    found = relative_distance(torch.stack([positive, negative, torch.zeros(2)]), positive, negative)
    assert found[0] > 1e6
    assert found[1] == pytest.approx(-1.0)
    assert found[2] == 0


def prepared(**options):
    model, batch = toy_model("self_mm", **options), toy_batch(n=24)
    model.fit_rows(batch.rows, batch.labels)
    return model.train(), batch


def epoch(model, batch):
    """One epoch of one step, and the sum of the branches' losses in it."""
    model.begin_epoch()
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    model.update(outputs, batch)
    return float(sum(value.detach() for name, value in losses.items() if name.startswith("unimodal/")))


def test_the_branches_learn_nothing_before_the_third_epoch():
    model, batch = prepared()
    assert [epoch(model, batch) == 0 for _ in range(4)] == [True, True, False, False]


def test_labels_move_by_the_running_mean_of_the_epochs():
    model, batch = prepared()
    epoch(model, batch)
    outputs = model(batch)
    state, name = copy.deepcopy(model.row_state), "text"
    model.begin_epoch()
    model.update(outputs, batch)
    label = batch.labels.numpy()
    feature = {n: getattr(state, f"feature_{n}").numpy() for n in ("+", name)}
    now = {"+": outputs.fused.detach().numpy(), name: outputs.state.tensors[name].detach().numpy()}
    distance = {n: systems.relative_distance(now[n], feature[n], label) for n in now}
    new = systems.pseudo_label(label, distance[name], distance["+"], 3.0)
    expected = label / 3 + 2 / 3 * new  # n = 2
    assert np.allclose(model.row_state.label_text.numpy(), expected, atol=1e-3)


def test_a_branch_whose_labels_are_all_of_one_sign_keeps_them():
    model, batch = toy_model("self_mm"), toy_batch(n=12)
    batch.labels = batch.labels.abs() + 0.5
    model.fit_rows(batch.rows, batch.labels)
    for _ in range(4):
        assert epoch(model.train(), batch) == 0
    assert torch.equal(model.row_state.label_text, batch.labels)


def test_an_absent_modality_has_no_new_label_and_no_part_in_the_centres():
    model, batch = prepared()
    for _ in range(3):
        epoch(model, batch)
    absent = ~batch.present["vision"]
    assert absent.any()
    assert torch.equal(model.row_state.label_vision[absent], batch.labels[absent])
    assert not model.row_state.seen_vision[absent].any()
    assert not torch.equal(model.row_state.label_vision[~absent], batch.labels[~absent])


def test_rows_may_be_in_any_order():
    model, batch = toy_model("self_mm"), toy_batch(n=12)
    order = torch.randperm(12)
    model.fit_rows(batch.rows[order], batch.labels[order])
    assert torch.equal(model.row_state.label_text, batch.labels)


def test_classes_are_learned_by_the_true_class():
    model, batch = toy_model("self_mm", "classification"), toy_batch("classification")
    model.fit_rows(batch.rows, batch.labels)
    assert model.row_state is None
    assert epoch(model.train(), batch) > 0
    assert {f"unimodal/{name}" for name in NAMES} < set(model.losses(model(batch), batch))
