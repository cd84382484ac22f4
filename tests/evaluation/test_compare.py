"""Comparison of evaluated runs: sums against the metrics, verdicts on known differences, refusals."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from pase_msa.cli.main import main
from pase_msa.errors import PaSEError
from pase_msa.evaluation.compare import compare
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.evaluation.moments import metrics_from_sums, per_utterance, utterance_moments
from pase_msa.evaluation.predictions import read_utterances
from pase_msa.metrics import task_metrics
from pase_msa.report.terminal import render_comparison
from pase_msa.task import Task
from pase_msa.training.run import train
from pase_msa.training.run_folder import RunFolder
from tests.toys import toy_task
from tests.training.killed import config


def random_predictions(task, random, count=60):
    probabilities = random.dirichlet(np.ones(task.num_classes), count)
    if task.kind == "classification":
        return probabilities, None, random.integers(0, task.num_classes, count).astype(float)
    score = task.score(torch.from_numpy(probabilities)).numpy() * 2
    return probabilities, score, np.round(random.uniform(-3, 3, count) * 2) / 2


@pytest.mark.parametrize("convention", ["mmsa", "mult", "pase", "sims"])
@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_from_sums_are_those_of_the_utterances(kind, convention, seed):
    random = np.random.default_rng(seed)
    task = toy_task(kind)
    probabilities, score, truth = random_predictions(task, random)
    names, moments = utterance_moments(task, probabilities, score, truth, convention)
    picks = [np.arange(60), random.integers(0, 60, 60), np.array([3, 3, 8])]
    weights = np.stack([np.bincount(pick, minlength=60) for pick in picks]).astype(float)
    result = metrics_from_sums(task, names, weights @ moments, convention)
    for i, pick in enumerate(picks):
        score_i = None if score is None else score[pick]
        expected = task_metrics(task, probabilities[pick], score_i, truth[pick], convention)
        for name, values in result.items():
            assert values[i] == pytest.approx(expected[name], abs=2e-6, nan_ok=True), name


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_parts_of_utterances_average_to_the_metric(kind):
    task = toy_task(kind)
    probabilities, score, truth = random_predictions(task, np.random.default_rng(0))
    names, moments = utterance_moments(task, probabilities, score, truth, "mmsa")
    whole = metrics_from_sums(task, names, moments.sum(0, keepdims=True), "mmsa")
    for name, parts in per_utterance(names, moments, task).items():
        assert np.nanmean(parts) == pytest.approx(whole[name][0]), name


def fake(folder, noise, *, seed=1, task=None, videos=20, label_seed=0, name=None, truth_shift=0.0, keep=slice(None)):
    """An evaluated run that predicts the truth with noise; of a fold, the utterances to keep."""
    task = task or Task.regression(("text",), -3, 3)
    truth = np.random.default_rng(label_seed).integers(-3, 4, 8 * videos).astype(float)
    random = np.random.default_rng(100 + seed)
    score = truth + noise * random.normal(size=len(truth))
    folder = RunFolder(folder)
    folder.path.mkdir(parents=True)
    folder.results.write_text("{}")
    about = {"name": name or folder.path.name, "seed": seed, "task": task.to_dict(), "convention": "mmsa"}
    about |= {"data": "unused", "split": "test", "count": len(truth), "metrics": {}}
    folder.evaluation.write_text(json.dumps(about))
    table = {
        "id": [f"u{i}" for i in range(len(truth))],
        "video": [f"v{i // 8}" for i in range(len(truth))],
        "truth": truth + truth_shift,
        "score": score,
        **{f"probability/{k}": 1 / 7 for k in task.classes},
    }
    pd.DataFrame(table)[keep].sample(frac=1, random_state=seed).to_csv(folder.predictions, index=False)
    return folder.path


def test_a_better_run_is_called_better_whichever_side_it_is_on(tmp_path):
    good, bad = fake(tmp_path / "good", 0.3), fake(tmp_path / "bad", 2.0, seed=2)
    result = compare([good], [bad])
    assert (result["utterances"], result["videos"], result["exact"]) == (160, 20, False)
    for name, entry in result["metrics"].items():
        assert entry["verdict"] == "A better", name
        assert entry["low"] <= entry["difference"] <= entry["high"]
        assert not entry["low"] <= 0 <= entry["high"]
        assert entry["p"] <= entry["p_holm"] < 0.05
    back = compare([bad], [good])["metrics"]
    assert {entry["verdict"] for entry in back.values()} == {"B better"}
    assert back["mae"]["d"] == pytest.approx(-result["metrics"]["mae"]["d"])


def test_equal_runs_show_no_difference(tmp_path):
    result = compare([fake(tmp_path / "a", 1.0, seed=1)], [fake(tmp_path / "b", 1.0, seed=2)])["metrics"]
    assert {entry["verdict"] for entry in result.values()} == {"no difference shown"}
    same = compare([tmp_path / "a"], [tmp_path / "a"])["metrics"]
    assert {(entry["difference"], entry["p"]) for entry in same.values()} == {(0.0, 1.0)}


def test_few_videos_are_permuted_in_every_way_and_the_table_says_that_they_are_too_few(tmp_path):
    result = compare([fake(tmp_path / "a", 0.1, videos=4)], [fake(tmp_path / "b", 2.0, videos=4)])
    assert result["exact"]
    assert result["metrics"]["mae"]["p"] == pytest.approx(2 / 2**4)
    assert "no difference could be shown" in render_comparison(result)


def test_several_runs_are_paired_by_seed(tmp_path):
    ours = [fake(tmp_path / f"a{s}", 0.5, seed=s) for s in (1, 2, 3)]
    baselines = [fake(tmp_path / f"b{s}", 1.0, seed=s) for s in (3, 1, 2)]
    result = compare(ours, baselines)
    assert result["pairs"] == [[1, 1], [2, 2], [3, 3]]
    alone = [compare([tmp_path / f"a{s}"], [tmp_path / f"b{s}"])["metrics"]["mae"]["difference"] for s in (1, 2, 3)]
    assert result["metrics"]["mae"]["difference"] == pytest.approx(np.mean(alone))


def test_folds_of_a_seed_are_pooled(tmp_path):
    folds = [slice(0, 40), slice(40, 104), slice(104, None)]
    sides = {
        side: [
            fake(tmp_path / f"{side}{s}{i}", noise, seed=s, keep=fold) for s in (1, 2) for i, fold in enumerate(folds)
        ]
        for side, noise in (("a", 0.5), ("b", 1.0))
    }
    whole = {
        side: [fake(tmp_path / f"{side}{s}", noise, seed=s) for s in (1, 2)] for side, noise in (("a", 0.5), ("b", 1.0))
    }
    pooled, expected = compare(sides["a"], sides["b"][::-1]), compare(whole["a"], whole["b"])
    assert (pooled["utterances"], pooled["videos"], pooled["pairs"]) == (160, 20, [[1, 1], [2, 2]])
    for name, entry in expected["metrics"].items():
        for value in ("a", "b", "difference"):
            assert pooled["metrics"][name][value] == pytest.approx(entry[value]), name
        assert pooled["metrics"][name]["verdict"] == entry["verdict"]


def test_folds_that_share_an_utterance_are_refused(tmp_path):
    runs = [fake(tmp_path / str(i), 1.0, keep=fold) for i, fold in enumerate((slice(0, 40), slice(39, 80)))]
    with pytest.raises(PaSEError, match="both tested on utterance 'u39'; give one run per seed, or folds"):
        compare(runs, runs)


def test_a_fold_that_the_other_side_lacks_is_refused(tmp_path):
    runs = [fake(tmp_path / str(i), 1.0, keep=slice(40 * i, 40 * i + 40)) for i in range(3)]
    with pytest.raises(PaSEError, match="different utterances"):
        compare(runs[:2], runs[1:])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"videos": 21}, "different utterances"),
        ({"truth_shift": 1.0}, "different labels"),
        ({"task": Task.regression(("text",), -3, 3, label="mood")}, "different things"),
    ],
)
def test_runs_on_other_data_are_refused(other, words, tmp_path):
    with pytest.raises(PaSEError, match=words):
        compare([fake(tmp_path / "a", 1.0)], [fake(tmp_path / "b", 1.0, **other)])


def test_runs_that_do_not_pair_are_refused(tmp_path):
    runs = {name: fake(tmp_path / name, 1.0, seed=seed) for name, seed in (("a", 1), ("b", 2), ("c", 3), ("d", 1))}
    for ours, baselines, words in (
        ("ab", "c", "2 and 1"),
        ("ab", "cd", "only one side has seed 2"),
        ("ad", "ad", "same"),
    ):
        with pytest.raises(PaSEError, match=words):
            compare([runs[name] for name in ours], [runs[name] for name in baselines])


def test_a_run_without_evaluation_or_predictions_is_refused(tmp_path):
    run = fake(tmp_path / "a", 1.0)
    RunFolder(run).predictions.unlink()
    with pytest.raises(PaSEError, match="evaluate it again"):
        compare([run], [run])
    RunFolder(run).evaluation.unlink()
    with pytest.raises(PaSEError, match="not evaluated yet"):
        compare([run], [run])


@pytest.mark.parametrize("table", ["score_table", "class_table"])
def test_an_evaluation_keeps_what_its_metrics_come_from(table, request, tmp_path):
    options = dataclasses.replace(config("unused", tmp_path / "run", "sgm", epochs=1), seed=3)
    folder = train(options, progress=False, table=request.getfixturevalue(table))
    import pase_msa.evaluation.evaluate as evaluation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "open_data", lambda path, *_: request.getfixturevalue(table))
        patch.setattr(evaluation, "describe_data", lambda *_: json.loads(folder.data.read_text()))
        result = evaluate(folder.path)
    task = Task.from_dict(result["task"])
    predictions = read_utterances(folder.predictions, task)
    again = task_metrics(task, predictions.probabilities, predictions.score, predictions.truth)
    again.pop("per_class", None)
    assert again == pytest.approx({name: result["metrics"][name] for name in again}, abs=1e-6)
    assert compare([folder.path], [folder.path])["utterances"] == 16
    columns = pd.read_csv(folder.predictions)
    gain = columns[[f"contribution/{name}" for name in task.modalities]].sum(axis=1)
    if task.kind == "regression":
        np.testing.assert_allclose(gain, columns["score"] - columns["base"], atol=1e-5)


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    a, b = fake(tmp_path / "a", 0.3), fake(tmp_path / "b", 2.0)
    assert main(["compare", str(a), str(b)]) == 0
    assert "A better" in capsys.readouterr().out
    assert main(["compare", str(a), "--against", str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["mae"]["verdict"] == "A better"
    shutil.rmtree(b)
    assert main(["compare", str(a), str(b)]) == 2
    assert main(["compare", str(a)]) == 2
    assert "two run folders" in capsys.readouterr().err
