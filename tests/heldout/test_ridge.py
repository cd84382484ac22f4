"""The ridge regressions against their definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from pase_msa.heldout import ridge as solving
from pase_msa.heldout.ridge import RidgeSolver
from tests.reference import ridge


@pytest.fixture(autouse=True, scope="module")
def _one_thread_of_numpy():
    """Small systems are solved no sooner by several threads, and much later on a busy machine."""
    with threadpool_limits(1):
        yield


steady = settings(derandomize=True, deadline=None, max_examples=15)


def solver_of(sizes, training, outputs=1, folds=3, seed=0):
    """A solver of random features of these sizes, and what it was given."""
    rng = np.random.default_rng(seed)
    features = {f"m{i}": rng.normal(size=(training + 9, size)) for i, size in enumerate(sizes)}
    targets = rng.normal(size=(training, outputs)) + sum(f[:training, :1] for f in features.values())
    random, grouped = rng.integers(0, folds, (2, training))
    return RidgeSolver(features, targets, random, grouped, seed), features, targets, random, grouped


def parts(solver, training):
    """Linear features, phases, offsets and top components of a solver, rows as they were given."""

    def given_order(values):
        return torch.cat([values[:training][solver.back], values[training:]]).numpy()

    linear = {name: given_order(solver.linear[:, columns]) for name, columns in solver.columns.items()}
    phases, top = (
        {name: given_order(values) for name, values in group.items()}
        for group in (solver.phases, solver.top_components)
    )
    return linear, phases, solver.offsets.numpy(), top


def assert_agrees(solver, names, targets, random, grouped):
    training = len(targets)
    design, sets = ridge.design(*parts(solver, training), names, training)
    wanted = ridge.predict(design, targets, random, grouped, training, sets)
    fit = solver.solve(names)
    for source, values in wanted.items():
        np.testing.assert_allclose(getattr(fit, source), values, atol=1e-8, rtol=0, err_msg=source)


@steady
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(8, 70),
    st.integers(1, 4),
    st.integers(2, 6),
    st.integers(0, 99),
    st.data(),
)
def test_every_fold_agrees_with_a_refit(sizes, training, outputs, folds, seed, data):
    solver, features, targets, random, grouped = solver_of(sizes, training, outputs, folds, seed)
    names = data.draw(st.lists(st.sampled_from(sorted(features)), min_size=1, unique=True))
    assert_agrees(solver, names, targets, random, grouped)


def nonlinear(seed=0):
    """Two modalities whose product is the target, so that linear components alone tell nothing."""
    rng = np.random.default_rng(seed)
    features = {name: rng.choice([-1.0, 1.0], size=(209, 1)) for name in ("m0", "m1")}
    targets = (features["m0"] * features["m1"])[:200] + 0.1 * rng.normal(size=(200, 1))
    random, grouped = rng.integers(0, 4, (2, 200))
    return RidgeSolver(features, targets, random, grouped, seed), features, targets, random, grouped


def test_products_are_used_where_the_folds_by_video_prefer_them():
    solver, _, targets, random, grouped = nonlinear()
    assert_agrees(solver, ["m0", "m1"], targets, random, grouped)
    fit = solver.solve(["m0", "m1"])
    assert not fit.weights[2:-1].any()
    assert np.abs(fit.weights[-1]) > 0
    assert np.abs(fit.grouped - (targets - targets.mean())).mean() < 0.15


def test_fourier_features_are_used_where_the_folds_by_video_prefer_them():
    rng = np.random.default_rng(0)
    features = {"m0": rng.normal(size=(209, 1))}
    targets = np.cos(2 * features["m0"])[:200] + 0.1 * rng.normal(size=(200, 1))
    random, grouped = rng.integers(0, 4, (2, 200))
    solver = RidgeSolver(features, targets, random, grouped)
    assert_agrees(solver, ["m0"], targets, random, grouped)
    assert np.abs(solver.solve(["m0"]).weights[1:]).max() > 0


def test_a_product_is_fitted_among_many_components_and_beside_a_third_modality():
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(500, 12)) for name in ("m0", "m1", "m2")}
    targets = features["m0"][:, :1] * features["m2"][:, :1]
    videos = np.arange(400) % 5
    solver = RidgeSolver(features, targets[:400], videos, videos)
    explained = {
        names: 1 - ((solver.solve(list(names)).valid - targets[400:]) ** 2).mean() / targets[400:].var()
        for names in (("m0", "m1"), ("m0", "m2"), ("m0", "m1", "m2"))
    }
    assert explained["m0", "m1"] < 0.1
    assert explained["m0", "m2"] > 0.5
    assert explained["m0", "m1", "m2"] > explained["m0", "m2"] - 0.1


def test_top_components_are_white_and_those_that_are_constant_are_left_out():
    solver, *_ = solver_of((30, 2), 60)
    _, _, _, top = parts(solver, 60)
    assert top["m0"].shape[1] == 12
    np.testing.assert_allclose(top["m0"][:60].T @ top["m0"][:60] / 60, np.eye(12), atol=1e-9)
    still = RidgeSolver({"m0": np.ones((69, 1)) * [0.0, 1.0]}, np.ones((60, 1)), *np.zeros((2, 60), int))
    assert still.top_components["m0"].shape[1] == 1


def test_a_linear_target_is_fitted_by_linear_components_alone():
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(209, 3)) for name in ("m0", "m1")}
    targets = features["m0"][:200, :1] - features["m1"][:200, :1] + 0.5 * rng.normal(size=(200, 1))
    fit = RidgeSolver(features, targets, *rng.integers(0, 4, (2, 200))).solve(["m0", "m1"])
    assert np.abs(fit.weights[:6]).max() > 0
    assert not fit.weights[6:].any()


@pytest.mark.parametrize("names", [["m0"], ["m1", "m0"]])
@pytest.mark.parametrize("make", [nonlinear, lambda: solver_of((5, 3), 40, outputs=3)], ids=["product", "sum"])
def test_weights_and_joint_mean_are_all_that_is_needed_to_predict(make, names):
    solver, _, targets, *_ = make()
    training, fit = len(targets), solver.solve(names)
    linear, phases, offset, top = parts(solver, training)
    joint = np.cos(sum(phases[name] for name in names) + offset) * np.sqrt(2 / len(offset))
    joint = np.concatenate([joint, *ridge.products(top, names)], axis=1)
    np.testing.assert_allclose(fit.joint_mean, joint[:training].mean(0), atol=1e-12)
    design = np.concatenate([*(linear[name] for name in names), joint - fit.joint_mean], axis=1)
    np.testing.assert_allclose(design[training:] @ fit.weights, fit.valid, atol=1e-12)


@pytest.mark.parametrize(("count", "kept"), [(1, 384), (2, 384), (3, 384), (4, 96), (8, 48)])
def test_a_modality_has_as_many_components_alone_as_with_two_others(count, kept):
    solver, *_ = solver_of((500, *[5] * (count - 1)), 60)
    assert len(solver.columns["m0"]) == kept


def test_a_size_that_is_padded_for_speed_agrees_too():
    solver, _, targets, random, grouped = solver_of((64, 64), 150)
    assert len(solver.columns["m0"]) + len(solver.columns["m1"]) + len(solver.offsets) == 256
    assert_agrees(solver, ["m0", "m1"], targets, random, grouped)


def test_linear_features_have_unit_norm_and_a_wide_modality_keeps_its_principal_components():
    solver, features, *_ = solver_of((5, 500), 60)
    linear, *_ = parts(solver, 60)
    for values in linear.values():
        assert (values[:60] ** 2).sum(1).mean() == pytest.approx(1)
    norm = np.sqrt((features["m0"][:60] ** 2).sum(1).mean())
    np.testing.assert_allclose(linear["m0"], features["m0"] / norm, atol=1e-12)
    assert linear["m1"].shape[1] == 384
    _, singular, _ = np.linalg.svd(features["m1"][:60])
    spread = np.sort((linear["m1"][:60] ** 2).sum(0))[::-1][:60]
    np.testing.assert_allclose(spread / spread.sum(), singular**2 / (singular**2).sum(), atol=1e-9)


def test_the_order_of_the_rows_does_not_matter():
    solver, features, targets, random, grouped = solver_of((6, 4), 50)
    order = np.random.default_rng(1).permutation(50)
    whole = np.r_[order, 50:59]
    shuffled = {name: values[whole] for name, values in features.items()}
    other = RidgeSolver(shuffled, targets[order], random[order], grouped[order])
    one, two = solver.solve(["m0", "m1"]), other.solve(["m0", "m1"])
    for source in ("sample", "random", "grouped"):
        np.testing.assert_allclose(getattr(two, source), getattr(one, source)[order], atol=1e-8)
    np.testing.assert_allclose(two.valid, one.valid, atol=1e-8)


def test_a_fold_is_predicted_without_its_own_targets():
    """Up to a constant: the targets are centred on the mean of all."""
    _, features, targets, random, grouped = solver_of((6,), 60)
    wild = targets.copy()
    held = grouped == 0
    wild[held] += np.random.default_rng(2).normal(size=wild[held].shape) * 50
    wild[held] += targets[held].mean() - wild[held].mean()
    # with one penalty there is nothing that the targets could choose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "PENALTIES", (1.0,))
        one, two = (RidgeSolver(features, t, random, grouped).solve(["m0"]) for t in (targets, wild))
    np.testing.assert_allclose(two.grouped[held], one.grouped[held], atol=1e-8)
    assert np.abs(two.grouped[~held] - one.grouped[~held]).max() > 0.1


def test_a_constant_modality_changes_no_prediction():
    solver, features, targets, random, grouped = solver_of((6,), 60)
    more = RidgeSolver({**features, "still": np.zeros((69, 7))}, targets, random, grouped)
    for source in ("sample", "random", "grouped", "valid"):
        np.testing.assert_array_equal(
            getattr(more.solve(["m0", "still"]), source), getattr(solver.solve(["m0"]), source)
        )
        alone = getattr(more.solve(["still"]), source)
        np.testing.assert_allclose(alone, getattr(more.solve([]), source), atol=1e-12)


def test_without_any_modality_the_mean_of_the_other_folds_is_predicted():
    solver, _, targets, random, grouped = solver_of((6,), 60)
    fit = solver.solve([])
    for source, folds in (("random", random), ("grouped", grouped)):
        for row in range(60):
            others = targets[folds != folds[row]]
            np.testing.assert_allclose(getattr(fit, source)[row] + targets.mean(0), others.mean(0), atol=1e-12)
    assert not fit.sample.any()
    assert fit.valid.shape == (9, 1)
    assert not fit.valid.any()
