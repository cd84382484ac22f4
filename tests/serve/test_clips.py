"""From a clip to a result."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from pase_msa.cli import main as cli
from pase_msa.data.inputs import InputSpec
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.media import languages, pipeline
from pase_msa.media.clip import Word
from pase_msa.media.config import ExtractConfig, RecordingOptions
from pase_msa.media.decode import duration_of
from pase_msa.media.example_clip import speak, write_clip
from pase_msa.media.table import extract_table
from pase_msa.media.timelines.base import Segment
from pase_msa.media.timelines.files import read_segments
from pase_msa.models.base import Model, build_model
from pase_msa.serve import reading as module
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.predictor import Predictor
from pase_msa.serve.summary import render_result
from pase_msa.serve.units import windows
from pase_msa.task import Task


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


def test_only_the_modalities_that_were_asked_for_are_read(run, video, monkeypatch, result):
    predictor = ClipPredictor(run, modalities=["text"])
    assert list(predictor.extractor.extractors) == ["text"]
    monkeypatch.setattr("pase_msa.media.audio.build", lambda *_: pytest.fail("the voice was read"))
    given = predictor.predict(video, "I really love this movie, the story is wonderful.")
    assert (given.masked, given.utterances[0].modalities) == (["audio"], ["text"])
    assert given.overall.contributions["audio"] == pytest.approx(0, abs=1e-6)
    assert given.overall.score != pytest.approx(result.overall.score, abs=1e-4)
    assert "masked: audio" in render_result(given)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("txet", "The model reads text, audio, not 'txet'; did you mean 'text'?"),
        ("vision", "The model reads text, audio, not 'vision'; "),
    ],
)
def test_unknown_modalities_are_refused_with_one_sentence(run, names, sentence, capsys):
    assert cli.main(["predict", str(run), "--text", "Good.", "--modalities", names]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


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
    result = clip_predictor.predict(path, words=False, progress=progress.append)
    assert [
        (item.stage, item.utterance, item.utterances) for item in progress if item.stage in ("words", "predict")
    ] == [
        *(("words", 1, 2), ("words", 2, 2)),
        *(("predict", 1, 2), ("predict", 2, 2)),
    ]
    fractions = [item.fraction for item in progress]
    assert len(set(fractions)) > 8  # it moves within an utterance
    assert fractions == sorted(fractions)
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


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Two sentences with a pause, and subtitles that say who speaks them."""
    folder = tmp_path_factory.mktemp("talk")
    first, rate = speak("This is a good film.")
    second, _ = speak("No, it is bad.")
    sound = np.concatenate([first, np.zeros(rate, np.int16), second])
    path = write_clip(folder / "talk.wav", sound=sound, rate=rate)
    times = [
        f"00:00:{seconds:06.3f}".replace(".", ",")
        for seconds in (0, len(first) / rate, len(first) / rate + 1, len(sound) / rate)
    ]
    (folder / "talk.srt").write_text(
        f"1\n{times[0]} --> {times[1]}\n[Ann]: This is a good film.\n\n"
        f"2\n{times[2]} --> {times[3]}\n[Bob]: No, it is bad.\n"
    )
    return path


def test_segments_of_a_timeline_are_predicted_one_by_one(clip_predictor, talk):
    segments = read_segments(talk.with_suffix(".srt"))
    result = clip_predictor.predict(talk, segments=segments, words=False)
    assert [(item.speaker, item.text) for item in result.utterances] == [
        ("Ann", "This is a good film."),
        ("Bob", "No, it is bad."),
    ]
    assert [(item.start, item.end) for item in result.utterances] == [
        (pytest.approx(segment.start), pytest.approx(segment.end, abs=0.01)) for segment in segments
    ]
    alone = clip_predictor.predict(talk, segments=segments[1:], words=False)
    assert alone.overall.score == pytest.approx(result.utterances[1].prediction.score, abs=1e-6)


def test_speakers_divide_a_recording_and_complete_its_segments(clip_predictor, talk, monkeypatch):
    segments = read_segments(talk.with_suffix(".srt"))
    found = [Segment(part.start, part.end, speaker=name) for part, name in zip(segments, ("b", "a"), strict=True)]
    monkeypatch.setattr(module, "divide", lambda path, options, config: found)
    result = clip_predictor.predict(talk, words=False, options=RecordingOptions("2"))
    assert [(item.start, item.speaker) for item in result.utterances] == [(part.start, part.speaker) for part in found]
    assert [speaker.speaker for speaker in result.speakers] == ["b", "a"]
    with pytest.raises(PaSEError, match="The segments say who speaks"):
        clip_predictor.extract(talk, segments=segments, options=RecordingOptions("2"))
    nameless = [Segment(part.start, part.end, part.text) for part in segments]
    clips = clip_predictor.extract(talk, segments=nameless, options=RecordingOptions("2"))
    assert [(clip.speaker, clip.text) for clip in clips] == [("b", segments[0].text), ("a", segments[1].text)]


