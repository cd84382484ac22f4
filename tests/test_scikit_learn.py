"""What scikit-learn does with an estimator: splitters, searches, pipelines, and the kinds of X that its users have."""

import pickle
import warnings
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from pase_msa import Modalities, PaSEClassifier, PaSEError, PaSERegressor

N = 40
RNG = np.random.default_rng(0)
Y = RNG.permutation(np.linspace(-3, 3, N))
A = Y[:, None] + RNG.normal(size=(N, 5))
GROUPS = np.arange(N) // 4
QUICK = {"epochs": 1, "batch_size": 20, "model": "concat", "model_options": {"width": 8}}
FRAME = pd.DataFrame(A, columns=list("abcde")).assign(who=GROUPS)
BOTH = {"audio": ["a", "b"], "vision": ["c", "d", "e"]}
X = Modalities(audio=A[:, :2], vision=[None if i % 7 == 0 else A[i, 2:] for i in range(N)])


def test_cross_validation_of_a_data_frame():
    assert np.isfinite(cross_val_score(PaSERegressor(**QUICK, columns=BOTH), FRAME, Y, cv=2)).all()


def test_cross_validation_by_group():
    scores = cross_val_score(PaSERegressor(**QUICK), X, Y, groups=GROUPS, cv=GroupKFold(2), params={"groups": GROUPS})
    with sklearn.config_context(enable_metadata_routing=True):
        model = PaSERegressor(**QUICK).set_fit_request(groups=True)
        routed = cross_val_score(model, X, Y, cv=GroupKFold(2), params={"groups": GROUPS})
    np.testing.assert_array_equal(scores, routed)


def test_a_search_over_nested_options():
    search = GridSearchCV(
        PaSERegressor(**QUICK), {"model_options__width": [4, 8], "epochs": [1]}, cv=[(range(20), range(20, N))]
    ).fit(X, Y)
    assert search.best_estimator_.model_options["width"] in (4, 8)
    assert QUICK["model_options"] == {"width": 8}


def test_nested_options_leave_the_others():
    model = PaSERegressor(encoders={"default": {"a": 1}, "audio": {"b": 2}})
    other = clone(model).set_params(encoders__audio__c=3, model_options__width=4)
    assert other.encoders == {"default": {"a": 1}, "audio": {"b": 2, "c": 3}}
    assert other.model_options == {"width": 4}
    assert model.encoders == {"default": {"a": 1}, "audio": {"b": 2}}


def test_a_pipeline_of_an_array():
    model = PaSERegressor(**QUICK, columns={"audio": slice(0, 2), "vision": range(2, 5)})
    assert np.isfinite(cross_val_score(make_pipeline(StandardScaler(), model), A, Y, cv=2)).all()


def test_probabilities_by_cross_validation():
    names = np.where(Y > 0, "good", "bad")
    assert cross_val_predict(PaSEClassifier(**QUICK), X, names, cv=2, method="predict_proba").shape == (N, 2)


def test_a_split_keeps_rows_together():
    train, test, y_train, y_test = train_test_split(X, Y, test_size=0.25, random_state=0)
    assert (train.shape, test.shape) == ((30, 2), (10, 2))
    np.testing.assert_array_equal(test["audio"], A[[int(np.flatnonzero(value == Y)[0]) for value in y_test], :2])
    assert PaSERegressor(**QUICK).fit(train, y_train).predict(test).shape == (10,)


@pytest.mark.parametrize("rows", [3, [1, 2], np.array([0, 5]), slice(2, 9), np.arange(N) % 2 == 0, []])
def test_rows_of_modalities(rows):
    parts = {"list": list(A), "sparse": sparse.coo_array(A), "series": FRAME["a"], "tensor": torch.tensor(A)}
    expected = (
        np.atleast_1d(np.arange(N)[np.asarray(rows, int) if rows == [] else rows])
        if not isinstance(rows, np.ndarray)
        else np.arange(N)[rows]
    )
    given = Modalities(parts)[rows]
    assert len(given) == len(expected)
    np.testing.assert_array_equal(given["tensor"], A[expected])
    np.testing.assert_array_equal(given["sparse"].toarray(), A[expected])
    np.testing.assert_array_equal(given["series"], A[expected, 0])


@pytest.fixture(scope="module")
def plain():
    return PaSERegressor(**QUICK).fit({"audio": A}, Y)


@pytest.mark.parametrize(
    "kind",
    [
        sparse.csr_matrix,
        sparse.coo_array,
        sparse.csc_array,
        lambda a: [sparse.csr_matrix(row[None]) for row in a],
        lambda a: torch.tensor(a).to_sparse(),
        lambda a: torch.tensor(a, requires_grad=True),
        lambda a: np.ma.masked_array(a, mask=False),
        pd.DataFrame,
        lambda a: pd.DataFrame(a).astype("Float64"),
        lambda a: a.astype(object),
        lambda a: pd.Series(list(a)),
    ],
)
def test_kinds_of_numbers(kind, plain):
    np.testing.assert_allclose(plain.predict({"audio": kind(A)}), plain.predict({"audio": A}), atol=1e-6)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_low_precision(precision, plain):
    given = torch.tensor(A).to(precision)
    np.testing.assert_array_equal(plain.predict({"audio": list(given)}), plain.predict({"audio": given.float()}))
    PaSERegressor(**QUICK).fit({"audio": given}, torch.tensor(Y).to(precision))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, float("nan"), np.float32("nan"), pd.NaT, np.full(5, np.nan)])
def test_missing_samples(missing, plain):
    rows = pd.Series([missing, *A[1:]])
    expected = plain.predict({"audio": [None, *A[1:]]})
    np.testing.assert_array_equal(plain.predict({"audio": rows}), expected)
    np.testing.assert_array_equal(plain.predict({"audio": list(rows)}), expected)


