"""Options of an extraction: which modalities, by which extractors, and how their steps are aligned."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.media.base import FeatureExtractor


@dataclass
class ExtractConfig:
    """Options of an extraction.

    Attributes:
        modalities: of the table; each is the extractor of the same name unless `extractors` says otherwise.
        extractors: options of the extractors by modality; the key "extractor" names another plug-in, for example
            {"audio": {"extractor": "whisper"}, "vision": {"rate": 10}}.
        align: "word" gives every modality one step per word (a clip without speech gets windows), "window" one step
            per window, "frame" leaves each at its own rate.
        window: seconds of a window.
        recogniser: faster-whisper model that writes transcripts: "tiny.en" from its package, a folder or, where a hub
            is reachable, a name.
        language: of the speech, by the code that the recogniser uses.
        voice: probability from which on a moment is speech.
        pause: silence, in seconds, at which long media are cut into utterances.
        longest: seconds of an utterance; longer ones are cut at their last short silence.
    """

    modalities: list[str] = field(default_factory=lambda: ["text", "audio", "vision"])
    extractors: dict[str, dict[str, Any]] = field(default_factory=dict)
    align: Literal["word", "window", "frame"] = "word"
    window: float = 0.5
    recogniser: str = "tiny.en"
    language: str = "en"
    voice: float = 0.5
    pause: float = 0.6
    longest: float = 20.0

    def __post_init__(self) -> None:
        if not self.modalities:
            raise PaSEError("Extraction needs a modality to extract; name some, for example text,audio,vision.")
        if unknown := sorted(set(self.extractors) - set(self.modalities)):
            raise PaSEError(
                f"extractors names {unknown[0]!r}, which is not among the modalities ({', '.join(self.modalities)})."
            )
        if self.align not in ("word", "window", "frame"):
            raise PaSEError(f"align must be word, window or frame, found {self.align!r}.")
        if not (0 < self.voice < 1 and self.window > 0 and self.pause > 0 and self.longest >= 1):
            raise PaSEError(
                "Extraction needs voice between 0 and 1, window and pause above 0 and longest of 1 s or more, found "
                f"{self.voice:g}, {self.window:g}, {self.pause:g} and {self.longest:g}."
            )

    def options(self, modality: str) -> tuple[str, Any]:
        """The extractor's name and its own configuration."""
        options = dict(self.extractors.get(modality, {}))
        name = str(options.pop("extractor", modality))
        module = plugins.load("media", name)
        return name, plugins.configure(module.Config, options, f"The extractor {name}")

    def build(self, modality: str) -> FeatureExtractor:
        """The extractor of a modality."""
        name, options = self.options(modality)
        extractor: FeatureExtractor = plugins.load("media", name).build(options)
        return extractor

    def to_dict(self) -> dict[str, Any]:
        """Plain containers."""
        return dataclasses.asdict(self)