def test_speakers_of_a_text_are_refused(clip_predictor, talk):
    with pytest.raises(PaSEError, match="Speakers are told apart in a recording"):
        clip_predictor.predict(None, "A text.", options=RecordingOptions("auto"))
    with pytest.raises(PaSEError, match="The transcript is of the whole recording"):
        clip_predictor.predict(talk, "A text.", options=RecordingOptions("auto"))


def test_a_clip_in_a_language_that_the_model_does_not_know_has_a_note(clip_predictor, talk, monkeypatch):
    assert clip_predictor.languages == ["en"]
    said = [Word("Ja.", 0.1, 0.4)]
    asked = []
    monkeypatch.setattr(languages, "installed", lambda package: True)
    monkeypatch.setattr(pipeline, "detect_language", lambda sound, speech: ("de", 0.7))
    monkeypatch.setattr(pipeline, "recognise", lambda sound, speech, *how: asked.append(how) or said)
    result = clip_predictor.predict(talk, words=False, options=RecordingOptions(language="auto"))
    assert (result.languages, asked) == (["de"], [("multilingual", "de")])
    note = "The words are German, and the model was trained on English: its scores do not carry over unless"
    assert note in " ".join(render_result(result).split())
    assert result.to_dict()["languages"] == ["de"]
    plain = clip_predictor.predict(talk, words=False)
    assert (plain.languages, plain.notes, asked[1:]) == (["en"], [], [("tiny.en", "en")])


NOT_ENGLISH = "This sounds like German and was read as English, so its words may be wrong; give --language de, or auto."


@pytest.mark.parametrize("said", [[Word("See", 0.1, 0.4, 0.6)], []], ids=["words", "no words"])
@pytest.mark.parametrize(
    ("heard", "language", "there", "noted"),
    [
        (("de", 0.9), None, True, True),
        (("de", 0.7), None, True, False),  # too unsure to bother anybody
        (("en", 0.99), None, True, False),
        (("de", 0.9), "en", True, False),  # somebody knows better
        (("de", 0.9), None, False, False),
        (None, None, True, False),
    ],
)
def test_a_clip_that_sounds_like_another_language_than_it_was_read_in_has_a_note(
    clip_predictor, talk, monkeypatch, heard, language, there, noted, said
):
    monkeypatch.setattr(languages, "installed", lambda package: there)
    monkeypatch.setattr(pipeline, "detect_language", lambda sound, speech: heard)
    monkeypatch.setattr(pipeline, "recognise", lambda sound, speech, *how: said)
    result = clip_predictor.predict(talk, words=False, options=RecordingOptions(language=language))
    assert (NOT_ENGLISH in result.notes) is noted


def test_no_language_is_looked_for_where_the_words_are_clear(clip_predictor, talk, monkeypatch):
    monkeypatch.setattr(languages, "installed", lambda package: True)
    monkeypatch.setattr(pipeline, "detect_language", lambda sound, speech: pytest.fail("looked for"))
    monkeypatch.setattr(pipeline, "recognise", lambda sound, speech, *how: [Word("Fine", 0.1, 0.4, 0.95)])
    assert clip_predictor.predict(talk, words=False).languages == ["en"]


def test_the_language_of_a_transcript_is_not_doubted(clip_predictor, talk, monkeypatch):
    monkeypatch.setattr(languages, "installed", lambda package: True)
    monkeypatch.setattr(pipeline, "detect_language", lambda sound, speech: ("de", 0.9))
    segments = read_segments(talk.with_suffix(".srt"))
    for result in (
        clip_predictor.predict(talk, "What is said.", words=False),
        clip_predictor.predict(talk, segments=segments, words=False),
    ):
        assert NOT_ENGLISH not in result.notes


def test_the_recogniser_of_another_language_is_named_before_anything_is_read(clip_predictor, talk, monkeypatch):
    monkeypatch.setattr(languages, "installed", lambda package: False)
    with pytest.raises(PaSEError, match=r"To recognise German needs the multilingual recogniser.*LANGUAGES=all"):
        clip_predictor.predict(talk, options=RecordingOptions(language="de"))


def test_segments_of_another_recording_are_refused(clip_predictor, talk):
    with pytest.raises(PaSEError, match="a segment begins at 100 s; give the segments of this recording"):
        clip_predictor.predict(talk, segments=[Segment(0, 1), Segment(100, 101)])
    with pytest.raises(PaSEError, match="give video or audio"):
        clip_predictor.predict(None, "A text.", segments=[Segment(0, 1)])


def test_the_command_writes_turns_and_events_into_an_annotation_file(run, talk, tmp_path, capsys):
    pytest.importorskip("pympi", reason="the extra `media` is not installed")
    out = tmp_path / "new" / "talk.eaf"
    words = ["predict", str(run), str(talk), "--segments", str(talk.with_suffix(".srt"))]
    words += ["--unit", "turn", "--events", "score > -9 for 0.2s", "--out", str(out)]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert "score > -9 for 0.2s: 2 events" in printed.out
    assert f"2 turns in {out}" in printed.err
    tiers = {tier.get("TIER_ID"): tier for tier in ElementTree.parse(out).getroot().findall("TIER")}
    assert {"score@Ann", "confidence@Ann", "contribution_audio@Bob", "words@Bob", "events@Bob"} <= set(tiers)
    assert [value.text for value in tiers["words@Bob"].iter("ANNOTATION_VALUE")] == ["No,", "it", "is", "bad."]
    assert [segment.text for segment in read_segments(out)] == ["This is a good film.", "No, it is bad."]


