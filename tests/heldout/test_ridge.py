"""The reference model against its definition, and the features that it reads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from pase_msa.data.columns import SequenceColumn
from pase_msa.heldout import ridge as probe
from pase_msa.heldout.ridge import Reference, pooled
from tests.reference import ridge


@pytest.fixture(autouse=True, scope="module")
def _one_thread_of_numpy():
    """Small systems are solved no sooner by several threads, and much later on a busy machine."""
    with threadpool_limits(1):
        yield


steady = settings(derandomize=True, deadline=None, max_examples=15)


def reference(sizes, training, outputs=1, folds=3, seed=0):
    """A reference model of random features of these sizes, and what went in."""
    rng = np.random.default_rng(seed)
    features = {f"m{i}": rng.normal(size=(training + 9, size)) for i, size in enumerate(sizes)}
    targets = rng.normal(size=(training, outputs)) + sum(f[:training, :1] for f in features.values())
    random, grouped = rng.integers(0, folds, (2, training))
    return Reference(features, targets, random, grouped, seed), features, targets, random, grouped


def parts(model, training):
    """Linear features, phases, offset and leading components of a reference model, rows as they were given."""

    def given_order(values):
        return torch.cat([values[:training][model.back], values[training:]]).numpy()

    linear = {name: given_order(model.linear[:, columns]) for name, columns in model.columns.items()}
    phases, leading = (
        {name: given_order(values) for name, values in found.items()} for found in (model.phases, model.leading)
    )
    return linear, phases, model.offset.numpy(), leading


def assert_agrees(model, names, targets, random, grouped):
    training = len(targets)
    design, sets = ridge.design(*parts(model, training), names, training)
    wanted = ridge.predict(design, targets, random, grouped, training, sets)
    found = model.predict(names)
    for source, values in wanted.items():
        np.testing.assert_allclose(getattr(found, source), values, atol=1e-8, rtol=0, err_msg=source)


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
    model, features, targets, random, grouped = reference(sizes, training, outputs, folds, seed)
    names = data.draw(st.lists(st.sampled_from(sorted(features)), min_size=1, unique=True))
    assert_agrees(model, names, targets, random, grouped)


def nonlinear(seed=0):
    """Two modalities whose product is the target, so that linear components alone tell nothing."""
    rng = np.random.default_rng(seed)
    features = {name: rng.choice([-1.0, 1.0], size=(209, 1)) for name in ("m0", "m1")}
    targets = (features["m0"] * features["m1"])[:200] + 0.1 * rng.normal(size=(200, 1))
    random, grouped = rng.integers(0, 4, (2, 200))
    return Reference(features, targets, random, grouped, seed), features, targets, random, grouped


def test_products_are_used_where_the_folds_by_video_prefer_them():
    model, _, targets, random, grouped = nonlinear()
    assert_agrees(model, ["m0", "m1"], targets, random, grouped)
    found = model.predict(["m0", "m1"])
    assert not found.weights[2:-1].any()
    assert np.abs(found.weights[-1]) > 0
    assert np.abs(found.grouped - (targets - targets.mean())).mean() < 0.15


def test_fourier_features_are_used_where_the_folds_by_video_prefer_them():
    rng = np.random.default_rng(0)
    features = {"m0": rng.normal(size=(209, 1))}
    targets = np.cos(2 * features["m0"])[:200] + 0.1 * rng.normal(size=(200, 1))
    random, grouped = rng.integers(0, 4, (2, 200))
    model = Reference(features, targets, random, grouped)
    assert_agrees(model, ["m0"], targets, random, grouped)
    assert np.abs(model.predict(["m0"]).weights[1:]).max() > 0


def test_a_product_is_found_among_many_components_and_in_company():
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(500, 12)) for name in ("m0", "m1", "m2")}
    targets = features["m0"][:, :1] * features["m2"][:, :1]
    videos = np.arange(400) % 5
    model = Reference(features, targets[:400], videos, videos)
    told = {
        names: 1 - ((model.predict(list(names)).valid - targets[400:]) ** 2).mean() / targets[400:].var()
        for names in (("m0", "m1"), ("m0", "m2"), ("m0", "m1", "m2"))
    }
    assert told["m0", "m1"] < 0.1
    assert told["m0", "m2"] > 0.5
    assert told["m0", "m1", "m2"] > told["m0", "m2"] - 0.1


def test_leading_components_are_white_and_those_that_are_constant_are_left_out():
    model, *_ = reference((30, 2), 60)
    _, _, _, leading = parts(model, 60)
    assert leading["m0"].shape[1] == 12
    np.testing.assert_allclose(leading["m0"][:60].T @ leading["m0"][:60] / 60, np.eye(12), atol=1e-9)
    still = Reference({"m0": np.ones((69, 1)) * [0.0, 1.0]}, np.ones((60, 1)), *np.zeros((2, 60), int))
    assert still.leading["m0"].shape[1] == 1


def test_what_is_linear_is_told_by_linear_components_alone():
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(209, 3)) for name in ("m0", "m1")}
    targets = features["m0"][:200, :1] - features["m1"][:200, :1] + 0.5 * rng.normal(size=(200, 1))
    found = Reference(features, targets, *rng.integers(0, 4, (2, 200))).predict(["m0", "m1"])
    assert np.abs(found.weights[:6]).max() > 0
    assert not found.weights[6:].any()


@pytest.mark.parametrize("names", [["m0"], ["m1", "m0"]])
@pytest.mark.parametrize("make", [nonlinear, lambda: reference((5, 3), 40, outputs=3)], ids=["product", "sum"])
def test_weights_and_joint_mean_are_all_that_is_needed_to_predict(make, names):
    model, _, targets, *_ = make()
    training, found = len(targets), model.predict(names)
    linear, phases, offset, leading = parts(model, training)
    joint = np.cos(sum(phases[name] for name in names) + offset) * np.sqrt(2 / len(offset))
    joint = np.concatenate([joint, *ridge.products(leading, names)], axis=1)
    np.testing.assert_allclose(found.joint_mean, joint[:training].mean(0), atol=1e-12)
    design = np.concatenate([*(linear[name] for name in names), joint - found.joint_mean], axis=1)
    np.testing.assert_allclose(design[training:] @ found.weights, found.valid, atol=1e-12)


@pytest.mark.parametrize(("count", "kept"), [(1, 384), (2, 384), (3, 384), (4, 96), (8, 48)])
def test_a_modality_keeps_as_many_components_alone_as_in_the_company_of_two(count, kept):
    model, *_ = reference((500, *[5] * (count - 1)), 60)
    assert len(model.columns["m0"]) == kept


def test_a_size_that_is_padded_for_speed_agrees_too():
    model, _, targets, random, grouped = reference((64, 64), 150)
    assert len(model.columns["m0"]) + len(model.columns["m1"]) + len(model.offset) == 256
    assert_agrees(model, ["m0", "m1"], targets, random, grouped)


def test_linear_features_have_unit_norm_and_a_wide_modality_keeps_its_leading_components():
    model, features, *_ = reference((5, 500), 60)
    linear, *_ = parts(model, 60)
    for values in linear.values():
        assert (values[:60] ** 2).sum(1).mean() == pytest.approx(1)
    norm = np.sqrt((features["m0"][:60] ** 2).sum(1).mean())
    np.testing.assert_allclose(linear["m0"], features["m0"] / norm, atol=1e-12)
    assert linear["m1"].shape[1] == 384
    _, singular, _ = np.linalg.svd(features["m1"][:60])
    spread = np.sort((linear["m1"][:60] ** 2).sum(0))[::-1][:60]
    np.testing.assert_allclose(spread / spread.sum(), singular**2 / (singular**2).sum(), atol=1e-9)


def test_the_order_of_the_rows_does_not_matter():
    model, features, targets, random, grouped = reference((6, 4), 50)
    order = np.random.default_rng(1).permutation(50)
    whole = np.r_[order, 50:59]
    shuffled = {name: values[whole] for name, values in features.items()}
    other = Reference(shuffled, targets[order], random[order], grouped[order])
    one, two = model.predict(["m0", "m1"]), other.predict(["m0", "m1"])
    for source in ("sample", "random", "grouped"):
        np.testing.assert_allclose(getattr(two, source), getattr(one, source)[order], atol=1e-8)
    np.testing.assert_allclose(two.valid, one.valid, atol=1e-8)


def test_a_fold_is_predicted_without_its_own_targets():
    """Up to a constant: the targets are centred on the mean of all."""
    _, features, targets, random, grouped = reference((6,), 60)
    wild = targets.copy()
    held = grouped == 0
    wild[held] += np.random.default_rng(2).normal(size=wild[held].shape) * 50
    wild[held] += targets[held].mean() - wild[held].mean()
    # with one penalty there is nothing that the targets could choose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "PENALTIES", (1.0,))
        one, two = (Reference(features, t, random, grouped).predict(["m0"]) for t in (targets, wild))
    np.testing.assert_allclose(two.grouped[held], one.grouped[held], atol=1e-8)
    assert np.abs(two.grouped[~held] - one.grouped[~held]).max() > 0.1


def test_a_constant_modality_changes_no_prediction():
    model, features, targets, random, grouped = reference((6,), 60)
    more = Reference({**features, "still": np.zeros((69, 7))}, targets, random, grouped)
    for source in ("sample", "random", "grouped", "valid"):
        np.testing.assert_array_equal(
            getattr(more.predict(["m0", "still"]), source), getattr(model.predict(["m0"]), source)
        )
        alone = getattr(more.predict(["still"]), source)
        np.testing.assert_allclose(alone, getattr(more.predict([]), source), atol=1e-12)


def test_without_any_modality_the_mean_of_the_other_folds_is_predicted():
    model, _, targets, random, grouped = reference((6,), 60)
    found = model.predict([])
    for source, folds in (("random", random), ("grouped", grouped)):
        for row in range(60):
            others = targets[folds != folds[row]]
            np.testing.assert_allclose(getattr(found, source)[row] + targets.mean(0), others.mean(0), atol=1e-12)
    assert not found.sample.any()
    assert found.valid.shape == (9, 1)
    assert not found.valid.any()


def column(rows, dim):
    return SequenceColumn.from_arrays([None if row is None else np.asarray(row, np.float32) for row in rows], dim)


def ragged(count, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.normal(2, 3, (rng.integers(1, 6), dim)) for _ in range(count)]
    rows[1], rows[4] = None, np.full((2, dim), np.nan)
    rows[2][0, 0], rows[3][0, 1] = np.inf, np.nan
    return rows


def naive_pooled(rows, training):
    statistics = []
    for row in rows:
        values = np.full((1, 3), np.nan) if row is None else np.asarray(np.float32(row), np.float64)
        finite = [values[:, d][np.isfinite(values[:, d])] for d in range(values.shape[1])]
        means = [f.mean() if len(f) else np.nan for f in finite]
        statistics.append(means + [f.std() if len(f) else np.nan for f in finite])
    table = np.array(statistics)
    for d in range(table.shape[1]):
        known = table[:training, d][np.isfinite(table[:training, d])]
        table[:, d] = (table[:, d] - known.mean()) / known.std()
    return np.clip(np.nan_to_num(table), -5, 5)


def test_pooling_is_mean_and_deviation_of_the_finite_values_standardised_on_training_rows():
    rows = ragged(30)
    np.testing.assert_allclose(pooled(column(rows, 3), np.arange(30), 20), naive_pooled(rows, 20), atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 7, 30])
def test_chunks_change_nothing(chunk, monkeypatch):
    values = column(ragged(30), 3)
    whole = pooled(values, np.arange(30), 20)
    monkeypatch.setattr(probe, "_CHUNK", chunk)
    np.testing.assert_array_equal(pooled(values, np.arange(30), 20), whole)


def test_only_one_chunk_of_frames_is_held_at_a_time(monkeypatch):
    values, sizes = column(ragged(30), 3), []
    frames = values.frames
    monkeypatch.setattr(probe, "_CHUNK", 4)
    monkeypatch.setattr(values, "frames", lambda rows: sizes.append(len(rows)) or frames(rows))
    pooled(values, np.arange(30), 20)
    assert max(sizes) == 4
    assert sum(sizes) == 30


def test_single_vectors_have_no_deviation_and_constants_tell_nothing():
    rows = np.random.default_rng(0).normal(size=(12, 1, 3))
    rows[:, 0, 1] = 7.5
    found = pooled(column(rows, 3), np.arange(12), 8)
    assert found.shape == (12, 3)
    np.testing.assert_array_equal(found[:, 1], 0)


def test_validation_rows_do_not_move_the_scale_and_outliers_are_clipped():
    rows = np.random.default_rng(0).normal(size=(12, 1, 2))
    wild = rows.copy()
    wild[8:] *= 1e6
    one, two = (pooled(column(values, 2), np.arange(12), 8) for values in (rows, wild))
    np.testing.assert_array_equal(one[:8], two[:8])
    assert np.abs(two).max() == 5


def test_a_modality_that_is_nowhere_is_zero():
    np.testing.assert_array_equal(pooled(column([None] * 5, 2), np.arange(5), 3), np.zeros((5, 2)))
