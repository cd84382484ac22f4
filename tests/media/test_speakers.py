"""Who speaks when: clusters of voices, channels of a call, names, and the table that comes of it."""

import numpy as np
import pytest

from pase_msa import PaSEError
from pase_msa.media import pipeline, recordings
from pase_msa.media.clip import Span, Word
from pase_msa.media.config import ExtractConfig, RecordingOptions
from pase_msa.media.decode import RATE
from pase_msa.media.example_clip import speak, write_clip
from pase_msa.media.recordings import divide, with_speakers
from pase_msa.media.speakers import Stretch, find_speakers
from pase_msa.media.table import extract_table
from pase_msa.media.timelines.base import Segment
from pase_msa.media.voices import STEP, WINDOW, load_voices

CONFIG = ExtractConfig(["loudness"], {"loudness": {"extractor": "tests.media.toy:Plugin"}}, align="window")


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def voices():
    return unit(np.abs(np.random.default_rng(0).normal(size=(3, 64))))


def stretch(voices, start, who, quiet=None):
    """A stretch whose windows have these voices; `quiet` is the moment in it without a sound."""
    rng = np.random.default_rng(int(start))
    vectors = unit(voices[list(who)] + 0.03 * rng.normal(size=(len(who), voices.shape[1])))
    end = start + WINDOW + STEP * (len(who) - 1)
    loudness = np.ones(round(100 * (end - start)))
    if quiet is not None:
        loudness[round(100 * quiet) - 3 : round(100 * quiet) + 3] = 0
    return Stretch(Span(start, end), vectors, loudness)


def test_as_many_speakers_are_found_as_voices_differ(voices):
    stretches = [stretch(voices, 0, [2] * 9), stretch(voices, 10, [0] * 9), stretch(voices, 20, [2] * 5)]
    assert [talk.speaker for talk in find_speakers(stretches)] == [0, 1, 0]
    assert {talk.speaker for talk in find_speakers([*stretches, stretch(voices, 30, [1] * 8)])} == {0, 1, 2}
    assert {talk.speaker for talk in find_speakers(stretches[:1])} == {0}


def test_a_number_that_is_given_is_kept(voices):
    stretches = [stretch(voices, 10 * i, [i] * 9) for i in range(3)]
    for count in (1, 2, 3):
        assert len({talk.speaker for talk in find_speakers(stretches, count)}) == count


def test_a_stretch_is_cut_at_the_quietest_moment_of_a_change(voices):
    quiet = WINDOW / 2 + 5.5 * STEP + 0.12
    first, second = find_speakers([stretch(voices, 7, [0] * 6 + [1] * 6, quiet)])
    assert (first.start, first.speaker, second.speaker) == (7, 0, 1)
    assert first.end == second.start == pytest.approx(7 + quiet, abs=0.03)
    assert second.end == pytest.approx(7 + WINDOW + 11 * STEP)


def test_one_window_of_another_voice_is_no_change(voices):
    (talk,) = find_speakers([stretch(voices, 0, [0] * 5 + [1] + [0] * 5)], 1)
    assert (talk.start, talk.end) == (0, pytest.approx(WINDOW + 10 * STEP))


@pytest.fixture(scope="module")
def said():
    """Two sentences of a low voice, and one of a high voice, at 16 kHz."""
    parts = []
    for text, voice, pitch in (
        ("The whole story was really wonderful, and I loved it.", "en-us+m3", 20),
        ("Honestly, the ending was a little boring for me.", "en-us+m3", 20),
        ("The music was good, and I would watch it again.", "en+f4", 90),
    ):
        sound, rate = speak(text, voice, pitch=pitch)
        times = np.arange(round(len(sound) / rate * RATE)) / RATE
        parts.append(np.interp(times, np.arange(len(sound)) / rate, sound / 32768).astype(np.float32))
    return parts


def test_vectors_of_a_voice_are_nearer_to_each_other_than_to_another_voice(said):
    low, again, high = (load_voices()(part) for part in said)
    assert low.shape[1] == 256
    np.testing.assert_allclose(np.linalg.norm(low, axis=1), 1, rtol=1e-5)
    assert len(low) == 1 + int((len(said[0]) / RATE - WINDOW) / STEP + 0.1)
    low, again, high = (unit(part.mean(0)) for part in (low, again, high))
    assert low @ again > low @ high + 0.02


