"""From a clip to a result."""

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
from pase_msa.serve.summary import render_result


@pytest.fixture(scope="module")
def result(clip_predictor, utterances):
    return clip_predictor.predict_utterances(utterances)


def test_a_clip_is_predicted_as_its_extracted_features(run, video, result, tmp_path):
    table, _ = extract_table(video, tmp_path / "features", ExtractConfig(["text", "audio"]), jobs=1)
    (expected,) = Predictor(run).predict(table)
    assert result.overall.score == pytest.approx(expected.score, abs=1e-5)
    assert result.overall.contributions == pytest.approx(expected.contributions, abs=1e-5)


def test_base_and_contributions_sum_to_the_prediction(result):
    total = result.base + sum(result.overall.contributions.values())
    assert total == pytest.approx(result.overall.score, abs=1e-6)


def test_influences_sum_to_what_the_text_adds_to_the_other_modalities(clip_predictor, utterances, result):
    without_text = clip_predictor.predict_utterances(utterances, without=["text"])
    influence = sum(word.influence for word in result.utterances[0].words)
    assert influence == pytest.approx(result.overall.score - without_text.overall.score, abs=1e-5)
    assert len({word.influence for word in result.utterances[0].words}) > 1


def test_influences_of_a_text_alone_sum_to_its_contribution(clip_predictor):
    result = clip_predictor.predict(None, "It was good.")
    influence = sum(word.influence for word in result.utterances[0].words)
    assert influence == pytest.approx(result.overall.contributions["text"], abs=1e-5)
    assert result.utterances[0].curve == []


def test_the_curve_goes_forward_and_ends_with_the_prediction(result):
    curve = result.utterances[0].curve
    assert curve[-1].value == result.overall.score
    times = [point.time for point in curve]
    assert times == sorted(times)
    assert 2 < len(times) <= 16


def test_a_masked_modality_is_predicted_like_an_absent_one(clip_predictor, utterances, result):
    masked = clip_predictor.predict_utterances(utterances, without=["audio"])
    as_text = clip_predictor.predict(None, utterances[0].text)
    assert masked.overall.score == pytest.approx(as_text.overall.score, abs=1e-5)
    assert (masked.masked, masked.utterances[0].modalities) == (["audio"], ["text"])
    assert masked.overall.contributions["audio"] == pytest.approx(0, abs=1e-6)
    assert masked.overall.score != pytest.approx(result.overall.score, abs=1e-4)


def test_influence_that_was_not_computed_is_none(clip_predictor, utterances):
    (plain,) = clip_predictor.predict_utterances(utterances, words=False).utterances
    assert {word.influence for word in plain.words} == {None}
    assert plain.curve == []
    (masked,) = clip_predictor.predict_utterances(utterances, without=["text"]).utterances
    assert {word.influence for word in masked.words} == {0.0}  # computed: the prediction does not use the text


def test_masking_all_or_an_unknown_modality_is_refused(clip_predictor, utterances):
    with pytest.raises(PaSEError, match="Nothing is left"):
        clip_predictor.predict_utterances(utterances, without=["text", "audio"])
    with pytest.raises(PaSEError, match="reads text, audio, not 'smell'"):
        clip_predictor.predict_utterances(utterances, without=["smell"])


def test_a_clip_without_any_modality_is_refused_with_what_was_looked_for(clip_predictor, tmp_path):
    path = write_clip(tmp_path / "silence.wav", sound=np.zeros(22_050, np.int16))
    both = r"silence.wav has nothing that the model reads: no words for text, no sound for audio\. The sound is silent"
    with pytest.raises(PaSEError, match=both):
        clip_predictor.predict(path)
    with pytest.raises(PaSEError, match=r"reads: no words for text, and audio masked\."):
        clip_predictor.predict(path, without=["audio"])


def test_a_long_clip_is_predicted_by_utterance(clip_predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONG", 2.0)
    sound, rate = speak("This is a good film.")
    path = write_clip(
        tmp_path / "two.wav", sound=np.concatenate([sound, np.zeros(2 * rate, np.int16), sound]), rate=rate
    )
    progress = []
    result = clip_predictor.predict(path, words=False, progress=lambda done, of: progress.append((done, of)))
    assert progress == [(0, 2), (1, 2)]
    first, second = result.utterances
    assert first.end < second.start
    low, high = sorted(item.value for item in result.utterances)
    assert low <= result.overall.score <= high
    assert result.base + sum(result.overall.contributions.values()) == pytest.approx(result.overall.score, abs=1e-5)
    assert "This is a good film" in render_result(result)


def test_a_model_without_a_record_of_the_extraction_is_refused(run, tmp_path):
    model = Model.from_pretrained(run / "model")
    model.extraction = None
    model.save_pretrained(tmp_path)
    with pytest.raises(PaSEError, match="without a record of their extraction"):
        ClipPredictor(tmp_path)


def test_a_model_of_other_weights_is_refused(run, tmp_path):
    model = Model.from_pretrained(run / "model")
    model.extraction["modalities"]["text"]["model_sha256"] = "0" * 64
    model.save_pretrained(tmp_path)
    with pytest.raises(PaSEError, match="model_sha256 of text"):
        ClipPredictor(tmp_path)


def test_the_command_prints_a_clip_as_json(run, video, result, capsys, tmp_path):
    assert cli.main(["predict", str(run), str(video), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["score"] == pytest.approx(result.overall.score, abs=1e-4)
    assert [word["text"] for word in printed["utterances"][0]["words"]] == [
        word.text for word in result.utterances[0].words
    ]


def test_the_command_prints_a_text_in_words_and_writes_a_file(run, capsys, tmp_path):
    out = tmp_path / "results.csv"
    assert cli.main(["predict", str(run), "--text", "What a film", "--without", "audio"]) == 0
    printed = capsys.readouterr().out
    assert "in its sign)" in printed
    assert "masked: audio" in printed
    assert cli.main(["predict", str(run), "--text", "What a film", "--out", str(out)]) == 0
    assert (
        out.read_text().splitlines()[0] == "clip,start,end,score,confidence,contribution_text,contribution_audio,text"
    )


def test_the_command_takes_a_clip_or_data(run, video, capsys):
    assert cli.main(["predict", str(run), str(video), "--data", "x"]) == 2
    assert "a clip or features" in capsys.readouterr().err
    assert cli.main(["predict", str(run)]) == 2
    assert "needs a clip, or features" in capsys.readouterr().err
