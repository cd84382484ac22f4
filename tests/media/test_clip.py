"""One clip: words with times, steps that agree, faces over time, and the same features again from the record."""

import itertools

import numpy as np
import pytest

from pase_msa import PaSEError
from pase_msa.data.extraction import difference
from pase_msa.media.config import ExtractConfig
from pase_msa.media.example_clip import speak, write_clip
from pase_msa.media.pipeline import Extractor
from tests.media.conftest import SENTENCE


def test_speech_is_recognised_with_times(clip):
    assert clip.timing == "recognised"
    assert {"love", "movie", "story"} <= set(clip.text.lower().replace(",", "").replace(".", "").split())
    times = [time for word in clip.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= clip.duration
    assert all(0 <= word.confidence <= 1 for word in clip.words)


def test_every_modality_has_one_step_per_word(clip, extractor):
    assert clip.aligned == "word"
    assert list(clip.features) == ["text", "audio", "vision"]
    for name, values in clip.features.items():
        assert values.shape == (len(clip.words), extractor.record["modalities"][name]["dim"])
        assert values.dtype == np.float32
    assert np.isfinite(clip.features["vision"]).all()


def test_columns_have_names(clip, extractor):
    for name in ("audio", "vision"):
        assert len(extractor.record["modalities"][name]["columns"]) == clip.features[name].shape[1]
    columns = extractor.record["modalities"]["vision"]["columns"]
    assert clip.features["vision"][:, columns.index("happy")].min() > 0.5  # the portrait smiles


def test_the_face_is_followed(clip):
    assert [face.time for face in clip.faces] == pytest.approx(np.arange(len(clip.faces)) / 5, abs=0.06)
    for face in clip.faces:
        left, top, right, bottom = face.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert sum(face.expression.values()) == pytest.approx(1, abs=1e-5)
    widths = [face.box[2] - face.box[0] for face in clip.faces]
    assert widths[-1] > 1.1 * widths[0]  # the portrait comes nearer


def test_stages_are_timed(clip):
    assert {"open", "sound", "speech", "words", "text", "audio", "vision"} <= set(clip.seconds)
    assert min(clip.seconds.values()) >= 0


def test_the_same_clip_gives_the_same_features(clip, extractor, media):
    again = extractor.extract_clip(media / "video.mp4")
    for name, values in clip.features.items():
        np.testing.assert_array_equal(again.features[name], values)


def test_a_given_text_is_aligned(extractor, media, clip):
    extracted = extractor.extract_clip(media / "video.mp4", SENTENCE)
    assert extracted.timing == "aligned"
    assert [word.text for word in extracted.words] == SENTENCE.split()
    recognised = {word.text.lower().strip(",."): word for word in clip.words}
    for word in extracted.words:
        recognised_word = recognised.get(word.text.lower().strip(",."))
        if recognised_word is not None:  # two methods agree on the time of a word
            assert word.start < recognised_word.end + 0.15
            assert word.end > recognised_word.start - 0.15


def test_a_made_up_voice_says_a_sentence_always_alike():
    first = speak(SENTENCE)[0]
    speak("Something else.", speed=300, pitch=90)
    np.testing.assert_array_equal(speak(SENTENCE)[0], first)


def test_a_word_that_no_dictionary_has_stands_between_its_neighbours(extractor, media):
    text = SENTENCE.replace("movie", "xyzzyq movie")
    words = extractor.extract_clip(media / "video.mp4", text).words
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert next(word.end - word.start for word in words if word.text == "xyzzyq") > 0.02


def test_a_text_that_cannot_be_aligned_is_spread_over_the_speech(extractor, media):
    extracted = extractor.extract_clip(media / "video.mp4", "xyzzyq qqrt zzkw")
    assert extracted.timing == "spread"
    assert any("spread" in note for note in extracted.notes)
    assert extracted.words[0].start == pytest.approx(extracted.speech[0].start)
    assert extracted.words[-1].end == pytest.approx(extracted.speech[-1].end)


def test_text_alone_has_words_without_times(extractor, tmp_path):
    (tmp_path / "a.txt").write_text("What a fine day.")
    for extracted in (extractor.extract_clip(None, "What a fine day."), extractor.extract_clip(tmp_path / "a.txt")):
        assert list(extracted.features) == ["text"]
        assert extracted.features["text"].shape == (4, 384)
        assert extracted.words[0].start is None
        assert extracted.duration is None


def test_a_part_of_a_clip_has_the_clock_of_the_file(extractor, media, clip):
    middle = clip.words[4].start
    extracted = extractor.extract_clip(media / "video.mp4", start=middle)
    assert extracted.start == middle
    assert extracted.duration == pytest.approx(clip.duration - middle)
    assert min(word.start for word in extracted.words) >= middle
    assert min(face.time for face in extracted.faces) >= middle
    assert max(face.time for face in extracted.faces) <= clip.duration


def test_a_part_outside_the_clip_is_refused(extractor, media):
    with pytest.raises(PaSEError, match="no clip from 100 s to its end"):
        extractor.extract_clip(media / "video.mp4", start=100.0)


def test_long_media_are_cut_at_pauses(extractor, tmp_path):
    first, rate = speak("The first thing is very good.")
    second, _ = speak("The second one is not.")
    gap = np.zeros(2 * rate, np.int16)
    path = write_clip(tmp_path / "long.wav", sound=np.concatenate([first, gap, second]), rate=rate)
    spans = extractor.segments(path)
    assert len(spans) == 2
    assert spans[0].end < (len(first) + len(gap)) / rate < spans[1].end
    texts = [clip.text.lower() for clip in extractor.extract_utterances(path)]
    assert "first" in texts[0]
    assert "second" in texts[1]


def test_long_media_without_speech_are_cut_evenly(tmp_path):
    path = write_clip(tmp_path / "hum.wav", sound=np.zeros(16_000 * 25, np.int16), rate=16_000)
    spans = Extractor(ExtractConfig(["audio"], longest=10)).segments(path)
    assert [span.end - span.start for span in spans] == pytest.approx([25 / 3] * 3, abs=0.01)
    assert all(a.end == b.start for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize("align", ["window", "frame"])
def test_other_alignments(align, media):
    extracted = Extractor(ExtractConfig(["audio", "vision"], align=align, window=0.25)).extract_clip(
        media / "video.mp4"
    )
    assert extracted.aligned == align
    lengths = {name: len(values) for name, values in extracted.features.items()}
    if align == "window":
        assert set(lengths.values()) == {int(np.ceil(extracted.duration / 0.25))}
    else:
        assert lengths == {name: len(track.values) for name, track in extracted.tracks.items()}
        assert lengths["audio"] > 10 * lengths["vision"]


@pytest.mark.parametrize(("name", "dim"), [("egemaps", 50), ("whisper", 384)])
def test_other_extractors_of_sound(name, dim, media):
    extractor = Extractor(ExtractConfig(["audio"], {"audio": {"extractor": name}}))
    extracted = extractor.extract_clip(media / "sound.wav", SENTENCE)
    assert extracted.features["audio"].shape == (len(SENTENCE.split()), dim)
    assert np.isfinite(extracted.features["audio"]).all()
    assert extractor.record["modalities"]["audio"]["extractor"] == name


def test_the_record_makes_the_same_extractor(clip, extractor, media):
    again = Extractor.from_record(extractor.record)
    assert again.record == extractor.record
    extracted = again.extract_clip(media / "video.mp4")
    for name, values in clip.features.items():
        np.testing.assert_array_equal(extracted.features[name], values)


def test_the_record_names_every_file_of_weights(extractor):
    record = extractor.record
    weights = [*record["words"]["weights"], *record["modalities"]["vision"]["weights"]]
    assert {"model/model.bin", "data/face_landmark.tflite", "data/emotion_model.hdf5"} <= {w["file"] for w in weights}
    assert all(len(w["sha256"]) == 64 for w in weights)
    assert len(record["modalities"]["text"]["model_sha256"]) == 64


def test_other_options_give_another_record(extractor):
    other = Extractor(ExtractConfig(extractors={"vision": {"rate": 10}}))
    sentence = difference(extractor.record, other.record, ["text", "vision"])
    assert sentence == "the options of vision had rate 5.0 in training and have 10.0 here"
    assert difference(extractor.record, other.record, ["text", "audio"]) is None


def test_a_record_of_other_weights_is_refused(extractor):
    record = Extractor(ExtractConfig(["vision"])).record
    record["modalities"]["vision"]["weights"][0]["sha256"] = "0" * 64
    with pytest.raises(PaSEError, match="the weights of vision are others than in training"):
        Extractor.from_record(record)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"modalities": []}, "needs a modality"),
        ({"extractors": {"smell": {}}}, "'smell', which is not among the modalities"),
        ({"window": 0.0}, "window and pause above 0"),
        ({"modalities": ["smell"]}, "No plug-in 'smell' in media"),
        ({"extractors": {"vision": {"rates": 3}}}, "did you mean 'rate'"),
        ({"extractors": {"vision": {"rate": -1}}}, "a rate above 0"),
        ({"extractors": {"audio": {"cepstra": 50}}}, "cepstra <= mels"),
    ],
)
def test_mistaken_options_are_refused(options, sentence):
    with pytest.raises(PaSEError, match=sentence):
        Extractor(ExtractConfig(**options))