def test_a_row_without_any_number_is_missing():
    frame = FRAME.astype({"a": "Float64", "b": "Float64"})
    frame.loc[3, ["a", "b"]] = pd.NA
    model = PaSERegressor(**QUICK, columns=BOTH).fit(frame, Y)
    expected = model.contributions(frame)["audio"][3]
    assert abs(expected) < 1e-6


def test_columns_by_selector_name_or_number():
    numbers = {"audio": [0, 1], "vision": slice(2, 5)}
    one = PaSERegressor(**QUICK, columns=BOTH).fit(FRAME, Y).predict(FRAME)
    for columns in ({"audio": make_column_selector("[ab]"), "vision": slice("c", "e")}, numbers):
        np.testing.assert_array_equal(PaSERegressor(**QUICK, columns=columns).fit(FRAME, Y).predict(FRAME), one)


def test_columns_are_found_by_name_in_any_order():
    model = PaSERegressor(**QUICK, columns=BOTH).fit(FRAME, Y)
    assert model.n_features_in_ == 6
    assert model.feature_names_in_.tolist() == [*"abcde", "who"]
    np.testing.assert_array_equal(model.predict(FRAME[[*"edcba"]]), model.predict(FRAME))


def fit(columns, X=A):
    return PaSERegressor(**QUICK, columns=columns).fit(X, Y)


MISTAKES = {
    "numbers without columns": (lambda: fit(None, FRAME), "say which modality"),
    "an array without columns": (lambda: fit(None), "must be a mapping"),
    "unknown": (lambda: fit({"a": ["z"]}, FRAME), "X has the columns a, b"),
    "beyond": (lambda: fit({"a": slice(0, 10)}), "X has 5 columns"),
    "twice": (lambda: fit({"a": [0, 1], "b": [1]}), "belongs to the modalities 'a' and 'b'"),
    "none": (lambda: fit({"a": []}), "X has 5 columns"),
    "no columns": (lambda: fit({}), "maps a modality"),
    "a mapping": (lambda: fit({"a": [0]}, {"a": A}), "leave columns out"),
    "one dimension": (lambda: fit({"a": [0]}, A[:, 0]), "has the shape"),
    "text in a list": (lambda: fit({"text": ["said"]}, FRAME.assign(said="x")), "name it alone"),
    "other width": (lambda: fit({"a": [0]}).predict(A[:, :2]), "is expecting 5"),
    "lengths": (lambda: Modalities(a=A, b=A[:3]), "found a 40, b 3"),
    "row": (lambda: X[100], "cannot be indexed"),
    "huge": (lambda: fit(None, {"a": sparse.csr_array((N, 10**9))}), "TruncatedSVD"),
    "complex": (lambda: fit(None, {"a": A + 1j}), "must hold numbers"),
    "NA in y": (lambda: PaSERegressor().fit({"a": A}, pd.Series([pd.NA, *Y[1:]])), "1 of 40 values of y are NaN"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake):
    act, sentence = MISTAKES[mistake]
    with pytest.raises(PaSEError, match=sentence):
        act()


CHECKS = [
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimator_repr",
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_n_features_in_after_fitting",
    "check_dont_overwrite_attributes",
    "check_do_not_raise_errors_in_init_or_set_param",
]
#: single precision: the prediction of a sample alone is that among others to six digits, and the check wants seven
BEYOND = {"check_methods_subset_invariance"}


@pytest.mark.parametrize("name", [name for name in CHECKS if hasattr(estimator_checks, name)])
@pytest.mark.parametrize("kind", [PaSERegressor, PaSEClassifier])
def test_checks_of_scikit_learn(name, kind):
    getattr(estimator_checks, name)(kind.__name__, kind(**QUICK, columns={"audio": slice(None)}))


@pytest.mark.skipif(not hasattr(estimator_checks, "estimator_checks_generator"), reason="needs scikit-learn 1.6")
@pytest.mark.parametrize("kind", [pytest.param(PaSERegressor, marks=pytest.mark.slow), PaSEClassifier])
def test_every_check_of_scikit_learn(kind):
    """All checks that scikit-learn has for such an estimator, one after the other."""
    failed = {}
    estimator = kind(epochs=2, patience=2, columns={"audio": slice(None)})
    for each, check in estimator_checks.estimator_checks_generator(estimator):
        name = check.func.__name__
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check(each)
        except SkipTest:
            continue
        except Exception as error:
            failed[name] = str(error)
    assert set(failed) <= BEYOND, failed


def test_a_prediction_is_that_among_others_to_six_digits():
    """What `check_methods_subset_invariance` asks for, in the precision that the models have."""
    estimator = PaSERegressor(epochs=2, patience=2, columns={"audio": slice(None)}).fit(A, Y)
    alone = np.concatenate([estimator.predict(A[i : i + 1]) for i in range(N)])
    np.testing.assert_allclose(alone, estimator.predict(A), rtol=0, atol=1e-6)


def test_a_column_of_scores_is_taken_with_a_warning():
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        column = PaSERegressor(**QUICK, columns={"audio": slice(None)}).fit(A, Y[:, None]).predict(A)
    plain = PaSERegressor(**QUICK, columns={"audio": slice(None)}).fit(A, Y).predict(A)
    np.testing.assert_array_equal(column, plain)


def test_scores_are_no_classes():
    with pytest.raises(PaSEError, match="Unknown label type: continuous"):
        PaSEClassifier(**QUICK, columns={"audio": slice(None)}).fit(A, Y)


def test_a_fitted_estimator_survives_pickling():
    model = PaSERegressor(**QUICK, columns=BOTH).fit(FRAME, Y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(FRAME), model.predict(FRAME))