def test_the_command_predicts_windows(run, talk, tmp_path):
    out = tmp_path / "talk.jsonl"
    words = ["predict", str(run), str(talk), "--unit", "window", "--window", "2", "--stride", "1.5", "--out", str(out)]
    assert cli.main(words) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["start"], row["end"]) for row in rows] == [
        (window.start, pytest.approx(window.end)) for window in windows(duration_of(talk), 2.0, 1.5)
    ]
    assert {row["unit"] for row in rows} == {"window"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--unit", "turn"], "nothing says who speaks"),
        (["--window", "5"], "--window is about windows, and the unit is utterance"),
        (["--tiers", "Ann"], "name the timeline with --segments"),
        (["--segments", "a.srt", "--text", "So."], "--segments and --text both divide"),
        (["--segments", "a.srt", "--unit", "window"], "--segments and --unit window both divide"),
        (["--unit", "window", "--text", "So."], "leave out one"),
        (["--speakers", "2", "--text", "So."], "the transcript of --text is of the whole"),
        (["--speakers", "2", "--unit", "window"], "--speakers divides the clip where the speaker changes"),
        (["--speakers", "many"], "auto, channels or a number from 1 to 8"),
        (["--language", "klingon"], "A language is auto or a code"),
        (["--language", "German"], "write de."),
        (["--unit", "window", "--window", "ten"], "--window: a number was wanted, found ten"),
        (["another.wav"], "one command predicts one clip"),
        (["--segments", "nowhere.srt"], "There is no timeline nowhere.srt"),
        (["--out", "a.xls"], "end it in .csv"),
        (["--out", "a.srt", "--json"], "--json writes JSON"),
        (["--events", "score < low"], "An event is CONDITION"),
    ],
)
def test_options_of_a_clip_that_contradict_each_other_are_refused(
    options, sentence, run, talk, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", str(run), str(talk), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_annotation_file_that_is_there_is_never_replaced(run, talk, capsys):
    before = talk.with_suffix(".srt").read_text()
    words = ["predict", str(run), str(talk), "--segments", str(talk.with_suffix(".srt"))]
    assert cli.main([*words, "--out", str(talk.with_suffix(".srt"))]) == 2
    assert "is there already" in capsys.readouterr().err
    assert talk.with_suffix(".srt").read_text() == before


def test_notes_are_told_beside_a_file(run, tmp_path, capsys):
    silent = write_clip(tmp_path / "silent.wav", sound=np.zeros(8000, np.int16), rate=8000)
    words = ["predict", str(run), str(silent), "--text", "So it is."]
    assert cli.main([*words, "--out", str(tmp_path / "a.csv")]) == 0
    assert "note: The sound is silent" in capsys.readouterr().err


def test_options_of_a_clip_and_data_are_refused(run, capsys):
    assert cli.main(["predict", str(run), "--data", "x", "--unit", "word"]) == 2
    assert "--unit is about a clip" in capsys.readouterr().err
    assert cli.main(["predict", str(run), "--data", "x", "--out", "x.eaf"]) == 2
    assert "written as .csv or .jsonl" in capsys.readouterr().err


def test_a_timeline_of_a_text_alone_is_refused(run, capsys, tmp_path):
    assert cli.main(["predict", str(run), "--text", "So it is.", "--out", str(tmp_path / "a.srt")]) == 2
    assert "A timeline needs times" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_context_reads_what_was_said_before(run, utterances, tmp_path):
    model = Model.from_pretrained(run / "model")
    size = model.inputs["text"].dim
    context = {"mode": "before", "of": "text", "size": size, "speakers": False, "text": None}
    inputs = {**model.inputs, "context": InputSpec(2 * size, "sequence", {}, steps=1, context=context)}
    task = Task.regression(["text", "audio", "context"], -3, 3, label="sentiment")
    own = build_model("concat", task, inputs, {"width": 8})
    own.extraction = model.extraction
    own.save_pretrained(tmp_path)
    predictor = ClipPredictor(tmp_path)
    assert predictor.reads_before
    clip = utterances[0]
    first, row = predictor.predict_in_turn(clip)
    second, _ = predictor.predict_in_turn(clip, [row])
    features = {name: clip.features[name] for name in ("text", "audio")}
    rows = [Utterance(str(i), "talk", "", features=features) for i in range(2)]
    sizes = {name: values.shape[1] for name, values in features.items()}
    expected = Predictor(tmp_path).predict(
        FeatureTable.build(rows, Schema(sizes, {}), meta={"extraction": model.extraction})
    )
    scores = [prediction.score for prediction in expected]
    assert [first.value, second.value] == pytest.approx(scores, abs=1e-5)
    assert abs(scores[0] - scores[1]) > 1e-4
    assert first.prediction.contributions["context"] == 0
    assert second.prediction.contributions["context"] != 0
