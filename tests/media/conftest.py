"""One extractor and a few clips for the whole folder."""

import pytest

from pase_msa.media.example_clip import speak, write_clip, write_example
from pase_msa.media.pipeline import Extractor

SENTENCE = "I really love this movie, the story is wonderful."


@pytest.fixture(scope="session")
def extractor():
    return Extractor()


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """A folder with a spoken video and a spoken sound."""
    folder = tmp_path_factory.mktemp("media")
    write_example(folder / "video.mp4", SENTENCE)
    sound, rate = speak(SENTENCE)
    write_clip(folder / "sound.wav", sound=sound, rate=rate)
    return folder


@pytest.fixture(scope="session")
def clip(extractor, media):
    """The video, recognised."""
    return extractor.extract_clip(media / "video.mp4")
