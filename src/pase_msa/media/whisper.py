"""Sound by frame: the states of a speech recogniser's encoder (Whisper), 50 per second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pase_msa.media.base import FeatureExtractor, Media
from pase_msa.media.clip import Track
from pase_msa.media.decode import RATE
from pase_msa.media.words import load_whisper, recogniser_weights

_PER_SECOND = 50
_PIECE = 30 * RATE  # samples that the encoder reads at once


@dataclass
class Config:
    """Options.

    Attributes:
        model: a faster-whisper model: "tiny.en" or "multilingual" from packages, a folder or, where a hub is reachable,
            a name.
    """

    model: str = "tiny.en"


class SpeechStates(FeatureExtractor):
    """States of the encoder, 50 per second."""

    looks_for = "sound"
    versions = ("faster-whisper", "ctranslate2")

    def __init__(self, config: Config) -> None:
        self.model = load_whisper(config.model)
        self.weights = recogniser_weights(config.model)
        self.dim = self._states(np.zeros(RATE, np.float32)).shape[1]

    def extract(self, media: Media) -> Track | None:
        """States [T, D]; the encoder reads pieces of 30 s, each without its neighbours."""
        if media.audio is None:
            return None
        pieces = [self._states(media.audio[i : i + _PIECE]) for i in range(0, len(media.audio), _PIECE)]
        values = np.concatenate(pieces)
        return Track(values, media.start + (np.arange(len(values)) + 0.5) / _PER_SECOND)

    def _states(self, sound: np.ndarray) -> np.ndarray:
        steps = max(1, round(len(sound) / RATE * _PER_SECOND))
        mel = self.model.feature_extractor(np.pad(sound, (0, _PIECE - len(sound))))[:, :3000]
        states: np.ndarray = np.array(self.model.encode(mel), dtype=np.float32)[0, :steps]
        return states


def build(config: Config) -> SpeechStates:
    """The plug-in's entry point."""
    return SpeechStates(config)
