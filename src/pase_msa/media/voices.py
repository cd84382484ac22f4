"""Vectors of voices: the LSTM of Wan et al., 2018 (generalised end-to-end loss), with the weights of resemblyzer.

The package itself needs a compiled voice detector and is not imported.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.data.columns import Array
from pase_msa.media.decode import RATE
from pase_msa.media.weights import Weights, require

VOICES = Weights(
    "resemblyzer",
    "0.1.4",
    "resemblyzer",
    "pretrained.pt",
    "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    "Apache-2.0",
)
WINDOW = 1.6  # seconds that a vector is computed from, as in the network's training
STEP = 0.4  # seconds from one window to the next
SIZE = 256
_MELS, _FFT, _HOP = 40, RATE // 40, RATE // 100  # bands, and samples of a frame and between two frames
_FRAMES = round(WINDOW * RATE / _HOP)
_LOUDNESS = 10 ** (-30 / 20)  # root mean square that quieter sound is raised to
_BATCH = 64  # windows


class _Network(nn.Module):
    """Three layers of LSTM, and a projection of the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_MELS, SIZE, 3, batch_first=True)
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, mels: Tensor) -> Tensor:
        """Windows [N, frames, 40] to unit vectors [N, 256]."""
        _, (state, _) = self.lstm(mels)
        return F.normalize(F.relu(self.linear(state[-1])), dim=1)


class VoiceReader:
    """Vectors of the voice in a sound."""

    def __init__(self) -> None:
        stored = torch.load(VOICES.path(), map_location="cpu", weights_only=True)["model_state"]
        self.network = _Network().eval()
        names = self.network.state_dict().keys()  # the file also holds two numbers of the training's loss
        self.network.load_state_dict({name: stored[name] for name in names})

    @torch.inference_mode()
    def __call__(self, sound: Array) -> Array:
        """Unit vectors float32 [N, 256], one per window of `WINDOW` seconds; window i begins at i * `STEP` seconds.

        A sound that is shorter than a window is repeated.

        Args:
            sound: float32 [n] at `RATE` Hz, of speech.
        """
        mels = _mels(sound)
        if len(mels) < _FRAMES:
            mels = np.resize(mels, (_FRAMES, _MELS))
        step = round(STEP * RATE / _HOP)
        starts = range(0, len(mels) - _FRAMES + 1, step)
        windows = torch.from_numpy(np.stack([mels[start : start + _FRAMES] for start in starts]))
        batches = range(0, len(windows), _BATCH)
        return np.concatenate([self.network(windows[first : first + _BATCH]).numpy() for first in batches])


def _mels(sound: Array) -> Array:
    """Power in mel bands, without a logarithm, [frames, 40]."""
    librosa: Any = require("librosa", "librosa")
    loudness = float(np.sqrt(np.mean(sound.astype(np.float64) ** 2)))
    if 0 < loudness < _LOUDNESS:
        sound = sound * np.float32(_LOUDNESS / loudness)
    mels = librosa.feature.melspectrogram(y=sound, sr=RATE, n_fft=_FFT, hop_length=_HOP, n_mels=_MELS)
    return np.ascontiguousarray(mels.T, dtype=np.float32)


@lru_cache(maxsize=1)
def load_voices() -> VoiceReader:
    """The reader of this process, which is made once."""
    return VoiceReader()
