"""Runs by balancing method: the method that a run gets, and what happens to a modality that deceives.

A deceptive modality agrees with the label on the training split and contradicts it on new videos.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pase_msa.balancing.base import BalancingMethod
from pase_msa.balancing.held_out import HeldOutBalancing
from pase_msa.balancing.sgm import ShapleyModulation
from pase_msa.data.dataset import evaluation_loader
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.evaluation.inference import infer
from pase_msa.models.base import Model
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.run import prepare, train
from pase_msa.training.run_folder import RunFolder

MODELS = ("pase", "concat")


def options(out=None, model="pase", method=None, **changes):
    if method is not None:
        changes["balancing"] = {"name": method}
    return RunConfig(
        out=out and str(out),
        model={"name": model, "width": 8},
        encoders={"default": {"hidden": 8}},
        phases=PhaseConfig(start="always"),
        training=TrainingConfig(epochs=4, batch_size=25, learning_rate=0.02, accelerator="cpu"),
        **changes,
    )


@pytest.mark.parametrize(
    ("model", "changes", "wanted"),
    [
        ("pase", {}, HeldOutBalancing),
        ("pase", {"balancing": {"name": "held_out"}}, HeldOutBalancing),
        ("pase", {"balancing": {"name": "sgm"}}, ShapleyModulation),
        ("pase", {"balancing": {"name": "none"}}, BalancingMethod),
        ("concat", {}, BalancingMethod),
        ("concat", {"balancing": {"name": "held_out"}}, HeldOutBalancing),
    ],
)
def test_the_model_gives_the_balancing_method_that_a_run_does_not_name(model, changes, wanted, score_table):
    assert type(prepare(options(model=model, **changes), score_table).balancing) is wanted


def test_options_go_to_the_balancing_method(score_table):
    prepared = prepare(options(balancing={"name": "sgm", "floor": 0.2}), score_table)
    assert prepared.balancing.floor == 0.2
    prepared = prepare(options(balancing={"least_rate": 0.3}), score_table)
    assert prepared.balancing.config.least_rate == 0.3


@pytest.fixture(scope="module")
def table():
    """Text is useful; vision agrees with the label on the training split only."""
    modalities = {
        "text": ModalitySpec(5, length=(1, 3), noise=1.0),
        "vision": ModalitySpec(4, length=(1, 2), strength=0.0, deception=2.0),
    }
    return synthetic_table(SyntheticSpec(modalities, train=300, valid=150, test=150, utterances_per_video=5))


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    """A run's folder, by model and balancing method."""
    root, folders = tmp_path_factory.mktemp("runs"), {}

    def make(model, method):
        if (model, method) not in folders:
            config = options(root / f"{model}-{method}", model, method=method)
            folders[model, method] = train(config, progress=False, table=table)
        return folders[model, method]

    return make


def test_set(model, table):
    """The labelled utterances of the test split, as the model's input."""
    return model.dataset(table, "test", labels=True)


test_set.__test__ = False


def with_other_vision(batch, value):
    features = {**batch.features, "vision": torch.full_like(batch.features["vision"], value)}
    return dataclasses.replace(batch, features=features)


def scores(model, batch):
    with torch.no_grad():
        return model(batch).score


def test_the_diagnosis_names_the_deceptive_modality_before_training(table):
    run = prepare(options(), table)
    verdicts = {name: row.verdict for name, row in run.balancing.diagnosis.modalities.items()}
    assert verdicts == {"text": "useful", "vision": "deceptive"}
    assert run.balancing.factors == {"text": 1.0, "vision": 0.0}
    assert {name for names in run.model.reference.coalitions for name in names} == {"text"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("garbage", [100.0, float("nan")])
def test_no_prediction_depends_on_the_deceptive_modality(model, garbage, trained, table):
    loaded = Model.from_pretrained(trained(model, "held_out").model)
    batch = next(iter(evaluation_loader(test_set(loaded, table), 150)))
    assert loaded.mixture.prediction_weight("vision") == 0
    assert loaded.mixture.prediction_weight("text") > 0.9
    assert torch.equal(scores(loaded, with_other_vision(batch, garbage)), scores(loaded, batch))


def test_predictions_balanced_as_in_the_paper_depend_on_it(trained, table):
    """Otherwise the test above would show nothing."""
    loaded = Model.from_pretrained(trained("pase", "sgm").model)
    batch = next(iter(evaluation_loader(test_set(loaded, table), 150)))
    assert loaded.mixture.coalition_weights == {}
    assert loaded.reference is None
    assert (scores(loaded, with_other_vision(batch, 100.0)) - scores(loaded, batch)).abs().mean() > 0.05


def test_on_new_videos_predictions_without_it_are_better(trained, table):
    errors = {}
    for method in ("held_out", "sgm"):
        loaded = Model.from_pretrained(trained("pase", method).model)
        batch = next(iter(evaluation_loader(test_set(loaded, table), 150)))
        errors[method] = float((scores(loaded, batch) - batch.labels).abs().mean())
    assert errors["held_out"] < errors["sgm"] - 0.1


@pytest.mark.parametrize("model", MODELS)
def test_the_deceptive_modality_contributes_nothing_to_any_prediction(model, trained, table):
    loaded = Model.from_pretrained(trained(model, "held_out").model)
    inference = infer(loaded, test_set(loaded, table))
    assert inference.contributions["vision"].abs().max() < 1e-12
    assert torch.allclose(inference.contributions["text"], inference.score - inference.base, atol=1e-5)


def test_the_history_holds_its_prediction_weight_and_learning_rate(trained):
    history = RunFolder(trained("pase", "held_out").path).history()
    for row in history:
        assert row["prediction_weight/vision"] == 0
        assert row["phi/vision"] == 0
        assert 0 <= row["prediction_weight/reference"] <= 1
        assert all(np.isfinite(list(row.values())))
    assert len(history) == 4


def test_the_saved_model_is_that_of_the_best_cross_fitted_epoch(trained):
    folder = trained("pase", "held_out")
    maes = [row["val/mae"] for row in folder.history()]
    assert json.loads(folder.results.read_text())["best_epoch"] == int(np.argmin(maes))
