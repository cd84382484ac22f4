"""Prediction from a saved model."""

import io

import numpy as np
import pytest

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.serve.predictor import Predictor, write_predictions
from tests.toys import DIMS, tiny_spec, toy_model


@pytest.fixture
def predictor(tmp_path):
    toy_model().save_pretrained(tmp_path / "model")
    return Predictor(tmp_path)


def _table(**features):
    rows = [Utterance(f"u{i}", "v", "", features={n: v[i] for n, v in features.items()}) for i in range(4)]
    return FeatureTable.build(rows, Schema({n: np.shape(v[1])[-1] for n, v in features.items()}, {}))


def test_a_prediction_does_not_depend_on_the_other_utterances(predictor):
    table = synthetic_table(tiny_spec())
    among = list(predictor.predict(table))
    for row in (0, 7):
        alone = next(iter(predictor.predict(table.select([row]))))
        assert alone.id == among[row].id
        assert alone.score == pytest.approx(among[row].score, abs=1e-6)
        assert alone.contributions == pytest.approx(among[row].contributions, abs=1e-6)


def test_a_modality_that_the_data_lack_contributes_zero(predictor):
    rng = np.random.default_rng(0)
    predictions = list(predictor.predict(_table(text=rng.normal(size=(4, 2, DIMS["text"])))))
    assert all(row.contributions["audio"] == pytest.approx(0, abs=1e-6) for row in predictions)


def test_modalities_that_are_not_used_are_absent_whatever_the_data_hold(predictor, tmp_path):
    rng = np.random.default_rng(0)
    text, audio = (rng.normal(size=(4, 2, DIMS[name])) for name in ("text", "audio"))
    alone = [row.score for row in predictor.predict(_table(text=text))]
    only = Predictor(tmp_path, modalities=["text"])
    assert [row.score for row in only.predict(_table(text=text, audio=audio))] == pytest.approx(alone, abs=1e-6)
    with pytest.raises(PaSEError, match="reads text, and the data hold none of these"):
        only.predict(_table(audio=audio))


def test_an_utterance_without_any_modality_is_predicted_without_contributions(predictor):
    predictions = list(predictor.predict(_table(text=[None, *np.ones((3, DIMS["text"]))])))
    assert np.isfinite(predictions[0].score)
    assert set(predictions[0].contributions.values()) == {0.0}


def test_data_with_none_of_the_modalities_are_refused(predictor):
    with pytest.raises(PaSEError, match="reads text, audio, vision"):
        predictor.predict(_table(smell=np.ones((4, 3))))


def test_another_feature_size_is_refused(predictor):
    with pytest.raises(PaSEError, match="size 5, the data have 6"):
        predictor.predict(_table(text=np.ones((4, 6))))


def test_an_unknown_split_is_refused(predictor):
    with pytest.raises(PaSEError, match="no split 'dev'"):
        predictor.predict(synthetic_table(tiny_spec()), split="dev")


def test_csv_has_a_header_and_one_line_per_utterance(predictor):
    stream = io.StringIO()
    assert write_predictions(predictor.predict(synthetic_table(tiny_spec())), stream) == 80
    assert stream.getvalue().splitlines()[0] == (
        "id,score,confidence,contribution_text,contribution_audio,contribution_vision"
    )
