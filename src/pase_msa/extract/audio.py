"""Sound by frame (librosa): log-mel bands, cepstra, pitch, voicing, energy. Free to use for anything (ISC licence)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pase_msa.errors import PaSEError
from pase_msa.extract.base import FeatureExtractor, Media
from pase_msa.extract.clip import Track
from pase_msa.extract.decode import RATE
from pase_msa.extract.weights import require

_WINDOW = 1024  # samples, 64 ms: two periods of the lowest pitch


@dataclass
class Config:
    """Options.

    Attributes:
        mels: log-mel bands, in dB.
        cepstra: mel-frequency cepstral coefficients.
        hop: seconds from one frame to the next.
        lowest: pitch looked for, in Hz.
        highest: pitch looked for, in Hz.
        deviations: add the standard deviation within each word to the mean.
    """

    mels: int = 40
    cepstra: int = 13
    hop: float = 0.01
    lowest: float = 65.0
    highest: float = 500.0
    deviations: bool = True


class Acoustics(FeatureExtractor):
    """See the module."""

    versions = ("librosa",)

    def __init__(self, config: Config) -> None:
        require("librosa", "librosa")
        if not 0 < config.cepstra <= config.mels or config.hop <= 0 or not 32 <= config.lowest < config.highest:
            raise PaSEError(
                "The audio extractor needs 0 < cepstra <= mels, hop > 0 and 32 <= lowest < highest Hz, found "
                f"{config.cepstra}, {config.mels}, {config.hop:g}, {config.lowest:g} and {config.highest:g}."
            )
        self.config = config
        self.deviations = config.deviations
        self.columns = [
            *(f"mel_{i}" for i in range(config.mels)),
            *(f"mfcc_{i}" for i in range(config.cepstra)),
            *("pitch", "voiced", "energy", "zero_crossings"),
        ]
        self.dim = len(self.columns)

    def extract(self, media: Media) -> Track | None:
        """Frames [T, D]; pitch in octaves above 1 Hz, NaN where nobody's voice sounds."""
        if media.audio is None:
            return None
        librosa: Any = require("librosa", "librosa")

        c = self.config
        sound = np.pad(media.audio, (0, max(0, _WINDOW - len(media.audio))))
        frame = {"hop_length": round(c.hop * RATE), "center": True}
        mel = librosa.feature.melspectrogram(y=sound, sr=RATE, n_fft=_WINDOW, n_mels=c.mels, **frame)
        decibels = librosa.power_to_db(mel, top_db=None)
        cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=c.cepstra)
        energy = librosa.feature.rms(y=sound, frame_length=_WINDOW, **frame)[0]
        crossings = librosa.feature.zero_crossing_rate(sound, frame_length=_WINDOW, **frame)[0]
        pitch = librosa.yin(
            sound, fmin=c.lowest, fmax=c.highest, sr=RATE, frame_length=_WINDOW, hop_length=frame["hop_length"]
        )
        loud = 20 * np.log10(np.maximum(energy, 1e-5))
        # a voice crosses zero seldom and is not far below the loudest moment
        voiced = (crossings < 0.25) & (loud > loud.max() - 35) & (pitch < 0.98 * c.highest) & (pitch > 1.02 * c.lowest)
        pitch = np.where(voiced, np.log2(pitch), np.nan)
        values = np.stack([*decibels, *cepstra, pitch, voiced, loud, crossings], axis=1).astype(np.float32)
        times = media.start + np.arange(len(values)) * c.hop
        return Track(values, times)


def build(config: Config) -> Acoustics:
    """The plug-in's entry point."""
    return Acoustics(config)
