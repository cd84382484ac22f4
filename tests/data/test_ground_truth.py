from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.ground_truth import bayes_score, true_contributions
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.errors import PaSEError

PAIR = SyntheticSpec({"a": ModalitySpec(dim=4, noise=0.8), "b": ModalitySpec(dim=4, noise=0.8)}, seed=2)


def with_both(spec: SyntheticSpec, **options: float) -> SyntheticSpec:
    return replace(spec, modalities={name: replace(m, **options) for name, m in spec.modalities.items()})


@pytest.fixture(scope="module")
def default():
    return synthetic_table()


@pytest.mark.parametrize("utility", ["log_likelihood", "accuracy"])
def test_the_default_modalities_contribute_differently(default, utility):
    on_test = true_contributions(SyntheticSpec(), utility=utility, table=default)
    truth = true_contributions(SyntheticSpec(), "population", utility)
    for values in (on_test, truth):
        assert values["text"] > 1.2 * values["audio"] > 1.2 * 1.2 * values["vision"] > 0.05
    for name, value in truth.items():
        assert on_test[name] == pytest.approx(value, abs=0.06)


@pytest.mark.parametrize("utility", ["log_likelihood", "accuracy"])
def test_contributions_sum_to_the_score_above_the_prior(default, utility):
    spec = SyntheticSpec()
    scores = bayes_score(spec, default, default.rows("test"), frozenset(spec.modalities))
    total = sum(true_contributions(spec, utility=utility).values())
    prior = np.log(1 / 7) if utility == "log_likelihood" else 1 / 7
    assert total == pytest.approx(scores[utility] - prior)


def test_a_stronger_modality_contributes_more():
    values = []
    for strength in (0.0, 0.5, 1.0, 2.0):
        modalities = dict(PAIR.modalities) | {"a": replace(PAIR.modalities["a"], strength=strength)}
        values.append(true_contributions(replace(PAIR, modalities=modalities), "population")["a"])
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(values) > 0.1)


def test_a_modality_of_strength_zero_contributes_nothing_even_with_shared_noise():
    modalities = {"a": ModalitySpec(redundancy=0.9), "b": ModalitySpec(strength=0.0, redundancy=0.9)}
    values = true_contributions(SyntheticSpec(modalities), "population")
    assert values["b"] == pytest.approx(0, abs=1e-12)
    assert values["a"] > 0.2


def test_equal_modalities_share_equally_and_redundancy_lowers_the_sum():
    sums = []
    for redundancy in (0.0, 0.3, 0.6, 1.0):
        values = true_contributions(with_both(PAIR, redundancy=redundancy), "population")
        assert values["a"] == pytest.approx(values["b"], abs=0.01)
        sums.append(sum(values.values()))
    assert np.all(np.diff(sums) < -0.02)
    # fully redundant: the two are worth what one is worth alone, but for the average over more frames
    lone = SyntheticSpec({"a": PAIR.modalities["a"]}, seed=2)
    assert sums[-1] == pytest.approx(true_contributions(lone, "population")["a"], abs=0.03)


def test_missing_lowers_the_contribution():
    modalities = dict(PAIR.modalities) | {"a": replace(PAIR.modalities["a"], missing=0.6)}
    values = true_contributions(replace(PAIR, modalities=modalities), "population")
    assert 0.1 < values["a"] < values["b"] - 0.1


def test_dominance_leaves_the_true_contributions_as_they_are():
    steep = with_both(PAIR, dominance=4.0)
    assert true_contributions(steep, "population") == true_contributions(PAIR, "population")


def test_deception_contributes_in_training_and_not_on_new_utterances():
    modalities = {"a": replace(PAIR.modalities["a"], strength=0.0, deception=1.0), "b": PAIR.modalities["b"]}
    spec = replace(PAIR, modalities=modalities)
    table = synthetic_table(spec)
    assert true_contributions(spec, "population")["a"] == pytest.approx(0, abs=1e-9)
    assert true_contributions(spec, "test", table=table)["a"] == pytest.approx(0, abs=1e-9)
    assert true_contributions(spec, "train", table=table)["a"] > 0.2
    # where there is a signal as well, the deception is in its way
    truthful, half = (replace(PAIR.modalities["a"], deception=deception) for deception in (0.0, 1.0))
    values = [
        true_contributions(replace(PAIR, modalities=modalities | {"a": a}), "population")["a"] for a in (truthful, half)
    ]
    assert 0.05 < values[1] < values[0] - 0.08


