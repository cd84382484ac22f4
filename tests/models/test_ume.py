"""Uni-modal ensemble: against a naive loop, and what it can and cannot learn."""

import numpy as np
import pytest
import torch

from pase_msa.models.ume import mean_probabilities
from tests.reference import ume as naive
from tests.toys import NAMES, toy_batch, toy_model


def test_the_prediction_is_that_of_a_naive_loop():
    model, batch = toy_model("ume", "classification").eval(), toy_batch("classification")
    batch.present["text"][:4] = False
    for name in NAMES:
        batch.present[name][2] = False
    model.fit_prior(batch.labels)
    outputs = model(batch)
    logits = {name: value.tolist() for name, value in outputs.state.tensors.items()}
    flags = {name: batch.present[name].tolist() for name in NAMES}
    expected = naive.ensemble(logits, flags, model.class_prior.tolist())
    assert np.allclose(outputs.probabilities.detach(), expected, atol=1e-6)


def test_the_losses_are_those_of_a_naive_loop():
    model, batch = toy_model("ume", "classification"), toy_batch("classification")
    batch.present["text"][:4] = False
    outputs = model(batch)
    logits = {name: value.tolist() for name, value in outputs.state.tensors.items()}
    flags = {name: batch.present[name].tolist() for name in NAMES}
    expected = naive.losses(logits, flags, batch.labels.long().tolist())
    found = model.losses(outputs, batch)
    assert {name: found[f"alone/{name}"].item() for name in NAMES} == pytest.approx(expected, rel=1e-5)


def test_the_score_is_the_mean_of_the_modalities_scores():
    model, batch = toy_model("ume").eval(), toy_batch(missing=False)
    alone = model.network_coalitions(batch, [frozenset([name]) for name in NAMES])
    mean = torch.stack([outputs.score for outputs in alone]).mean(0)
    assert torch.allclose(model(batch).score, mean, atol=1e-5)


def test_the_mean_leaves_absent_modalities_out():
    probabilities = torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]], [[0.1, 0.9]]])
    present = torch.tensor([[True], [True], [False]])
    assert torch.allclose(mean_probabilities(probabilities, present), torch.tensor([[0.6, 0.4]]))


def test_a_modality_learns_as_if_the_others_were_not_there():
    batch, after = toy_batch(missing=False), []
    for others in (NAMES, ("text",)):
        model = toy_model("ume")
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(5):
            shown = batch.only(others)
            optimizer.zero_grad()
            torch.stack(list(model.losses(model(shown), shown).values())).sum().backward()
            optimizer.step()
        after.append(
            [p.detach().clone() for p in (*model.encoders["text"].parameters(), *model.heads.text.parameters())]
        )
    assert all(torch.equal(one, two) for one, two in zip(*after, strict=True))


def accuracies(labels_of):
    """Training accuracy of the ensemble and of a concatenation, of labels that are a function of a sign in each."""
    batch = toy_batch("classification", NAMES[:2], n=40, steps=1, missing=False)
    text, audio = (batch.features[name][:, 0, 0] > 0 for name in NAMES[:2])
    for name in NAMES[:2]:
        batch.features[name] = batch.features[name].sign() * (torch.arange(batch.features[name].shape[2]) == 0)
    batch.labels = labels_of(text, audio).float()
    found = {}
    for name in ("ume", "concat"):
        model = toy_model(name, "classification", NAMES[:2])
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(60):
            optimizer.zero_grad()
            torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
            optimizer.step()
        found[name] = float((model.eval()(batch).probabilities.argmax(1) == batch.labels).float().mean())
    return found


def test_it_learns_what_a_modality_tells_by_itself():
    assert accuracies(lambda text, audio: text)["ume"] > 0.95


def test_it_cannot_learn_what_only_two_modalities_tell_together():
    found = accuracies(lambda text, audio: text ^ audio)
    assert found["ume"] < 0.7
    assert found["concat"] > 0.95