def test_a_sound_shorter_than_a_window_has_one_vector(said):
    assert load_voices()(said[0][: RATE // 2]).shape == (1, 256)


@pytest.fixture(scope="module")
def call(said, tmp_path_factory):
    """A call with a channel per speaker, in which each channel has a little of the other."""
    length = sum(map(len, said)) + 3 * RATE
    sound = np.zeros((2, length), np.float32)
    at = RATE // 2
    for part, channel in zip(said, (1, 1, 0), strict=True):
        sound[channel, at : at + len(part)] = part
        at += len(part) + RATE
    leaked = sound + 0.05 * sound[::-1]
    folder = tmp_path_factory.mktemp("call")
    return write_clip(folder / "call.wav", sound=(leaked * 32767).astype(np.int16), rate=RATE)


def test_a_channel_is_a_speaker_and_what_leaks_into_it_is_not(call):
    segments = divide(call, RecordingOptions("channels"), CONFIG)
    assert [(part.speaker, part.channel) for part in segments] == [("channel 2", 1), ("channel 2", 1), ("channel 1", 0)]
    named = divide(call, RecordingOptions("channels", ("Anna", "Ben")), CONFIG)
    assert [part.speaker for part in named] == ["Ben", "Ben", "Anna"]


def test_channels_that_tell_nobody_apart_are_refused(call, said, tmp_path):
    mono = write_clip(tmp_path / "mono.wav", sound=(said[0] * 32767).astype(np.int16), rate=RATE)
    with pytest.raises(PaSEError, match="has 1 channel of sound, so it has not one per speaker"):
        divide(mono, RecordingOptions("channels"), CONFIG)
    twice = write_clip(tmp_path / "twice.wav", sound=np.stack([said[0] * 32767] * 2).astype(np.int16), rate=RATE)
    with pytest.raises(PaSEError, match="holds the same sound in its 2 channels; take --speakers auto"):
        divide(twice, RecordingOptions("channels"), CONFIG)
    with pytest.raises(PaSEError, match="has 2 channels, found 3 names"):
        divide(call, RecordingOptions("channels", ("Anna", "Ben", "Cem")), CONFIG)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"speakers": "many"}, "takes auto, channels or a number from 1 to 8, found 'many'"),
        ({"speakers": "0"}, "found '0'"),
        ({"names": ["Anna"]}, "add --speakers auto"),
        ({"speakers": "auto", "names": ["Anna", "Anna"]}, "has a name twice"),
        ({"speakers": "3", "names": ["Anna", "Ben"]}, "--speakers 3 and 2 names do not agree"),
        ({"language": "klingon"}, "auto or a code such as en, de"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, sentence):
    with pytest.raises(PaSEError, match=sentence):
        RecordingOptions(**options).check()


def test_names_say_how_many_speakers_there_are():
    assert RecordingOptions("auto", ("Anna", "Ben")).count == 2
    assert RecordingOptions("auto").count is None


def test_segments_get_the_speaker_of_most_of_their_time():
    found = [Segment(0, 4, speaker="a", channel=0), Segment(3, 9, speaker="b", channel=1)]
    given = [Segment(0, 5, "so it is"), Segment(4, 6), Segment(20, 21)]
    assert with_speakers(given, found) == [
        Segment(0, 5, "so it is", "a", 0),
        Segment(4, 6, None, "b", 1),
        Segment(20, 21),
    ]


@pytest.fixture
def heard(monkeypatch):
    """The recogniser hears one word, and remembers how loud the sound was."""
    sounds = []

    def recognise(sound, speech, model, language):
        sounds.append(float(np.abs(sound).mean()))
        return [Word("so", speech[0].start, speech[0].end)]

    monkeypatch.setattr(pipeline, "recognise", recognise)
    return sounds


def test_a_table_has_the_speakers_of_a_recording(call, heard, tmp_path):
    config = ExtractConfig(CONFIG.modalities, CONFIG.extractors, "window", speakers="channels")
    table, _ = extract_table(call, tmp_path / "out", config, jobs=1)
    assert table.ids == ["call_0001", "call_0002", "call_0003"]
    assert table.speakers == ["channel 2", "channel 2", "channel 1"]
    assert len(set(table.videos)) == 1
    assert min(heard) > 0.01  # of the speaker's own channel, not of what leaks into the other one
    whole, _ = extract_table(call, tmp_path / "whole", CONFIG, jobs=1)
    assert (len(whole), whole.speakers) == (1, None)


def test_the_manifest_names_the_speakers(call, heard, tmp_path, monkeypatch):
    asked = []
    talks = [Segment(0.5, 2, speaker="Anna"), Segment(3, 5, speaker="Ben")]
    monkeypatch.setattr(recordings, "_by_voice", lambda path, options, config: asked.append(options) or talks)
    (tmp_path / "clips.csv").write_text(f"path,speaker\n{call},Anna; Ben\n")
    config = ExtractConfig(CONFIG.modalities, CONFIG.extractors, "window", speakers="auto")
    table, _ = extract_table(tmp_path / "clips.csv", tmp_path / "out", config, jobs=1)
    assert table.speakers == ["Anna", "Ben"]
    assert (asked[0].names, asked[0].count) == (["Anna", "Ben"], 2)