def test_identity_and_clumping_contribute_nothing():
    modalities = {"a": replace(PAIR.modalities["a"], strength=0.0, identity=3.0), "b": PAIR.modalities["b"]}
    spec = replace(PAIR, modalities=modalities)
    values, clumped = (true_contributions(replace(spec, clumping=c), "population") for c in (0.0, 0.8))
    assert values["a"] == clumped["a"] == pytest.approx(0, abs=1e-12)
    assert values["b"] == pytest.approx(clumped["b"], abs=0.03)


def test_a_synergy_pair_shows_the_polarity_only_together():
    spec = replace(with_both(PAIR, noise=0.3), synergy=("a", "b"), test=4000)
    table = synthetic_table(spec)
    scores = {names: bayes_score(spec, table, table.rows("test"), frozenset(names)) for names in ("", "a", "b", "ab")}
    assert scores["a"]["acc2_negpos"] == pytest.approx(0.5, abs=0.03)
    assert scores["b"]["acc2_negpos"] == pytest.approx(0.5, abs=0.03)
    assert scores["ab"]["acc2_negpos"] > 0.95
    # the first tells how strong the sentiment is, the second nothing at all
    assert scores["a"]["log_likelihood"] > scores[""]["log_likelihood"] + 0.5
    assert scores["b"]["log_likelihood"] == pytest.approx(scores[""]["log_likelihood"])
    values = true_contributions(spec, "population")
    assert values["a"] > values["b"] > 0.2


def test_each_modality_alone_is_clearly_below_all_together(default):
    spec, rows = SyntheticSpec(), default.rows("test")
    joint = bayes_score(spec, default, rows, frozenset(spec.modalities))
    assert 0.5 < joint["accuracy"] < 0.75
    assert joint["acc2_negpos"] > 0.9
    for name in spec.modalities:
        alone = bayes_score(spec, default, rows, frozenset({name}))
        assert alone["accuracy"] < joint["accuracy"] - 0.04
        assert alone["mae"] > joint["mae"] + 0.1
        assert alone["corr"] < joint["corr"] - 0.02
        assert alone["log_likelihood"] < joint["log_likelihood"] - 0.1


def test_without_modalities_the_scores_are_those_of_the_prior(default):
    scores = bayes_score(SyntheticSpec(), default, default.rows("test"), frozenset())
    assert scores["accuracy"] == pytest.approx(1 / 7)
    assert scores["log_likelihood"] == pytest.approx(np.log(1 / 7))
    assert np.isnan(scores["corr"])


def test_classification_has_no_scores_of_a_regression():
    spec = SyntheticSpec(kind="classification", classes=("sad", "happy", "angry", "neutral"))
    table = synthetic_table(spec)
    scores = bayes_score(spec, table, table.rows("test"), frozenset(spec.modalities))
    assert set(scores) == {"log_likelihood", "accuracy"}
    assert 0.6 < scores["accuracy"] < 1
    values = true_contributions(spec, "valid", table=table)
    assert values["text"] > values["audio"] > values["vision"] > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: true_contributions(PAIR, "exam"), "split"),
        (lambda: true_contributions(PAIR, utility="luck"), "utility"),
        (lambda: true_contributions(replace(PAIR, test=0)), "empty"),
        (lambda: true_contributions(PAIR, "population", draws=0), "draws"),
        (lambda: bayes_score(PAIR, synthetic_table(PAIR), [], frozenset("a")), "one row"),
    ],
)
def test_mistakes_are_refused_in_a_sentence(call, words):
    with pytest.raises(PaSEError, match=words):
        call()
