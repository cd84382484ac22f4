"""From a clip to an answer."""

import json

import numpy as np
import pytest

from pase_msa.cli import main as cli
from pase_msa.errors import PaSEError
from pase_msa.media.config import ExtractConfig
from pase_msa.media.example_clip import speak, write_clip
from pase_msa.media.table import extract_table
from pase_msa.models.base import Model
from pase_msa.serve import clips as module
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.predictor import Predictor
from pase_msa.serve.summary import render_answer


@pytest.fixture(scope="module")
def answer(clip_predictor, utterances):
    return clip_predictor.answer(utterances)


def test_a_clip_gets_what_its_extracted_features_get(run, video, answer, tmp_path):
    table, _ = extract_table(video, tmp_path / "features", ExtractConfig(["text", "audio"]), jobs=1)
    (expected,) = Predictor(run).predict(table)
    assert answer.overall.score == pytest.approx(expected.score, abs=1e-5)
    assert answer.overall.contributions == pytest.approx(expected.contributions, abs=1e-5)


def test_contributions_add_up_to_the_answer(answer):
    total = answer.base + sum(answer.overall.contributions.values())
    assert total == pytest.approx(answer.overall.score, abs=1e-6)


def test_words_add_up_to_what_the_text_adds_to_the_rest(clip_predictor, utterances, answer):
    bare = clip_predictor.answer(utterances, without=["text"])
    moved = sum(word.influence for word in answer.utterances[0].words)
    assert moved == pytest.approx(answer.overall.score - bare.overall.score, abs=1e-5)
    assert len({word.influence for word in answer.utterances[0].words}) > 1


def test_the_words_of_a_short_text_alone_add_up_to_its_contribution(clip_predictor):
    said = clip_predictor.predict(None, "It was good.")
    assert sum(w.influence for w in said.utterances[0].words) == pytest.approx(
        said.overall.contributions["text"], abs=1e-5
    )
    assert said.utterances[0].curve == []


def test_the_curve_ends_with_the_answer_and_goes_forward(answer):
    curve = answer.utterances[0].curve
    assert curve[-1].value == answer.overall.score
    times = [moment.time for moment in curve]
    assert times == sorted(times)
    assert 2 < len(times) <= 16


def test_a_withheld_modality_is_as_one_that_is_not_there(clip_predictor, utterances, answer):
    without = clip_predictor.answer(utterances, without=["audio"])
    as_text = clip_predictor.predict(None, utterances[0].text)
    assert without.overall.score == pytest.approx(as_text.overall.score, abs=1e-5)
    assert without.overall.contributions["audio"] == pytest.approx(0, abs=1e-6)
    assert without.overall.score != pytest.approx(answer.overall.score, abs=1e-4)


def test_withholding_everything_or_nothing_known_is_refused(clip_predictor, utterances):
    with pytest.raises(PaSEError, match="Nothing is left"):
        clip_predictor.answer(utterances, without=["text", "audio"])
    with pytest.raises(PaSEError, match="reads text, audio, not 'smell'"):
        clip_predictor.answer(utterances, without=["smell"])


def test_a_clip_with_nothing_to_read_is_refused(clip_predictor, tmp_path):
    path = write_clip(tmp_path / "silence.wav", sound=np.zeros(22_050, np.int16))
    with pytest.raises(PaSEError, match=r"silence.wav holds nothing that the model can answer from .* silent"):
        clip_predictor.predict(path)


def test_a_long_clip_is_answered_by_utterance(clip_predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONG", 2.0)
    sound, rate = speak("This is a good film.")
    path = write_clip(
        tmp_path / "two.wav", sound=np.concatenate([sound, np.zeros(2 * rate, np.int16), sound]), rate=rate
    )
    told = []
    said = clip_predictor.predict(path, words=False, progress=lambda done, of: told.append((done, of)))
    assert told == [(0, 2), (1, 2)]
    first, second = said.utterances
    assert first.end < second.start
    low, high = sorted(item.value for item in said.utterances)
    assert low <= said.overall.score <= high
    assert said.base + sum(said.overall.contributions.values()) == pytest.approx(said.overall.score, abs=1e-5)
    assert "This is a good film" in render_answer(said)


def test_a_model_that_does_not_know_how_its_features_were_made_is_refused(run, tmp_path):
    model = Model.from_pretrained(run / "model")
    model.extraction = None
    model.save_pretrained(tmp_path)
    with pytest.raises(PaSEError, match="do not say how they were made"):
        ClipPredictor(tmp_path)


def test_a_model_of_other_weights_is_refused(run, tmp_path):
    model = Model.from_pretrained(run / "model")
    model.extraction["modalities"]["text"]["model_sha256"] = "0" * 64
    model.save_pretrained(tmp_path)
    with pytest.raises(PaSEError, match="model_sha256 of text"):
        ClipPredictor(tmp_path)


def test_predict_answers_a_clip_as_json(run, video, answer, capsys, tmp_path):
    assert cli.main(["predict", str(run), str(video), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == pytest.approx(answer.overall.score, abs=1e-4)
    assert [word["text"] for word in found["utterances"][0]["words"]] == [
        word.text for word in answer.utterances[0].words
    ]


def test_predict_answers_a_text_in_words_and_in_a_file(run, capsys, tmp_path):
    out = tmp_path / "answers.csv"
    assert cli.main(["predict", str(run), "--text", "What a film", "--without", "audio"]) == 0
    assert "sure of its sign" in capsys.readouterr().out
    assert cli.main(["predict", str(run), "--text", "What a film", "--out", str(out)]) == 0
    assert (
        out.read_text().splitlines()[0] == "clip,start,end,score,confidence,contribution_text,contribution_audio,text"
    )


def test_predict_takes_a_clip_or_data(run, video, capsys):
    assert cli.main(["predict", str(run), str(video), "--data", "x"]) == 2
    assert "a clip or features" in capsys.readouterr().err
    assert cli.main(["predict", str(run)]) == 2
    assert "needs a clip, or features" in capsys.readouterr().err
