"""What every extractor on disk keeps to. A new one is a file in `media/`: these tests find it there."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra `media` is not installed")
from PIL import Image

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.media.base import FeatureExtractor, Media
from pase_msa.media.clip import Word
from pase_msa.media.config import ExtractConfig
from pase_msa.media.decode import RATE, probe, read_audio
from pase_msa.media.example_clip import write_clip, write_example
from pase_msa.media.record import config_of, make_record
from pase_msa.media.weights import require

EXTRACTORS = plugins.names("media")
TEXT = "This is a good film."
each_extractor = pytest.mark.parametrize("name", EXTRACTORS)


def config_for(name, **options):
    return ExtractConfig(["m"], {"m": {"extractor": name, **options}})


def built(name):
    """The extractor with default options; skipped where a package or the weights of a package are missing."""
    try:
        return config_for(name).build("m")
    except PaSEError as error:
        if "not installed" in str(error):
            pytest.skip(str(error))
        raise


def opened(path, words=()):
    """A clip as the pipeline opens it, with words at even times in place of recognised ones."""
    info = probe(path)
    edges = np.linspace(0, info.duration, len(words) + 1).tolist()
    timed = [Word(word, edges[i], edges[i + 1]) for i, word in enumerate(words)]
    audio = read_audio(path) if info.audio else None
    return Media(str(path), info, 0.0, info.duration, audio, timed)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A face that speaks."""
    try:
        require("espeakng_loader", "espeakng-loader")
    except PaSEError as error:
        pytest.skip(str(error))
    return write_example(tmp_path_factory.mktemp("spoken") / "clip.mp4", TEXT, size=(160, 120))


@pytest.fixture(scope="module")
def nobody(tmp_path_factory):
    """Half a second of noise without any sound."""
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (120, 160, 3), np.uint8)) for _ in range(5)]
    return write_clip(tmp_path_factory.mktemp("nobody") / "clip.mp4", frames=frames)


def test_there_are_extractors():
    assert {"text", "audio", "vision", "whisper", "egemaps"} <= set(EXTRACTORS)


@each_extractor
def test_the_options_are_a_documented_dataclass_with_defaults(name):
    config = plugins.load("media", name).Config
    options = dataclasses.asdict(config())
    assert all(f"{option}:" in config.__doc__ for option in options)
    json.dumps(options, allow_nan=False)  # they go into the record


@each_extractor
def test_it_names_its_features_and_what_it_looks_for(name):
    extractor = built(name)
    assert isinstance(extractor, FeatureExtractor)
    assert extractor.dim > 0
    assert len(extractor.columns) in (0, extractor.dim)
    assert len(set(extractor.columns)) == len(extractor.columns)
    assert extractor.looks_for != FeatureExtractor.looks_for  # completes "There is no ..."


@each_extractor
def test_a_clip_has_frames_with_times(name, spoken):
    extractor, media = built(name), opened(spoken, TEXT.split())
    track = extractor.extract(media)
    assert track.values.shape == (len(track.times), extractor.dim)
    assert track.values.dtype == np.float32
    assert np.isfinite(track.values).any(axis=1).all()
    assert not np.isinf(track.values).any()
    assert (np.diff(track.times) > 0).all()
    assert track.times[0] >= media.start
    assert track.times[-1] <= media.end + 0.1  # the last frame of a transform may begin at the very end
    if track.by_word:
        assert len(track.times) == len(media.words)


@each_extractor
def test_the_same_clip_gives_the_same_features(name, spoken):
    one, two = (built(name).extract(opened(spoken, TEXT.split())) for _ in range(2))
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.times, two.times)


@each_extractor
def test_several_clips_are_extracted_as_each_alone(name, spoken, nobody):
    extractor = built(name)
    clips = [opened(spoken, TEXT.split()), opened(nobody), opened(spoken, TEXT.split()[:2])]
    for together, media in zip(extractor.extract_many(clips), clips, strict=True):
        alone = extractor.extract(media)
        assert (together is None) == (alone is None)
        if alone is not None:
            np.testing.assert_allclose(together.values, alone.values, rtol=1e-4, atol=1e-5)


@each_extractor
def test_where_there_is_nothing_there_are_no_features(name, nobody):
    extractor = built(name)
    assert extractor.extract(opened(nobody)) is None
    assert extractor.extract(Media()) is None  # text alone, without a word


@each_extractor
@pytest.mark.parametrize("samples", [1, RATE // 2])
def test_silence_is_no_mistake(name, samples):
    extractor = built(name)
    track = extractor.extract(Media(end=samples / RATE, audio=np.zeros(samples, np.float32)))
    assert track is None or (len(track.values) > 0 and not np.isinf(track.values).any())


@each_extractor
def test_an_unknown_option_is_refused(name):
    built(name)
    with pytest.raises(PaSEError, match=f"The extractor {name} has no option 'no_such_option'; it has"):
        config_for(name, no_such_option=1).build("m")


@each_extractor
def test_the_record_names_it_and_makes_it_again(name):
    extractor, config = built(name), config_for(name)
    try:
        record = make_record(config, {"m": extractor})
    except PaSEError as error:  # packages of words, which every record names
        pytest.skip(str(error))
    entry = record["modalities"]["m"]
    assert entry["extractor"] == name
    assert entry["options"] == dataclasses.asdict(plugins.load("media", name).Config())
    assert entry["dim"] == extractor.dim * (2 if extractor.deviations else 1)
    assert len(entry["columns"]) in (0, entry["dim"])
    assert all(len(file["sha256"]) == 64 for file in entry["weights"])
    assert all(isinstance(version, str) for version in entry["versions"].values())
    again = config_of(json.loads(json.dumps(record, allow_nan=False)))
    assert make_record(again, {"m": again.build("m")}) == record
