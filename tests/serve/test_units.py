"""Units of a result, events in them, and the files that they are written to."""

import csv
import json
from importlib.resources import files
from xml.etree import ElementTree

import jsonschema
import pytest

from pase_msa import PaSEError
from pase_msa.serve.events import find_events, parse_rules, render_events
from pase_msa.serve.outputs import to_json, write_result
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.results import ClipResult, UtteranceResult, WordInfluence, overall
from pase_msa.serve.summary import clock, render_result
from pase_msa.serve.timeline import timeline_of
from pase_msa.serve.units import units_of, windows
from pase_msa.task import Task

SCORES = Task.regression(("text", "audio"), -3, 3)
CLASSES = Task.classification(("text",), ("sad", "very glad"))
SCHEMA = json.loads(files("pase_msa.serve").joinpath("clip_result.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def utterance(start, end, score, speaker=None, text="so it is", confidence=0.75):
    probabilities = {"negative": 0.25, "positive": 0.75}
    prediction = Prediction("u", score, None, confidence, {"text": score - 0.5, "audio": 0.25}, probabilities)
    step = (end - start) / len(text.split())
    words = [
        WordInfluence(word, start + i * step, start + (i + 1) * step, 0.1 * i) for i, word in enumerate(text.split())
    ]
    return UtteranceResult(start, end, text, prediction, 0.25, words, [], ["text", "audio"], [], speaker)


def result_of(*items):
    prediction, base = overall("a.mp4", items)
    return ClipResult("a.mp4", max(item.end for item in items), prediction, base, list(items), {"predict": 0.1})


@pytest.fixture
def result():
    return result_of(
        utterance(0, 2, -1.5, "Ann"),
        utterance(2.5, 5.5, -2.5, "Ann", "and that"),
        utterance(5, 8, 1.0, "Bob", confidence=0.5),
        utterance(8, 10, -1.2, "Ann"),
    )


def test_a_turn_is_the_mean_of_consecutive_utterances_of_a_speaker(result):
    first, second, third = units_of(result, "turn")
    assert (first.start, first.end, first.speaker, first.text) == (0, 5.5, "Ann", "so it is and that")
    assert first.prediction.score == pytest.approx((2 * -1.5 + 3 * -2.5) / 5)
    assert first.base + sum(first.prediction.contributions.values()) == pytest.approx(first.prediction.score)
    assert (second.speaker, second.prediction.score, third.start) == ("Bob", 1.0, 8)


def test_a_speaker_has_a_share_of_the_talk_and_a_mean(result):
    ann, bob = result.speakers
    assert (ann.speaker, ann.utterances, ann.seconds) == ("Ann", 3, 7)
    assert ann.share == pytest.approx(0.7)
    assert ann.prediction.score == pytest.approx((2 * -1.5 + 3 * -2.5 + 2 * -1.2) / 7)
    assert ann.base + sum(ann.prediction.contributions.values()) == pytest.approx(ann.prediction.score)
    assert bob.share == pytest.approx(0.3)
    assert "Ann: 70% of the talk (0:07.0), score -1.84" in render_result(result)
    VALIDATOR.validate(to_json(result, "utterance", []))
    assert result_of(utterance(0, 1, 0.0)).speakers == []


def test_turns_need_speakers():
    with pytest.raises(PaSEError, match="nothing says who speaks; add --speakers auto"):
        units_of(result_of(utterance(0, 1, 0.0)), "turn")


def test_a_word_has_the_prediction_of_its_utterance_and_an_influence_of_its_own(result):
    words = units_of(result, "word")
    assert [word.text for word in words[:5]] == ["so", "it", "is", "and", "that"]
    assert [word.prediction.score for word in words[2:4]] == [-1.5, -2.5]
    assert [word.influence for word in words[:3]] == pytest.approx([0.0, 0.1, 0.2])


def test_windows_cover_the_recording_and_the_last_one_ends_with_it():
    spans = [(window.start, window.end) for window in windows(23.0, 10.0, 5.0)]
    assert spans == [(0, 10), (5, 15), (10, 20), (13, 23)]
    assert [(w.start, w.end) for w in windows(20.0, 10.0, 10.0)] == [(0, 10), (10, 20)]
    assert [(w.start, w.end) for w in windows(4.0, 10.0)] == [(0, 4)]


@pytest.mark.parametrize(("length", "stride"), [(0.0, None), (10.0, 0.0), (10.0, 11.0), (float("nan"), None)])
def test_windows_without_length_or_with_gaps_are_refused(length, stride):
    with pytest.raises(PaSEError, match="give other seconds"):
        windows(30.0, length, stride)


def test_an_event_is_a_run_of_one_speakers_units_and_has_a_peak(result):
    units = units_of(result, "utterance")
    (event,) = find_events(units, parse_rules("score < -1 for 5s", SCORES))
    assert (event.speaker, event.start, event.end) == ("Ann", 0, 5.5)
    assert (event.peak, event.peak_start, event.peak_end) == (-2.5, 2.5, 5.5)
    events = find_events(units, parse_rules("score<=-1", SCORES))
    assert [(item.start, item.end) for item in events] == [(0, 5.5), (8, 10)]  # the pause of 2.5 s divides them
    assert find_events(units, parse_rules("score < -1 for 6 s", SCORES)) == []


def test_all_conditions_of_an_event_must_hold(result):
    units = units_of(result, "utterance")
    assert find_events(units, parse_rules("score > 0 and confidence > 0.6", SCORES)) == []
    (event,) = find_events(units, parse_rules("score > 0 and confidence > .4", SCORES))
    assert (event.speaker, event.peak) == ("Bob", 1.0)


def test_several_rules_are_divided_by_semicolons(result):
    rules = parse_rules("contribution_text < -2; score > 0;", SCORES)
    events = find_events(units_of(result, "utterance"), rules)
    assert [(event.event, event.start, event.peak) for event in events] == [
        ("contribution_text < -2", 2.5, -3.0),
        ("score > 0", 5, 1.0),
    ]


def test_classes_make_events_whose_peak_is_their_probability():
    items = []
    for start, sad in ((0, 0.4), (1, 0.7), (2, 0.9)):
        label = "sad" if sad > 0.5 else "very glad"
        prediction = Prediction("u", None, label, 0.8, {"text": 0.1}, {"sad": sad, "very glad": 1 - sad})
        items.append(UtteranceResult(start, start + 1, "so", prediction, 0.5, [], [], ["text"]))
    units = units_of(result_of(*items), "utterance")
    (event,) = find_events(units, parse_rules("class == sad", CLASSES))
    assert (event.start, event.end, event.peak, event.peak_start) == (1, 3, 0.9, 2)
    (event,) = find_events(units, parse_rules("class != 'sad'", CLASSES))
    assert (event.start, event.end) == (0, 1)


@pytest.mark.parametrize(
    ("text", "task", "sentence"),
    [
        ("", SCORES, "nothing is there"),
        ("score", SCORES, "'score' is no condition"),
        ("score < -1 and", SCORES, "a condition is missing"),
        ("score < low", SCORES, "'low' is no number"),
        ("score < nan", SCORES, "'nan' is no number"),
        ("score == 1", SCORES, "a number is compared with <, <=, >, >="),
        ("score < -1 for five s", SCORES, "'five' is no number"),
        ("score < -1 for", SCORES, "'for' is followed by seconds"),
        ("score < -1 for 5 min", SCORES, "'for' is followed by seconds"),
        ("scores < -1", SCORES, "no 'scores' .* did you mean 'score'"),
        ("class == sad", SCORES, "predicts no 'class'"),
        ("score < 1", CLASSES, "predicts no 'score' .*; there are class, confidence, contribution_text"),
        ("class == bad", CLASSES, "predicts the classes sad, very glad, not 'bad' .* did you mean 'sad'"),
        ("class < sad", CLASSES, "compared with == or !="),
        ("__import__('os').system('true') < 1", SCORES, "is no condition"),
    ],
)
def test_a_mistaken_event_is_refused(text, task, sentence):
    with pytest.raises(PaSEError, match=sentence):
        parse_rules(text, task)


def test_the_refusal_shows_the_grammar():
    with pytest.raises(PaSEError, match=r'An event is CONDITION .* \[for N s\].*for example "score < -1 for 5s"'):
        parse_rules("score below 1", SCORES)


def test_events_of_a_text_alone_are_refused():
    prediction = utterance(0, 1, -2.0).prediction
    text = UtteranceResult(0.0, None, "so", prediction, 0.0, [], [], ["text"])
    with pytest.raises(PaSEError, match="a text alone has none"):
        find_events(
            units_of(ClipResult("text", None, prediction, 0.0, [text], {}), "utterance"),
            parse_rules("score < 0", SCORES),
        )


def test_units_and_events_are_printed(result):
    rules = parse_rules("score < -1", SCORES)
    printed = render_result(result, units_of(result, "turn"))
    assert [line.split()[:4] for line in printed.splitlines()[5:8]] == [
        ["0:00.0", "0:05.5", "Ann", "-2.10"],
        ["0:05.0", "0:08.0", "Bob", "+1.00"],
        ["0:08.0", "0:10.0", "Ann", "-1.20"],
    ]
    listed = render_events(find_events(units_of(result, "utterance"), rules), rules).splitlines()
    assert listed[0] == "score < -1: 2 events"
    assert listed[1] == "  0:00.0 to 0:05.5  Ann  peak -2.50 at 0:02.5"


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", ["utterance", "word", "turn"])
def test_json_follows_its_schema(kind, result, tmp_path):
    units = units_of(result, kind)
    events = find_events(units, parse_rules("score < -1", SCORES))
    write_result(tmp_path / "a.json", result, kind, units, events)
    content = json.loads((tmp_path / "a.json").read_text())
    VALIDATOR.validate(content)
    assert len(content["events"]) == len(events) > 0
    assert len(content.get("units", content["utterances"])) == len(units)
    content["utterances"][0]["score"] = "low"
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(content)


def test_a_result_without_speakers_and_events_follows_the_schema_too():
    plain = result_of(utterance(0, 1, 0.0))
    VALIDATOR.validate(to_json(plain, "utterance", units_of(plain, "utterance")))
    assert "speaker" not in plain.to_dict()["utterances"][0]


def test_a_line_of_json_is_a_unit_of_the_schema(result, tmp_path):
    write_result(tmp_path / "a.jsonl", result, "word", units_of(result, "word"))
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/unit", "$defs": SCHEMA["$defs"]})
    assert [error.message for row in rows for error in validator.iter_errors(row)] == []
    assert [(row["text"], row["speaker"], row["score"]) for row in rows[:4:3]] == [
        ("so", "Ann", -1.5),
        ("and", "Ann", -2.5),
    ]


def test_csv_has_a_line_per_unit_and_events_beside_it(result, tmp_path):
    units = units_of(result, "turn")
    events = find_events(units, parse_rules("score < -1 and confidence > .5", SCORES))
    written = write_result(tmp_path / "a.csv", result, "turn", units, events)
    assert [file.name for file in written] == ["a.csv", "a.events.csv"]
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert list(rows[0]) == [
        *("clip", "speaker", "start", "end", "score", "confidence"),
        *("contribution_text", "contribution_audio", "text"),
    ]
    assert [row["speaker"] for row in rows] == ["Ann", "Bob", "Ann"]
    (event, *_) = csv.DictReader((tmp_path / "a.events.csv").read_text().splitlines())
    assert (event["start"], event["end"], float(event["peak"])) == ("0", "5.5", pytest.approx(-2.1))


def test_a_speaker_has_a_tier_for_score_confidence_modalities_and_words(result):
    units = units_of(result, "utterance")
    events = find_events(units, parse_rules("score < -1", SCORES))
    made = {tier.name: tier for tier in timeline_of(result, units, events, duration=12.0).tiers}
    names = ("transcript", "score", "confidence", "contribution_text", "contribution_audio", "words", "events")
    assert list(made) == [*(f"{name}@Ann" for name in names), *(f"{name}@Bob" for name in names[:-1])]
    assert [(i.start, i.end, i.text) for i in made["score@Ann"].intervals] == [
        (0, 2, "-1.500"),
        (2.5, 5.5, "-2.500"),
        (8, 10, "-1.200"),
    ]
    assert [i.text for i in made["words@Bob"].intervals] == ["so", "it", "is"]
    assert made["events@Ann"].intervals[0].text == "score < -1 (peak -2.50)"
    assert {tier.speaker for tier in made.values()} == {"Ann", "Bob"}


def test_tiers_of_words_have_influences(result):
    made = {tier.name: tier for tier in timeline_of(result, units_of(result, "word")).tiers}
    assert [i.text for i in made["influence@Ann"].intervals[:3]] == ["+0.000", "+0.100", "+0.200"]
    assert len(made["score@Ann"].intervals) == len(made["words@Ann"].intervals)


def test_events_are_a_tier_of_elan(result, tmp_path):
    pytest.importorskip("pympi", reason="the extra `media` is not installed")
    units = units_of(result, "utterance")
    events = find_events(units, parse_rules("score < -1", SCORES))
    assert write_result(tmp_path / "a.eaf", result, "utterance", units, events) == [tmp_path / "a.eaf"]
    root = ElementTree.parse(tmp_path / "a.eaf").getroot()
    values = root.findall("TIER[@TIER_ID='events@Ann']/ANNOTATION/ALIGNABLE_ANNOTATION/ANNOTATION_VALUE")
    assert [value.text for value in values] == ["score < -1 (peak -2.50)", "score < -1 (peak -1.20)"]


def test_an_unknown_ending_is_refused(result, tmp_path):
    with pytest.raises(PaSEError, match=r"'a\.xls' has none that is known; end it in \.csv, .*\.TextGrid"):
        write_result(tmp_path / "a.xls", result, "utterance", units_of(result, "utterance"))
    assert list(tmp_path.iterdir()) == []


def test_a_clock_has_no_sixtieth_second():
    assert [clock(seconds) for seconds in (0, 59.94, 59.97, 125.0)] == ["0:00.0", "0:59.9", "1:00.0", "2:05.0"]
