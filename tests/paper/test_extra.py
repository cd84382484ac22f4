"""Figures that the paper does not have: confidence, noise, ground truth of contributions."""

import numpy as np
import pytest
import torch

from pase_msa.calibration import confidence, correct, expected_calibration_error
from pase_msa.data.dataset import evaluation_loader
from pase_msa.data.synthetic.spec import SyntheticSpec
from pase_msa.errors import PaSEError
from pase_msa.evaluation.inference import predict_coalitions
from pase_msa.objective import soft_cross_entropy
from pase_msa.paper import confidence as confidence_figure
from pase_msa.paper import ground_truth, noise
from tests.reference.separation import area_under_risk


def test_the_area_is_that_of_the_naive_curve_and_the_best_that_of_a_perfect_ranking(runs):
    run = runs["concat"]
    frame = confidence_figure.measure_selection([run])
    logits = run.logits()
    right = correct(run.task, logits, run.labels).tolist()
    sure = confidence(run.task, logits, float(run.model.temperature)).tolist()
    assert frame["aurc"].iloc[0] == pytest.approx(area_under_risk(sure, right))
    perfect = [flag + 1e-6 * i for i, flag in enumerate(right)]
    assert frame["best"].iloc[0] == pytest.approx(area_under_risk(perfect, right))
    assert frame["best"].iloc[0] <= frame["aurc"].iloc[0]
    assert frame["risk"].iloc[-1] == pytest.approx(1 - np.mean(right))


def test_calibration_is_measured_before_and_after_scaling(runs):
    run = runs["classes"]
    frame = confidence_figure.measure_calibration([run], bins=5)
    assert len(frame) == 10
    logits = run.logits()
    right = correct(run.task, logits, run.labels)
    for scaled, temperature in ((False, 1.0), (True, float(run.model.temperature))):
        rows = frame[frame["scaled"] == scaled]
        expected = expected_calibration_error(confidence(run.task, logits, temperature), right, 5)
        assert set(rows["ece"]) == {expected}
        assert rows["count"].sum() == len(run.labels)


def test_without_noise_it_is_the_full_evaluation(runs):
    run = runs["pase"]
    frame = noise.measure([run], (0.0, 1.0), draws=1)
    assert set(frame["modality"]) == set(run.task.modalities)
    still = frame[frame["level"] == 0]
    for _, rows in still.groupby("modality"):
        assert dict(zip(rows["metric"], rows["value"], strict=True)) == pytest.approx(run.metrics(run.logits()))
    assert not still["value"].isin(frame[frame["level"] == 1]["value"]).all()


def test_noise_has_the_deviation_of_the_features_and_leaves_all_else(runs):
    run = runs["pase"]
    batch = next(iter(evaluation_loader(run.dataset, 100)))
    loud = noise.noisy(run.model, "audio", 2.0, 0, 0, batch, slice(0, 100))
    torch.testing.assert_close(loud.features["text"], batch.features["text"], rtol=0, atol=0)
    added = loud.features["audio"] - batch.features["audio"]
    valid = torch.arange(added.shape[1]) < batch.lengths["audio"].unsqueeze(1)
    assert not added[~valid].any()
    scaled = added[valid] * run.model.scalers["audio"].inverse_scale
    assert float(scaled.std()) == pytest.approx(2.0, rel=0.25)
    half = noise.noisy(run.model, "audio", 1.0, 0, 0, batch, slice(0, 100))
    torch.testing.assert_close(2 * (half.features["audio"] - batch.features["audio"]), added, atol=1e-5, rtol=1e-5)


def test_noise_does_not_depend_on_the_batch(runs):
    run = runs["pase"]
    whole = next(iter(evaluation_loader(run.dataset, 100)))
    part = list(evaluation_loader(run.dataset, 5))[1]
    loud = noise.noisy(run.model, "text", 1.0, 0, 0, whole, slice(0, 100)).features["text"][5:10]
    alone = noise.noisy(run.model, "text", 1.0, 0, 0, part, slice(5, 10)).features["text"]
    torch.testing.assert_close(alone, loud[:, : alone.shape[1]], rtol=0, atol=0)


@pytest.mark.parametrize(("levels", "draws"), [((-1.0,), 1), ((), 1), ((1.0,), 0)])
def test_impossible_noise_is_refused(runs, levels, draws):
    with pytest.raises(PaSEError, match="Noise wants levels"):
        noise.measure([runs["pase"]], levels, draws=draws)


def test_measured_contributions_add_up_to_the_gain_in_log_likelihood(runs):
    run = runs["pase"]
    frame = ground_truth.measure([run])
    empty, full = predict_coalitions(run.model, run.dataset, [frozenset(), frozenset(run.task.modalities)])
    target = run.task.membership(run.labels)
    gain = soft_cross_entropy(empty, target).mean() - soft_cross_entropy(full, target).mean()
    assert frame["measured"].sum() == pytest.approx(float(gain), abs=1e-5)
    assert frame["rho"].nunique() == 1
    assert frame["rho"].iloc[0] == ground_truth.rank_correlation(frame["measured"].tolist(), frame["true"].tolist())


def test_ranks_correlate_by_order_only():
    assert ground_truth.rank_correlation([1, 2, 30], [0.1, 0.2, 0.3]) == pytest.approx(1)
    assert ground_truth.rank_correlation([3, 2, 1], [0.1, 0.2, 0.3]) == pytest.approx(-1)
    assert np.isnan(ground_truth.rank_correlation([0, 0, 0], [0.1, 0.2, 0.3]))
    assert np.isnan(ground_truth.rank_correlation([1], [1]))


def test_equal_true_contributions_are_ties_whatever_their_last_digits():
    found = [1.0, 2.0, 5.0, 4.0]
    one, other = [0.1, 0.1 + 1e-12, 0.2, 0.2], [0.1 + 1e-12, 0.1, 0.2, 0.2 + 1e-12]
    assert ground_truth.rank_correlation(found, one) == ground_truth.rank_correlation(found, other)


def test_the_grid_changes_one_modality():
    specs = ground_truth.grid(modality="audio", dominance=(0, 3), noise=(0.5, 1))
    assert [(s.modalities["audio"].dominance, s.modalities["audio"].noise) for s in specs] == [
        (0, 0.5), (0, 1), (3, 0.5), (3, 1)
    ]  # fmt: skip
    assert all(spec.modalities["text"] == SyntheticSpec().modalities["text"] for spec in specs)
    with pytest.raises(PaSEError, match="not 'gaze'"):
        ground_truth.grid(modality="gaze")


def test_data_without_a_ground_truth_are_refused(runs):
    run = runs["pase"]
    meta = run.table.meta
    run.table.meta = {key: value for key, value in meta.items() if key != "spec"}
    try:
        with pytest.raises(PaSEError, match="without a ground truth of contributions"):
            ground_truth.measure([run])
    finally:
        run.table.meta = meta
