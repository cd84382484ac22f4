"""The scikit-learn estimators: conventions, kinds of input, and the program's global state."""

import contextlib
import io
import json
import logging
import os
import pickle
import random

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score

from pase_msa import PaSE, PaSEClassifier, PaSEError, PaSERegressor
from pase_msa.models.base import Model

N = 60
QUICK = {"epochs": 6, "learning_rate": 1e-2, "batch_size": 16, "model_options": {"width": 16}}


def data(seed=0):
    """text: vectors; audio: frames of varying number, missing now and then; vision: three frames."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(-3, 3, N)
    return {
        "text": y[:, None] + 0.4 * rng.standard_normal((N, 4)),
        "audio": [None if i % 7 == 0 else y[i] + rng.standard_normal((1 + i % 3, 5)) for i in range(N)],
        "vision": 0.3 * y[:, None, None] + rng.standard_normal((N, 3, 2)),
    }, y


X, Y = data()
VIDEOS = np.arange(N) // 4
NAMES = np.where(Y > 1, "glad", np.where(Y < -1, "sad", "calm"))
A = X["text"]


def some(rows):
    return {name: [values[i] for i in rows] for name, values in X.items()}


@pytest.fixture(scope="module")
def regressor():
    return PaSERegressor(**QUICK).fit(X, Y, groups=VIDEOS)


@pytest.fixture(scope="module")
def classifier():
    return PaSEClassifier(**QUICK).fit(X, NAMES, groups=VIDEOS)


def test_regressor_learns(regressor):
    assert regressor.score(X, Y) == r2_score(Y, regressor.predict(X)) > 0.7
    assert regressor.predict(X).shape == (N,)
    assert regressor.task_.values == (-3, -2, -1, 0, 1, 2, 3)
    assert regressor.modalities_in_ == regressor.task_.modalities == ("text", "audio", "vision")
    assert 1 <= regressor.n_iter_ == len(regressor.history_) <= 6
    assert {
        "epoch",
        "train/loss",
        "val/mae",
        "prediction_weight/text",
        "prediction_weight/reference",
        "phi/text",
    } <= set(regressor.history_[-1])


def test_the_best_epoch_is_kept():
    model = PaSERegressor(**QUICK | {"learning_rate": 2e-2, "epochs": 9}).fit(X, Y, groups=VIDEOS)
    best = int(np.argmin([row["val/mae"] for row in model.history_]))
    assert best + 1 < model.n_iter_
    # the same run cut at its best epoch ends with the same weights
    shorter = clone(model).set_params(epochs=best + 1).fit(X, Y, groups=VIDEOS)
    np.testing.assert_array_equal(shorter.predict(X), model.predict(X))


def test_classifier_learns(classifier):
    assert classifier.classes_.tolist() == ["calm", "glad", "sad"]
    assert classifier.score(X, NAMES) > 0.7
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (N, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[probabilities.argmax(1)])


def test_classes_may_be_numbers_or_booleans():
    for y in (Y > 0, np.where(Y > 0, 7, 3), np.where(Y > 0, 0.5, -1.5)):
        model = PaSEClassifier(**QUICK | {"epochs": 1}).fit({"text": A}, y)
        assert model.predict({"text": A}).dtype == y.dtype
        assert set(model.predict({"text": A})) <= set(y)


def test_confidence_and_contributions(regressor, classifier):
    for model in (regressor, classifier):
        sure, shares = model.confidence(X), model.contributions(X)
        assert sure.shape == (N,)
        assert ((sure >= 0) & (sure <= 1)).all()
        assert list(shares) == ["text", "audio", "vision"]
        np.testing.assert_allclose(shares["audio"][::7], 0, atol=1e-6)
    assert (np.abs(regressor.contributions(X)["audio"][1::7]) > 1e-6).all()
    shares = regressor.contributions(X)
    base = regressor.predict(X) - sum(shares.values())
    np.testing.assert_allclose(base, base[0], atol=1e-5)
    assert np.abs(shares["text"]).mean() > np.abs(shares["vision"]).mean()


def test_every_modality_is_reported(regressor, classifier):
    for model in (regressor, classifier):
        report = model.modality_report_
        assert report["mode"] == "held_out"
        assert json.loads(json.dumps(report, allow_nan=False)) == report
        assert list(report["modalities"]) == ["text", "audio", "vision"]
        # two videos are too few for a verdict
        assert report["counts"]["validation_videos"] == 2
        assert {row["verdict"] for row in report["modalities"].values()} == {"undecided"}
        assert report["reference_weight"] == pytest.approx(float(model.model_.mixture.reference))
        assert sum(report["coalition_weights"].values()) == pytest.approx(1)


def test_balancing_can_be_that_of_the_paper():
    quick = QUICK | {"epochs": 2}
    model = PaSERegressor(**quick, balancing="sgm").fit(X, Y, groups=VIDEOS)
    assert model.modality_report_ is None
    assert model.model_.reference is None
    assert not model.model_.mixture.coalition_weights
    assert "psi/text" in model.history_[-1]
    plain = PaSERegressor(**quick, balancing="sgm").fit(X, Y, groups=VIDEOS)
    np.testing.assert_array_equal(plain.predict(X), model.predict(X))


def test_any_model_can_be_balanced_on_held_out_evidence(tmp_path):
    quick = {**QUICK, "epochs": 2, "model": "concat"}
    plain = PaSERegressor(**quick).fit(X, Y, groups=VIDEOS)
    assert plain.modality_report_ is None
    assert not plain.model_.mixture.coalition_weights
    held = PaSERegressor(**quick, balancing="held_out").fit(X, Y, groups=VIDEOS)
    assert held.model_.mixture.coalition_weights
    assert 0 < held.modality_report_["reference_weight"] <= 1
    expected = held.predict(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(held)).predict(X), expected)
    held.model_ = Model.from_pretrained(held.save(tmp_path / "model"))  # a folder keeps mixture and reference
    np.testing.assert_array_equal(held.predict(X), expected)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_very_few_samples_train_and_give_no_verdict(count):
    y = np.linspace(-3, 3, count)
    model = PaSERegressor(**QUICK | {"epochs": 1}).fit({"text": A[:count], "vision": X["vision"][:count]}, y)
    assert {row["verdict"] for row in model.modality_report_["modalities"].values()} == {"undecided"}
    assert np.isfinite(model.predict({"text": A})).all()


def test_a_class_may_be_missing_from_validation():
    names = np.array(["sad", "calm", "glad"])[np.arange(N) % 3]
    few = [0, 3]
    model = PaSEClassifier(**QUICK | {"epochs": 1}).fit(X, names, validation=(some(few), names[few]))
    assert {row["verdict"] for row in model.modality_report_["modalities"].values()} == {"undecided"}
    assert model.predict_proba(X).shape == (N, 3)


def test_the_public_classes_document_their_own_methods():
    """The reference shows the members of a class itself."""
    methods = {"fit", "predict", "score", "confidence", "contributions", "save"}
    for kind, further in ((PaSERegressor, set()), (PaSEClassifier, {"predict_proba"})):
        for name in methods | further:
            text = vars(kind)[name].__doc__
            assert text, name
            assert "Args:" in text, name


def test_scikit_learn_conventions():
    assert is_regressor(PaSERegressor())
    assert is_classifier(PaSEClassifier())
    for kind in (PaSERegressor, PaSEClassifier):
        options = {"hidden": object()}
        model = kind(epochs="not looked at", encoders=options)
        assert model.get_params()["encoders"] is options
        assert clone(model).get_params()["epochs"] == "not looked at"
        assert model.set_params(epochs=2).epochs == 2
        for method in (model.predict, model.contributions, model.confidence, model.save):
            with pytest.raises(NotFittedError):
                method(X)
    assert set(PaSERegressor().get_params()) - set(PaSEClassifier().get_params()) == {"num_classes", "label_range"}


def test_fit_returns_self_and_repeats(regressor):
    again = clone(regressor)
    assert again.fit(X, Y, groups=VIDEOS) is again
    np.testing.assert_array_equal(again.predict(X), regressor.predict(X))
    other = clone(regressor).set_params(random_state=1).fit(X, Y, groups=VIDEOS)
    assert not np.array_equal(other.predict(X), regressor.predict(X))


def test_random_state_may_be_a_generator():
    quick = {**QUICK, "epochs": 1}
    first, second = (
        PaSERegressor(**quick, random_state=np.random.RandomState(5)).fit({"text": A}, Y) for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict({"text": A}), second.predict({"text": A}))


def test_survives_pickle_and_a_folder(regressor, tmp_path):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(regressor)).predict(X), regressor.predict(X))
    folder = regressor.save(tmp_path / "model")
    loaded = PaSE.from_pretrained(folder)
    assert loaded.task == regressor.task_
    for name, value in regressor.model_.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def state():
    numbers = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    levels = [logging.getLogger(name).level for name in ("pase_msa", "lightning.pytorch", "lightning.fabric")]
    return numbers, levels, torch.get_num_threads(), dict(os.environ), torch.is_grad_enabled()


@pytest.mark.parametrize("fails", [False, True])
def test_fitting_preserves_global_state(tmp_path, monkeypatch, fails):
    monkeypatch.chdir(tmp_path)
    before, draws, out = state(), random.getstate(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        if fails:
            model = PaSERegressor(training={"threads": 2}, balancing="sgm", balancing_options={"floor": "low"})
            with pytest.raises(PaSEError, match="floor"):
                model.fit(X, Y)
            assert random.getstate() == draws
        else:
            model = PaSERegressor(**QUICK | {"epochs": 2}).fit(X, Y)
            assert random.getstate() == draws
            model.predict(X)  # the shape checks of this suite draw from `random`
    assert state() == before
    assert out.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_failed_fit_changes_nothing(classifier):
    model = pickle.loads(pickle.dumps(classifier)).set_params(model_options={"width": "wide"})
    with pytest.raises(PaSEError):
        model.fit(X, Y > 0)
    np.testing.assert_array_equal(model.predict(X), classifier.predict(X))


def test_the_samples_of_a_group_are_in_one_split(monkeypatch):
    import pase_msa.estimator_base as module

    given = {}
    real = module.prepare

    def spy(config, table):
        given["videos"], given["splits"] = np.array(table.videos), table.splits
        return real(config, table)

    monkeypatch.setattr(module, "prepare", spy)
    PaSERegressor(**QUICK | {"epochs": 1}).fit(X, Y, groups=VIDEOS)
    train, valid = (set(given["videos"][given["splits"] == split]) for split in ("train", "valid"))
    assert not train & valid
    assert (given["splits"] == "valid").sum() == 8  # the two whole groups that fit into 15 % of 60
    PaSEClassifier(**QUICK | {"epochs": 1}, validation_fraction=0.3).fit(X, NAMES)
    for name in set(NAMES):
        share = (given["splits"][name == NAMES] == "valid").mean()
        assert 0.3 <= share < 0.4
    PaSERegressor(**QUICK | {"epochs": 1}).fit(some(range(40)), Y[:40], validation=(some(range(40, N)), Y[40:]))
    assert (given["splits"] == np.array(["train"] * 40 + ["valid"] * 20)).all()


def test_lists_tensors_and_arrays_give_the_same_predictions(regressor):
    expected = regressor.predict(X)
    as_lists = {name: list(values) for name, values in X.items()}
    as_tensors = {
        "text": torch.tensor(A),
        "audio": [None if v is None else torch.tensor(v) for v in X["audio"]],
        "vision": torch.tensor(X["vision"]),
    }
    backwards = dict(reversed(X.items()))
    for given in (as_lists, as_tensors, backwards):
        np.testing.assert_array_equal(regressor.predict(given), expected)
    empty_is_absent = {**X, "audio": [np.zeros((0, 5)) if v is None else v for v in X["audio"]]}
    np.testing.assert_array_equal(regressor.predict(empty_is_absent), expected)


def test_the_prediction_of_a_sample_does_not_depend_on_the_others(regressor):
    alone = [regressor.predict(some([i]))[0] for i in range(8)]
    np.testing.assert_allclose(alone, regressor.predict(X)[:8], atol=1e-5)


def test_an_absent_modality_may_be_left_out(regressor):
    expected = regressor.predict({**X, "audio": [None] * N})
    np.testing.assert_array_equal(regressor.predict({"text": A, "vision": X["vision"]}), expected)
    np.testing.assert_array_equal(regressor.predict({**X, "audio": None}), expected)


def test_numbers_that_are_not_finite_are_replaced_by_the_training_mean(regressor):
    gaps = {**X, "text": np.where(np.arange(4) == 2, np.nan, A)}
    scaler = regressor.model_.scalers["text"]
    filled = {**X, "text": np.where(np.arange(4) == 2, scaler.mean.numpy(), A)}
    np.testing.assert_allclose(regressor.predict(gaps), regressor.predict(filled), atol=1e-5)
    np.testing.assert_array_equal(
        regressor.predict({**X, "text": np.where(np.arange(4) == 2, 1e300, A)}),
        regressor.predict({**X, "text": np.where(np.arange(4) == 2, np.inf, A)}),
    )
    assert np.isfinite(PaSERegressor(**QUICK | {"epochs": 1}).fit(gaps, Y).predict(gaps)).all()


def test_modalities_can_be_chosen():
    model = PaSERegressor(**QUICK | {"epochs": 1}, modalities=["vision", "text"]).fit(X, Y)
    assert model.task_.modalities == ("vision", "text")
    without = {"text": A, "vision": X["vision"]}
    np.testing.assert_array_equal(model.predict(X), model.predict(without))


def test_range_and_classes_of_a_regression():
    quick = QUICK | {"epochs": 1}
    assert PaSERegressor(**quick).fit({"text": A}, Y / 10).task_.values[0] == pytest.approx(Y.min() / 10)
    model = PaSERegressor(**quick, label_range=(-5, 5), num_classes=3).fit({"text": A}, Y)
    assert model.task_.values == (-5, 0, 5)


@pytest.fixture
def transcripts(monkeypatch):
    """Texts whose frozen states come from a stub."""
    import pase_msa.data.inputs as inputs
    from pase_msa.data.columns import SequenceColumn

    def frozen(texts, settled, keep):
        rows = [None if not t else np.array([len(t), t.count("good")], dtype=np.float32) for t in texts]
        return SequenceColumn.from_arrays(rows, 2)

    monkeypatch.setattr(inputs, "frozen_column", frozen)
    monkeypatch.setattr(inputs, "state_size", lambda name: 2)
    return ["good " * (i % 5) + "film" if i % 11 else None for i in range(N)]


def test_transcripts(transcripts):
    y = np.array([0.0 if t is None else t.count("good") for t in transcripts])
    options = QUICK | {"epochs": 10}
    model = PaSERegressor(**options, text={"pooling": "mean"}).fit({"text": transcripts, "audio": X["audio"]}, y)
    assert model.predict({"text": ["good good good good film", "film"]})[0] > 2
    with pytest.raises(PaSEError, match="held strings in training and holds features now"):
        model.predict({"text": A})


MISTAKES = {
    "no mapping": (lambda: PaSERegressor().fit(A, Y), "must be a mapping"),
    "no modality": (lambda: PaSERegressor().fit({}, Y), "holds no modality"),
    "no sample": (lambda: PaSERegressor().fit({"a": []}, []), "holds no sample"),
    "all absent": (lambda: PaSERegressor().fit({"a": [None] * N}, Y), "No sample of X has the modality 'a'"),
    "other length": (lambda: PaSERegressor().fit({"a": A, "b": A[:5]}, Y), "found a 60, b 5"),
    "one number per sample": (lambda: PaSERegressor().fit({"a": A[:, 0]}, Y), r"must have the shape \(samples"),
    "sizes differ": (lambda: PaSERegressor().fit({"a": [A[0], A[1, :2]]}, Y[:2]), "4 features in one sample"),
    "strings": (lambda: PaSERegressor().fit({"audio": ["so good"] * N}, Y), "only the modality 'text'"),
    "one string": (lambda: PaSERegressor().fit({"text": "so good"}, Y), "not a str"),
    "a dot": (lambda: PaSERegressor().fit({"a.b": A}, Y), "rename it"),
    "a name that torch uses": (lambda: PaSERegressor().fit({"keys": A}, Y), "rename it"),
    "y of other length": (lambda: PaSERegressor().fit({"a": A}, Y[:5]), "one value per sample, 60 here"),
    "y in columns": (lambda: PaSERegressor().fit({"a": A}, np.stack([Y, Y], 1)), "one value per sample"),
    "NaN in y": (lambda: PaSERegressor().fit({"a": A}, np.where(Y > 2, np.nan, Y)), "NaN or infinite"),
    "names as scores": (lambda: PaSERegressor().fit({"a": A}, NAMES), "use PaSEClassifier"),
    "one score": (lambda: PaSERegressor().fit({"a": A}, np.ones(N)), "Every value of y is 1"),
    "one class": (lambda: PaSEClassifier().fit({"a": A}, ["x"] * N), "Every value of y is x"),
    "a class missing": (lambda: PaSEClassifier().fit({"a": A}, ["x", None] * (N // 2)), "30 of 60 values"),
    "one group": (lambda: PaSERegressor().fit({"a": A}, Y, groups=["x"] * N), "one group"),
    "few groups": (lambda: PaSERegressor().fit({"a": A}, Y, groups=["x"]), "groups must hold"),
    "no pair": (lambda: PaSERegressor().fit({"a": A}, Y, validation=A), "the pair"),
    "other validation": (lambda: PaSERegressor().fit({"a": A}, Y, validation=({"b": A}, Y)), "not 'b'"),
    "new class": (
        lambda: PaSEClassifier().fit({"a": A}, NAMES, validation=({"a": A[:1]}, ["angry"])),
        "has the class 'angry'",
    ),
    "option": (lambda: PaSERegressor(model_options={"widht": 2}).fit({"a": A}, Y), "did you mean 'width'"),
    "model": (lambda: PaSERegressor(model="pas").fit({"a": A}, Y), "did you mean 'pase'"),
    "balancing": (lambda: PaSERegressor(balancing="heldout").fit({"a": A}, Y), "did you mean 'held_out'"),
    "no losses to grade by": (
        lambda: PaSERegressor(model="concat", balancing="sgm").fit({"a": A}, Y),
        "no alignment losses",
    ),
    "epochs": (lambda: PaSERegressor(epochs=0).fit({"a": A}, Y), "epochs"),
    "type": (lambda: PaSERegressor(epochs="many").fit({"a": A}, Y), "epochs"),
    "twice": (lambda: PaSERegressor(training={"epochs": 3}).fit({"a": A}, Y), "parameter of its own"),
    "seed": (lambda: PaSERegressor(random_state=-1).fit({"a": A}, Y), "seed"),
    "fraction": (lambda: PaSERegressor(validation_fraction=1.5).fit({"a": A}, Y), "between 0 and 1"),
    "range": (lambda: PaSERegressor(label_range=(3, -3)).fit({"a": A}, Y), "low < high"),
    "a string for a list": (lambda: PaSERegressor(modalities="a").fit({"a": A}, Y), r"write \['a'\]"),
    "unknown choice": (lambda: PaSERegressor(modalities=["b"]).fit({"a": A}, Y), "not 'b'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake):
    act, sentence = MISTAKES[mistake]
    with pytest.raises(PaSEError, match=sentence):
        act()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"video": A}, "not 'video'"),
        ({"text": A[:, :2]}, "text features of size 4, the data have 2"),
        ({"text": ["good", "bad"]}, "held features in training and holds strings now"),
        ({"text": [None, None]}, "no sample with any of the modalities text, audio, vision"),
        ({}, "holds no modality"),
        ({"text": []}, "holds no sample"),
    ],
)
def test_a_mistake_at_prediction_is_one_sentence(regressor, given, sentence):
    for method in (regressor.predict, regressor.contributions, regressor.confidence):
        with pytest.raises(PaSEError, match=sentence):
            method(given)
