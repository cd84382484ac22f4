"""Prototype calibration: eq. 1 to 3 against loops, and the laws that the model relies on."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.errors import PaSEError
from pase_msa.prototypes import PrototypeBank, calibration_loss, class_centroids, joint_posterior, log_posterior
from tests.reference import prototypes as oracle

K, D = 4, 3
steady = settings(derandomize=True, deadline=None, max_examples=25)


def features_of(n, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def soft_of(n, seed=0):
    return torch.rand(n, K, generator=torch.Generator().manual_seed(seed)).softmax(1)


@steady
@given(st.lists(st.lists(st.integers(0, K - 1), min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 9))
def test_hard_membership_agrees_with_the_equations(batches, seed):
    bank = PrototypeBank(K, D, momentum=0.9)
    content = [(features_of(len(classes), seed + i), classes) for i, classes in enumerate(batches)]
    for features, classes in content:
        bank.update(features, torch.tensor(classes))
    expected = oracle.prototypes_after(
        [(features.numpy(), oracle.one_hot(classes, K)) for features, classes in content], K, D, 0.9
    )
    assert bank.initialised.tolist() == (~np.isnan(expected[:, 0])).tolist()
    np.testing.assert_allclose(bank.prototypes.numpy(), np.nan_to_num(expected), atol=1e-5)


def test_soft_membership_agrees_with_the_equations():
    bank = PrototypeBank(K, D, momentum=0.7)
    content = [(features_of(5, seed), soft_of(5, seed)) for seed in range(3)]
    for features, membership in content:
        bank.update(features, membership)
    expected = oracle.prototypes_after([(x.numpy(), m.numpy()) for x, m in content], K, D, 0.7)
    np.testing.assert_allclose(bank.prototypes.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.98])
def test_the_first_centroid_is_the_first_prototype_whatever_the_momentum(momentum):
    bank = PrototypeBank(K, D, momentum)
    features = features_of(3)
    bank.update(features, torch.tensor([1, 1, 2]))
    assert torch.allclose(bank.prototypes[1], features[:2].mean(0), atol=1e-6)
    assert torch.allclose(bank.prototypes[2], features[2], atol=1e-6)
    assert bank.initialised.tolist() == [False, True, True, False]


def test_a_class_that_comes_late_is_initialised_late():
    bank = PrototypeBank(K, D)
    bank.update(features_of(2), torch.tensor([0, 1]))
    late = features_of(1, seed=5)
    bank.update(late, torch.tensor([3]))
    assert torch.allclose(bank.prototypes[3], late[0], atol=1e-6)


def test_an_absent_class_keeps_its_prototype():
    bank = PrototypeBank(K, D)
    bank.update(features_of(4), torch.arange(4))
    before = bank.prototypes.clone()
    bank.update(features_of(2, seed=1), torch.tensor([0, 2]))
    assert torch.equal(bank.prototypes[[1, 3]], before[[1, 3]])
    assert not torch.equal(bank.prototypes[[0, 2]], before[[0, 2]])


def test_absent_rows_do_not_count():
    present = torch.tensor([True, False, True])
    features, classes = features_of(3), torch.tensor([0, 0, 1])
    features[1] = 1e6
    masked, without = PrototypeBank(K, D), PrototypeBank(K, D)
    masked.update(features, classes, present)
    without.update(features[present], classes[present])
    assert torch.equal(masked.prototypes, without.prototypes)
    assert torch.equal(masked.initialised, without.initialised)


def test_memberships_of_zero_do_not_count_and_may_differ_by_modality():
    features, membership = torch.stack([features_of(5), features_of(5, seed=1)]), soft_of(5)
    present = torch.tensor([[True, False, True, True, True], [True, True, True, True, False]])
    found, expected = (
        class_centroids(features, membership * present.unsqueeze(2)),
        class_centroids(features, membership, present),
    )
    assert all(torch.equal(first, second) for first, second in zip(found, expected, strict=True))


def test_a_batch_with_all_rows_absent_changes_nothing():
    bank = PrototypeBank(K, D)
    bank.update(features_of(4), torch.arange(4))
    before = bank.prototypes.clone()
    bank.update(features_of(4, seed=1), torch.arange(4), torch.zeros(4, dtype=torch.bool))
    assert torch.equal(bank.prototypes, before)


def stacked_case(n=6):
    """Features [2, N, D], soft labels [N, K] and presence [2, N]; class 3 is in no utterance of the second modality."""
    features, membership = torch.stack([features_of(n), features_of(n, seed=1)]), soft_of(n)
    membership[:, 3] *= torch.arange(n) < 2
    present = torch.ones(2, n, dtype=torch.bool)
    present[1, :2], present[0, 4] = False, False
    return features, membership, present


def test_a_stacked_bank_is_one_bank_per_modality():
    features, membership, present = stacked_case()
    stacked, alone = PrototypeBank(K, D, 0.9, modalities=2), [PrototypeBank(K, D, 0.9) for _ in range(2)]
    for shift in range(3):
        stacked.update(features + shift, membership, present)
        for each, bank in enumerate(alone):
            bank.update(features[each] + shift, membership, present[each])
    assert stacked.initialised.tolist() == [bank.initialised.tolist() for bank in alone]
    assert not stacked.initialised.all()
    assert torch.allclose(stacked.prototypes, torch.stack([bank.prototypes for bank in alone]), atol=1e-6)


def test_a_stacked_bank_takes_class_numbers_too():
    features = torch.stack([features_of(4), features_of(4, seed=1)])
    hard, soft = PrototypeBank(K, D, modalities=2), PrototypeBank(K, D, modalities=2)
    hard.update(features, torch.tensor([0, 1, 1, 3]))
    soft.update(features, torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 3]), K).float())
    assert torch.equal(hard.prototypes, soft.prototypes)


def test_one_modality_in_a_stack_is_a_stack():
    bank = PrototypeBank(K, D, modalities=1)
    bank.update(features_of(2).unsqueeze(0), torch.tensor([0, 1]))
    assert bank.prototypes.shape == (1, K, D)


def test_a_blend_is_what_update_leaves_and_moves_nothing_by_itself():
    features, membership, present = stacked_case()
    bank, other = PrototypeBank(K, D, modalities=2), PrototypeBank(K, D, modalities=2)
    for each in (bank, other):
        each.update(features, membership, present)
    before = bank.prototypes.clone()
    blend = bank.blend(features * 2, membership, present)
    assert torch.equal(bank.prototypes, before)
    bank.take(blend)
    other.update(features * 2, membership, present)
    assert torch.equal(bank.prototypes, other.prototypes)
    assert torch.equal(bank.initialised, other.initialised)


@pytest.mark.parametrize("gradient", ["straight_through", "ema"])
def test_the_gradient_of_a_blend_is_the_centroids_or_eq_2s(gradient):
    bank = PrototypeBank(K, D, momentum=0.9)
    bank.update(features_of(5), torch.tensor([0, 1, 1, 0, 1]))  # classes 2 and 3 have no prototype yet
    before = bank.prototypes.double().numpy().copy()
    before[2:] = np.nan
    features, classes = features_of(4, seed=1).requires_grad_(), [0, 2, 2, 0]
    upstream = features_of(K, seed=2)
    blend = bank.blend(features, torch.tensor(classes), gradient=gradient)
    (blend.prototypes * upstream).sum().backward()
    membership = oracle.one_hot(classes, K)
    if gradient == "straight_through":
        expected = oracle.straight_through_gradient(upstream.numpy(), membership)
    else:
        expected = oracle.ema_gradient(upstream.numpy(), membership, before, 0.9)
    np.testing.assert_allclose(features.grad.numpy(), expected, atol=1e-6)
    assert torch.equal(blend.prototypes[1], bank.prototypes[1]), "a class that is not in the batch stays"
    assert not blend.initialised[3]


def test_the_straight_through_blend_has_the_value_of_eq_2():
    features, membership, present = stacked_case()
    bank = PrototypeBank(K, D, modalities=2)
    bank.update(features, membership, present)
    through = bank.blend(features.clone().requires_grad_() + 1, membership, present)
    literal = bank.blend(features + 1, membership, present, gradient="ema")
    assert torch.equal(through.prototypes.detach(), literal.prototypes)


def test_nothing_is_masked_once_every_class_has_a_prototype():
    bank = PrototypeBank(K, D)
    bank.update(features_of(2), torch.tensor([0, 1]))
    assert bank.started
    assert torch.equal(bank.mask, torch.tensor([True, True, False, False]))
    complete = bank.state_dict()
    bank.update(features_of(4), torch.arange(4))
    assert bank.mask is None
    bank.load_state_dict({**complete, "initialised": torch.zeros(K, dtype=torch.bool)})
    assert not bank.started
    assert not bank.mask.any()


def test_a_bank_can_be_copied_and_pickled():
    bank = PrototypeBank(K, D, modalities=2)
    bank.update(torch.stack([features_of(4), features_of(4, seed=1)]).requires_grad_(), torch.arange(4))
    for other in (copy.deepcopy(bank), pickle.loads(pickle.dumps(bank))):
        other.update(torch.ones(2, 4, D), torch.arange(4))
        assert not torch.equal(other.prototypes, bank.prototypes)


def test_the_loss_of_a_stack_is_one_loss_per_modality():
    features, membership, present = stacked_case()
    bank = PrototypeBank(K, D, modalities=2)
    bank.update(features, membership, present)
    found = calibration_loss(features, bank.prototypes, membership, 0.3, present=present, initialised=bank.initialised)
    expected = [
        calibration_loss(
            features[each],
            bank.prototypes[each],
            membership,
            0.3,
            present=present[each],
            initialised=bank.initialised[each],
        )
        for each in range(2)
    ]
    assert torch.allclose(found, torch.stack(expected), atol=1e-6)


def test_log_posteriors_that_are_given_are_not_computed_again(monkeypatch):
    features, prototypes, classes = features_of(4).requires_grad_(), features_of(K, seed=1), torch.arange(4)
    expected = calibration_loss(features, prototypes, classes, 0.2)
    logs = log_posterior(features, prototypes, 0.2)
    monkeypatch.setattr("pase_msa.prototypes.log_posterior", lambda *_: pytest.fail("computed again"))
    loss = calibration_loss(features, prototypes, classes, 0.2, log_posteriors=logs)
    assert torch.equal(loss, expected)
    assert torch.autograd.grad(loss, features)[0].abs().sum() > 0


def test_the_joint_posterior_is_that_of_the_modalities_present_and_the_prior_where_there_are_none():
    posteriors, prior = torch.stack([soft_of(3), soft_of(3, seed=1)]), torch.tensor([0.4, 0.3, 0.2, 0.1])
    present, weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), torch.tensor([0.75, 0.25])
    joint = joint_posterior(posteriors, present, weights, prior)
    assert torch.allclose(joint[0], 0.75 * posteriors[0, 0] + 0.25 * posteriors[1, 0])
    assert torch.allclose(joint[1], posteriors[0, 1])
    assert torch.allclose(joint[2], prior)


def test_the_loss_agrees_with_eq_3():
    features, prototypes, membership = features_of(6), features_of(K, seed=1), soft_of(6)
    found = calibration_loss(features, prototypes, membership, 0.3)
    expected = oracle.calibration(features.numpy(), prototypes.numpy(), membership.numpy(), 0.3)
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_class_numbers_are_one_hot_memberships():
    features, prototypes, classes = features_of(4), features_of(K, seed=1), torch.tensor([3, 0, 1, 1])
    hard = calibration_loss(features, prototypes, classes, 0.1)
    soft = calibration_loss(features, prototypes, torch.nn.functional.one_hot(classes, K).float(), 0.1)
    assert torch.equal(hard, soft)


def test_the_gradient_reaches_every_feature():
    features = features_of(5).requires_grad_()
    calibration_loss(features, features_of(K, seed=1), torch.tensor([0, 1, 2, 3, 0]), 0.1).backward()
    assert (features.grad.norm(dim=1) > 1e-6).all()


def test_the_gradient_reaches_the_prototypes_too():
    prototypes = features_of(K, seed=1).requires_grad_()
    calibration_loss(features_of(4), prototypes, torch.arange(4), 0.1).backward()
    assert (prototypes.grad.norm(dim=1) > 1e-6).all()


def test_the_loss_is_the_mean_over_present_rows():
    features, prototypes, classes = features_of(4), features_of(K, seed=1), torch.arange(4)
    present = torch.tensor([True, False, True, False])
    masked = calibration_loss(features, prototypes, classes, 0.2, present=present)
    assert torch.allclose(masked, calibration_loss(features[present], prototypes, classes[present], 0.2))


def test_the_loss_of_no_rows_is_a_zero_that_can_be_differentiated():
    features = features_of(2).requires_grad_()
    loss = calibration_loss(
        features, features_of(K, seed=1), torch.tensor([0, 1]), 0.2, present=torch.zeros(2, dtype=torch.bool)
    )
    loss.backward()
    assert loss == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_a_class_without_prototype_has_no_posterior_and_no_part_in_the_loss():
    features, prototypes = features_of(3), features_of(K, seed=1)
    there = torch.tensor([True, True, False, True])
    posterior = log_posterior(features, prototypes, 0.1, there).exp()
    assert torch.equal(posterior[:, 2], torch.zeros(3))
    assert torch.allclose(posterior.sum(1), torch.ones(3))
    loss = calibration_loss(features, prototypes, torch.tensor([0, 2, 3]), 0.1, initialised=there)
    reduced = calibration_loss(features[[0, 2]], prototypes[there], torch.tensor([0, 2]), 0.1)
    assert loss.item() == pytest.approx(reduced.item() * 2 / 3, rel=1e-5)


def test_the_posterior_of_an_empty_bank_is_uniform():
    bank = PrototypeBank(K, D)
    posterior = log_posterior(features_of(2), bank.prototypes, 0.1, bank.initialised).exp()
    assert torch.allclose(posterior, torch.full((2, K), 1 / K))


def test_a_zero_feature_has_a_finite_loss_and_gradient():
    features = torch.zeros(1, D, requires_grad=True)
    loss = calibration_loss(features, features_of(K), torch.tensor([0]), 0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()


def test_an_update_between_forward_and_backward_is_harmless():
    bank = PrototypeBank(K, D)
    bank.update(features_of(4), torch.arange(4))
    features = features_of(4, seed=1).requires_grad_()
    loss = calibration_loss(features, bank.prototypes, torch.arange(4), 0.1)
    (expected,) = torch.autograd.grad(loss, features, retain_graph=True)
    bank.update(features, torch.arange(4))
    loss.backward()
    assert torch.equal(features.grad, expected)


def test_an_update_keeps_no_graph():
    bank = PrototypeBank(K, D)
    bank.update(features_of(4).requires_grad_(), torch.arange(4))
    assert not bank.prototypes.requires_grad


def test_the_state_survives_saving():
    bank, other = PrototypeBank(K, D), PrototypeBank(K, D)
    bank.update(features_of(2), torch.tensor([0, 2]))
    other.load_state_dict(bank.state_dict())
    for each in (bank, other):
        each.update(features_of(3, seed=1), torch.tensor([0, 1, 2]))
    assert torch.equal(bank.prototypes, other.prototypes)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: PrototypeBank(K, D, momentum=1.0), "momentum lies in [0, 1), found 1.0"),
        (lambda: PrototypeBank(0, D), "found 0 and 3"),
        (lambda: PrototypeBank(K, D, modalities=0), "one modality or more, found 0"),
        (lambda: PrototypeBank(K, D).update(features_of(2), torch.tensor([0])), "2 features came with 1 membership"),
        (lambda: PrototypeBank(K, D).update(features_of(2), torch.ones(2, 3)), r"[N] or [N, 4], found (2, 3)"),
        (lambda: calibration_loss(features_of(2), features_of(K), torch.arange(3), 0.1), "2 features came with"),
        (lambda: calibration_loss(features_of(2), features_of(K), torch.arange(2), 0.0), "above 0, found 0.0"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, words):
    with pytest.raises(PaSEError) as caught:
        call()
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def _process(rank, store, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    bank = PrototypeBank(K, D, momentum=0.9)
    for seed in range(3):
        share = slice(rank, None, 2)
        bank.update(features_of(6, seed)[share], soft_of(6, seed)[share])
    features = features_of(6, 7)[rank::2].requires_grad_()
    centroids, _ = class_centroids(features, soft_of(6, 7)[rank::2])
    centroids.square().sum().backward()
    # what a data-parallel strategy does with gradients
    torch.save((bank.prototypes, features.grad / 2), f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Prototypes and averaged gradients by two processes, each with half of every batch."""
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(_process, (str(folder / "store"), str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_processes_have_the_prototypes_of_one_with_the_joint_batch(two_processes):
    alone = PrototypeBank(K, D, momentum=0.9)
    for seed in range(3):
        alone.update(features_of(6, seed), soft_of(6, seed))
    for prototypes, _ in two_processes:
        assert torch.allclose(prototypes, alone.prototypes, atol=1e-6)


def test_two_processes_have_the_gradient_of_one_with_the_joint_batch(two_processes):
    features = features_of(6, 7).requires_grad_()
    class_centroids(features, soft_of(6, 7))[0].square().sum().backward()
    for rank, (_, gradient) in enumerate(two_processes):
        assert torch.allclose(gradient, features.grad[rank::2], atol=1e-6)
