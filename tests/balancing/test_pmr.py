"""PMR: against its paper's equations, its limits, and what it does for the modality that is behind."""

import numpy as np
import pytest
import torch

from pase_msa.balancing.base import Preparation
from pase_msa.balancing.pmr import coefficients, log_posterior, prototype_losses
from pase_msa.errors import PaSEError
from pase_msa.training.run import build_balancing
from tests.balancing.steps import balanced_steps, cut_and_whole, method_for, planted_batch, right_alone
from tests.balancing.test_baselines import fitted
from tests.reference import pmr as reference
from tests.toys import NAMES, toy_batch, toy_model

TWO = NAMES[:2]


def scores_of(*values):
    return torch.tensor(values), torch.ones(len(values), dtype=torch.bool)


def after_an_epoch(kind="regression", **options):
    """A prepared method with prototypes, a model, and a batch with labels between the classes."""
    model, batch = toy_model("concat", kind), toy_batch(kind)
    if kind == "regression":
        batch.labels = batch.labels * 0.9
    method = method_for(model, "pmr", **options)
    balanced_steps(model, method, [batch], rate=0.0)
    return method, model, batch


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_prototypes_and_losses_are_the_papers(kind):
    method, model, batch = after_an_epoch(kind, alpha=1.5, mu=0.3)
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    result = method.reweight(losses, outputs, batch, None)
    membership = model.task.membership(batch.labels).tolist()
    losses_, scores, entropies = [], [], []
    for index, name in enumerate(NAMES):
        vectors, present = outputs.vectors[name].tolist(), batch.present[name].tolist()
        means = reference.prototypes(vectors, membership, present)
        for k, mean in enumerate(means):
            assert bool(method.known[index, k]) == (mean is not None)
            assert mean is None or np.allclose(method.prototypes[index, k], mean, atol=1e-5)
        loss, score, entropy = reference.terms(vectors, means, membership, present)
        losses_.append(loss), scores.append(score), entropies.append(entropy)
    beta = reference.of_many(scores)
    assert max(beta) > 0
    assert result["prototype"].item() == pytest.approx(1.5 * np.dot(beta, losses_), rel=1e-4)
    assert result["entropy"].item() == pytest.approx(-0.3 * max(beta) * entropies[int(np.argmax(scores))], rel=1e-4)
    assert all(result[name] is value for name, value in losses.items())


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.4), (0.2, 0.3), (0.9, 0.1), (0.3, 0.3)])
def test_coefficients_of_two_are_the_papers(first, second):
    assert coefficients(*scores_of(first, second)).tolist() == pytest.approx(reference.of_two(first, second), abs=1e-6)


def test_coefficients_of_three_follow_how_far_each_is_behind_the_best():
    result = coefficients(*scores_of(0.6, 0.4, 0.1)).tolist()
    assert result == pytest.approx(reference.of_many([0.6, 0.4, 0.1]))
    assert result == pytest.approx([0.0, 0.5, 1.0])


def test_a_modality_that_no_utterance_has_is_neither_ahead_nor_behind():
    scores = torch.tensor([0.4, 0.2, 0.0])
    result = coefficients(scores, torch.tensor([True, True, False]))
    assert result.tolist() == pytest.approx([0.0, 1.0, 0.0])


def test_equal_modalities_have_the_models_loss_alone():
    assert not coefficients(*scores_of(0.3, 0.3, 0.3)).any()


def test_absent_utterances_have_no_part_in_losses_and_gradients():
    method, model, batch = after_an_epoch()
    outputs = model(batch)
    vectors = torch.stack([outputs.vectors[name] for name in NAMES]).detach().requires_grad_()
    present = torch.stack([batch.present[name] for name in NAMES])
    logs = log_posterior(vectors, method.prototypes, method.known)
    each = prototype_losses(logs, method.known, model.task.membership(batch.labels), present)[0]
    each.sum().backward()
    assert not vectors.grad[2, 0].any(), "vision is absent in row 0"
    assert vectors.grad[2, 1:].any(1).all()


def test_a_vector_on_its_prototype_has_a_finite_gradient():
    prototypes = torch.randn(1, 3, 4)
    vectors = prototypes.clone().requires_grad_()
    logs = log_posterior(vectors, prototypes, torch.ones(1, 3, dtype=torch.bool))
    logs.diagonal(dim1=1, dim2=2).sum().backward()
    assert vectors.grad.isfinite().all()


