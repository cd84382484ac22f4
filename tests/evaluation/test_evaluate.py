"""The final evaluation and the attribution of predictions to modalities."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pase_msa.cli.main import main
from pase_msa.data.dataset import make_dataset
from pase_msa.data.inputs import load_columns
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation import evaluate as evaluation
from pase_msa.evaluation.evaluate import evaluate, subsets
from pase_msa.evaluation.inference import attribute, infer, predict_coalitions
from pase_msa.evaluation.predictions import read_utterances
from pase_msa.evaluation.subgroups import subgroup_metrics
from pase_msa.metrics import task_metrics
from pase_msa.models.base import Model
from pase_msa.report.run_page import report_run
from pase_msa.shapley import attribution
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import train
from tests.toys import tiny_spec, toy_batch, toy_model, toy_task


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    synthetic_table(tiny_spec(), path=root / "data")
    config = RunConfig(
        data=str(root / "data"),
        out=str(root / "run"),
        model={"name": "pase", "width": 8},
        encoders={"default": {"hidden": 8}},
        training=TrainingConfig(epochs=3, batch_size=16, threads=1, accelerator="cpu"),
    )
    return train(config, progress=False)


def test_every_part_is_there(run):
    result = evaluate(run.path)
    assert set(result["subsets"]) == {
        "text", "audio", "vision", "text+audio", "text+vision", "audio+vision", "text+audio+vision"
    }  # fmt: skip
    assert result["subsets"]["text+audio+vision"] == result["metrics"]
    assert sum(part["share"] for part in result["contributions"].values()) == pytest.approx(1)
    assert {"ece", "reliability", "temperature"} <= set(result["calibration"])
    assert result["data"]["synthetic"]


def test_shapley_values_of_the_metric_add_up_to_the_gain_over_no_modality(run):
    result = evaluate(run.path)
    total = sum(part["nats"] for part in result["contributions"].values())
    assert np.isfinite(total)
    assert set(result["contributions"]["text"]) == {"share", "mean_absolute", "metric", "nats", "ground_truth"}


def test_the_test_split_is_read_once(run, monkeypatch):
    first = evaluate(run.path)
    monkeypatch.setattr(evaluation, "open_data", lambda path, *_: pytest.fail("the data were read again"))
    assert evaluate(run.path) == json.loads(run.evaluation.read_text()) == first


def test_it_writes_numbers_and_no_page_which_can_be_made_later(run):
    run.report.unlink(missing_ok=True)
    evaluate(run.path)
    assert run.predictions.is_file()
    assert not run.report.exists()
    assert report_run(run.path) == run.report
    drawn = run.report.stat().st_mtime_ns
    assert report_run(run.path).stat().st_mtime_ns == drawn, "it was drawn again"
    run.evaluation.unlink()
    evaluate(run.path)
    report_run(run.path)
    assert run.report.stat().st_mtime_ns > drawn


def test_only_an_evaluated_run_has_a_page(run):
    run.evaluation.unlink(missing_ok=True)
    with pytest.raises(PaSEError, match="not evaluated yet"):
        report_run(run.path)


def test_changed_data_are_refused(run, tmp_path, monkeypatch):
    other = synthetic_table(tiny_spec(seed=5))
    run.evaluation.unlink(missing_ok=True)
    monkeypatch.setattr(evaluation, "open_data", lambda path, *_: other)
    with pytest.raises(PaSEError, match="not those that"):
        evaluate(run.path)


def test_a_result_on_other_data_is_returned_and_not_written(run, tmp_path):
    run.evaluation.unlink(missing_ok=True)
    synthetic_table(tiny_spec(seed=5), path=tmp_path / "other")
    assert evaluate(run.path, data=str(tmp_path / "other"))["count"] == 16
    assert not run.evaluation.exists()


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_attribution_is_efficient(count):
    players = tuple(f"m{i}" for i in range(count))
    coalitions, matrix = attribution(players)
    assert coalitions[0] == frozenset()
    assert coalitions[-1] == frozenset(players)
    worth = np.random.default_rng(0).normal(size=len(coalitions))
    assert (matrix @ worth).sum() == pytest.approx(worth[-1] - worth[0])


def test_a_dummy_gets_nothing_also_when_sampled():
    players = tuple(f"m{i}" for i in range(9))
    coalitions, matrix = attribution(players)
    worth = np.array([sum(2.0 for name in coalition if name != "m4") for coalition in coalitions])
    values = dict(zip(players, matrix @ worth, strict=True))
    assert values["m4"] == pytest.approx(0)
    assert values["m1"] == pytest.approx(2)


def test_contributions_add_up_to_the_score_minus_the_base(run):
    table = synthetic_table(tiny_spec())
    model = Model.from_pretrained(run.model)
    dataset = make_dataset(table, load_columns(table, model.inputs), np.arange(len(table)), None)
    inference = infer(model, dataset)
    total = torch.stack(list(inference.contributions.values())).sum(0)
    torch.testing.assert_close(total, inference.score - inference.base, atol=1e-5, rtol=0)
    small = infer(model, dataset, batch_size=3)
    torch.testing.assert_close(inference.score, small.score, atol=1e-6, rtol=0)


def test_the_prediction_of_a_coalition_is_that_with_the_other_modalities_masked():
    model = toy_model().eval()
    batch = toy_batch()

    class One:
        whole_videos = False

        def __len__(self):
            return len(batch)

        def __getitem__(self, positions):
            return batch

    logits = predict_coalitions(model, One(), [frozenset({"text"}), frozenset(batch.present)])
    torch.testing.assert_close(logits[0], model(batch.only({"text"})).logits.detach())
    torch.testing.assert_close(logits[1], model(dataclasses.replace(batch)).logits.detach())


def test_subsets_of_many_modalities_are_singles_leave_one_out_and_all():
    names = tuple("abcdefg")
    assert len(subsets(names)) == 15
    assert subsets(names)[-1] == frozenset(names)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_modality_that_changes_nothing_contributes_exactly_nothing(kind):
    task = toy_task(kind)
    coalitions, matrix = attribution(task.modalities)
    generator = torch.Generator().manual_seed(0)
    without = {c: torch.randn(50, task.num_classes, generator=generator) for c in coalitions if "audio" not in c}
    logits = torch.stack([without[coalition - {"audio"}] for coalition in coalitions])
    # equal predictions differ by rounding, because batches are put together differently
    inference = attribute(task, logits + 1e-7 * torch.randn(logits.shape, generator=generator), matrix, 1.0)
    assert (inference.contributions["audio"] == 0).all()
    assert not inference.contributions["audio"].signbit().any()
    value = inference.probabilities.amax(1) if inference.score is None else inference.score
    assert torch.allclose(torch.stack(list(inference.contributions.values())).sum(0), value - inference.base, atol=1e-5)


@pytest.fixture
def with_speakers(tmp_path):
    """The data of the run, with one speaker for three of the four test videos, and another one for the fourth."""
    table = synthetic_table(tiny_spec())
    rows = [table.utterance(row) for row in range(len(table))]
    alone = table.videos[table.rows("test")[-1]]
    rows = [dataclasses.replace(row, speaker="Bob" if row.video == alone else "Ann") for row in rows]
    schema = dataclasses.replace(table.schema, speakers=True)
    FeatureTable.build(rows, schema, path=tmp_path / "data", meta=table.meta)
    return str(tmp_path / "data")


def test_a_subgroup_has_the_metrics_of_its_utterances(run, with_speakers):
    evaluate(run.path)
    result = subgroup_metrics(run.path, "speaker", data=with_speakers)
    predictions = read_utterances(run.predictions, toy_task())
    ann = np.array(predictions.videos) != predictions.videos[-1]
    expected = task_metrics(
        toy_task(), predictions.probabilities[ann], predictions.score[ann], predictions.truth[ann], "mmsa"
    )
    group = result["groups"]["Ann"]
    assert (group["utterances"], group["videos"]) == (12, 3)
    for name, entry in group["metrics"].items():
        assert entry["value"] == pytest.approx(expected[name], abs=1e-5)
        assert entry["low"] - 1e-6 <= entry["value"] <= entry["high"] + 1e-6
    # the utterances of one video are not independent, so that they show no interval
    assert {entry["low"] for entry in result["groups"]["Bob"]["metrics"].values()} == {None}
    assert result["worst"] == "Ann"  # Bob has four utterances


def test_the_worst_subgroup_has_the_largest_error(run, monkeypatch):
    evaluate(run.path)
    assert subgroup_metrics(run.path, "video")["worst"] is None
    monkeypatch.setattr("pase_msa.evaluation.subgroups.LEAST", 4)
    result = subgroup_metrics(run.path, "video")
    errors = {name: group["metrics"]["mae"]["value"] for name, group in result["groups"].items()}
    assert len(errors) == 4
    assert errors[result["worst"]] == max(errors.values())


def test_subgroups_of_an_unknown_column_or_of_other_data_are_refused(run, tmp_path):
    evaluate(run.path)
    with pytest.raises(PaSEError, match="no column 'age' to divide utterances by; they have video, "):
        subgroup_metrics(run.path, "age")
    synthetic_table(tiny_spec(seed=5), path=tmp_path / "other")
    with pytest.raises(PaSEError, match="not the one that the run was tested against; name the data of the run"):
        subgroup_metrics(run.path, "video", data=str(tmp_path / "other"))


def test_the_command_prints_subgroups_and_the_worst(run, with_speakers, capsys, monkeypatch):
    monkeypatch.setattr("pase_msa.optional.installed", lambda package: False)  # what draws the page takes seconds
    assert main(["evaluate", str(run.path), "--by", "speaker", "--data", with_speakers]) == 0
    printed = capsys.readouterr().out
    assert "worst by MAE, of groups with 10 utterances or more: Ann" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("│ Bob")]
    cells = [cell.strip() for cell in row.split("│")]
    assert (cells[2], cells[3], cells[-2]) == ("4", "1", "one video")
