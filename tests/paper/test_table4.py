"""Table 4: modalities that are masked, whole and at random."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.errors import PaSEError
from pase_msa.evaluation import inference
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.evaluation.imputation import imputation_switched
from pase_msa.evaluation.loaded import load_run
from pase_msa.paper import rates, table4
from pase_msa.paper.quoted import quoted
from pase_msa.paper.subset_methods import letters


def values(frame, **where):
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return dict(zip(frame["metric"], frame["value"], strict=True))


@pytest.fixture(scope="module")
def by_subset(runs):
    return table4.measure([runs["pase"], runs["concat"]])


def test_subsets_are_those_of_the_evaluation(folders):
    evaluated = evaluate(folders["pase"])["subsets"]
    frame = table4.measure([load_run(folders["pase"], "test")], imputation=("on",))
    assert set(frame["modalities"]) == set(evaluated)
    for name, expected in evaluated.items():
        assert values(frame, modalities=name) == pytest.approx(expected, nan_ok=True)


def test_all_subsets_are_measured_with_and_without_imputation(by_subset):
    pase, concat = (by_subset[by_subset["method"] == name] for name in ("pase", "concat"))
    assert len(set(pase["modalities"])) == len(set(concat["modalities"])) == 7
    assert list(dict.fromkeys(pase["imputation"])) == ["on", "off"]
    assert set(concat["imputation"]) == {"none"}
    assert values(pase, modalities="audio", imputation="on") != values(pase, modalities="audio", imputation="off")


def test_a_switched_imputation_is_switched_back(runs):
    model = runs["pase"].model
    with imputation_switched(model, "off"):
        assert model.imputation is False
    assert model.imputation is True
    assert runs["concat"].model.imputation is None


def test_a_table_stands_beside_the_quoted_results(by_subset):
    table = table4.beside_quoted(by_subset, "mosi", ("acc2_negpos",))
    assert len(table) == 21
    full = table[(table["method"] == "concat") & (table["modalities"] == "text+audio+vision")].iloc[0]
    assert full["quoted"] == 88.32
    mine = values(by_subset, method="concat", modalities="text+audio+vision")["acc2_negpos"]
    assert full["mean"] == pytest.approx(100 * mine)


def test_modalities_that_the_paper_does_not_have_keep_their_names():
    assert letters("vision+text+audio") == "T+A+V"
    assert letters("gaze+text") == "T+gaze"


@pytest.mark.parametrize("name", ["pase", "plain", "classes", "concat"])
def test_at_rate_zero_it_is_the_full_evaluation(runs, name):
    run = runs[name]
    frame = rates.measure([run], (0.0,), imputation=("on",))
    assert values(frame) == pytest.approx(run.metrics(run.logits()), nan_ok=True)
    assert set(frame["lost"]) == {0.0}


def test_at_rate_one_each_utterance_keeps_one_modality(runs):
    there = {name: runs["pase"].dataset.columns[name].present[runs["pase"].dataset.rows] for name in ("text", "vision")}
    left = rates.keep(there, 1.0, 0, 0)
    np.testing.assert_array_equal(sum(flags.astype(int) for flags in left.values()), 1)


def test_what_is_lost_stays_lost_at_higher_rates_and_is_never_all():
    there = {"a": np.ones(3000, bool), "b": np.arange(3000) % 3 > 0, "c": np.ones(3000, bool)}
    before = there
    for rate in (0.0, 0.2, 0.5, 0.7):
        left = rates.keep(there, rate, 3, 1)
        assert np.any(list(left.values()), axis=0).all()
        for name, flags in left.items():
            assert not (flags & ~before[name]).any()
        before = left
    # two independent modalities: one is lost with the rate, minus half of the chance that both would be
    both = {name: there[name] for name in "ac"}
    lost = 1 - rates.keep(both, 0.5, 3, 1)["a"].mean()
    assert lost == pytest.approx(0.5 - 0.5**2 / 2, abs=0.03)


def test_draws_differ_and_seeds_repeat(runs):
    first, again = (rates.measure([runs["concat"]], (0.5,), draws=2, seed=4) for _ in range(2))
    assert first.equals(again)
    assert values(first, draw=0) != values(first, draw=1)


def test_a_masked_modality_is_absent(runs):
    run = runs["pase"]
    expected = torch.cat([o.logits for o in run.outputs(lambda batch, place: batch.only({"text"}))])
    torch.testing.assert_close(run.given([frozenset({"text"})], "on")[0], expected)


def test_each_set_is_predicted_once(runs, monkeypatch):
    run = dataclasses.replace(runs["pase"], _given={})
    predicted = []
    monkeypatch.setattr(
        "pase_msa.evaluation.loaded.predict_coalitions",
        lambda *a, **k: predicted.append(a[2]) or inference.predict_coalitions(*a, **k),
    )
    table4.measure([run])
    assert [len(games) for games in predicted] == [7, 7]  # with imputation and without
    rates.measure([run], (0.0, 0.5), draws=1)
    assert len(predicted) == 2


@pytest.mark.parametrize(("name", "imputation"), [("pase", "on"), ("pase", "off"), ("plain", "on"), ("concat", "none")])
def test_each_utterance_is_predicted_from_what_it_keeps(runs, name, imputation):
    run = runs[name]
    rows = run.dataset.rows
    there = {key: run.dataset.columns[key].present[rows] for key in run.task.modalities}
    left = rates.keep(there, 0.5, 0, 1)

    def masked(batch, place):  # marked absent in the batch itself
        present = {key: flags & torch.from_numpy(left[key][place]) for key, flags in batch.present.items()}
        return dataclasses.replace(batch, present=present)

    with imputation_switched(run.model, imputation):
        expected = run.metrics(run.logits(masked))
    frame = rates.measure([run], (0.5,), draws=2)
    found = values(frame, draw=1, imputation=imputation)
    assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert found != pytest.approx(run.metrics(run.logits()), abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(("given", "draws"), [((1.5,), 1), ((0.5,), 0)])
def test_impossible_rates_are_refused(runs, given, draws):
    with pytest.raises(PaSEError, match=r"Rates lie in \[0, 1\]"):
        rates.measure([runs["concat"]], given, draws=draws)


def test_modalities_have_rates_of_their_own():
    there = {name: np.ones(4000, bool) for name in ("text", "audio", "vision")}
    left = rates.keep(there, {"text": 0.7, "audio": 0.1, "vision": 0.1}, 0, 0)
    lost = {name: 1 - flags.mean() for name, flags in left.items()}
    # nothing is left of .7 x .1 x .1 utterances; most of these keep the one that is seldom lost
    assert lost == pytest.approx({"text": 0.7, "audio": 0.1, "vision": 0.1}, abs=0.02)
    assert np.any(list(left.values()), axis=0).all()
    alike = rates.keep(there, dict.fromkeys(there, 0.4), 0, 0)
    for name, flags in rates.keep(there, 0.4, 0, 0).items():
        np.testing.assert_array_equal(alike[name], flags)


def test_uneven_losses_stand_beside_even_ones_of_the_same_mean(runs):
    frame = rates.measure_imbalanced([runs["concat"]], draws=2)
    cases = set(zip(frame["often"], frame["rate"], strict=True))
    three = {("text", 0.3), ("audio", 0.3), ("vision", 0.3), ("", 0.3)}
    assert cases == three | {("text+audio", 0.5), ("text+vision", 0.5), ("audio+vision", 0.5), ("", 0.5)}
    even = rates.measure([runs["concat"]], (0.3,), draws=2)
    own = frame[(frame["often"] == "") & (frame["rate"] == 0.3)]
    assert values(own, draw=1) == values(even, draw=1)


def test_one_modality_has_no_uneven_losses():
    assert rates.imbalanced(["text"]) == {}
    assert list(rates.imbalanced(["text", "audio"])) == [("text",), ("audio",)]


def test_quoted_results_have_a_source():
    table = quoted(4, "mosei")
    assert list(table.columns) == ["table", "dataset", "method", "metric", "value", "source"]
    assert len(table) == 14
    assert table["source"].str.len().min() > 0
    assert len(quoted()) == 375
    assert len(quoted("figure1")) == 2


@pytest.mark.parametrize(("table", "dataset"), [(9, None), (4, "sims")])
def test_results_that_are_not_quoted_are_refused(table, dataset):
    with pytest.raises(PaSEError, match="No figures are quoted"):
        quoted(table, dataset)