def test_a_class_without_a_prototype_has_no_probability_and_no_loss():
    known = torch.tensor([[True, False, True]])
    vectors = torch.randn(1, 5, 4, requires_grad=True)
    logs = log_posterior(vectors, torch.randn(1, 3, 4), known)
    assert torch.allclose((logs.exp() * known).sum(2), torch.ones(1, 5))
    unseen = torch.eye(3)[torch.ones(5, dtype=torch.long)]
    loss, score, _ = prototype_losses(logs, known, unseen, torch.ones(1, 5, dtype=torch.bool))
    assert loss.item() == score.item() == 0
    loss.sum().backward()
    assert not vectors.grad.any()


def test_prototypes_carry_no_gradient():
    method, model, batch = after_an_epoch()
    assert not method.prototypes.requires_grad
    outputs = model(batch)
    method.reweight(model.losses(outputs, batch), outputs, batch, None)["prototype"].backward()
    assert any(p.grad.any() for name in NAMES for p in model.modality_parameters(name) if p.grad is not None)


def test_the_first_epoch_has_no_prototypes_and_no_terms():
    model, batch = toy_model("concat"), toy_batch()
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    assert method_for(model, "pmr").reweight(losses, outputs, batch, None).keys() == losses.keys()


def test_a_momentum_keeps_a_share_of_the_old_prototypes_and_of_unseen_classes_all():
    model = toy_model("concat", modalities=TWO)
    method = method_for(model, "pmr", momentum=0.25)
    weights = torch.ones(2, 7)
    method.take_means(torch.full((2, 7, 6), 4.0), weights)
    weights[:, 0] = 0
    method.take_means(torch.full((2, 7, 6), 8.0) * weights.unsqueeze(2), weights)
    assert method.prototypes[:, 0].unique().tolist() == [4.0]
    assert method.prototypes[:, 1:].unique().tolist() == [0.25 * 4 + 0.75 * 8]


def test_the_terms_end_after_their_epochs():
    model, batch = toy_model("concat"), toy_batch()
    method, found = method_for(model, "pmr", entropy_epochs=2, epochs=3), []

    def see(epoch):
        outputs = model(batch)
        before = method._totals
        found.append(set(method.reweight(model.losses(outputs, batch), outputs, batch, None)) - {"class", "score"})
        method._totals, method._acted = before, False

    balanced_steps(model, method, [batch], epochs=5, after=see)
    assert found == [{"prototype", "entropy"}] * 2 + [{"prototype"}, set(), set()]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_the_modality_that_is_behind_learns_more_than_in_plain_training(optimizer):
    """Text shows the class plainly and audio faintly; what audio's vectors alone tell of new utterances, of 3 seeds."""
    rate, epochs = (0.05, 25) if optimizer is torch.optim.SGD else (0.005, 15)
    train, new = (planted_batch({"text": 6.0, "audio": 1.5}, n, seed=s) for n, s in ((48, 1), (300, 2)))
    result = {}
    for name in ("none", "pmr"):
        right = []
        for seed in range(3):
            model = toy_model("concat", "classification", TWO, seed=seed)
            balanced_steps(model, method_for(model, name), [train], epochs=epochs, optimizer=optimizer, rate=rate)
            right.append(right_alone(model, "audio", train, new))
        result[name] = np.mean(right)
    assert result["pmr"] > result["none"] + 0.02


def test_one_modality_is_left_alone(score_table):
    after = fitted(score_table, "pmr", modalities=["text"])[1]
    assert torch.equal(after, fitted(score_table, "none", modalities=["text"])[1])


def test_a_run_that_is_cut_short_ends_where_the_other_one_does(score_table, tmp_path, monkeypatch):
    cut, whole = cut_and_whole(score_table, tmp_path, monkeypatch, "pmr")
    assert all(torch.equal(cut[key], whole[key]) for key in whole)


def test_a_model_without_vectors_is_refused():
    model = toy_model("ef_lstm")
    with pytest.raises(PaSEError, match="has no vectors"):
        build_balancing({"name": "pmr"}).prepare(Preparation(model.task, model, None, None, None))


def test_an_epoch_reports_scores_and_coefficients(score_table):
    values = fitted(score_table, "pmr")[0].balancing.log_values()
    assert set(values) == {f"{what}/{name}" for what in ("s", "beta") for name in NAMES}
    assert min(values[f"beta/{name}"] for name in NAMES) < 0.1
    assert all(0 < values[f"s/{name}"] < 1 for name in NAMES)
