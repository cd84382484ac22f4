"""How evenly modalities contribute and learn."""

import math

import pandas as pd
import pytest

from pase_msa.paper import equity, table4


def test_contributions_add_up_to_the_gain_over_a_constant():
    given = {frozenset("a"): 0.7, frozenset("b"): 0.5, frozenset("ab"): 0.8}
    found = equity.contributions(given, 0.5, "ab")
    assert found == pytest.approx({"a": 0.25, "b": 0.05})


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.2, 0.2, 0.2), 1.0), ((0.3, 0.0), 0.0), ((0.3, -0.2), 0.0), ((0.1, 0.3), 0.811278), ((0.4, 0.4, -1), 0.63093)],
)
def test_equity_is_the_entropy_of_shares(values, expected):
    assert equity.equity(values) == pytest.approx(expected, abs=1e-5)


def test_where_nothing_contributes_there_is_no_equity():
    assert math.isnan(equity.equity([-0.1, 0.0]))


def test_gradients_are_balanced_where_norms_times_factors_are_alike():
    even = {"gradient/a": 4.0, "phi/a": 0.25, "gradient/b": 1.0, "phi/b": 1.0}
    alone = {"gradient/a": 4.0, "gradient/b": 0.0}
    assert equity.gradient_imbalance([even], "ab") == pytest.approx(0)
    assert equity.gradient_imbalance([even, alone], "ab") == pytest.approx(0.5)
    assert math.isnan(equity.gradient_imbalance([{"train/loss": 1.0}], "ab"))


def test_the_best_constant_prediction_has_the_share_of_the_larger_half(runs):
    run = runs["classes"]
    counts = pd.Series(run.labels.numpy()).value_counts()
    assert equity.best_constant(run, "accuracy") == pytest.approx(counts.max() / counts.sum())


def test_a_run_has_contributions_and_both_indices(runs):
    run = runs["pase"]
    frame = equity.measure(run, table4.measure([run]), "acc2_negpos")
    mine = frame[frame["imputation"] == "on"].set_index(["metric", "modality"])["value"]
    whole = run.metrics(run.logits())["acc2_negpos"] - equity.best_constant(run, "acc2_negpos")
    assert mine["acc2_negpos"].sum() == pytest.approx(whole, abs=1e-6)
    assert 0 < mine[equity.IMBALANCE, ""] < 1
