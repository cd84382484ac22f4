"""Sound by frame (openSMILE): the low-level descriptors of eGeMAPS v02, Eyben et al., 2016.

openSMILE may be used for research and private purposes; commercial use needs a licence of audEERING. So it is used only
if the options name it: `--extractors '{"audio": {"extractor": "egemaps"}}'`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pase_msa.media.base import FeatureExtractor, Media
from pase_msa.media.clip import Track
from pase_msa.media.decode import RATE
from pase_msa.media.weights import require


@dataclass
class Config:
    """Options.

    Attributes:
        deviations: add the standard deviation within each word to the mean.
    """

    deviations: bool = True


class GeMAPS(FeatureExtractor):
    """The 25 low-level descriptors of eGeMAPS v02, every 10 ms."""

    looks_for = "sound"
    versions = ("opensmile",)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.deviations = config.deviations
        self.columns = list(self._smile.feature_names)
        self.dim = len(self.columns)

    @cached_property
    def _smile(self) -> Any:
        opensmile = require("opensmile", "opensmile")
        return opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)

    def extract(self, media: Media) -> Track | None:
        """Frames [T, 25]."""
        if media.audio is None:
            return None
        sound = np.pad(media.audio, (0, max(0, RATE // 10 - len(media.audio))))
        descriptors = self._smile.process_signal(sound, RATE)
        starts = descriptors.index.get_level_values("start").total_seconds().to_numpy()
        return Track(descriptors.to_numpy(np.float32), media.start + starts)


def build(config: Config) -> GeMAPS:
    """The plug-in's entry point."""
    return GeMAPS(config)
