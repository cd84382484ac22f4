"""Sound by frame (librosa): log-mel bands, cepstra, pitch, voicing, energy. Free to use for anything (ISC licence)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media.base import FeatureExtractor, Media
from pase_msa.media.clip import Track
from pase_msa.media.decode import RATE
from pase_msa.media.weights import require

_WINDOW = 1024  # samples, 64 ms: two periods of the lowest pitch
_BLOCK = 3000  # frames


@dataclass
class Config:
    """Options.

    Attributes:
        mels: log-mel bands, in dB.
        cepstra: mel-frequency cepstral coefficients.
        hop: seconds between the beginnings of two frames.
        lowest: lowest pitch that is looked for, in Hz.
        highest: highest pitch that is looked for, in Hz.
        deviations: add the standard deviation within each word to the mean.
    """

    mels: int = 40
    cepstra: int = 13
    hop: float = 0.01
    lowest: float = 65.0
    highest: float = 500.0
    deviations: bool = True


class Acoustics(FeatureExtractor):
    """Log-mel bands, cepstra, pitch, voicing, energy and zero crossings, every `hop` seconds."""

    looks_for = "sound"
    versions = ("librosa",)

    def __init__(self, config: Config) -> None:
        require("librosa", "librosa")
        if not 0 < config.cepstra <= config.mels or config.hop < 0.001 or not 32 <= config.lowest < config.highest:
            raise PaSEError(
                "The audio extractor needs 0 < cepstra <= mels, hop of 0.001 s or more and 32 <= lowest < highest Hz, "
                f"found {config.cepstra}, {config.mels}, {config.hop:g}, {config.lowest:g} and {config.highest:g}."
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
        """Frames [T, D]; pitch in octaves above 1 Hz, NaN where there is no voice."""
        if media.audio is None:
            return None
        c, hop = self.config, round(self.config.hop * RATE)
        sound = np.pad(media.audio, (0, max(0, _WINDOW - len(media.audio))))
        # in blocks, because transforms need many times the memory of the sound; each with the edges of its neighbours
        block, edge = _BLOCK * hop, -(-_WINDOW // hop)
        rows = []
        for begin in range(0, len(sound), block):
            first = max(0, begin - edge * hop)
            frames = self._frames(sound[first : begin + block + edge * hop], hop)
            skipped = (begin - first) // hop
            rows.append(frames[skipped : skipped + (_BLOCK if begin + block < len(sound) else len(frames))])
        values = np.concatenate(rows)
        pitch, loud, crossings = (values[:, self.columns.index(n)] for n in ("pitch", "energy", "zero_crossings"))
        # noise crosses zero often, and what is 35 dB below the loudest moment is background; a pitch at the limits of
        # the search means that there was none between them
        voiced = (crossings < 0.25) & (loud > loud.max() - 35) & (pitch < 0.98 * c.highest) & (pitch > 1.02 * c.lowest)
        values[:, self.columns.index("voiced")] = voiced
        values[:, self.columns.index("pitch")] = np.where(voiced, np.log2(pitch), np.nan)
        return Track(values, media.start + np.arange(len(values)) * hop / RATE)

    def _frames(self, sound: Array, hop: int) -> Array:
        """Frames of a block, with the pitch in Hz and 0 for voicing, which needs the level of the whole sound."""
        librosa: Any = require("librosa", "librosa")
        c, frame = self.config, {"frame_length": _WINDOW, "hop_length": hop}
        mel = librosa.feature.melspectrogram(y=sound, sr=RATE, n_fft=_WINDOW, hop_length=hop, n_mels=c.mels)
        decibels = librosa.power_to_db(mel, top_db=None)
        cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=c.cepstra)
        energy = librosa.feature.rms(y=sound, **frame)[0]
        crossings = librosa.feature.zero_crossing_rate(sound, **frame)[0]
        pitch = librosa.yin(sound, fmin=c.lowest, fmax=c.highest, sr=RATE, **frame)
        loud = 20 * np.log10(np.maximum(energy, 1e-5))
        rows = [*decibels, *cepstra, pitch, np.zeros_like(pitch), loud, crossings]
        values: Array = np.stack(rows, axis=1).astype(np.float32)
        return values


def build(config: Config) -> Acoustics:
    """The plug-in's entry point."""
    return Acoustics(config)
