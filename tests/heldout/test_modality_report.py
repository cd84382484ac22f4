"""What became of every modality: the network's contributions, the verdict, the words, and where they are printed."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pase_msa.data.dataset import evaluation_loader
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.heldout.contributions import Estimate
from pase_msa.heldout.diagnosis import ModalityDiagnosis
from pase_msa.heldout.modality_report import (
    NetworkEvidence,
    Use,
    action,
    modality_report,
    network_evidence,
    refine,
    summary_lines,
)
from pase_msa.heldout.verdict import Evidence
from pase_msa.report.run_page import report_run
from pase_msa.report.terminal import render_table
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import prepare, train


def about(value, error=0.01, videos=30):
    """An estimate with its two-sided interval."""
    return Estimate(value, error, value - 2 * error, value + 2 * error, videos)


def diagnosed(verdict, valid):
    nothing = about(0.0)
    return ModalityDiagnosis(
        Evidence(about(0.3), about(0.2), about(0.2), valid, valid, nothing, nothing), verdict, "so", None, 1
    )


def network(train, valid, behind):
    return NetworkEvidence(train, valid, behind)


CASES = {
    "an excluded modality stays excluded": (
        "deceptive",
        about(0.2),
        network(about(0.3), about(0.0), about(0.2)),
        "deceptive",
    ),
    "identity too": ("identity", about(0.2), network(about(0.3), about(0.0), about(0.2)), "identity"),
    "as good as the reference": ("useful", about(0.2), network(about(0.3), about(0.2), about(0.0)), "useful"),
    "better than the reference": ("useful", about(0.2), network(about(0.3), about(0.4), about(-0.2)), "useful"),
    "surely behind": ("useful", about(0.2), network(about(0.1), about(0.1), about(0.1)), "under-trained"),
    "behind, but not surely": ("useful", about(0.2), network(about(0.1), about(0.1), about(0.1, 0.05)), "useful"),
    "surely behind by next to nothing": (
        "useful",
        about(0.2),
        network(about(0.1), about(0.1), about(0.009, 0.001)),
        "useful",
    ),
    "an undecided one can be under-trained": (
        "undecided",
        about(0.05),
        network(about(0.1), about(-0.05), about(0.1)),
        "under-trained",
    ),
    "the reference has no contribution either": (
        "uninformative",
        about(0.0),
        network(about(0.01), about(-0.1), about(0.1)),
        "uninformative",
    ),
    "learned by heart by the network": (
        "undecided",
        about(0.0, 0.1),
        network(about(0.2), about(-0.1), about(0.1)),
        "memorised",
    ),
    "new videos do not rule it out": (
        "undecided",
        about(0.0, 0.1),
        network(about(0.2), about(-0.1, 0.1), about(0.1)),
        "undecided",
    ),
    "a handful of videos decides nothing": (
        "undecided",
        about(0.0, 0.1),
        network(about(0.2), about(-0.1, 0.0, videos=3), about(0.1)),
        "undecided",
    ),
    "a useful one is not memorised": (
        "useful",
        about(0.2),
        network(about(0.2), about(-0.1), about(0.3, 0.2)),
        "useful",
    ),
    "a single video": (
        "undecided",
        about(0.2, float("inf"), 1),
        network(about(0.2), about(0.0, float("inf"), 1), about(0.2, float("inf"), 1)),
        "undecided",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_in_the_light_of_the_network(case):
    verdict, valid, evidence, wanted = CASES[case]
    result, why = refine(diagnosed(verdict, valid), evidence)
    assert result == wanted
    assert (why == "so") == (result == verdict)


def test_the_action_in_words():
    assert action("deceptive", Use(0.0, 0.0, 0.0), 0.1) == "excluded: no prediction uses it"
    assert action("useful", Use(1.0, 1.0, 0.0), 1.0) == "used by 100 % of the prediction"
    assert (
        action("useful", Use(0.6, 0.2, 0.4), 0.64)
        == "used by 60 % of the prediction, of which closed-form reference 40 %; learns at 64 % of the usual rate"
    )
    assert (
        action("uninformative", Use(0.001, 0.001, 0.0), 0.1)
        == "used by no prediction; learns at 10 % of the usual rate"
    )
    assert (
        action("under-trained", Use(0.9, 0.5, 0.4), 1.0)
        == "used by 90 % of the prediction, of which closed-form reference 40 %"
    )
    assert action("under-trained", Use(0.9, 0.9, 0.0), 1.0) == "used by 90 % of the prediction"
    # one with such a verdict that a prediction nevertheless uses is not called excluded
    assert "excluded" not in action("deceptive", Use(0.5, 0.5, 0.0), 1.0)


def test_summary_lines_are_those_of_modalities_that_need_one():
    words = "used by 100 % of the prediction, of which closed-form reference 40 %"
    rows = {
        "a": {"verdict": "useful", "prediction_weight": 1.0, "action": "used by 100 % of the prediction"},
        "b": {"verdict": "deceptive", "prediction_weight": 0.0, "action": "excluded: no prediction uses it"},
        "c": {"verdict": "under-trained", "prediction_weight": 1.0, "action": words},
        "d": {"verdict": "undecided", "prediction_weight": 0.0, "action": "used by no prediction"},
    }
    assert summary_lines({"modalities": rows}) == ["b: deceptive, excluded", f"c: under-trained, {words}"]


def table(kind="regression"):
    """Text tells much, audio something, vision something in training only."""
    modalities = {
        "text": ModalitySpec(4, length=(1, 1), noise=0.5),
        "audio": ModalitySpec(4, length=(1, 1), noise=0.8),
        "vision": ModalitySpec(4, length=(1, 1), strength=0.0, noise=0.5, deception=1.0),
    }
    sizes = {"train": 240, "valid": 120, "test": 40, "utterances_per_video": 4}
    return synthetic_table(SyntheticSpec(modalities, kind=kind, classes=3 if kind == "classification" else 7, **sizes))


def config(**changes):
    training = TrainingConfig(epochs=4, batch_size=32, learning_rate=5e-3, threads=1, accelerator="cpu")
    options = {"model": {"name": "pase", "width": 8}, "encoders": {"default": {"hidden": 8}}, "training": training}
    return RunConfig(**options | changes)


@pytest.fixture(scope="module", params=["regression", "classification"])
def untrained(request):
    return prepare(config(), table(request.param))


def test_contributions_of_the_network_add_up_to_the_gain_of_all_modalities_that_are_used(untrained):
    model, task = untrained.model.eval(), untrained.task
    diagnosis = untrained.balancing.diagnosis
    assert diagnosis.excluded == ("vision",)
    result = network_evidence(model, diagnosis, untrained.train, untrained.valid)
    total = sum(result[name].valid.value for name in ("text", "audio"))
    (batch,) = evaluation_loader(untrained.valid, 1000)
    with torch.no_grad():
        said = model.network_coalitions(batch, [frozenset({"text", "audio"})])[0].probabilities.double()
    targets = untrained.train.labels[untrained.train.rows]
    if task.kind == "regression":
        truth, score = batch.labels.double().numpy(), task.score(said).numpy()
        width, wide = np.sqrt(((truth - score) ** 2).mean()), targets.std()
        ours = -0.5 * ((truth - score) / width) ** 2 - np.log(width)
        gain = (ours + 0.5 * ((truth - targets.mean()) / wide) ** 2 + np.log(wide)).mean()
    else:
        prior = np.bincount(targets.astype(int), minlength=3) / len(targets)
        chosen, true = np.linspace(0.25, 10, 3901), batch.labels.long().numpy()
        excess = said.log().numpy() - np.log(prior)
        flat = np.log(prior) + chosen[:, None, None] * excess
        flat -= np.log(np.exp(flat).sum(2, keepdims=True))
        gain = (flat[:, np.arange(len(true)), true] - np.log(prior)[true]).mean(1).max()
    assert total == pytest.approx(gain, abs=1e-4)


def test_the_reference_minus_the_network_is_paired(untrained):
    diagnosis = untrained.balancing.diagnosis
    result = network_evidence(untrained.model.eval(), diagnosis, untrained.train, untrained.valid)
    for name, evidence in result.items():
        told = diagnosis.modalities[name].evidence.valid
        assert diagnosis.valid_contributions[name].mean() == pytest.approx(told.value)
        assert evidence.behind.value == pytest.approx(told.value - evidence.valid.value)
        assert evidence.train.videos <= 60
        assert evidence.valid.videos == told.videos == 30


def test_a_network_that_learned_nothing_is_under_trained(untrained):
    result = modality_report(
        untrained.model.eval(), untrained.balancing.diagnosis, untrained.train, untrained.valid, rates={"text": 0.5}
    )
    verdicts = {name: row["verdict"] for name, row in result["modalities"].items()}
    assert verdicts == {"text": "under-trained", "audio": "under-trained", "vision": "deceptive"}
    text = result["modalities"]["text"]
    assert text["diagnosis"] == "useful"
    assert text["why"].startswith("contributes ")
    assert text["learning_rate"] == 0.5
    # there is no mixture yet: the network alone predicts, with all modalities
    assert result["coalition_weights"] == {}
    assert result["reference_weight"] == 0
    assert {row["prediction_weight"] for row in result["modalities"].values()} == {1.0}


def test_prediction_weights_are_those_of_network_and_reference(untrained):
    model = untrained.model.eval()
    model.mixture.set({frozenset({"text"}): 0.5, frozenset({"text", "audio"}): 0.5}, 0.4)
    try:
        result = modality_report(model, untrained.balancing.diagnosis, untrained.train, untrained.valid, rates={})
    finally:
        model.mixture.set({})
    coalitions = model.reference.coalitions
    audio = sum(
        w for w, names in zip(model.reference.coalition_weights.tolist(), coalitions, strict=True) if "audio" in names
    )
    rows = result["modalities"]
    assert result["reference_weight"] == pytest.approx(0.4)
    assert rows["audio"]["network_weight"] == pytest.approx(0.6 * 0.5)
    assert rows["audio"]["reference_weight"] == pytest.approx(0.4 * audio)
    assert rows["audio"]["prediction_weight"] == pytest.approx(0.6 * 0.5 + 0.4 * audio)
    assert rows["text"]["prediction_weight"] == pytest.approx(1.0)
    assert rows["vision"]["prediction_weight"] == rows["vision"]["reference_weight"] == 0
    assert rows["vision"]["action"] == "excluded: no prediction uses it"
    assert rows["text"]["action"] == "used by 100 % of the prediction, of which closed-form reference 40 %"
    assert result["coalition_weights"] == {"text": pytest.approx(0.5), "text+audio": pytest.approx(0.5)}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_training_utterances_that_are_measured_are_fixed(untrained):
    model = untrained.model.eval()
    first, again = (
        network_evidence(model, untrained.balancing.diagnosis, untrained.train, untrained.valid, batch_size=size)
        for size in (256, 7)
    )
    for name, evidence in first.items():
        assert evidence.train.value == pytest.approx(again[name].train.value, abs=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "run"
    made = table()
    folder = train(config(out=str(out)), progress=False, table=made)
    return folder, made


def test_a_run_keeps_the_report_and_its_evaluation_repeats_it(run, monkeypatch):
    folder, made = run
    report = json.loads(folder.results.read_text())["modality_report"]
    assert report["mode"] == "held_out"
    assert report["modalities"]["vision"]["verdict"] == "deceptive"
    history = {row["epoch"]: row for row in json.loads(folder.results.read_text())["balancing"]}
    row = history[json.loads(folder.results.read_text())["best_epoch"]]
    for name, result in report["modalities"].items():
        assert result["learning_rate"] == pytest.approx(row["phi"][name] if row["active"] else 1.0)
    monkeypatch.setattr("pase_msa.evaluation.evaluate.open_data", lambda path, *_: made)
    result = evaluate(folder.path)
    assert result["modality_report"] == report
    assert "vision │ deceptive" in render_table(result)
    page = report_run(folder.path).read_text()
    for words in (
        "Modalities on new videos",
        "vision: deceptive",
        "excluded: no prediction uses it",
        "Used by, % of the prediction",
    ):
        assert words in page
    # what no prediction uses contributes exactly nothing
    excluded = result["contributions"]["vision"]
    assert excluded["nats"] == pytest.approx(0, abs=1e-9)
    assert excluded["metric"] == pytest.approx(0, abs=1e-9)
    assert result["subsets"]["text+vision"] == result["subsets"]["text"]


def test_a_run_under_sgm_has_no_report(tmp_path, monkeypatch):
    made = table()
    options = config(out=str(tmp_path / "run"), balancing={"name": "sgm"})
    options.training = dataclasses.replace(options.training, epochs=1)
    folder = train(options, progress=False, table=made)
    assert "modality_report" not in json.loads(folder.results.read_text())
    monkeypatch.setattr("pase_msa.evaluation.evaluate.open_data", lambda path, *_: made)
    result = evaluate(folder.path)
    assert "modality_report" not in result
    assert "Modalities on new videos" not in report_run(folder.path).read_text() + render_table(result)
